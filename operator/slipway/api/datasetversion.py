"""DatasetVersion: an immutable, content-addressed state of a dataset."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway.api.common import DeletionPolicy, deletion_policy
from slipway.api.meta import (
    ApiModel,
    Column,
    Digest,
    Identifier,
    LocalRef,
    Resource,
    Status,
    Uri,
    map_list,
    unchanged,
)


class SplitRecord(ApiModel):
    """One split."""

    name: Literal["train", "validation", "test"] = Field(description="Which split.")
    rows: int = Field(ge=0, description="Its rows.")
    start: str = Field(max_length=40, description="First event time, inclusive (RFC 3339).")
    end: str = Field(max_length=40, description="End of event times, exclusive (RFC 3339).")


class Violation(ApiModel):
    """A broken rule."""

    rule: str = Field(max_length=128, description="Name of the rule: of spec.quality, or schema, key, reference.")
    severity: Literal["Block", "Warn"] = Field(description="Whether it blocks.")
    partition: str | None = Field(
        None, max_length=1024, description="Source object that breaks it; all rows when empty."
    )
    message: str = Field(max_length=1024, description="What was expected, what was found, and what to change.")


class LabelRecord(ApiModel):
    """How the rows are labelled."""

    column: Identifier = Field(description="Label column.")
    guide_version: str = Field(max_length=63, description="Version of the labelling documentation.")
    positives: int | None = Field(None, ge=0, description="Rows with a true label.")


class DatasetVersionSpec(ApiModel):
    """The record. Nothing of it ever changes, but what happens to its data when it is deleted."""

    rules: ClassVar = (
        unchanged(
            "a DatasetVersion is a record and does not change but for deletionPolicy:"
            " change the Dataset or its source, and there will be another version",
            required=[
                "projectRef",
                "datasetRef",
                "digest",
                "sourceDigest",
                "verdict",
                "rows",
                "partitions",
                "report",
            ],
            optional=["knownUntil", "manifest", "profile", "splits", "labels", "violations"],
        ),
    )

    project_ref: LocalRef = Field(description="ModelProject that it belongs to.")
    dataset_ref: LocalRef = Field(description="Dataset that it is a version of.")
    digest: Digest = Field(
        description="Digest of its manifest: schema, labels, splits and the bytes of every partition."
    )
    source_digest: Digest = Field(
        description="Digest of the source listing and the Dataset's spec that it was made from."
    )
    verdict: Literal["Passed", "Failed"] = Field(description="Whether every blocking rule holds.")
    rows: int = Field(ge=0, description="Rows in all.")
    partitions: int = Field(ge=0, description="Source objects.")
    known_until: str | None = Field(
        None, max_length=40, description="Latest time at which an outcome in it became known (RFC 3339)."
    )
    manifest: Uri | None = Field(None, description="Manifest of the data; none when it failed.")
    profile: Uri | None = Field(None, description="Statistics of every column.")
    report: Uri = Field(description="Result of every rule.")
    splits: list[SplitRecord] = Field(
        default_factory=list, max_length=3, description="The splits.", json_schema_extra=map_list("name")
    )
    labels: LabelRecord | None = Field(None, description="How rows are labelled.")
    violations: list[Violation] = Field(
        default_factory=list,
        max_length=50,
        description="Broken rules, the first fifty.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    deletion_policy: DeletionPolicy = deletion_policy("its data in the artifact store")


class DatasetVersionStatus(Status):
    """Whether it may be used."""


class DatasetVersion(Resource):
    """An immutable version of a dataset, written by the operator only."""

    kind_name: ClassVar = "DatasetVersion"
    plural: ClassVar = "datasetversions"
    short_names: ClassVar = ("dsv",)
    operator_only: ClassVar = True
    columns: ClassVar = (
        Column(name="Dataset", path=".spec.datasetRef.name"),
        Column(name="Verdict", path=".spec.verdict"),
        Column(name="Rows", path=".spec.rows", type="integer"),
        Column(name="Parts", path=".spec.partitions", type="integer"),
        Column(name="Known Until", path=".spec.knownUntil"),
        Column(name="Why", path=".spec.violations[0].message"),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: DatasetVersionSpec
    status: DatasetVersionStatus = Field(default_factory=DatasetVersionStatus)
