"""Reads what the plan of a ModelVersion needs."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.adapters.artifacts import Artifacts, key_of
from slipway.api.modelversion import ModelVersion
from slipway.controllers.shared.erasure import Erasure, observe_erasure
from slipway.controllers.shared.typed import Subject, read_all, subject
from slipway.controllers.shared.work import owner
from slipway.runtime.controller import Io
from slipway.runtime.resources import MODEL_ROLLOUT, MODEL_VERSION, Key


@dataclass(frozen=True)
class Place:
    """A rollout that has servers of the version, and the part that it plays there."""

    rollout: str
    role: str


@dataclass(frozen=True)
class ModelVersionSnapshot:
    """One record, where it serves, and on deletion what has to go with it."""

    subject: Subject[ModelVersion]
    places: tuple[Place, ...] = ()
    erasure: Erasure | None = None


async def observe(io: Io, artifacts: Artifacts, key: Key) -> ModelVersionSnapshot | None:
    """One record and where it serves."""
    found = subject(io, key, ModelVersion)
    if found is None:
        return None
    # Read as they are: each change of a rollout wakes its project's versions, and there may be hundreds of both.
    places = tuple(
        Place(rollout["metadata"]["name"], served["role"])
        for rollout in io.list(MODEL_ROLLOUT, key.namespace)
        for served in (rollout.get("status") or {}).get("versions") or ()
        if served["name"] == key.name
    )
    spec = found.typed.spec
    if not found.deleting or spec.deletion_policy != "Delete":
        return ModelVersionSnapshot(found, places)
    maker = owner(found.typed, spec.project_ref.name)
    shared = any(
        other.spec.artifact == spec.artifact and other.metadata.uid != found.typed.metadata.uid
        for other in read_all(io, MODEL_VERSION, ModelVersion, key.namespace)
    )
    prefixes = () if shared else (key_of(spec.artifact) + "/",)
    return ModelVersionSnapshot(
        found, places, await observe_erasure(io, artifacts, found.raw, maker, spec.project_ref, prefixes)
    )
