"""Requests and results of Jobs.

Keys are relative to the Platform's bucket. Credentials come by environment (`SLIPWAY_S3_ACCESS_KEY`,
`SLIPWAY_S3_SECRET_KEY`, `SLIPWAY_FEAST_*`), never in a request: requests are stored.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from slipway.api.common import MetricValue
from slipway.api.dataset import DatasetColumn, DatasetTime, Labels, QualityRule, Splits
from slipway.api.datasetversion import LabelRecord, SplitRecord, Violation
from slipway.api.featureset import Entity, View
from slipway.api.meta import Scalar
from slipway.api.modelproject import ProjectTests, Requirements, Task
from slipway.api.modelversion import BaselineResult, Digests, FeatureServiceRecord, InputField, OutputField, Verdict


class Contract(BaseModel):
    """Base: camelCase in JSON, and nothing unknown, for both sides are released together."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The JSON form."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Store(Contract):
    """The artifact store, without credentials."""

    endpoint: str
    bucket: str
    region: str = "us-east-1"


class Request(Contract):
    """What every request has."""

    store: Store
    prefix: str
    """Folder of this Job below the bucket, ending in `/`: it holds `request.json`, `progress.json`, `result.json`."""


class Progress(Contract):
    """How far a Job is; overwritten as it goes."""

    stage: str
    percent: int = Field(ge=0, le=100)
    at: str


class Refusal(Contract):
    """Why a Job could not do what was asked though it ran: the input is at fault, and trying again useless."""

    reason: str
    """CamelCase, becomes the condition's reason."""
    message: str
    """A sentence with field, value and remedy; becomes the condition's message."""


# ---- dataset ---------------------------------------------------------------------------------------------------------
class SourceObject(Contract):
    """One partition of a source."""

    key: str
    etag: str
    size: int


class ReferenceData(Contract):
    """The dataset that a column refers to."""

    dataset: str
    manifest: str
    """Key of the manifest of its DatasetVersion."""


class IngestRequest(Request):
    """Make a DatasetVersion from exactly these objects. Command `ingest`."""

    namespace: str
    dataset: str
    source_digest: str
    format: Literal["Parquet", "Csv"]
    objects: list[SourceObject]
    key: list[str]
    columns: list[DatasetColumn]
    time: DatasetTime | None = None
    labels: Labels | None = None
    quality: list[QualityRule] = Field(default_factory=list)
    splits: Splits | None = None
    references: list[ReferenceData] = Field(default_factory=list)


class DatasetPart(Contract):
    """One partition of a version: an immutable Parquet file named by its digest."""

    key: str
    digest: str
    rows: int
    source: SourceObject


class DatasetManifest(Contract):
    """The content of a DatasetVersion; its canonical JSON has the version's digest.

    Parts hold the declared columns (in declared order), the label column, and, where the dataset has time, the columns
    `event_time` and `available_at` (TIMESTAMP, UTC).
    """

    namespace: str
    dataset: str
    columns: list[DatasetColumn]
    key: list[str]
    label: str | None = None
    label_guide_version: str | None = None
    has_time: bool = False
    parts: list[DatasetPart]
    splits: list[SplitRecord] = Field(default_factory=list)


class IngestResult(Contract):
    """The DatasetVersion to record."""

    refusal: Refusal | None = None
    digest: str | None = None
    verdict: Literal["Passed", "Failed"] | None = None
    rows: int = 0
    partitions: int = 0
    known_until: str | None = None
    manifest: str | None = None
    """Key of the DatasetManifest, when it passed."""
    profile: str | None = None
    report: str | None = None
    splits: list[SplitRecord] = Field(default_factory=list)
    labels: LabelRecord | None = None
    violations: list[Violation] = Field(default_factory=list)


# ---- features --------------------------------------------------------------------------------------------------------
class FeatureDataset(Contract):
    """A dataset version that a view reads."""

    dataset: str
    version: str
    manifest: str


class FeatureRequest(Request):
    """Compute values, apply definitions to Feast, materialize to the online store. Command `features`."""

    namespace: str
    feature_set: str
    feast_project: str
    entities: list[Entity]
    views: list[View]
    datasets: list[FeatureDataset]
    definition_digest: str
    input_digest: str
    owned_objects: list[str] = Field(default_factory=list)
    """Feast objects (`kind/name`) that this FeatureSet had before; those no longer defined are removed."""


class ViewValues(Contract):
    """Where the values of a view are."""

    view: str
    key: str
    """Parquet: entity columns, features, `event_timestamp` (when the value became known) and `created_timestamp`."""
    digest: str
    rows: int


class FeatureResult(Contract):
    """What is in the feature store now."""

    refusal: Refusal | None = None
    objects: list[str] = Field(default_factory=list)
    values: list[ViewValues] = Field(default_factory=list)
    materialized_until: str | None = None


