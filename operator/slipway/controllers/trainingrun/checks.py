"""Whether a run may start: a chain of checks, the first that says no decides. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slipway.adapters.pools import pool_units
from slipway.api.featureset import FeatureSet
from slipway.api.reasons import Reason
from slipway.controllers.computepool.quota import admit
from slipway.controllers.featureset.definition import definition_digest
from slipway.controllers.shared import links
from slipway.controllers.shared.typed import age_key
from slipway.controllers.trainingrun.observe import TrainingRunSnapshot
from slipway.controllers.trainingrun.own import unfit


@dataclass(frozen=True)
class Obstacle:
    """Why a run does not start.

    :param fault: somebody has to change something
    :param final: this run never will: its spec does not change, and neither does what is wrong with it
    :param copying: it goes away when the team's own pipeline is copied out of its image
    """

    reason: Reason | str
    message: str
    fault: bool = False
    final: bool = False
    copying: bool = False


def obstacle(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    """The first thing that stands in the way of a start."""
    for check in _CHECKS:
        found = check(snapshot)
        if found is not None:
            return found
    return None


def _platform(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    if snapshot.platform is None:
        return Obstacle(Reason.PlatformMissing, links.no_platform())
    return None


def _project(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    if snapshot.project is None:
        return Obstacle(Reason.ProjectMissing, links.no_project(snapshot.subject.typed.spec.project_ref))
    return None


def _dataset_version(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    spec, version = snapshot.subject.typed.spec, snapshot.dataset_version
    name = spec.dataset_version_ref.name
    if version is None:
        message = f"spec.datasetVersionRef: DatasetVersion {name} does not exist: make it, or create another run."
        return Obstacle(Reason.DependencyMissing, message)
    if version.spec.project_ref != spec.project_ref:
        message = (
            f"spec.datasetVersionRef: {name} belongs to project {version.spec.project_ref.name}, not to "
            f"{spec.project_ref.name}: create a run with a version of the project's own dataset."
        )
        return Obstacle(Reason.InvalidSpec, message, fault=True, final=True)
    if version.spec.verdict != "Passed" or version.spec.manifest is None:
        message = f"spec.datasetVersionRef: {name} did not pass its quality rules: create a run with one that did."
        return Obstacle(Reason.InvalidSpec, message, fault=True, final=True)
    assert snapshot.project is not None
    training = snapshot.project.spec.training
    if training is not None and training.dataset_ref != version.spec.dataset_ref:
        message = (
            f"spec.datasetVersionRef: {name} is a version of Dataset {version.spec.dataset_ref.name}, and the project "
            f"trains on {training.dataset_ref.name}: create a run with a version of that."
        )
        return Obstacle(Reason.InvalidSpec, message, fault=True, final=True)
    return None


def _feature_sets(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    for name, found in snapshot.feature_sets.items():
        if found is None:
            message = f"spec.featureSetRefs: FeatureSet {name} does not exist: create it, or create another run."
            return Obstacle(Reason.DependencyMissing, message)
        if found.spec.project_ref != snapshot.subject.typed.spec.project_ref:
            message = f"spec.featureSetRefs: FeatureSet {name} belongs to project {found.spec.project_ref.name}."
            return Obstacle(Reason.InvalidSpec, message, fault=True, final=True)
        waiting = _behind(snapshot, found)
        if waiting:
            return Obstacle(Reason.DependencyNotReady, f"spec.featureSetRefs: waits for FeatureSet {name}: {waiting}")
    return None


def _behind(snapshot: TrainingRunSnapshot, feature_set: FeatureSet) -> str:
    """Why a FeatureSet's values are not those that the run needs; empty when they are."""
    if feature_set.status.definition_digest != definition_digest(feature_set):
        return "its newest definitions are not applied yet."
    wanted = snapshot.dataset_version
    assert wanted is not None
    for source in feature_set.status.sources or ():
        there = snapshot.source_versions.get(source.version)
        if there is None:
            return f"DatasetVersion {source.version}, from which it was computed, does not exist any more."
        older = source.dataset == wanted.spec.dataset_ref.name and age_key(there) < age_key(wanted)
        if older:
            return f"it has the values of {source.version}, not yet those of {wanted.metadata.name}."
    return ""


def _pool(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    facts, run = snapshot.pool, snapshot.subject.typed
    if facts is None:
        return None
    assert run.spec.pool_ref is not None
    if facts.pool is None:
        message = f"spec.poolRef: ComputePool {run.spec.pool_ref.name} does not exist: ask for it, or name another."
        return Obstacle(Reason.DependencyMissing, message)
    resource = facts.pool.spec.resource
    admission = admit(
        facts.pool,
        snapshot.subject.namespace,
        facts.namespace_labels,
        run.spec.project_ref.name,
        pool_units(run.spec.resources, resource),
        facts.held,
        sum(pool_units(each.spec.resources, resource) for each in facts.ahead),
    )
    if admission.allowed:
        return None
    return Obstacle(
        admission.reason, f"spec.{admission.message}" if admission.final else admission.message, admission.final
    )


def _own_pipeline(snapshot: TrainingRunSnapshot) -> Obstacle | None:
    own = snapshot.own
    if own is None:
        return None
    if own.problem:
        return Obstacle(own.reason, own.problem, fault=not own.missing, final=not own.missing)
    if own.copying is not None:
        return Obstacle(Reason.Progressing, "", copying=True)
    assert own.pipeline is not None
    assert snapshot.engine is not None
    pool = snapshot.pool.pool if snapshot.pool is not None else None
    problem = unfit(own.pipeline, snapshot.subject.typed, snapshot.engine, pool)
    return Obstacle(Reason.InvalidPipeline, problem, fault=True, final=True) if problem else None


_CHECKS: tuple[Callable[[TrainingRunSnapshot], Obstacle | None], ...] = (
    _project,
    _platform,
    _dataset_version,
    _feature_sets,
    _own_pipeline,
    _pool,
)
