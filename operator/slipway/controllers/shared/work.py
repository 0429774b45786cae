"""Jobs and their answers, as facts; and the actions that start a Job or clear it away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from slipway.adapters import labels
from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.jobs import Owner, PodSettings, Work, folder, manifest
from slipway.adapters.jobstate import JobState, job_state
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resource, Resources
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.contracts.jobs import Contract, Request
from slipway.runtime.controller import Action, Call, Create, Delete, Io
from slipway.runtime.resources import JOB, POD, Key, Object, uid_of

Q = TypeVar("Q", bound=Request)
A = TypeVar("A", bound=Contract)

RETRY_SECONDS = 300.0
"""Pause before a Job that failed as often as it may is started anew."""


@dataclass(frozen=True)
class Runner:
    """How the operator was told to run Jobs."""

    image: str
    pull_policy: str = "IfNotPresent"

    def pod(
        self,
        platform: Platform,
        *,
        feast: bool = False,
        user_code: bool = False,
        image: str = "",
        pool: ComputePool | None = None,
        resources: Resources | None = None,
        **more: Any,
    ) -> PodSettings:
        """Settings of a pod; the Platform's image goes before the operator's."""
        return PodSettings(
            image=image or platform.spec.images.runner or self.image,
            pull_policy=self.pull_policy,
            location=Location.of(platform),
            feast=feast,
            user_code=user_code,
            pool=pool,
            resources=resources,
            **more,
        )


@dataclass(frozen=True)
class Answered(Generic[Q, A]):
    """A Job, what it was asked and what it answered, as far as there is any of it."""

    name: str
    state: JobState
    uid: str = ""
    request: Q | None = None
    result: A | None = None

    @property
    def retry_at(self) -> datetime | None:
        """When a Job that failed, or ended without an answer, is to be started anew; None for any other."""
        if self.result is not None or self.state.phase not in ("Failed", "Complete") or self.state.since is None:
            return None
        return self.state.since + timedelta(seconds=RETRY_SECONDS)


def owner(resource: Resource, project: str) -> Owner:
    """The owner of Jobs, from the object that they work for."""
    meta = resource.metadata
    return Owner(resource.kind_name, meta.namespace or "", meta.name, meta.uid, project)


def pods_of(io: Io, job: str, namespace: str) -> list[Object]:
    """Pods of a Job, from memory."""
    return list(io.list(POD, namespace, {labels.JOB_NAME: job}))


def state_of(io: Io, namespace: str, name: str) -> tuple[JobState, str]:
    """The state of a Job by its name, and its uid; from memory."""
    job = io.get(JOB.key(name, namespace))
    if job is None or job["metadata"].get("deletionTimestamp"):
        return job_state(None, ()), ""
    return job_state(job, pods_of(io, name, namespace)), uid_of(job)


async def answered(
    io: Io,
    artifacts: Artifacts,
    location: Location,
    namespace: str,
    name: str,
    request: type[Q],
    result: type[A],
    *,
    with_request: bool = False,
) -> Answered[Q, A]:
    """Everything about a Job. The answer outlives the Job, so it is asked for also where there is none."""
    state, uid = state_of(io, namespace, name)
    answer: A | None = None
    asked: Q | None = None
    if not state.active:
        answer = await artifacts.get_json(location, f"{folder(namespace, name)}result.json", result)
    if with_request and answer is not None:
        asked = await artifacts.get_json(location, f"{folder(namespace, name)}request.json", request)
    return Answered(name, state, uid, asked, answer)


def stage_jobs(io: Io, of: Object, *stages: str) -> tuple[str, ...]:
    """Names of the Jobs that an object owns for some stages, by name."""
    return tuple(
        job["metadata"]["name"]
        for job in io.owned(of, JOB)
        if (job["metadata"].get("labels") or {}).get(labels.STAGE) in stages
        and not job["metadata"].get("deletionTimestamp")
    )


def start(work: Work, pod: PodSettings) -> tuple[Action, ...]:
    """Write the request, then make the Job."""
    put = {"location": pod.location, "key": work.request_key, "data": work.request}
    return Call("artifacts", "put", put), Create(manifest(work, pod), owned=True)


def clear(namespace: str, name: str, uid: str) -> Delete:
    """Delete a Job with its pods."""
    return Delete(Key(JOB, namespace, name), uid=uid)


@dataclass(frozen=True)
class Step:
    """What to do about a piece of work, and what to say of it.

    :param done: its answer is there
    """

    actions: tuple[Action, ...] = ()
    done: bool = False
    reason: Reason = Reason.Progressing
    message: str = ""
    requeue_after: float | None = None


def advance(work: Work, job: Answered[Any, Any], pod: PodSettings, now: datetime, *, doing: Reason, what: str) -> Step:
    """Start a Job that is not there, wait for one that is, start one anew that failed some time ago.

    :param doing: reason while it goes on
    :param what: sentence while it goes on
    """
    if job.result is not None:
        return Step(done=True)
    if job.state.phase == "Absent":
        return Step(start(work, pod), reason=doing, message=what)
    if job.state.active:
        held_up = job.state.phase == "Pending" and job.state.reason != Reason.Progressing
        return Step(reason=job.state.reason if held_up else doing, message=job.state.message if held_up else what)
    message = job.state.message
    if job.state.phase == "Complete":
        message = f"Job {job.name} is complete and left no result at {work.result_key}."
    reason = job.state.reason if job.state.phase == "Failed" else Reason.JobFailed
    if job.retry_at is None or job.retry_at <= now:
        return Step((clear(work.owner.namespace, job.name, job.uid),), reason=reason, message=message)
    wait = (job.retry_at - now).total_seconds()
    return Step(reason=reason, message=f"{message} It is tried again at {job.retry_at:%H:%M} UTC.", requeue_after=wait)


def soonest(*seconds: float | None) -> float | None:
    """The smallest of some delays, None where there is none; at least a tenth of a second."""
    known = [each for each in seconds if each is not None]
    return max(0.1, min(known)) if known else None


def until(when: datetime, now: datetime) -> float:
    """Seconds from now until then; 0 when it is over."""
    return max(0.0, (when - now).total_seconds())


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    found = list(names)
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
