"""Reads what the plan of a Dataset needs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from slipway.adapters.artifacts import MAX_LISTED, Artifacts, Location
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.meta import parse_duration
from slipway.contracts.jobs import IngestRequest, IngestResult
from slipway.controllers.dataset.snapshot import DatasetSnapshot, IngestJob, Listing
from slipway.controllers.dataset.source import ingest, referenced, source_digest
from slipway.controllers.shared import links
from slipway.controllers.shared.cron import last_tick
from slipway.controllers.shared.erasure import observe_erasure
from slipway.controllers.shared.typed import Subject, read, read_all, subject
from slipway.controllers.shared.work import answered, owner, stage_jobs, state_of
from slipway.runtime.controller import Io
from slipway.runtime.resources import DATASET, DATASET_VERSION, GROUP, Key

REFRESH = f"{GROUP}/refresh"
"""Annotation: any new value makes us look at the source now."""
DEFAULT_POLL = "1m"

_Occasion = tuple[str, int, str]
"""What makes an earlier look worthless: another object, another spec, a person's wish."""


class Lookout:
    """Remembers when each source was looked at and what was there, so that events cause no listing.

    It is a memory only: a fresh process looks at once, and comes to the same result.
    """

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[_Occasion, Listing]] = {}

    async def look(self, io: Io, artifacts: Artifacts, location: Location, key: Key, dataset: Dataset) -> Listing:
        """The newest listing: a new one when it is time, else the one from before."""
        now = io.clock()
        meta = dataset.metadata
        occasion = (meta.uid, meta.generation, meta.annotations.get(REFRESH, ""))
        known = self._seen.get(key)
        if known is not None and known[0] == occasion and not is_due(dataset, known[1].at, now):
            return known[1]
        assert dataset.spec.source.s3 is not None
        found = await artifacts.list(location, dataset.spec.source.s3.prefix, MAX_LISTED + 1)
        listing = Listing(now, tuple(found[:MAX_LISTED]), truncated=len(found) > MAX_LISTED)
        self._seen[key] = (occasion, listing)
        return listing

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._seen.pop(key, None)


def is_due(dataset: Dataset, last: datetime, now: datetime) -> bool:
    """Whether the source is to be looked at again. :raises UserError: the schedule is none"""
    spec = dataset.spec
    if spec.schedule is not None:
        return last_tick(spec.schedule, spec.time_zone, now, "spec.schedule") > last
    return now - last >= poll(dataset)


def poll(dataset: Dataset) -> timedelta:
    """Time between two looks, at least a second."""
    return max(parse_duration(dataset.spec.poll_interval or DEFAULT_POLL), timedelta(seconds=1))


async def observe(io: Io, artifacts: Artifacts, lookout: Lookout, key: Key) -> DatasetSnapshot | None:
    """One Dataset and everything that decides about it."""
    found = subject(io, key, Dataset)
    if found is None:
        lookout.forget(key)
        return None
    versions = versions_of(io, found)
    if found.deleting:
        return await _of_deleted(io, artifacts, found, versions)
    dataset = found.typed
    project = links.project(io, dataset.spec.project_ref, found.namespace)
    platform = links.platform(io)
    references = {name: _current(io, name, found.namespace) for name in referenced(dataset)}
    base = DatasetSnapshot(found, project, platform, references, versions=versions)
    if project is None or platform is None:
        return base
    location = Location.of(platform)
    listing = await lookout.look(io, artifacts, location, key, dataset)
    there = {name: version for name, version in references.items() if version is not None}
    if not listing.objects or listing.truncated or len(there) < len(references):
        return DatasetSnapshot(found, project, platform, references, listing, versions)
    digest = source_digest(dataset, listing.objects, there)
    work = ingest(dataset, location, listing.objects, there, digest)
    job = None
    if not recorded(dataset, digest, versions):
        job = await answered(io, artifacts, location, found.namespace, work.name, IngestRequest, IngestResult)
        job = await _with_data(artifacts, location, job)
    earlier = await _earlier(io, artifacts, location, found, work.name)
    return DatasetSnapshot(found, project, platform, references, listing, versions, digest, work, job, earlier)


def recorded(dataset: Dataset, digest: str, versions: tuple[DatasetVersion, ...]) -> DatasetVersion | None:
    """The version that was made from this state of the source, or that turned out to be the same."""
    for each in versions:
        if each.spec.source_digest == digest:
            return each
    if dataset.status.source_digest == digest:
        return next((each for each in versions if each.metadata.name == dataset.status.latest_version), None)
    return None


def versions_of(io: Io, found: Subject[Dataset]) -> tuple[DatasetVersion, ...]:
    """Records of a dataset, by name."""
    return tuple(
        each
        for each in read_all(io, DATASET_VERSION, DatasetVersion, found.namespace)
        if each.spec.dataset_ref.name == found.name
    )


async def _with_data(artifacts: Artifacts, location: Location, job: IngestJob) -> IngestJob:
    """Without an answer whose data was deleted since: then the version is made anew."""
    report = job.result.report if job.result is not None else None
    if report is None or await artifacts.list(location, report, limit=1):
        return job
    return replace(job, result=None)


async def _earlier(
    io: Io, artifacts: Artifacts, location: Location, found: Subject[Dataset], wanted: str
) -> tuple[IngestJob, ...]:
    """Ingest Jobs other than the wanted one: those that are active, and the one whose answer is not recorded yet."""
    names = set(stage_jobs(io, found.raw, "ingest"))
    if found.typed.status.job:
        names.add(found.typed.status.job)
    jobs = [
        await answered(io, artifacts, location, found.namespace, name, IngestRequest, IngestResult, with_request=True)
        for name in sorted(names - {wanted})
        if name == found.typed.status.job or state_of(io, found.namespace, name)[0].active
    ]
    return tuple(jobs)


def _current(io: Io, name: str, namespace: str) -> DatasetVersion | None:
    """The current version of another dataset, or None."""
    other = read(io, DATASET, Dataset, name, namespace)
    if other is None or not other.status.current_version:
        return None
    version = read(io, DATASET_VERSION, DatasetVersion, other.status.current_version, namespace)
    return version if version is not None and version.spec.manifest else None


async def _of_deleted(
    io: Io, artifacts: Artifacts, found: Subject[Dataset], versions: tuple[DatasetVersion, ...]
) -> DatasetSnapshot:
    dataset = found.typed
    if dataset.spec.deletion_policy != "Delete":
        return DatasetSnapshot(found, versions=versions)
    maker = owner(dataset, dataset.spec.project_ref.name)
    prefix = f"datasets/{found.namespace}/{found.name}/"
    erasure = await observe_erasure(io, artifacts, found.raw, maker, dataset.spec.project_ref, (prefix,))
    return DatasetSnapshot(found, versions=versions, erasure=erasure)
