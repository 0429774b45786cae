"""ModelVersion: an immutable model with everything it was made from, and the verdict of every gate."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.common import DeletionPolicy, MetricValue, deletion_policy
from slipway.api.meta import (
    ATOMIC_LIST,
    ApiModel,
    Column,
    DecimalString,
    Digest,
    Identifier,
    LocalRef,
    ObjectName,
    Resource,
    Scalar,
    Status,
    Uri,
    map_list,
    unchanged,
)


class RunRecord(ApiModel):
    """The run that made the version."""

    name: ObjectName = Field(description="Name of the TrainingRun.")
    uid: Annotated[str, Field(max_length=64)] = Field(description="Its uid.")


class Digests(ApiModel):
    """What the version was made from; two versions with equal digests are the same model."""

    model: Digest = Field(description="Model artifact.")
    parameters: Digest = Field(description="Hyperparameters and seed, in canonical JSON.")
    configuration: Digest = Field(description="Task, inputs, requirements and tests of the project.")
    feature_pipeline: Digest = Field(description="Definitions of the features.")
    training_set: Digest = Field(description="Rows that trained, features included.")
    validation_set: Digest = Field(description="Rows that validated, features included.")
    test_set: Digest = Field(description="Rows that tested, features included.")
    code: Digest = Field(description="Training code: the sources of its package.")
    pipeline: Digest = Field(description="Compiled pipeline (IR).")
    image: Annotated[str, Field(max_length=512)] = Field(description="Image that trained, with its digest where known.")


class InputField(ApiModel):
    """One input of the model."""

    name: Identifier = Field(description="Name.")
    type: Literal["String", "Integer", "Double", "Boolean", "Timestamp"] = Field(description="Type.")
    source: Literal["Request", "FeatureStore"] = Field(
        description="Request: clients send it. FeatureStore: looked up online when the request does not carry it."
    )
    default: Scalar | None = Field(None, description="Value when the online store has none.")


class OutputField(ApiModel):
    """One field of each of the model's answers."""

    name: Identifier = Field(description="Name.")
    type: Literal["String", "Integer", "Double", "Boolean", "Timestamp"] = Field(description="Type.")


class FeatureServiceRecord(ApiModel):
    """The Feast feature service that serves this version's features."""

    project: Annotated[str, Field(max_length=128)] = Field(description="Feast project.")
    name: Annotated[str, Field(max_length=128)] = Field(description="Feature service.")
    entities: list[Identifier] = Field(
        default_factory=list,
        max_length=8,
        description="Entity keys that requests carry.",
        json_schema_extra=ATOMIC_LIST,
    )


class BaselineResult(ApiModel):
    """A model or result to compare with, on the same test split."""

    name: Annotated[str, Field(max_length=63)] = Field(description="majority, logistic, or a reference result's name.")
    metrics: list[MetricValue] = Field(max_length=32, description="Its metrics.", json_schema_extra=map_list("name"))


class Verdict(ApiModel):
    """What one gate says."""

    name: Annotated[str, Field(max_length=128)] = Field(
        description="Gate: `optimize`, `requirement/NAME`, `scenario/NAME` or `slice/NAME`."
    )
    verdict: Literal["Passed", "Failed", "Deferred", "Inconclusive"] = Field(description="Whether it passed.")
    value: DecimalString | None = Field(None, description="What was measured.")
    message: str = Field(max_length=1024, description="A sentence: bound, value, and what would change it.")


class ModelVersionSpec(ApiModel):
    """The record. Nothing of it ever changes, but what happens to the artifact when it is deleted."""

    rules: ClassVar = (
        unchanged(
            "a ModelVersion is a record and does not change but for deletionPolicy: train another version",
            required=[
                "projectRef",
                "run",
                "datasetVersionRef",
                "digests",
                "artifact",
                "manifest",
                "manifestDigest",
                "inputs",
                "metrics",
                "score",
                "verdicts",
                "passed",
                "evaluation",
            ],
            optional=["outputs", "featureService", "baselines", "baselineDigest"],
        ),
    )

    project_ref: LocalRef = Field(description="ModelProject that it belongs to.")
    run: RunRecord = Field(description="TrainingRun that made it.")
    dataset_version_ref: LocalRef = Field(description="DatasetVersion that it was trained on.")
    digests: Digests = Field(description="What it was made from.")
    artifact: Uri = Field(description="Folder of the model in the artifact store.")
    manifest: Uri = Field(description="Manifest with the digest of every file.")
    manifest_digest: Digest = Field(
        description="Digest of the manifest's bytes; a server refuses a model whose manifest has another."
    )
    inputs: list[InputField] = Field(
        min_length=1, max_length=300, description="Inputs in the model's order.", json_schema_extra=map_list("name")
    )
    outputs: list[OutputField] = Field(
        default_factory=list,
        max_length=64,
        description="Fields of every answer. Versions with other ones are told to consumers.",
        json_schema_extra=map_list("name"),
    )
    feature_service: FeatureServiceRecord | None = Field(None, description="Where online features come from.")
    metrics: list[MetricValue] = Field(
        max_length=32, description="Metrics on the test split.", json_schema_extra=map_list("name")
    )
    score: DecimalString = Field(description="The project's optimized number on the test split.")
    baselines: list[BaselineResult] = Field(
        default_factory=list, max_length=16, description="What it is compared with.", json_schema_extra=map_list("name")
    )
    baseline_digest: Digest | None = Field(
        None, description="Digest of the baseline in the model's folder, which servers may fall back to."
    )
    verdicts: list[Verdict] = Field(
        max_length=128, description="The verdict of every gate.", json_schema_extra=map_list("name")
    )
    passed: bool = Field(description="Whether no gate failed; only such versions are rolled out.")
    evaluation: Uri = Field(description="The whole evaluation, with slices and curves.")
    deletion_policy: DeletionPolicy = deletion_policy("its model artifact")


class ModelVersionStatus(Status):
    """Whether it may serve, and where it does."""


class ModelVersion(Resource):
    """An immutable model version, written by the operator only."""

    kind_name: ClassVar = "ModelVersion"
    plural: ClassVar = "modelversions"
    short_names: ClassVar = ("mv",)
    operator_only: ClassVar = True
    columns: ClassVar = (
        Column(name="Project", path=".spec.projectRef.name"),
        Column(name="Dataset Version", path=".spec.datasetVersionRef.name"),
        Column(name="Score", path=".spec.score"),
        Column(name="Passed", path=".spec.passed", type="boolean"),
        Column(name="Why", path='.status.conditions[?(@.type=="Ready")].message'),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: ModelVersionSpec
    status: ModelVersionStatus = Field(default_factory=ModelVersionStatus)
