"""Why a run waits or failed: what its pods and its Workflow say. Pure.

Tasks leave their reason as the termination message of their container, for the launcher around them swallows exit
codes; Argo repeats it in the message of the Workflow's node. Either is enough, and both may be gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.adapters.jobstate import Obstacle, held_up
from slipway.adapters.kfp.runs import Task
from slipway.api.reasons import Reason

_LIMIT = 700
_MAIN = "main"
_EXIT = re.compile(r"\(exit code (\d+)\)(?:: (.*))?", re.DOTALL)
_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName")
_GONE = (
    "pod deleted",
    "preempt",
    "evicted",
    "node lost",
    "nodelost",
    "node was shutting down",
    "terminated in response",
)


@dataclass(frozen=True)
class Failure:
    """Why a run failed. :param final: another attempt would end in the same way"""

    reason: Reason | str
    message: str
    final: bool = False


def waiting(pods: Sequence[Mapping[str, Any]]) -> Obstacle | None:
    """What holds a run up, from its pods; None when nothing is known to."""
    for pod in sorted(pods, key=_made):
        found = held_up(pod, pod)
        if found is not None:
            return found
    return None


def failure(
    pods: Sequence[Mapping[str, Any]], workflow: Mapping[str, Any] | None, task: Task | None, error: str
) -> Failure:
    """Why a run failed, as well as anybody can say.

    :param task: the task that the API says failed
    :param error: what the API says went wrong
    """
    for pod in sorted(pods, key=_made):
        found = _of_pod(pod)
        if found is not None:
            return found
    for node in _failed_nodes(workflow):
        found = _of_node(node)
        if found is not None:
            return found
    name = task.name if task is not None else next((_name(each) for each in _failed_nodes(workflow)), "")
    said = (task.error if task is not None else "") or error
    said = said or next((str(each.get("message") or "") for each in _failed_nodes(workflow)), "")
    return Failure(Reason.PipelineTaskFailed, _sentence(name, said))


def _sentence(name: str, said: str) -> str:
    detail = f": {_cut(said)}" if said else ""
    if name.endswith("-driver"):
        return (
            f"KFP could not prepare task {name.removesuffix('-driver')}{detail}. Its driver's pod has the cause, which "
            "is often the ConfigMap kfp-launcher or the store."
        )
    return f"{f'Task {name}' if name else 'The pipeline'} failed{detail}. `slipway run logs` shows its output."


def _of_pod(pod: Mapping[str, Any]) -> Failure | None:
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    if status.get("reason") == "DeadlineExceeded":
        return Failure(Reason.DeadlineExceeded, f"Pod {name} was stopped after the run's deadline.", final=True)
    ended = _terminated(status)
    if ended is not None and ended.get("exitCode") != 0:
        told = _told(str(ended.get("message") or ""))
        if told is not None:
            return told
        if ended.get("reason") == "OOMKilled":
            return _out_of_memory(f"Pod {name}")
    if status.get("phase") != "Failed":
        return None
    disrupted = any(
        each.get("type") == "DisruptionTarget" and each.get("status") == "True"
        for each in status.get("conditions") or ()
    )
    if disrupted or str(status.get("reason") or "") in ("Evicted", "Preempting", "NodeLost", "Terminated", "Shutdown"):
        said = _cut(str(status.get("message") or "its node went away"))
        return Failure(Reason.Preempted, f"Pod {name} was evicted: {said}.")
    return None


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == _MAIN:
            ended: Mapping[str, Any] | None = (container.get("state") or {}).get("terminated")
            return ended
    return None


def _of_node(node: Mapping[str, Any]) -> Failure | None:
    message = str(node.get("message") or "")
    code = _EXIT.search(message)
    if code is not None and code[2]:
        told = _told(code[2])
        if told is not None:
            return told
    name = f"Task {_name(node)}"
    if "OOMKilled" in message:
        return _out_of_memory(name)
    if any(each in message for each in _IMAGE):
        return Failure(Reason.ImageUnavailable, f"{name} could not start: {_cut(message)}.")
    if any(each in message.lower() for each in _GONE):
        return Failure(Reason.Preempted, f"{name} lost its pod: {_cut(message)}.")
    if "longer than the specified deadline" in message:
        return Failure(Reason.DeadlineExceeded, f"{name} was stopped after the run's deadline.", final=True)
    return None


def _out_of_memory(what: str) -> Failure:
    message = (
        f"{what} was killed because it used more memory than its limit: raise resources.limits.memory, or make the "
        "work smaller."
    )
    return Failure(Reason.OutOfMemory, message, final=True)


def _told(text: str) -> Failure | None:
    """What a task said itself; None when it said nothing of the kind. User code may have written anything there."""
    try:
        found = json.loads(text.strip())
        reason, message = Reason[found["reason"]], str(found["message"])
    except (ValueError, KeyError, TypeError):
        return None
    return Failure(reason, _cut(message, 2048), final=reason != Reason.PlatformUnavailable)


def _failed_nodes(workflow: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Nodes of a Workflow that failed and have something to say, oldest first; pods before what contains them."""
    nodes: Iterable[Any] = (((workflow or {}).get("status") or {}).get("nodes") or {}).values()
    failed = [
        each
        for each in nodes
        if isinstance(each, Mapping) and each.get("phase") in ("Failed", "Error") and each.get("type") == "Pod"
    ]
    return sorted(failed, key=lambda each: (str(each.get("finishedAt") or "~"), str(each.get("id") or "")))


def _name(node: Mapping[str, Any]) -> str:
    """The task that a node belongs to: `root.produce.train.executor` is of `train`."""
    path = [part for part in re.split(r"[.()0-9]+", str(node.get("name") or "")) if part]
    shown = str(node.get("displayName") or "")
    if shown.startswith("executor") and len(path) > 1:
        return path[-2]
    return shown or (path[-1] if path else "")


def _made(pod: Mapping[str, Any]) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp") or ""), str(pod["metadata"]["name"])


def _cut(text: str, limit: int = _LIMIT) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
