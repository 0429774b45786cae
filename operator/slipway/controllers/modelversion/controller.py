"""The controller of ModelVersions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.controllers.modelversion.observe import ModelVersionSnapshot, observe
from slipway.controllers.modelversion.plan import plan
from slipway.controllers.shared import links
from slipway.controllers.shared.work import Runner
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import MODEL_PROJECT, MODEL_ROLLOUT, MODEL_VERSION, PLATFORM, Key, ResourceType


class ModelVersionController:
    """Turns records into conditions, and keeps their `deletionPolicy`."""

    type: ResourceType = MODEL_VERSION

    def __init__(self, artifacts: Artifacts, runner: Runner) -> None:
        self._artifacts = artifacts
        self._runner = runner
        self.ports: Mapping[str, Any] = {"artifacts": artifacts}

    @property
    def watches(self) -> Sequence[Watch]:
        """Rollouts of its project, and what a deletion needs."""
        return (
            *links.jobs_of(MODEL_VERSION),
            links.of_namespace(MODEL_ROLLOUT, MODEL_VERSION, links.same_project),
            links.of_namespace(MODEL_PROJECT, MODEL_VERSION, links.deleted_of_project),
            links.everyone_deleted(PLATFORM, MODEL_VERSION),
        )

    async def observe(self, io: Io, key: Key) -> ModelVersionSnapshot | None:
        """Read what the plan needs."""
        self._artifacts.secrets.bind(io.client)
        return await observe(io, self._artifacts, key)

    def plan(self, snapshot: ModelVersionSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now, self._runner)
