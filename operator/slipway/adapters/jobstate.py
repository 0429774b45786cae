"""What a Job and its pods say about how it goes, as one word and a sentence for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from slipway.adapters import labels
from slipway.adapters.jobs import USER_CODE_RAISED
from slipway.api.meta import parse_time
from slipway.api.reasons import Reason
from slipway.runtime.conditions import find

Phase = Literal["Absent", "Pending", "Running", "Complete", "Failed"]

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_MAX_DETAIL = 300


@dataclass(frozen=True)
class JobState:
    """How a Job goes.

    `reason` and `message` say why it waits or failed; `since` is when it ended, or when it was made.
    """

    phase: Phase
    reason: Reason = Reason.Progressing
    message: str = ""
    since: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether it may still do something."""
        return self.phase in ("Pending", "Running")


ABSENT = JobState("Absent")


def job_state(job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]) -> JobState:
    """The state of a Job; `pods` are its pods in any order."""
    if job is None:
        return ABSENT
    name = job["metadata"]["name"]
    conditions = (job.get("status") or {}).get("conditions") or ()
    for kind in ("Complete", "SuccessCriteriaMet"):
        if (done := _true(conditions, kind)) is not None:
            return JobState("Complete", Reason.Succeeded, f"Job {name} is complete.", _time(done))
    for kind in ("Failed", "FailureTarget"):
        if (failed := _true(conditions, kind)) is not None:
            return _failed(job, failed, pods)
    return _active(job, pods)


def newest(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The pod that was made last, or None."""
    ordered = sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))
    return ordered[-1] if ordered else None


def _failed(job: Mapping[str, Any], failed: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> JobState:
    name, since = job["metadata"]["name"], _time(failed)
    pod = newest(pods)
    if failed.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds")
        obstacle = held_up(job, pod) if pod is not None else None
        why = f" It never started: {obstacle.message}" if obstacle else ""
        message = f"Job {name} was stopped after its deadline of {seconds} s.{why}"
        return JobState("Failed", Reason.DeadlineExceeded, message, since)
    ended = _terminated(pod)
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(job)
        message = (
            f"Job {name} was killed because it used more memory than its limit of {limit}: raise "
            "resources.limits.memory, or make the work smaller."
        )
        return JobState("Failed", Reason.OutOfMemory, message, since)
    code = ended.get("exitCode")
    if code == USER_CODE_RAISED or failed.get("reason") == "PodFailurePolicy":
        message = f"The code that Job {name} ran raised an error: `kubectl logs job/{name}` shows it."
        return JobState("Failed", Reason.TrainingCodeFailed, message, since)
    detail = f" (exit code {code})" if code is not None else ""
    message = f"Job {name} failed as often as it may{detail}: `kubectl logs job/{name}` shows why."
    return JobState("Failed", Reason.JobFailed, message, since)


def _active(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> JobState:
    name = job["metadata"]["name"]
    created = job["metadata"].get("creationTimestamp")
    since = parse_time(created) if created else None
    pod = newest(pods)
    if pod is None:
        return JobState("Pending", Reason.Progressing, f"Job {name} has no pod yet.", since)
    if (pod.get("status") or {}).get("phase") == "Failed":
        return JobState("Running", Reason.Progressing, f"A pod of Job {name} failed and is tried again.", since)
    obstacle = held_up(job, pod)
    if obstacle is not None:
        return JobState("Pending", obstacle.reason, obstacle.message, since)
    if (pod.get("status") or {}).get("phase") in ("Running", "Succeeded"):
        return JobState("Running", Reason.Running, f"Job {name} runs.", since)
    return JobState("Pending", Reason.Progressing, f"The pod of Job {name} starts.", since)


@dataclass(frozen=True)
class Obstacle:
    """What holds a pod up."""

    reason: Reason
    message: str


def held_up(marked: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Obstacle | None:
    """What holds a pod up that waits; None when nothing is known to. `marked` has the labels of its ComputePool."""
    status = (pod or {}).get("status") or {}
    if status.get("phase", "Pending") != "Pending":
        return None
    scheduled = find(status.get("conditions") or (), "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return _unschedulable(marked, str(scheduled.get("message", "")))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, detail = waiting.get("reason"), _cut(str(waiting.get("message", "")))
        if reason in _IMAGE:
            return Obstacle(
                Reason.ImageUnavailable,
                f"Image {container.get('image')} cannot be pulled ({reason}: {detail}): correct its name, or push it.",
            )
        if reason == "CreateContainerConfigError":
            return Obstacle(Reason.DependencyMissing, f"The container cannot be made: {detail}.")
    return None


def _unschedulable(marked: Mapping[str, Any], detail: str) -> Obstacle:
    marks = marked["metadata"].get("labels") or {}
    notes = marked["metadata"].get("annotations") or {}
    if pool := marks.get(labels.POOL):
        units, resource = notes.get(labels.POOL_UNITS, "0"), notes.get(labels.POOL_RESOURCE, "cpu")
        return Obstacle(
            Reason.WaitingForPool,
            f"No node of ComputePool {pool} has room for {units} {resource} now; the scheduler says: {_cut(detail)}",
        )
    return Obstacle(Reason.WaitingForPool, f"No node has room for the pod now; the scheduler says: {_cut(detail)}")


def _terminated(pod: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """How the first container of a pod ended; empty when it did not."""
    for container in ((pod or {}).get("status") or {}).get("containerStatuses") or ():
        ended: Mapping[str, Any] | None = (container.get("state") or {}).get("terminated")
        if ended:
            return ended
    return {}


def _memory_limit(job: Mapping[str, Any]) -> str:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return str(((container.get("resources") or {}).get("limits") or {}).get("memory", "its node"))


def _true(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    found = find(conditions, kind)
    return found if found is not None and found.get("status") == "True" else None


def _time(condition: Mapping[str, Any]) -> datetime | None:
    text = condition.get("lastTransitionTime")
    return parse_time(text) if text else None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 1] + "…"
