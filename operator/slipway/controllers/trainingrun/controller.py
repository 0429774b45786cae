"""The controller of TrainingRuns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.adapters.engines.base import Engines
from slipway.adapters.kfp.port import RUN_LABEL
from slipway.controllers.shared import links
from slipway.controllers.shared.work import Runner
from slipway.controllers.trainingrun.observe import TrainingRunSnapshot, observe
from slipway.controllers.trainingrun.plan import plan
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import (
    COMPUTE_POOL,
    DATASET_VERSION,
    FEATURE_SET,
    INFERENCE_SERVICE,
    JOB,
    MODEL_PROJECT,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    PLATFORM,
    POD,
    TRAINING_RUN,
    WORKFLOW,
    Key,
    Object,
    ResourceType,
)
from slipway.runtime.stores import Stores


class TrainingRunController:
    """Starts runs when they may, follows them, records what they made.

    :param pipeline_digest: gives the digest of the compiled pipeline
    """

    type: ResourceType = TRAINING_RUN
    ready_condition = "Succeeded"

    def __init__(
        self, artifacts: Artifacts, runner: Runner, engines: Engines, pipeline_digest: Callable[[], str]
    ) -> None:
        self._artifacts = artifacts
        self._runner = runner
        self._engines = engines
        self._pipeline_digest = pipeline_digest
        self.ports: Mapping[str, Any] = {"artifacts": artifacts}
        for engine in engines.values():
            self.ports = {**self.ports, **engine.ports}

    @property
    def watches(self) -> Sequence[Watch]:
        """Its Jobs, what a start needs, and whatever may leave room in a pool."""
        return (
            *links.jobs_of(TRAINING_RUN),
            Watch(WORKFLOW, _run_of),
            Watch(POD, _run_of),
            links.of_namespace(MODEL_PROJECT, TRAINING_RUN, _waits_in_project),
            links.of_namespace(DATASET_VERSION, TRAINING_RUN, _waits_in_project),
            links.of_namespace(FEATURE_SET, TRAINING_RUN, _waits_in_project),
            links.of_namespace(MODEL_ROLLOUT, TRAINING_RUN, _never),
            links.of_namespace(MODEL_VERSION, TRAINING_RUN, _never),
            links.of_namespace(JOB, TRAINING_RUN, _waits_for_pool),
            links.of_namespace(TRAINING_RUN, TRAINING_RUN, _waits_for_pool),
            links.of_namespace(INFERENCE_SERVICE, TRAINING_RUN, _waits_for_pool),
            Watch(COMPUTE_POOL, lambda _, stores: _waiting(stores.list(TRAINING_RUN))),
            Watch(PLATFORM, lambda _, stores: _waiting(stores.list(TRAINING_RUN))),
        )

    async def observe(self, io: Io, key: Key) -> TrainingRunSnapshot | None:
        """Read what the plan needs."""
        self._artifacts.secrets.bind(io.client)
        return await observe(io, self._artifacts, self._engines, key)

    def plan(self, snapshot: TrainingRunSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now, self._runner, self._engines, self._pipeline_digest())


def _run_of(obj: Object, stores: Stores) -> list[Key]:
    """The TrainingRun that a Workflow, or a pod of one, works for."""
    found = (obj["metadata"].get("labels") or {}).get(RUN_LABEL)
    if not found:
        return []
    runs = stores.where(TRAINING_RUN, {("status", "pipelineRun", "id"): str(found)})
    return [TRAINING_RUN.key_of(each) for each in runs]


def _waiting(runs: Sequence[Object]) -> list[Key]:
    return [TRAINING_RUN.key_of(each) for each in runs if _phase(each) in ("", "Pending")]


def _phase(run: Object) -> str:
    return str((run.get("status") or {}).get("phase") or "")


def _waits_in_project(run: Object, other: Object) -> bool:
    return _phase(run) in ("", "Pending") and links.same_project(run, other)


def _waits_for_pool(run: Object, _: Object) -> bool:
    """Whether the run may start when something of its namespace ends; other namespaces have quotas of their own."""
    return _phase(run) == "Pending" and bool(run["spec"].get("poolRef"))


def _never(_: Object, __: Object) -> bool:
    """Kept in memory for `observe`, and no reason to look again."""
    return False
