"""Argo's controller and KFP's persistence agent, one step at a time.

Argo takes every Workflow through the tasks of its pipeline; what a run does is up to a function that tests give. The
agent reports Workflows to the database, and removes those that have no run or ended long ago. A Workflow without a run
goes on until then, as a real one does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from kfp_server_api.models import PipelineTaskDetailChildTask, V2beta1PipelineTaskDetail, V2beta1RuntimeStatus

from kfpcontract import graph
from kfpcontract.backend import Backend
from kfpcontract.database import EPOCH, RunRow
from kfpcontract.graph import Standing, Task
from kfpcontract.runs import ENDED, RETRY_GENERATION
from kfpcontract.workflows import PERSISTED, RUN_ID, Object, stamp

FINAL = ("Succeeded", "Failed", "Error")
_STATES = {
    "": "RUNTIME_STATE_UNSPECIFIED",
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Failed": "FAILED",
    "Error": "FAILED",
    "Skipped": "SKIPPED",
    "Omitted": "RUNTIME_STATE_UNSPECIFIED",
}
"""Of runs and tasks, by the phase of the Workflow or node; the database knows no other word of Argo's."""
DEADLINE = "Step exceeded its deadline"


@dataclass(frozen=True)
class Execution:
    """A pipeline that is executed.

    :param spec: the pipeline (IR)
    :param arguments: its parameters
    :param pipeline_root: where the run asked for its outputs to go; empty: nowhere in particular
    """

    run_id: str
    workflow: str
    namespace: str
    spec: Mapping[str, Any]
    arguments: Mapping[str, Any]
    pipeline_root: str = ""


@dataclass(frozen=True)
class Ending:
    """How an execution ends.

    :param phase: of the Workflow
    :param task: name of the task that failed; those before it succeeded
    :param message: what its pod's node says, such as `Error (exit code 1)` or `OOMKilled (exit code 137)`
    """

    phase: Literal["Succeeded", "Failed", "Error"] = "Succeeded"
    task: str = ""
    message: str = ""


def well(_: Execution) -> Ending:
    """Every execution ends well."""
    return Ending()


async def nothing(_: Execution, ending: Ending) -> Ending:
    """Leave nothing behind."""
    return ending


