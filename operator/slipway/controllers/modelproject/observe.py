"""Reads what the plan of a ModelProject needs."""

from __future__ import annotations

from typing import TypeVar

from slipway.adapters.secrets import Secrets
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.api.meta import Resource
from slipway.api.modelproject import ModelProject
from slipway.api.modelrollout import ModelRollout
from slipway.api.modelversion import ModelVersion
from slipway.api.platform import Platform
from slipway.api.trainingrun import TrainingRun
from slipway.controllers.modelproject.snapshot import Credentials, ModelProjectSnapshot
from slipway.controllers.shared import links
from slipway.controllers.shared.typed import read_all, subject
from slipway.runtime.controller import Io
from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    ROLE_BINDING,
    TRAINING_RUN,
    Key,
    ResourceType,
    uid_of,
)

R = TypeVar("R", bound=Resource)


async def observe(io: Io, secrets: Secrets, key: Key) -> ModelProjectSnapshot | None:
    """One project with everything that belongs to it. A project that is being deleted needs nothing more."""
    found = subject(io, key, ModelProject)
    if found is None or found.deleting:
        return None
    platform = links.platform(io)
    data = _of(io, DATASET_VERSION, DatasetVersion, key)
    return ModelProjectSnapshot(
        found,
        platform,
        await _credentials(secrets, platform) if platform is not None else Credentials(),
        _of(io, DATASET, Dataset, key),
        {each.metadata.name: each for each in data},
        _of(io, FEATURE_SET, FeatureSet, key),
        _of(io, TRAINING_RUN, TrainingRun, key),
        _of(io, MODEL_VERSION, ModelVersion, key),
        _of(io, MODEL_ROLLOUT, ModelRollout, key),
        {each["metadata"]["name"]: uid_of(each) for each in io.owned(found.raw, ROLE_BINDING)},
    )


def _of(io: Io, type_: ResourceType, model: type[R], key: Key) -> tuple[R, ...]:
    """Objects of a kind that belong to the project, by name."""
    return tuple(each for each in read_all(io, type_, model, key.namespace) if _project(each) == key.name)


def _project(resource: Resource) -> str:
    return str(getattr(resource, "spec").project_ref.name)  # noqa: B009 - each kind declares its own


async def _credentials(secrets: Secrets, platform: Platform) -> Credentials:
    s3 = platform.spec.artifacts.s3
    store = await secrets.read(s3.secret_ref.namespace, s3.secret_ref.name)
    user_code = store
    if s3.user_code_secret_ref is not None:
        user_code = await secrets.read(s3.user_code_secret_ref.namespace, s3.user_code_secret_ref.name)
    predictions = None
    if s3.prediction_log_secret_ref is not None:
        predictions = await secrets.read(s3.prediction_log_secret_ref.namespace, s3.prediction_log_secret_ref.name)
    postgres = platform.spec.features.postgres.secret_ref
    return Credentials(store, user_code, await secrets.read(postgres.namespace, postgres.name), predictions)
