"""Reads what the plan of a FeatureSet needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from slipway.adapters import labels
from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.jobs import Work, prepare
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.api.meta import parse_time
from slipway.api.modelproject import ModelProject
from slipway.api.platform import Platform
from slipway.contracts.jobs import FeatureRequest, FeatureResult, FeatureTeardownRequest, FeatureTeardownResult
from slipway.controllers.featureset.definition import feast_project, features, sources
from slipway.controllers.shared import links
from slipway.controllers.shared.cron import last_tick
from slipway.controllers.shared.erasure import is_terminating
from slipway.controllers.shared.typed import Subject, read, subject
from slipway.controllers.shared.work import Answered, answered, owner, stage_jobs, state_of
from slipway.runtime.controller import Io
from slipway.runtime.resources import DATASET, DATASET_VERSION, JOB, Key

FeatureJob = Answered[FeatureRequest, FeatureResult]
TeardownJob = Answered[FeatureTeardownRequest, FeatureTeardownResult]


@dataclass(frozen=True)
class FeatureSetSnapshot:
    """One FeatureSet and everything that decides about it.

    :param versions: current version of every dataset that it reads; None: there is none
    :param request, work, job: what would bring the newest values to the store; None while something is missing
    :param due: a scheduled materialization is due though nothing changed
    :param earlier: Jobs for earlier definitions or data that are active, or whose answer is not recorded
    :param busy: Job of another FeatureSet that writes to the same Feast project now
    :param unreachable: on deletion, why no Job can clear the store
    """

    subject: Subject[FeatureSet]
    project: ModelProject | None = None
    platform: Platform | None = None
    versions: Mapping[str, DatasetVersion | None] = field(default_factory=dict)
    request: FeatureRequest | None = None
    work: Work | None = None
    job: FeatureJob | None = None
    due: bool = False
    earlier: tuple[FeatureJob, ...] = ()
    busy: str = ""
    teardown_work: Work | None = None
    teardown: TeardownJob | None = None
    unreachable: str = ""


async def observe(io: Io, artifacts: Artifacts, key: Key) -> FeatureSetSnapshot | None:
    """One FeatureSet and everything that decides about it."""
    found = subject(io, key, FeatureSet)
    if found is None:
        return None
    spec = found.typed.spec
    project = links.project(io, spec.project_ref, found.namespace)
    platform = links.platform(io)
    if found.deleting:
        return await _of_deleted(io, artifacts, found, project, platform)
    versions = {name: _current(io, name, found.namespace) for name in sources(found.typed)}
    there = {name: version for name, version in versions.items() if version is not None}
    if project is None or platform is None:
        return FeatureSetSnapshot(found, project, platform, versions)
    location = Location.of(platform)
    if len(there) < len(versions):
        earlier = await _earlier(io, artifacts, location, found, "")
        return FeatureSetSnapshot(found, project, platform, versions, earlier=earlier)
    request, work = features(found.typed, location, there)
    return FeatureSetSnapshot(
        found,
        project,
        platform,
        versions,
        request,
        work,
        await answered(io, artifacts, location, found.namespace, work.name, FeatureRequest, FeatureResult),
        due=is_due(found.typed, io.clock()),
        earlier=await _earlier(io, artifacts, location, found, work.name),
        busy=_busy(io, found),
    )


def is_due(feature_set: FeatureSet, now: datetime) -> bool:
    """Whether a scheduled materialization is due. :raises UserError: the schedule is none"""
    schedule, last = feature_set.spec.materialize, feature_set.status.last_materialized_time
    if schedule is None or last is None:
        return False
    return last_tick(schedule.schedule, schedule.time_zone, now, "spec.materialize.schedule") > parse_time(last)


async def _earlier(
    io: Io, artifacts: Artifacts, location: Location, found: Subject[FeatureSet], wanted: str
) -> tuple[FeatureJob, ...]:
    names = set(stage_jobs(io, found.raw, "features"))
    recorded = found.typed.status.job
    if recorded:
        names.add(recorded)
    jobs = [
        await answered(io, artifacts, location, found.namespace, name, FeatureRequest, FeatureResult, with_request=True)
        for name in sorted(names - {wanted})
        if name == recorded or state_of(io, found.namespace, name)[0].active
    ]
    return tuple(jobs)


def _busy(io: Io, found: Subject[FeatureSet]) -> str:
    """A Job of another FeatureSet of the project that is active: Feast's registry is written by one at a time."""
    own = {job["metadata"]["name"] for job in io.owned(found.raw, JOB)}
    for job in io.list(JOB, found.namespace, labels.of(found.typed.spec.project_ref.name)):
        meta = job["metadata"]
        writes = meta["labels"].get(labels.STAGE) in ("features", "teardown")
        if writes and meta["name"] not in own and state_of(io, found.namespace, meta["name"])[0].active:
            return str(meta["name"])
    return ""


def _current(io: Io, name: str, namespace: str) -> DatasetVersion | None:
    dataset = read(io, DATASET, Dataset, name, namespace)
    if dataset is None or not dataset.status.current_version:
        return None
    version = read(io, DATASET_VERSION, DatasetVersion, dataset.status.current_version, namespace)
    return version if version is not None and version.spec.manifest else None


async def _of_deleted(
    io: Io,
    artifacts: Artifacts,
    found: Subject[FeatureSet],
    project: ModelProject | None,
    platform: Platform | None,
) -> FeatureSetSnapshot:
    if platform is None or project is None or await is_terminating(io, found.namespace):
        why = "there is no Platform" if platform is None else "the project's Secrets are gone"
        return FeatureSetSnapshot(found, project, platform, unreachable=why)
    location = Location.of(platform)
    earlier = await _earlier(io, artifacts, location, found, "")
    objects = owned_objects(found.typed, earlier)
    if not objects:
        return FeatureSetSnapshot(found, project, platform, earlier=earlier)
    name = feast_project(found.namespace, found.typed.spec.project_ref.name)
    request = FeatureTeardownRequest(store=location.store, prefix="", feast_project=name, objects=list(objects))
    maker = owner(found.typed, found.typed.spec.project_ref.name)
    work = prepare(maker, "features-teardown", request, stage="teardown")
    job = await answered(
        io, artifacts, location, found.namespace, work.name, FeatureTeardownRequest, FeatureTeardownResult
    )
    return FeatureSetSnapshot(
        found, project, platform, earlier=earlier, busy=_busy(io, found), teardown_work=work, teardown=job
    )


def owned_objects(feature_set: FeatureSet, earlier: tuple[FeatureJob, ...]) -> tuple[str, ...]:
    """Feast objects of a FeatureSet: those that it is known to have, and those of answers not recorded yet."""
    found = set(feature_set.status.objects or ())
    for job in earlier:
        if job.result is not None:
            found.update(job.result.objects)
    return tuple(sorted(found))
