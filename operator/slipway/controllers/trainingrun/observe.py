"""Reads what the plan of a TrainingRun needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.adapters import labels
from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.engines.base import Engines, Run
from slipway.api.computepool import ComputePool
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.api.modelproject import ModelProject
from slipway.api.modelrollout import ModelRollout
from slipway.api.modelversion import ModelVersion
from slipway.api.platform import Platform
from slipway.api.trainingrun import TrainingRun
from slipway.contracts.pipelines import Engine
from slipway.controllers.computepool.quota import Holding, holdings, holdings_of_runs
from slipway.controllers.shared import links
from slipway.controllers.shared.typed import Subject, age_key, read, read_all, subject
from slipway.controllers.shared.work import owner
from slipway.controllers.trainingrun.own import OwnFacts, read_own
from slipway.runtime.controller import Io
from slipway.runtime.resources import (
    COMPUTE_POOL,
    DATASET_VERSION,
    FEATURE_SET,
    INFERENCE_SERVICE,
    JOB,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    NAMESPACE,
    TRAINING_RUN,
    Key,
)

ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class PoolFacts:
    """The pool that a run names, and what decides whether it has room.

    :param ahead: runs of the project that came before and still wait for the pool
    """

    pool: ComputePool | None
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    held: tuple[Holding, ...] = ()
    ahead: tuple[TrainingRun, ...] = ()


@dataclass(frozen=True)
class TrainingRunSnapshot:
    """One run and everything that decides about it.

    :param feature_sets: those that it names; None: there is none of that name
    :param source_versions: DatasetVersions that the FeatureSets' values were computed from, by name
    :param stable: version that serves users now
    :param recorded: ModelVersions of the project, by name
    :param engine: where it was started, or would be; None without a Platform
    :param run, facts: what the engine knows; None without a Platform
    :param own: the team's own pipeline, of a run that names one and was not handed over yet
    """

    subject: Subject[TrainingRun]
    project: ModelProject | None = None
    platform: Platform | None = None
    dataset_version: DatasetVersion | None = None
    feature_sets: Mapping[str, FeatureSet | None] = field(default_factory=dict)
    source_versions: Mapping[str, DatasetVersion] = field(default_factory=dict)
    pool: PoolFacts | None = None
    stable: ModelVersion | None = None
    recorded: Mapping[str, ModelVersion] = field(default_factory=dict)
    engine: Engine | None = None
    run: Run | None = None
    facts: Any = None
    own: OwnFacts | None = None


async def observe(io: Io, artifacts: Artifacts, engines: Engines, key: Key) -> TrainingRunSnapshot | None:
    """One run and everything that decides about it; nothing more of one that has ended."""
    found = subject(io, key, TrainingRun)
    if found is None:
        return None
    if found.typed.status.phase in ENDED:
        return TrainingRunSnapshot(found)
    spec, namespace = found.typed.spec, found.namespace
    project = links.project(io, spec.project_ref, namespace)
    platform = links.platform(io)
    feature_sets = {
        each.name: read(io, FEATURE_SET, FeatureSet, each.name, namespace) for each in spec.feature_set_refs
    }
    engine, run, facts, own = None, None, None, None
    if platform is not None:
        status = found.typed.status
        started = status.start_time is not None
        # A run stays with its engine though the Platform changes to another one.
        engine = (status.engine if started else None) or platform.spec.pipelines.engine
        run = Run(
            owner(found.typed, spec.project_ref.name),
            found.raw,
            Location.of(platform),
            attempt=status.attempt or 1,
            started=started,
            platform=platform,
        )
        facts = await engines[engine].observe(io, artifacts, run)
        if spec.pipeline is not None and not engines[engine].known(facts) and not found.deleting:
            own = await read_own(io, artifacts, engines[engine], run, spec.pipeline)
    versions = [
        each
        for each in read_all(io, MODEL_VERSION, ModelVersion, namespace)
        if each.spec.project_ref.name == spec.project_ref.name
    ]
    return TrainingRunSnapshot(
        found,
        project,
        platform,
        read(io, DATASET_VERSION, DatasetVersion, spec.dataset_version_ref.name, namespace),
        feature_sets,
        _sources(io, feature_sets, namespace),
        await _pool(io, found) if spec.pool_ref is not None else None,
        _stable(io, found, versions),
        {each.metadata.name: each for each in versions},
        engine,
        run,
        facts,
        own,
    )


def _sources(io: Io, feature_sets: Mapping[str, FeatureSet | None], namespace: str) -> dict[str, DatasetVersion]:
    names = {
        source.version for each in feature_sets.values() if each is not None for source in each.status.sources or ()
    }
    found = {name: read(io, DATASET_VERSION, DatasetVersion, name, namespace) for name in sorted(names)}
    return {name: version for name, version in found.items() if version is not None}


async def _pool(io: Io, found: Subject[TrainingRun]) -> PoolFacts:
    spec = found.typed.spec
    assert spec.pool_ref is not None
    name = spec.pool_ref.name
    pool = read(io, COMPUTE_POOL, ComputePool, name)
    if pool is None:
        return PoolFacts(None)
    namespace_labels: Mapping[str, str] = {}
    if pool.spec.allowed_namespaces is not None:
        namespace = await io.live(NAMESPACE.key(found.namespace))
        namespace_labels = (namespace or {"metadata": {}})["metadata"].get("labels") or {}
    marked = {labels.POOL: labels.label_value(name)}
    objects = [*io.list(JOB, labels=marked), *io.list(INFERENCE_SERVICE, labels=marked)]
    own = {job["metadata"]["name"] for job in io.owned(found.raw, JOB)}
    held = tuple(
        each
        for each in holdings(name, objects)
        if not (each.kind == "Job" and each.namespace == found.namespace and each.name in own)
    )
    held += tuple(
        each
        for each in holdings_of_runs(pool, io.where(TRAINING_RUN, {("spec", "poolRef", "name"): name}))
        if (each.namespace, each.name) != (found.namespace, found.typed.metadata.name)
    )
    ahead = tuple(
        each for each in read_all(io, TRAINING_RUN, TrainingRun, found.namespace) if _is_ahead(each, found.typed)
    )
    return PoolFacts(pool, namespace_labels, held, ahead)


def _is_ahead(other: TrainingRun, run: TrainingRun) -> bool:
    """Whether another run asked for the same pool before and still waits: whoever came first goes first."""
    same = other.spec.pool_ref == run.spec.pool_ref and other.spec.project_ref == run.spec.project_ref
    if not same or other.metadata.deletion_timestamp or age_key(other) >= age_key(run):
        return False
    if other.status.phase is None:
        return True
    reasons = {each.reason for each in other.status.conditions or () if each.type == "Succeeded"}
    begun = other.status.job is not None or other.status.pipeline_run is not None
    return other.status.phase == "Pending" and not begun and "WaitingForPool" in reasons


def _stable(io: Io, found: Subject[TrainingRun], versions: list[ModelVersion]) -> ModelVersion | None:
    """The version that the project's first rollout, by name, calls stable."""
    by_name = {each.metadata.name: each for each in versions}
    for rollout in read_all(io, MODEL_ROLLOUT, ModelRollout, found.namespace):
        if rollout.spec.project_ref == found.typed.spec.project_ref and rollout.status.stable in by_name:
            return by_name[rollout.status.stable]
    return None
