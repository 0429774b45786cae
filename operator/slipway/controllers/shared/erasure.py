"""Deleting the data of an object whose `deletionPolicy` is Delete, before its finalizer goes.

A Job in the project's namespace does it. Where no Job can run any more (the namespace is being deleted, or the project
with its Secrets is gone) the operator deletes by itself, in batches. Where even the Platform is gone nobody can, and
an Event says what was left: a namespace that never ends would be worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.jobs import Owner, Work, folder, prepare
from slipway.api.meta import LocalRef
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.contracts.jobs import DeleteDataRequest, DeleteDataResult
from slipway.controllers.shared import links
from slipway.controllers.shared.work import Answered, Runner, Step, advance, answered, listed, stage_jobs
from slipway.runtime.conditions import Note
from slipway.runtime.controller import Call, Io
from slipway.runtime.resources import NAMESPACE, Object

BATCH_PAUSE = 0.5
"""Seconds between two batches that the operator deletes by itself."""


@dataclass(frozen=True)
class Erasure:
    """What is known about the data that has to go."""

    prefixes: tuple[str, ...]
    platform: Platform | None = None
    work: Work | None = None
    job: Answered[DeleteDataRequest, DeleteDataResult] | None = None
    left: bool = False
    """Something is below the prefixes; looked at only where no Job can run."""


async def observe_erasure(
    io: Io, artifacts: Artifacts, raw: Object, owner: Owner, reference: LocalRef, prefixes: Sequence[str]
) -> Erasure:
    """Read what `erase` needs.

    :param raw: the object that is being deleted; a Job that it has already keeps to what it was asked
    """
    platform = links.platform(io)
    if platform is None or not prefixes:
        return Erasure(tuple(prefixes), platform)
    location = Location.of(platform)
    if links.project(io, reference, owner.namespace) is None or await is_terminating(io, owner.namespace):
        left = False
        for prefix in prefixes:
            left = left or bool(await artifacts.list(location, prefix, limit=1))
        return Erasure(tuple(prefixes), platform, left=left)
    for started in stage_jobs(io, raw, "delete-data"):
        asked = await artifacts.get_json(location, f"{folder(owner.namespace, started)}request.json", DeleteDataRequest)
        prefixes = prefixes if asked is None else asked.prefixes
    work = prepare(owner, "delete-data", DeleteDataRequest(store=location.store, prefix="", prefixes=list(prefixes)))
    job = await answered(io, artifacts, location, owner.namespace, work.name, DeleteDataRequest, DeleteDataResult)
    return Erasure(tuple(prefixes), platform, work, job)


def erase(facts: Erasure, runner: Runner, now: datetime) -> tuple[Step, tuple[Note, ...]]:
    """The next step of the deletion, and Events about it; pure."""
    if not facts.prefixes:
        return Step(done=True), ()
    if facts.platform is None:
        note = Note(
            "Warning", Reason.DataLeft, f"Data was left below {listed(facts.prefixes)}: no Platform knows where."
        )
        return Step(done=True), (note,)
    if facts.work is None or facts.job is None:
        if not facts.left:
            return Step(done=True), ()
        arguments: dict[str, Any] = {"location": Location.of(facts.platform), "prefixes": facts.prefixes}
        message = f"Slipway deletes the data below {listed(facts.prefixes)}."
        call = Call("artifacts", "delete", arguments)
        return Step((call,), reason=Reason.Deleting, message=message, requeue_after=BATCH_PAUSE), ()
    what = f"Job {facts.work.name} deletes the data below {listed(facts.prefixes)}."
    return advance(facts.work, facts.job, runner.pod(facts.platform), now, doing=Reason.Deleting, what=what), ()


async def is_terminating(io: Io, namespace: str) -> bool:
    """Whether a namespace is being deleted, so that nothing new can be made in it."""
    found = await io.live(NAMESPACE.key(namespace))
    return found is None or bool(found["metadata"].get("deletionTimestamp"))
