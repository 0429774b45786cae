"""The controller of ModelProjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from slipway.adapters.secrets import Secrets
from slipway.controllers.modelproject.observe import observe
from slipway.controllers.modelproject.plan import plan
from slipway.controllers.modelproject.snapshot import ModelProjectSnapshot
from slipway.controllers.shared import links
from slipway.runtime.controller import Io, Plan, Watch, owned
from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    MODEL_PROJECT,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    PLATFORM,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    TRAINING_RUN,
    Key,
    ResourceType,
)

_MEMBERS = (DATASET, DATASET_VERSION, FEATURE_SET, TRAINING_RUN, MODEL_VERSION, MODEL_ROLLOUT)


class ModelProjectController:
    """Sets projects up, makes their runs, rolls up what belongs to them.

    :param pipeline_digest: gives the digest of the compiled pipeline
    """

    type: ResourceType = MODEL_PROJECT

    def __init__(self, secrets: Secrets, pipeline_digest: Callable[[], str]) -> None:
        self._secrets = secrets
        self._pipeline_digest = pipeline_digest

    @property
    def watches(self) -> Sequence[Watch]:
        """Everything that belongs to the project, what it made, and the Platform."""
        return (
            *(links.of_namespace(each, MODEL_PROJECT, links.same_project) for each in _MEMBERS),
            owned(SERVICE_ACCOUNT, MODEL_PROJECT),
            owned(ROLE_BINDING, MODEL_PROJECT),
            links.everyone(PLATFORM, MODEL_PROJECT),
        )

    async def observe(self, io: Io, key: Key) -> ModelProjectSnapshot | None:
        """Read what the plan needs."""
        self._secrets.bind(io.client)
        return await observe(io, self._secrets, key)

    def plan(self, snapshot: ModelProjectSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now, self._pipeline_digest())
