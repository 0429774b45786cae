"""Jobs over the prediction log, as a rollout's plan sees them: what they are asked, how they go, what they said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.jobs import PodSettings, Work, prepare
from slipway.adapters.jobstate import JobState
from slipway.adapters.mailbox import Mailbox
from slipway.adapters.predictions import rollout_folder, version_folder
from slipway.api.meta import parse_duration
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import Platform
from slipway.api.rollout_predictions import Comparison
from slipway.contracts.jobs import Contract
from slipway.contracts.predictions import ComparedSlice, CompareRequest, CompareResult, SweepRequest
from slipway.controllers.shared import links
from slipway.controllers.shared.work import RETRY_SECONDS, Runner, owner, state_of
from slipway.runtime.controller import Io

A = TypeVar("A", bound=Contract)

_SPREAD = 6 * 3600
"""Seconds after midnight (UTC) over which sweeps of different rollouts are spread."""


@dataclass(frozen=True)
class Errand:
    """A Job that is wanted.

    :param delivered: its request is in the store, so that it can be made
    """

    work: Work
    pod: PodSettings
    state: JobState
    uid: str = ""
    delivered: bool = False
    result: CompareResult | None = None

    @property
    def retry_at(self) -> datetime | None:
        """When it is made anew after it failed, or ended without an answer that anybody could read."""
        if self.state.phase not in ("Failed", "Complete") or self.state.since is None:
            return None
        return self.state.since + timedelta(seconds=RETRY_SECONDS)


@dataclass(frozen=True)
class Errands:
    """What the prediction log needs done: the oldest comparison without a result, and today's sweep."""

    compare: Errand | None = None
    sweep: Errand | None = None


class Desk(Protocol):
    """Where the Jobs' requests and answers are: see `slipway.adapters.mailbox.Mailbox`."""

    def delivered(self, location: Location, work: Work) -> bool: ...

    def answer(self, location: Location, work: Work, model: type[A]) -> A | None: ...


class Office:
    """Reads errands, from memory."""

    def __init__(self, desk: Desk, runner: Runner, artifacts: Artifacts | None = None) -> None:
        self._desk = desk
        self._runner = runner
        self._artifacts = artifacts

    @classmethod
    def of(cls, artifacts: Artifacts, runner: Runner) -> Office:
        """The office that works with the artifact store."""
        return cls(Mailbox(artifacts), runner, artifacts)

    def observe(self, io: Io, rollout: ModelRollout, platform: Platform | None) -> Errands:
        """Errands of a rollout; none without a Platform and a project, for no Job could run."""
        if rollout.spec.prediction_log is None or platform is None or rollout.metadata.deletion_timestamp:
            return Errands()
        if self._artifacts is not None:
            self._artifacts.secrets.bind(io.client)
        project = links.project(io, rollout.spec.project_ref, str(rollout.metadata.namespace))
        if project is None:
            return Errands()
        location = Location.of(platform)
        slices = [ComparedSlice(name=each.name, where=each.where) for each in project.spec.tests.slices]
        pod = self._runner.pod(platform)
        wanted = next((each for each in rollout.status.comparisons or () if not each.finished_at), None)
        compare = None if wanted is None else compare_work(rollout, wanted, slices, location)
        sweep = sweep_work(rollout, location, io.clock())
        return Errands(
            None if compare is None else self._errand(io, location, compare, pod, answered=True),
            None if sweep is None else self._errand(io, location, sweep, pod, answered=False),
        )

    def _errand(self, io: Io, location: Location, work: Work, pod: PodSettings, *, answered: bool) -> Errand:
        state, uid = state_of(io, work.owner.namespace, work.name)
        delivered = state.phase != "Absent" or self._desk.delivered(location, work)
        ended = answered and state.phase in ("Complete", "Failed")
        result = self._desk.answer(location, work, CompareResult) if ended else None
        return Errand(work, pod, state, uid, delivered, result)


def compare_work(
    rollout: ModelRollout, comparison: Comparison, slices: list[ComparedSlice], location: Location
) -> Work:
    """The Job of a comparison. Pure."""
    namespace, name = str(rollout.metadata.namespace), rollout.metadata.name
    request = CompareRequest(
        store=location.store,
        prefix="",
        namespace=namespace,
        rollout=name,
        stable=comparison.stable,
        candidate=comparison.candidate,
        stable_prefix=version_folder(namespace, name, comparison.stable),
        candidate_prefix=version_folder(namespace, name, comparison.candidate),
        since=comparison.since,
        until=comparison.until,
        slices=slices,
    )
    return prepare(owner(rollout, rollout.spec.project_ref.name), "compare", request)


def sweep_work(rollout: ModelRollout, location: Location, now: datetime) -> Work | None:
    """Today's removal of old predictions; None when it is done, or the log is of today. Pure."""
    log, done = rollout.spec.prediction_log, rollout.status.prediction_log
    today = sweep_day(rollout, now)
    if log is None or done is None or done.swept_day is None or done.swept_day >= today:
        return None
    namespace, name = str(rollout.metadata.namespace), rollout.metadata.name
    before = (now - parse_duration(log.retention)).strftime("%Y-%m-%d")
    request = SweepRequest(store=location.store, prefix="", folder=rollout_folder(namespace, name), before=before)
    return prepare(owner(rollout, rollout.spec.project_ref.name), "sweep-predictions", request, stage="sweep")


def sweep_day(rollout: ModelRollout, now: datetime) -> str:
    """The day of a rollout's last sweep that is due: each rollout's day begins at a time of its own."""
    return (now - offset(rollout)).strftime("%Y-%m-%d")


def offset(rollout: ModelRollout) -> timedelta:
    """How long after midnight a rollout sweeps."""
    number = int.from_bytes(hashlib.sha256(rollout.metadata.uid.encode()).digest()[:4], "big")
    return timedelta(seconds=number % _SPREAD)
