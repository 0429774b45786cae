"""Reads what the plan of a DatasetVersion needs."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.adapters.artifacts import Artifacts, Location, key_of
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.contracts.jobs import DatasetManifest
from slipway.controllers.shared import links
from slipway.controllers.shared.erasure import Erasure, observe_erasure
from slipway.controllers.shared.typed import Subject, read, read_all, subject
from slipway.controllers.shared.work import owner
from slipway.runtime.controller import Io
from slipway.runtime.resources import DATASET, DATASET_VERSION, Key


@dataclass(frozen=True)
class DatasetVersionSnapshot:
    """One record, its Dataset (None when that is gone), and on deletion what has to go with it."""

    subject: Subject[DatasetVersion]
    dataset: Dataset | None = None
    erasure: Erasure | None = None


async def observe(io: Io, artifacts: Artifacts, key: Key) -> DatasetVersionSnapshot | None:
    """One record and what it belongs to."""
    found = subject(io, key, DatasetVersion)
    if found is None:
        return None
    spec = found.typed.spec
    dataset = read(io, DATASET, Dataset, spec.dataset_ref.name, key.namespace)
    if not found.deleting or spec.deletion_policy != "Delete":
        return DatasetVersionSnapshot(found, dataset)
    prefixes = await _prefixes(io, artifacts, found)
    maker = owner(found.typed, spec.project_ref.name)
    return DatasetVersionSnapshot(
        found, dataset, await observe_erasure(io, artifacts, found.raw, maker, spec.project_ref, prefixes)
    )


async def _prefixes(io: Io, artifacts: Artifacts, found: Subject[DatasetVersion]) -> tuple[str, ...]:
    """The version's own folder, and those of its partitions that no other version has."""
    spec = found.typed.spec
    folder = key_of(spec.report).rpartition("/")[0] + "/"
    platform = links.platform(io)
    location = Location.of(platform) if platform is not None else None
    mine: frozenset[str] = frozenset()
    if location is not None and spec.manifest is not None:
        mine = await _parts(artifacts, location, spec.manifest)
    for other in read_all(io, DATASET_VERSION, DatasetVersion, found.namespace):
        same = other.spec.dataset_ref == spec.dataset_ref and other.metadata.uid != found.typed.metadata.uid
        if same and other.spec.digest == spec.digest:
            return ()  # another verdict on the same content: nothing may go
        if same and location is not None and other.spec.manifest is not None and mine:
            mine -= await _parts(artifacts, location, other.spec.manifest)
    return (*sorted(mine), folder)


async def _parts(artifacts: Artifacts, location: Location, manifest: str) -> frozenset[str]:
    """Keys of a version's partitions; none when its manifest is gone already."""
    found = await artifacts.get_json(location, key_of(manifest), DatasetManifest)
    return frozenset(part.key for part in found.parts) if found is not None else frozenset()
