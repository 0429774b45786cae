"""Parts that several kinds share: metrics, the training template, deletion policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.meta import (
    SET_LIST,
    ApiModel,
    ClusterRef,
    DecimalString,
    EntryPoint,
    Identifier,
    LocalRef,
    Resources,
    Scalar,
    map_list,
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
    entrypoint: EntryPoint = Field(description="Function that trains, as `package.module:function`.")


class Code(ApiModel):
    """Where the training code is."""

    type: Literal["Image"] = Field("Image", description="Kind of source.")
    image: ImageCode = Field(description="The image, with Image.")


class TrainingTemplate(ApiModel):
    """How models of a project are trained: everything of a run but its dataset version."""

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
    parameters: Annotated[dict[str, Scalar], Field(max_length=100)] = Field(
        default_factory=dict, description="Hyperparameters that the training function gets."
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