class FeatureTeardownRequest(Request):
    """Remove a FeatureSet's objects from Feast. Command `features-teardown`."""

    feast_project: str
    objects: list[str]


class FeatureTeardownResult(Contract):
    """What was removed."""

    refusal: Refusal | None = None
    removed: list[str] = Field(default_factory=list)


# ---- training --------------------------------------------------------------------------------------------------------
class TrainingFeatureSet(Contract):
    """The definitions and computed values of one FeatureSet, as of the run's start."""

    name: str
    definition_digest: str
    feast_project: str
    entities: list[Entity]
    views: list[View]
    datasets: list[FeatureDataset]


class StableResult(Contract):
    """The version that serves now, to compare a new one with."""

    name: str
    score: str
    model: str
    """Folder of its artifact (key), so that it can be scored on the new test split."""
    manifest_digest: str | None = None


class OwnPipelineFile(Contract):
    """The team's own pipeline, as it was when the run started: where nobody but the operator writes."""

    key: str
    digest: str


class TrainingRequest(Request):
    """One run. `prefix` is `runs/NAMESPACE/UID/`; parameters of the compiled pipeline are made from this."""

    namespace: str
    project: str
    run: str
    run_uid: str
    dataset: str
    dataset_version: str
    dataset_manifest: str
    dataset_digest: str
    task: Task
    inputs: list[str]
    feature_sets: list[TrainingFeatureSet] = Field(default_factory=list)
    entrypoint: str
    """Empty where the team's own pipeline needs none."""
    image: str
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    seed: int
    requirements: Requirements
    tests: ProjectTests
    stable: StableResult | None = None
    today: str
    """Day (YYYY-MM-DD) at the run's creation, on which deferrals are judged, whenever it runs."""
    pipeline_digest: str
    own_pipeline: OwnPipelineFile | None = None
    """It takes the place of `train`, and its digest is part of `pipelineDigest`."""
    model_prefix: str
    """`models/NAMESPACE/PROJECT/`: the judge stores the model below it, in a folder named by its digest."""


class CopyPipelineRequest(Request):
    """Keep the team's own pipeline that was copied out of an image, in the Job's folder. Command `copy-pipeline`."""

    image: str
    path: str
    """Where it is in the image, for sentences."""
    file: str
    """Where the Job finds the copy."""


class CopyPipelineResult(Contract):
    """What was kept."""

    refusal: Refusal | None = None
    key: str | None = None


class ProduceResult(Contract):
    """What the stage that runs the team's code says. Nothing of it is believed without a check."""

    refusal: Refusal | None = None
    outputs: dict[str, str] = Field(default_factory=dict)
    """Key and digest of every output artifact, as `NAME` -> `KEY@sha256:…`."""


class ManifestFile(Contract):
    """One file of a model."""

    path: str
    digest: str
    size: int


class ModelManifest(Contract):
    """`manifest.json` in a model's folder: what a server verifies before it loads anything."""

    files: list[ManifestFile]
    model_digest: str
    """Digest of the canonical JSON of `files`."""
    digests: Digests
    inputs: list[InputField]
    outputs: list[OutputField] = Field(default_factory=list)
    feature_service: FeatureServiceRecord | None = None
    baseline: ManifestFile | None = None
    """What answers where the model is too unsure and a rollout wants it so. It follows from what the version was made
    from, so its bytes are no part of `modelDigest`; the manifest's own digest covers it."""
    target: str
    namespace: str
    project: str
    run: str
    dataset_version: str
    created_at: str


class RegisterResult(Contract):
    """The ModelVersion to record."""

    refusal: Refusal | None = None
    digests: Digests | None = None
    artifact: str | None = None
    """Key of the model's folder, without a trailing slash."""
    manifest: str | None = None
    manifest_digest: str | None = None
    """Digest of the bytes of `manifest.json`."""
    evaluation: str | None = None
    inputs: list[InputField] = Field(default_factory=list)
    outputs: list[OutputField] = Field(default_factory=list)
    feature_service: FeatureServiceRecord | None = None
    metrics: list[MetricValue] = Field(default_factory=list)
    score: str | None = None
    baselines: list[BaselineResult] = Field(default_factory=list)
    baseline_digest: str | None = None
    """Of the stored baseline; none in the folder of a version that was registered before there were any."""
    verdicts: list[Verdict] = Field(default_factory=list)
    passed: bool = False


class DeleteDataRequest(Request):
    """Delete what `deletionPolicy: Delete` says. Command `delete-data`."""

    prefixes: list[str]


class DeleteDataResult(Contract):
    """How much was deleted."""

    refusal: Refusal | None = None
    objects: int = 0
