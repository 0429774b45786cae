"""The prediction log of a ModelRollout, and how the answers of two versions are compared by it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slipway.api.meta import (
    SET_LIST,
    ApiModel,
    DecimalString,
    Duration,
    Identifier,
    LabelName,
    ObjectName,
    Text,
    Uri,
    map_list,
    rule,
)

_Time = Annotated[str, Field(max_length=40)]

DELTA_METRICS = ("decisionChangePercent", "meanAbsoluteDelta", "worstDelta")
"""Metrics over pairs: requests that both versions answered."""
LOG_METRICS = (*DELTA_METRICS, "populationStability", "coveragePercent")
"""Metrics of checks whose source is the prediction log."""


class PredictionLog(ApiModel):
    """Which requests and answers are kept, and for how long."""

    rules: ClassVar = (rule("duration(self.retention) >= duration('24h')", "retention must be at least 24h"),)

    enabled: bool = Field(
        True,
        description="Whether model servers write. With false nothing more is written, and what is old still goes.",
    )
    sample_percent: int = Field(
        100,
        ge=1,
        le=100,
        description="Share of requests, chosen by their id: all versions keep the same ones, so that their answers can"
        " be compared.",
    )
    retention: Duration = Field(
        "720h", description="How long predictions are kept; the days that are older are removed once a day."
    )
    redact: list[Identifier] = Field(
        default_factory=list,
        max_length=64,
        description="Inputs whose values are not kept, besides the columns that the project's Datasets call sensitive.",
        json_schema_extra=SET_LIST,
    )


class SliceComparison(ApiModel):
    """Answers to requests of one slice."""

    name: LabelName = Field(description="Slice of the project.")
    pairs: int = Field(ge=0, description="Requests that both versions answered.")
    decision_change_percent: DecimalString | None = Field(None, description="Percent of pairs with another decision.")
    mean_absolute_delta: DecimalString | None = Field(None, description="Mean difference of probabilities.")
    worst_delta: DecimalString | None = Field(None, description="Greatest difference of probabilities.")
    rows: int = Field(0, ge=0, description="Answers of the version that has fewer, paired or not.")
    population_stability: DecimalString | None = Field(
        None, description="Population stability index of the probabilities of all answers."
    )
    coverage_percent: DecimalString | None = Field(
        None, description="Percent of the candidate's answers that its model was sure enough of."
    )


class Comparison(ApiModel):
    """What the prediction log says of a candidate and the stable version."""

    candidate: ObjectName = Field(description="ModelVersion that is rolled out.")
    stable: ObjectName = Field(description="ModelVersion that it is compared with.")
    attempt: _Time | None = Field(None, description="`candidateSince` of the attempt that it belongs to.")
    step: LabelName = Field(description="Step for which it is made.")
    mirrored: bool = Field(description="Whether the step copies requests, so that there can be pairs.")
    since: _Time = Field(description="Begin of the time that is compared.")
    until: _Time = Field(description="End of that time.")
    job: ObjectName | None = Field(None, description="Job that compares.")
    finished_at: _Time | None = Field(None, description="When its result was taken in; empty while it runs.")
    message: Text | None = Field(None, description="Why there is no result, or what it says.")
    pairs: int | None = Field(None, ge=0, description="Requests that both versions answered.")
    unpaired_stable: int | None = Field(None, ge=0, description="Answers of the stable version only.")
    unpaired_candidate: int | None = Field(None, ge=0, description="Answers of the candidate only.")
    agreement_percent: DecimalString | None = Field(None, description="Percent of pairs with the same decision.")
    decision_change_percent: DecimalString | None = Field(None, description="Percent of pairs with another decision.")
    mean_absolute_delta: DecimalString | None = Field(None, description="Mean difference of probabilities.")
    worst_delta: DecimalString | None = Field(None, description="Greatest difference of probabilities.")
    rows: int | None = Field(None, ge=0, description="Answers of the version that has fewer, paired or not.")
    population_stability: DecimalString | None = Field(
        None, description="Population stability index of the probabilities of all answers."
    )
    kolmogorov_smirnov: DecimalString | None = Field(
        None, description="Greatest distance of the two distributions of probabilities."
    )
    jensen_shannon: DecimalString | None = Field(None, description="Jensen-Shannon distance of the two distributions.")
    coverage_percent: DecimalString | None = Field(
        None, description="Percent of the candidate's answers that its model was sure enough of."
    )
    stable_coverage_percent: DecimalString | None = Field(None, description="The same of the stable version.")
    worst_slice: LabelName | None = Field(None, description="Slice with the most changed decisions.")
    slices: list[SliceComparison] | None = Field(
        None, max_length=32, description="By slice.", json_schema_extra=map_list("name")
    )
    report: Uri | None = Field(None, description="The whole comparison as a page, with plots.")


class LogReader(ApiModel):
    """A consumer that reads what is stored."""

    name: LabelName = Field(description="The consumer.")
    contact: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Whom to tell about changes.")


class PredictionLogStatus(ApiModel):
    """Where predictions are, who reads them, and what became of old ones."""

    location: Uri | None = Field(None, description="Folder of the rollout's predictions; empty while none are kept.")
    readers: list[LogReader] | None = Field(
        None,
        max_length=64,
        description="Consumers whose access has PredictionLog.",
        json_schema_extra=map_list("name"),
    )
    swept_day: Annotated[str, Field(max_length=10)] | None = Field(
        None, description="Day on which old predictions were last removed."
    )
