"""The controller of DatasetVersions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.controllers.datasetversion.observe import DatasetVersionSnapshot, observe
from slipway.controllers.datasetversion.plan import plan
from slipway.controllers.shared import links
from slipway.controllers.shared.work import Runner
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import DATASET, DATASET_VERSION, MODEL_PROJECT, PLATFORM, Key, Object, ResourceType


class DatasetVersionController:
    """Turns records into conditions, and keeps their `deletionPolicy`."""

    type: ResourceType = DATASET_VERSION

    def __init__(self, artifacts: Artifacts, runner: Runner) -> None:
        self._artifacts = artifacts
        self._runner = runner
        self.ports: Mapping[str, Any] = {"artifacts": artifacts}

    @property
    def watches(self) -> Sequence[Watch]:
        """Its Dataset, and what a deletion needs."""
        return (
            *links.jobs_of(DATASET_VERSION),
            links.of_namespace(DATASET, DATASET_VERSION, _has),
            links.of_namespace(MODEL_PROJECT, DATASET_VERSION, links.deleted_of_project),
            links.everyone_deleted(PLATFORM, DATASET_VERSION),
        )

    async def observe(self, io: Io, key: Key) -> DatasetVersionSnapshot | None:
        """Read what the plan needs."""
        self._artifacts.secrets.bind(io.client)
        return await observe(io, self._artifacts, key)

    def plan(self, snapshot: DatasetVersionSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now, self._runner)


def _has(version: Object, dataset: Object) -> bool:
    return bool(version["spec"]["datasetRef"]["name"] == dataset["metadata"]["name"])
