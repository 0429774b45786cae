"""From the answer of an ingest Job to the DatasetVersion that records it: pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slipway.adapters import labels
from slipway.adapters.artifacts import Location
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion, DatasetVersionSpec
from slipway.api.meta import API_VERSION, LocalRef
from slipway.contracts.digests import digest_json, short
from slipway.contracts.jobs import IngestResult

MAX_VIOLATIONS = 50


def version_name(dataset: str, result: IngestResult, source_digest: str, taken: Iterable[DatasetVersion]) -> str:
    """`DATASET-DIGEST10`.

    The same content can be judged twice, by other rules. A record never changes, so the second verdict gets a name of
    its own, made from the content, the verdict and the source.
    """
    assert result.digest is not None
    plain = f"{dataset}-{short(result.digest)}"
    known = {each.metadata.name: each for each in taken}
    if plain not in known or same_record(known[plain], result):
        return plain
    return f"{dataset}-{short(digest_json([result.digest, result.verdict, source_digest]))}"


def same_record(version: DatasetVersion, result: IngestResult) -> bool:
    """Whether a record already says what this answer says."""
    return version.spec.digest == result.digest and version.spec.verdict == result.verdict


def record(dataset: Dataset, name: str, result: IngestResult, source_digest: str, location: Location) -> dict[str, Any]:
    """The manifest of a DatasetVersion. It has no owner: records outlive what made them."""
    assert result.digest is not None
    assert result.verdict is not None
    assert result.report is not None
    spec = DatasetVersionSpec(
        project_ref=dataset.spec.project_ref,
        dataset_ref=LocalRef(name=dataset.metadata.name),
        digest=result.digest,
        source_digest=source_digest,
        verdict=result.verdict,
        rows=result.rows,
        partitions=result.partitions,
        known_until=result.known_until,
        manifest=location.uri(result.manifest) if result.manifest else None,
        profile=location.uri(result.profile) if result.profile else None,
        report=location.uri(result.report),
        splits=list(result.splits),
        labels=result.labels,
        violations=list(result.violations[:MAX_VIOLATIONS]),
        deletion_policy=dataset.spec.deletion_policy,
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "DatasetVersion",
        "metadata": {
            "name": name,
            "namespace": dataset.metadata.namespace,
            "labels": labels.of(dataset.spec.project_ref.name),
        },
        "spec": spec.wire(),
    }
