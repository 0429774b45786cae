"""Runs: a row in the database, and a Workflow that was there before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kfp_server_api.models import V2beta1ListRunsResponse, V2beta1Run, V2beta1RunDetails, V2beta1RuntimeStatus

from kfpcontract import spec
from kfpcontract.database import EPOCH, Call, Database, RunRow, Settings
from kfpcontract.experiments import Experiments
from kfpcontract.listing import page_of
from kfpcontract.pipelines import Pipelines
from kfpcontract.status import Refused, invalid, not_found
from kfpcontract.workflows import PERSISTED, RUN_ID, RUN_NAME, Object, Workflows

CAN_END = ("PAUSED", "PENDING", "RUNNING", "RUNTIME_STATE_UNSPECIFIED")
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
RETRY_GENERATION = "pipelines.kubeflow.org/retry-generation"
_LONGEST_ID = 191
_FIELDS: Mapping[str, Callable[[RunRow], Any]] = {
    "id": lambda row: row.run.run_id,
    "run_id": lambda row: row.run.run_id,
    "name": lambda row: row.run.display_name,
    "display_name": lambda row: row.run.display_name,
    "created_at": lambda row: row.run.created_at,
    "finished_at": lambda row: row.run.finished_at,
    "scheduled_at": lambda row: row.run.scheduled_at,
    "description": lambda row: row.run.description,
    "storage_state": lambda row: row.run.storage_state,
    "state": lambda row: row.run.state,
    "namespace": lambda row: row.namespace,
    "experiment_id": lambda row: row.run.experiment_id,
}


class Runs:
    """The run service."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        workflows: Workflows,
        experiments: Experiments,
        pipelines: Pipelines,
    ) -> None:
        self._database = database
        self._settings = settings
        self._workflows = workflows
        self._experiments = experiments
        self._pipelines = pipelines

    async def run_service_create_run(self, call: Call) -> V2beta1Run:
        """First the Workflow, then the row: a second run of the same id has its Workflow when the row is refused."""
        wanted: V2beta1Run = call.body
        _check(wanted)
        experiment = self._experiments.of(wanted.experiment_id) if wanted.experiment_id else self._default()
        pipeline, source = self._source(wanted)
        arguments = (wanted.runtime_config.parameters if wanted.runtime_config else None) or {}
        spec.check_arguments(pipeline, arguments)
        now = self._database.now()
        run = V2beta1Run(
            run_id=wanted.run_id or self._database.new_id(),
            experiment_id=experiment.experiment_id,
            display_name=wanted.display_name,
            description=wanted.description,
            service_account=wanted.service_account or self._settings.service_account,
            runtime_config=wanted.runtime_config,
            storage_state="AVAILABLE",
            created_at=now,
            scheduled_at=now,
            finished_at=EPOCH,
            plugins_input=wanted.plugins_input,
            **source,
        )
        namespace = experiment.namespace or self._settings.pod_namespace
        workflow = await self._workflows.create(_workflow(run, namespace, pipeline, arguments))
        await call.between()
        if run.run_id in self._database.runs:
            raise Refused("Internal", f"Failed to store run {run.display_name} to table")
        row = RunRow(run, namespace, workflow["metadata"]["name"], pipeline)
        self._database.runs[run.run_id] = row
        self.state(row, "PENDING")
        experiment.last_run_created_at = now
        return run

    async def run_service_get_run(self, call: Call) -> V2beta1Run:
        return self.of(call.places["run_id"]).run

    async def get_run_v1(self, call: Call) -> dict[str, Any]:
        """`ApiRunDetail` of the clients until 1.8, which those of today do not publish: what is read of it."""
        row = self.of(call.places["run_id"])
        return {
            "run": {"id": row.run.run_id, "name": row.run.display_name},
            "pipeline_runtime": {"workflow_manifest": row.manifest},
        }

    async def run_service_list_runs(self, call: Call) -> V2beta1ListRunsResponse:
        """By experiment, or by namespace where users have some."""
        experiment, namespace = call.query.get("experiment_id"), call.query.get("namespace") or ""
        if experiment:
            self._experiments.of(experiment)
            rows = [row for row in self._database.runs.values() if row.run.experiment_id == experiment]
        elif self._settings.multi_user and not namespace:
            raise invalid("A run cannot have an empty namespace in multi-user mode")
        else:
            rows = list(self._database.runs.values())
            rows = [row for row in rows if not self._settings.multi_user or row.namespace == namespace]
        found, total, token = page_of(rows, call, _FIELDS)
        return V2beta1ListRunsResponse(runs=[row.run for row in found], total_size=total, next_page_token=token)

    async def run_service_archive_run(self, call: Call) -> dict[str, Any]:
        self.of(call.places["run_id"]).run.storage_state = "ARCHIVED"
        return {}

    async def run_service_unarchive_run(self, call: Call) -> dict[str, Any]:
        row = self.of(call.places["run_id"])
        if self._experiments.of(row.run.experiment_id).storage_state == "ARCHIVED":
            raise Refused("FailedPrecondition", f"Failed to unarchive run {row.run.run_id}: unarchive its experiment")
        row.run.storage_state = "AVAILABLE"
        return {}

    async def run_service_delete_run(self, call: Call) -> dict[str, Any]:
        """Its Workflow goes with it; what runs is not asked to end."""
        row = self.of(call.places["run_id"])
        await self._workflows.delete(row.namespace, row.workflow)
        del self._database.runs[row.run.run_id]
        return {}

    async def run_service_terminate_run(self, call: Call) -> dict[str, Any]:
        """The row says CANCELING; the Workflow's deadline is over. Without a Workflow the row stays like that."""
        row = self.of(call.places["run_id"])
        if row.run.state not in CAN_END:
            raise invalid(f"Failed to terminate a run {row.run.run_id}. Row not found")
        row.run.state = "CANCELING"  # the history does not get it from here
        patched = await self._workflows.merge(row.namespace, row.workflow, {"spec": {"activeDeadlineSeconds": 0}})
        if patched is None:
            raise Refused("Internal", f"Failed to terminate run {row.run.run_id} due to error terminating its workflow")
        return {}

    async def run_service_retry_run(self, call: Call) -> dict[str, Any]:
        """What failed is run again under the same id; what succeeded is kept."""
        row = self.of(call.places["run_id"])
        if not row.reported:
            raise Refused("Aborted", f"Failed to retry run {row.run.run_id} due to error fetching workflow manifest")
        if row.run.state != "FAILED":
            raise Refused("Aborted", "Workflow must be Failed/Error to retry")
        live = await self._workflows.get(row.namespace, row.workflow)
        if live is None:
            raise Refused("Internal", f"Failed to retry run {row.run.run_id}: its workflow is gone")
        row.generation += 1
        again = {
            "metadata": {
                "labels": {PERSISTED: None},
                "annotations": {RETRY_GENERATION: str(row.generation)},
            },
            "spec": {"activeDeadlineSeconds": None},
            "status": {"phase": "Running", "message": None, "finishedAt": None},
        }
        await self._workflows.merge(row.namespace, row.workflow, again)
        row.run.finished_at = EPOCH
        self.state(row, "RUNNING")
        return {}

    def of(self, run_id: str) -> RunRow:
        """:raises Refused: NotFound"""
        row = self._database.runs.get(run_id)
        if row is None:
            raise not_found("Run", run_id)
        return row

    def state(self, row: RunRow, state: str) -> None:
        """Set a run's state; a change goes to its history."""
        row.run.state = state
        history = row.run.state_history or []
        if not history or history[-1].state != state:
            status = V2beta1RuntimeStatus(update_time=self._database.now(), state=state)
            row.run.state_history = [*history, status]

    def tasks(self, row: RunRow, details: list[Any]) -> None:
        """Set a run's tasks."""
        row.run.run_details = V2beta1RunDetails(task_details=details)

    def _default(self) -> Any:
        if self._settings.multi_user:
            raise invalid("Experiment id can not be empty in multi-user mode")
        return self._experiments.default()

    def _source(self, wanted: V2beta1Run) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pipeline of a run, and how the run refers to it."""
        reference = wanted.pipeline_version_reference
        try:
            if reference is not None:
                row = (
                    self._pipelines.version_of(reference.pipeline_version_id)
                    if reference.pipeline_version_id
                    else self._pipelines.latest(reference.pipeline_id or "")
                )
                return spec.from_package(row.package), {"pipeline_version_reference": reference}
            if wanted.pipeline_spec is None:
                raise invalid("Failed to fetch a template with an empty pipeline spec manifest")
            return spec.from_struct(wanted.pipeline_spec), {"pipeline_spec": wanted.pipeline_spec}
        except Refused as refused:
            raise spec.as_internal(refused, "Failed to create a run due to error fetching manifest") from refused


def _check(wanted: V2beta1Run) -> None:
    if wanted.plugins_output is not None:
        raise Refused("Aborted", "plugins_output is server-owned and populated exclusively via plugin lifecycle hooks")
    if not wanted.display_name:
        raise Refused("Internal", "Run name cannot be empty")
    if len(wanted.run_id or "") > _LONGEST_ID:
        raise Refused("Internal", f"Run.UUID length cannot exceed {_LONGEST_ID}")


def _workflow(run: V2beta1Run, namespace: str, pipeline: Mapping[str, Any], arguments: Mapping[str, Any]) -> Object:
    """What the compiler to Argo makes of a run, without its templates: nobody here runs containers."""
    name = str(pipeline["pipelineInfo"]["name"]).rsplit("/", 1)[-1]
    parameters = {"pipeline-spec": pipeline, "runtime-config": arguments}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "generateName": f"{name}-",
            "namespace": namespace,
            "labels": {RUN_ID: run.run_id},
            "annotations": {RUN_NAME: run.display_name},
        },
        "spec": {
            "entrypoint": "entrypoint",
            "serviceAccountName": run.service_account,
            "podMetadata": {"labels": {RUN_ID: run.run_id, "pipelines.kubeflow.org/v2_component": "true"}},
            "arguments": {
                "parameters": [{"name": each, "value": json.dumps(value)} for each, value in parameters.items()]
            },
        },
    }
