"""Parts that several kinds share: metrics, the training template, deletion policy."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import (
    SET_LIST,
    ApiModel,
    ClusterRef,
    DecimalString,
    Digest,
    EntryPoint,
    Identifier,
    LocalRef,
    Resources,
    Scalar,
    map_list,
    one_of,
    rule,
)

QualityMetric = Literal[
    "rocAuc",
    "averagePrecision",
    "accuracy",
    "f1",
    "precision",
    "recall",
    "logLoss",
    "brierScore",
    "expectedCalibrationError",
]
"""Measured on predictions of the test split; definitions are scikit-learn's."""
CostMetric = Literal["latencyP50Milliseconds", "latencyP99Milliseconds", "memoryMebibytes"]
"""Measured on a running model."""
Metric = Literal[QualityMetric, CostMetric, "coverage"]

LOWER_IS_BETTER: frozenset[str] = frozenset(
    {
        "logLoss",
        "brierScore",
        "expectedCalibrationError",
        "latencyP50Milliseconds",
        "latencyP99Milliseconds",
        "memoryMebibytes",
    }
)

MeasuredAt = Literal["Model", "Server"]
"""Model: around the call of the model in one process. Server: around an HTTP request to the server on loopback."""

DeletionPolicy = Literal["Retain", "Delete"]


def deletion_policy(what: str) -> DeletionPolicy:
    """The field `deletionPolicy`, which says what becomes of `what` when the object is deleted."""
    return Field("Retain", description=f"What happens to {what} when this object is deleted.")


class ImageCode(ApiModel):
    """Training code that comes in a container image."""

    name: str = Field(
        min_length=1,
        max_length=512,
        description="Image that has the code and Slipway's runner (build it FROM slipway-runner).",
    )
    entrypoint: EntryPoint | None = Field(
        None,
        description="Function that trains, as `package.module:function`. Needed unless `pipeline` is set.",
    )


class Code(ApiModel):
    """Where the training code is."""

    type: Literal["Image"] = Field("Image", description="Kind of source.")
    image: ImageCode = Field(description="The image, with Image.")


class PipelineS3(ApiModel):
    """A compiled pipeline in the Platform's bucket."""

    key: str = Field(
        min_length=1,
        max_length=512,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9!_.*'()/=+@-]*$",
        description="Key of the YAML file in the Platform's bucket, such as `pipelines/flights.yaml`.",
    )


class PipelineImage(ApiModel):
    """A compiled pipeline in a container image."""

    name: str = Field(
        min_length=1,
        max_length=512,
        description="Image that has the file, and the command `cp`; it needs nothing else.",
    )
    path: str = Field(
        min_length=2,
        max_length=512,
        pattern=r"^(/[A-Za-z0-9_.@+=,-]+)+$",
        description="Absolute path of the YAML file in the image, such as `/pipelines/flights.yaml`.",
    )


_SHOWN_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._/:()+-]*$"


class PipelineVersionName(ApiModel):
    """A pipeline version that the endpoint keeps."""

    pipeline: str = Field(
        min_length=1,
        max_length=128,
        pattern=_SHOWN_NAME,
        description="Name of the pipeline, in the project's namespace where the endpoint has namespaces.",
    )
    version: str = Field(min_length=1, max_length=128, pattern=_SHOWN_NAME, description="Name of its version.")


class PipelineSource(ApiModel):
    """A compiled pipeline of the team's own; what it has to be like: docs/training/own-pipelines.md."""

    rules: ClassVar = (
        one_of("type", {"S3": "s3", "Image": "image", "PipelineVersion": "pipelineVersion"}),
        rule(
            "!has(self.digest) || self.type in ['S3', 'Image']",
            "digest is of a file's bytes: set type S3 or Image, or remove digest",
        ),
    )

    type: Literal["S3", "Image", "PipelineVersion"] = Field(description="Where it is.")
    s3: PipelineS3 | None = Field(None, description="The file, with S3.")
    image: PipelineImage | None = Field(None, description="The image and the file in it, with Image.")
    pipeline_version: PipelineVersionName | None = Field(
        None, description="The version, with PipelineVersion; the Platform's engine must be KubeflowPipelines."
    )
    digest: Digest | None = Field(
        None,
        description="What its bytes must be, with S3 or Image: runs are refused when they are others. Change it to have"
        " a new content trained with.",
    )


class TrainingTemplate(ApiModel):
    """How models of a project are trained: everything of a run but its dataset version."""

    rules: ClassVar[tuple[dict[str, str], ...]] = (
        rule(
            "has(self.pipeline) || has(self.code.image.entrypoint)",
            "set code.image.entrypoint, the function that trains, or pipeline",
        ),
    )

    feature_set_refs: list[LocalRef] = Field(
        default_factory=list,
        max_length=8,
        description="FeatureSets that are joined to each row, point in time.",
        json_schema_extra=map_list("name"),
    )
    inputs: list[Identifier] = Field(
        min_length=1,
        max_length=200,
        description="Columns of the dataset that are known when a prediction is made; requests carry them.",
        json_schema_extra=SET_LIST,
    )
    code: Code = Field(description="The training code.")
    pipeline: PipelineSource | None = Field(
        None,
        description="A compiled pipeline of your own that trains, in the place of the function. Slipway still makes the"
        " sets and judges the model.",
    )
    parameters: Annotated[dict[str, Scalar], Field(max_length=100)] = Field(
        default_factory=dict, description="Hyperparameters that the training function, or your own pipeline, gets."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of every random generator of the run.")
    pool_ref: ClusterRef | None = Field(
        None, description="ComputePool that the run is scheduled to; any node when empty."
    )
    resources: Resources | None = Field(None, description="Resources of the training container.")


class MetricValue(ApiModel):
    """One measured number."""

    name: Metric = Field(description="Which metric.")
    value: DecimalString = Field(description="Its value.")