@dataclass
class Machinery:
    """What moves Workflows and runs.

    :param fate: decides how an execution ends, when Argo begins it
    :param work: does what the tasks of an execution do, when it is about to end; may end it in another way
    :param waiting: why no pod of a run starts, by run id; such a run stands where it is
    :param held_up: why no pod of any run starts
    :param agent_is_away: nothing is reported
    """

    backend: Backend
    fate: Callable[[Execution], Ending] = well
    work: Callable[[Execution, Ending], Awaitable[Ending]] = nothing
    waiting: dict[str, str] = field(default_factory=dict)
    held_up: str = ""
    agent_is_away: bool = False
    executed: list[Execution] = field(default_factory=list, init=False)
    """Every execution that Argo has begun, in order."""
    _begun: dict[str, tuple[Execution, Ending]] = field(default_factory=dict, init=False)

    async def step(self) -> bool:
        """Take every Workflow one step further and report it; whether anything moved."""
        before = await self.backend.workflows.list()
        for workflow in before:
            await self._advance(workflow)
        await self.report()
        return before != await self.backend.workflows.list()

    async def settle(self, limit: int = 200) -> None:
        """Step until nothing moves."""
        for _ in range(limit):
            if not await self.step():
                return
        raise AssertionError("Workflows move for ever")

    async def report(self) -> None:
        """What the persistence agent does in one round."""
        if not self.agent_is_away:
            for workflow in await self.backend.workflows.list():
                await self._report(workflow)

    def collect(self) -> list[str]:
        """Delete runs that ended long ago from the database; gives their ids."""
        keep, now = self.backend.settings.retention_seconds, self._now()
        if keep is None:
            return []
        rows = self.backend.database.runs
        old = [
            run_id
            for run_id, row in rows.items()
            if row.run.state in ENDED and row.run.finished_at + timedelta(seconds=keep) < now
        ]
        for run_id in old:
            del rows[run_id]
        return old

    # Argo

    async def _advance(self, workflow: Object) -> None:
        phase = _phase(workflow)
        if phase in FINAL:
            return
        if phase == "":
            await self._write(workflow, {"phase": "Pending", "startedAt": stamp(self._now())})
            return
        tasks = graph.containers(_argument(workflow, "pipeline-spec"))
        done = _done(workflow)
        if workflow["spec"].get("activeDeadlineSeconds") == 0:
            await self._end(workflow, tasks, Standing(done, "Failed", DEADLINE), DEADLINE)
            return
        held_up = self.held_up or self.waiting.get(workflow["metadata"]["labels"][RUN_ID], "")
        if phase == "Pending" or held_up:
            standing = Standing(done, waiting=held_up)
            status = {"phase": "Running", "nodes": graph.nodes(workflow, tasks, standing, self._now())}
            await self._write(workflow, status)
            return
        execution, ending = self._begin(workflow)
        if done < _failing(tasks, ending):
            status = {"nodes": graph.nodes(workflow, tasks, Standing(done + 1), self._now())}
            await self._write(workflow, status)
            return
        ending = await self.work(execution, ending)
        if ending.phase == "Succeeded":
            await self._end(workflow, tasks, Standing(len(tasks), "Succeeded"), "")
        else:
            standing = Standing(_failing(tasks, ending), ending.phase, ending.message or "Error (exit code 1)")
            await self._end(workflow, tasks, standing, "")

    def _begin(self, workflow: Object) -> tuple[Execution, Ending]:
        """A Workflow's execution and its fate: one for each time that it was started."""
        meta = workflow["metadata"]
        started = f"{meta['uid']}/{(meta.get('annotations') or {}).get(RETRY_GENERATION, '')}"
        if started not in self._begun:
            run_id = meta["labels"][RUN_ID]
            row = self.backend.database.runs.get(run_id)
            config = row.run.runtime_config if row is not None else None
            execution = Execution(
                run_id,
                meta["name"],
                meta["namespace"],
                _argument(workflow, "pipeline-spec"),
                _argument(workflow, "runtime-config"),
                (config.pipeline_root if config is not None else "") or "",
            )
            self.executed.append(execution)
            self._begun[started] = (execution, self.fate(execution))
        return self._begun[started]

    async def _end(self, workflow: Object, tasks: list[Task], standing: Standing, message: str) -> None:
        status: Object = {
            "phase": standing.ended,
            "finishedAt": stamp(self._now()),
            "nodes": graph.nodes(workflow, tasks, standing, self._now()),
        }
        if message:
            status["message"] = message
        await self._write(workflow, status)

    async def _write(self, workflow: Object, status: Mapping[str, Any]) -> None:
        meta = workflow["metadata"]
        await self.backend.workflows.merge(meta["namespace"], meta["name"], {"status": status})

    # The persistence agent, and the API server's part of it

    async def _report(self, workflow: Object) -> None:
        meta = workflow["metadata"]
        row = self.backend.database.runs.get(meta["labels"][RUN_ID])
        final = _phase(workflow) in FINAL
        if PERSISTED in meta["labels"]:
            ended = _parsed(workflow["status"]["finishedAt"])
            if self._now() - ended >= timedelta(seconds=self.backend.settings.workflow_ttl_seconds):
                await self.backend.workflows.delete(meta["namespace"], meta["name"])
            return
        if row is None:
            age = self._now() - _parsed(meta["creationTimestamp"])
            if age >= timedelta(seconds=self.backend.settings.orphan_grace_seconds):
                await self.backend.workflows.delete(meta["namespace"], meta["name"])
            return
        self._update(row, workflow)
        if final:
            label = {"metadata": {"labels": {PERSISTED: "true"}}}
            await self.backend.workflows.merge(meta["namespace"], meta["name"], label)

    def _update(self, row: RunRow, workflow: Object) -> None:
        """Whatever Workflow has the run's label is believed, as there."""
        phase, status = _phase(workflow), workflow.get("status") or {}
        ending = phase not in FINAL and workflow["spec"].get("activeDeadlineSeconds") == 0
        row.reported = True
        row.manifest = json.dumps(workflow)
        row.run.finished_at = _parsed(status["finishedAt"]) if "finishedAt" in status else EPOCH
        self.backend.runs.state(row, "CANCELING" if ending else _STATES[phase])
        if status.get("nodes"):
            self.backend.runs.tasks(row, self._details(row, workflow))

    def _details(self, row: RunRow, workflow: Object) -> list[V2beta1PipelineTaskDetail]:
        known = {each.task_id: each for each in (row.run.run_details.task_details if row.run.run_details else [])}
        found = []
        for node_id, node in sorted(workflow["status"]["nodes"].items()):
            task_id, state = f"{row.run.run_id}/{node_id}", _STATES[node["phase"]]
            history = known[task_id].state_history if task_id in known else []
            if not history or history[-1].state != state:
                history = [*history, V2beta1RuntimeStatus(update_time=self.backend.database.now(), state=state)]
            found.append(
                V2beta1PipelineTaskDetail(
                    run_id=row.run.run_id,
                    task_id=task_id,
                    display_name=node["displayName"],
                    create_time=_parsed(workflow["metadata"]["creationTimestamp"]),
                    start_time=_parsed(node["startedAt"]),
                    end_time=_parsed(node["finishedAt"]) if "finishedAt" in node else EPOCH,
                    state=state,
                    state_history=history,
                    child_tasks=[PipelineTaskDetailChildTask(pod_name=each) for each in node.get("children", ())],
                )
            )
        return found

    def _now(self) -> datetime:
        return self.backend.database.now()


def _phase(workflow: Object) -> str:
    return str((workflow.get("status") or {}).get("phase") or "")


def _done(workflow: Object) -> int:
    nodes = ((workflow.get("status") or {}).get("nodes") or {}).values()
    return sum(node["displayName"] == "executor" and node["phase"] == "Succeeded" for node in nodes)


def _failing(tasks: list[Task], ending: Ending) -> int:
    """Position of the task at which an execution ends; the last one where it ends well."""
    return next((number for number, task in enumerate(tasks) if task.name == ending.task), len(tasks) - 1)


def _argument(workflow: Object, name: str) -> Any:
    parameters = workflow["spec"]["arguments"]["parameters"]
    return json.loads(next(each["value"] for each in parameters if each["name"] == name))


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)
