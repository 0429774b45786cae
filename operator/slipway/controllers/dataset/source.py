"""From a listing of the source to the request for a version: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipway.adapters.artifacts import Location, key_of
from slipway.adapters.jobs import Work, prepare
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.contracts.digests import digest_json
from slipway.contracts.jobs import IngestRequest, ReferenceData, SourceObject
from slipway.controllers.shared.work import owner

_NOT_CONTENT = frozenset({"projectRef", "pollInterval", "schedule", "timeZone", "deletionPolicy"})
"""Fields of the spec that do not decide what a version is."""


def referenced(dataset: Dataset) -> tuple[str, ...]:
    """Names of the datasets that columns refer to, each once, by name."""
    return tuple(
        sorted({each.references.dataset_ref.name for each in dataset.spec.columns if each.references is not None})
    )


def source_digest(dataset: Dataset, objects: Sequence[SourceObject], references: Mapping[str, DatasetVersion]) -> str:
    """Digest of everything that a version is made from: the objects, the spec, the versions that it refers to."""
    spec = {name: value for name, value in dataset.spec.wire().items() if name not in _NOT_CONTENT}
    return digest_json(
        {
            "objects": sorted([each.key, each.etag, each.size] for each in objects),
            "spec": spec,
            "references": {name: version.spec.digest for name, version in references.items()},
        }
    )


def ingest(
    dataset: Dataset,
    location: Location,
    objects: Sequence[SourceObject],
    references: Mapping[str, DatasetVersion],
    digest: str,
) -> Work:
    """The Job that makes a version of these objects. `source.s3` is set: a CEL rule says so."""
    spec = dataset.spec
    assert spec.source.s3 is not None
    request = IngestRequest(
        store=location.store,
        prefix="",
        namespace=dataset.metadata.namespace or "",
        dataset=dataset.metadata.name,
        source_digest=digest,
        format=spec.source.s3.format,
        objects=sorted(objects, key=lambda each: each.key),
        key=list(spec.key),
        columns=list(spec.columns),
        time=spec.time,
        labels=spec.labels,
        quality=list(spec.quality),
        splits=spec.splits,
        references=[
            ReferenceData(dataset=name, manifest=key_of(version.spec.manifest or ""))
            for name, version in sorted(references.items())
        ],
    )
    return prepare(owner(dataset, spec.project_ref.name), "ingest", request)
