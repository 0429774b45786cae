"""The controller of Datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.controllers.dataset.observe import Lookout, observe
from slipway.controllers.dataset.plan import plan
from slipway.controllers.dataset.snapshot import DatasetSnapshot
from slipway.controllers.shared import links
from slipway.controllers.shared.work import Runner
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    MODEL_PROJECT,
    PLATFORM,
    Key,
    Object,
    ResourceType,
)


class DatasetController:
    """Looks at sources, runs ingest Jobs, records DatasetVersions."""

    type: ResourceType = DATASET
    ready_condition = "Ready"

    def __init__(self, artifacts: Artifacts, runner: Runner) -> None:
        self._artifacts = artifacts
        self._runner = runner
        self._lookout = Lookout()
        self.ports: Mapping[str, Any] = {"artifacts": artifacts}

    @property
    def watches(self) -> Sequence[Watch]:
        """Jobs and their pods, records, the project, the Platform, and datasets that columns refer to."""
        return (
            *links.jobs_of(DATASET),
            links.of_namespace(DATASET_VERSION, DATASET, _is_of),
            links.of_namespace(MODEL_PROJECT, DATASET, links.same_project),
            links.of_namespace(DATASET, DATASET, _refers),
            links.everyone(PLATFORM, DATASET),
        )

    async def observe(self, io: Io, key: Key) -> DatasetSnapshot | None:
        """Read what the plan needs."""
        self._artifacts.secrets.bind(io.client)
        return await observe(io, self._artifacts, self._lookout, key)

    def plan(self, snapshot: DatasetSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now, self._runner)


def _is_of(dataset: Object, version: Object) -> bool:
    return bool(version["spec"]["datasetRef"]["name"] == dataset["metadata"]["name"])


def _refers(dataset: Object, other: Object) -> bool:
    name = other["metadata"]["name"]
    return any(
        (column.get("references") or {}).get("datasetRef", {}).get("name") == name
        for column in dataset["spec"].get("columns") or ()
    )
