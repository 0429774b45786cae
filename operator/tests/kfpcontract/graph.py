"""From a pipeline's IR to the nodes of its Workflow, by the names that KFP's compiler to Argo gives them.

Every task has a driver; a task with a container is a small graph with one pod, `executor`. Loops are taken once, and
conditions as true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kfpcontract.workflows import Object, stamp

DAG_DRIVER, CONTAINER_DRIVER = "system-dag-driver", "system-container-driver"
EXECUTOR, IMPLEMENTATION = "system-container-executor", "system-container-impl"


@dataclass(frozen=True)
class Task:
    """A task that runs a container.

    :param path: names from the root pipeline's task down to this one
    """

    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its own name in its pipeline."""
        return self.path[-1]


def containers(spec: Mapping[str, Any]) -> list[Task]:
    """The tasks with containers of a pipeline, in an order in which they can run."""
    return [Task(path) for path in _walk(spec, spec["root"], ())]


def _walk(spec: Mapping[str, Any], component: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    tasks = component.get("dag", {}).get("tasks", {})
    for name in _ordered({each: task.get("dependentTasks", ()) for each, task in tasks.items()}):
        inner = spec["components"][tasks[name]["componentRef"]["name"]]
        if "dag" in inner:
            yield from _walk(spec, inner, (*path, name))
        else:
            yield (*path, name)


def _ordered(after: Mapping[str, Sequence[str]]) -> Iterator[str]:
    left = dict(sorted(after.items()))
    while left:
        name = next(each for each, needed in left.items() if not set(needed) & left.keys())
        del left[name]
        yield name


@dataclass(frozen=True)
class Standing:
    """How far a Workflow is.

    :param done: tasks with containers that have ended well
    :param ended: phase of the whole; empty: it is under way
    :param failed: what the task after those says, if it failed; with `waiting`, why its pod does not start
    """

    done: int
    ended: str = ""
    failed: str = ""
    waiting: str = ""


def nodes(workflow: Object, tasks: Sequence[Task], standing: Standing, now: datetime) -> dict[str, Object]:
    """The nodes of a Workflow's status, by id. Nodes that were there keep their times."""
    before = (workflow.get("status") or {}).get("nodes") or {}
    name = workflow["metadata"]["name"]
    last = standing.ended or "Running"
    found = _Nodes(name, before, stamp(now))
    found.add((), "DAG", "entrypoint", last, "")
    found.add(("root-driver",), "Pod", DAG_DRIVER, "Succeeded", "")
    found.add(("root",), "DAG", "root", last, "")
    for number, task in enumerate(tasks):
        if number > standing.done or (number == standing.done and standing.ended == "Succeeded"):
            break
        here = number == standing.done
        if here and standing.ended and not standing.failed:
            break  # it ended between two tasks
        phase, message = _phase(standing) if here else ("Succeeded", "")
        for depth in range(1, len(task.path)):
            outer = task.path[:depth]
            inside = [position for position, each in enumerate(tasks) if each.path[:depth] == outer]
            whole = "Succeeded" if max(inside) < standing.done else last
            found.add(("root", *outer[:-1], f"{outer[-1]}-driver"), "Pod", DAG_DRIVER, "Succeeded", "")
            found.add(("root", *outer), "DAG", f"comp-{outer[-1]}", whole, "")
        place = ("root", *task.path)
        found.add((*place[:-1], f"{task.name}-driver"), "Pod", CONTAINER_DRIVER, "Succeeded", "")
        found.add(place, "DAG", EXECUTOR, "Running" if phase == "Pending" else phase, "")
        found.add((*place, "executor"), "Pod", IMPLEMENTATION, phase, message)
    return found.made


def _phase(standing: Standing) -> tuple[str, str]:
    if standing.failed:
        return "Error" if standing.ended == "Error" else "Failed", standing.failed
    return ("Pending", standing.waiting) if standing.waiting else ("Running", "")


class _Nodes:
    """Nodes as they are made, each beside its parent's children."""

    def __init__(self, workflow: str, before: Mapping[str, Object], now: str) -> None:
        self.made: dict[str, Object] = {}
        self._workflow = workflow
        self._before = before
        self._now = now

    def add(self, place: tuple[str, ...], kind: str, template: str, phase: str, message: str) -> None:
        name = ".".join((self._workflow, *place))
        node_id = self._id(place)
        known = self._before.get(node_id, {})
        node: Object = {
            "id": node_id,
            "name": name,
            "displayName": place[-1] if place else self._workflow,
            "type": kind,
            "templateName": template,
            "phase": phase,
            "startedAt": known.get("startedAt", self._now),
        }
        if phase not in ("Running", "Pending"):
            node["finishedAt"] = known.get("finishedAt", self._now)
        if message:
            node["message"] = message
        self.made[node_id] = node
        if place:
            parent = self.made[self._id(place[:-1])]
            parent["children"] = sorted({*parent.get("children", ()), node_id})

    def _id(self, place: tuple[str, ...]) -> str:
        if not place:
            return self._workflow
        return f"{self._workflow}-{int(hashlib.sha256('.'.join(place).encode()).hexdigest()[:8], 16)}"


def pod_name(workflow: Object, node: Mapping[str, Any]) -> str:
    """The name of a node's pod; for a graph, what it would be."""
    name = str(workflow["metadata"]["name"])
    return name if node["name"] == name else f"{name}-{node['templateName']}-{node['id'].rsplit('-', 1)[-1]}"
