"""Analysis in a ModelRollout: which templates are used when, and what was measured."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.analysis import ArgumentName, ArgumentText
from slipway.api.meta import ATOMIC_LIST, ApiModel, LabelName, ObjectName, map_list, rule

METRICS_MAX = 24
"""Metrics of all templates that are used together."""

Verdict = Literal["Successful", "Failed", "Inconclusive", "Error"]


class TemplateRef(ApiModel):
    """Names a template."""

    name: ObjectName = Field(description="Name of the template.")
    cluster_scope: bool = Field(
        False, description="A ClusterAnalysisTemplate, instead of an AnalysisTemplate of the namespace."
    )


class ArgumentValue(ApiModel):
    """A value for a template's argument."""

    name: ArgumentName = Field(description="Name of the argument.")
    value: ArgumentText = Field(description="Its value.")


_TEMPLATES = map_list(["name", "clusterScope"])


class AnalysisUse(ApiModel):
    """Templates and the values of their arguments."""

    templates: list[TemplateRef] = Field(
        min_length=1,
        max_length=8,
        description="Templates; their metrics have different names.",
        json_schema_extra=_TEMPLATES,
    )
    args: list[ArgumentValue] = Field(
        default_factory=list, max_length=32, description="Arguments.", json_schema_extra=map_list("name")
    )


class Analysis(ApiModel):
    """What is measured in the background, before and after the promotion."""

    rules: ClassVar = (
        rule(
            "has(self.templates) && self.templates.size() > 0 || has(self.prePromotion) || has(self.postPromotion)",
            "set templates, prePromotion or postPromotion",
        ),
    )

    templates: list[TemplateRef] = Field(
        default_factory=list,
        max_length=8,
        description="Measured in the background, from the new version's first request until it is promoted.",
        json_schema_extra=_TEMPLATES,
    )
    args: list[ArgumentValue] = Field(
        default_factory=list,
        max_length=32,
        description="Arguments of all templates that the rollout uses; those beside a template go before them.",
        json_schema_extra=map_list("name"),
    )
    starting_step: LabelName | None = Field(
        None, description="Step with which the measurements in the background begin; the first one when empty."
    )
    pre_promotion: AnalysisUse | None = Field(
        None, description="Must be Successful before the new version gets all requests."
    )
    post_promotion: AnalysisUse | None = Field(
        None, description="Measured after the promotion; a failure goes back to the previous version, which is warm."
    )


class Measurement(ApiModel):
    """One measurement."""

    at: Annotated[str, Field(max_length=40)] = Field(description="When it was taken in.")
    phase: Verdict = Field(description="What it says.")
    value: Annotated[str, Field(max_length=256)] | None = Field(None, description="What was measured, as JSON.")
    message: Annotated[str, Field(max_length=512)] | None = Field(None, description="A sentence, where one is needed.")


class MetricRun(ApiModel):
    """A metric, its counts and its last measurements."""

    name: ArgumentName = Field(description="The metric.")
    phase: Literal["Running", "Successful", "Failed", "Inconclusive", "Error"] = Field(description="Its verdict.")
    dry_run: bool = Field(False, description="Whether it decides nothing.")
    successful: int = Field(0, ge=0, description="Successful measurements.")
    failed: int = Field(0, ge=0, description="Failed measurements.")
    inconclusive: int = Field(0, ge=0, description="Inconclusive measurements.")
    error: int = Field(0, ge=0, description="Measurements that could not be made.")
    consecutive_error: int = Field(0, ge=0, description="Of these, the last ones in a row.")
    due_at: Annotated[str, Field(max_length=40)] | None = Field(None, description="When the next measurement begins.")
    message: Annotated[str, Field(max_length=1024)] | None = Field(None, description="A sentence about its verdict.")
    measurements: list[Measurement] = Field(
        default_factory=list, max_length=3, description="Newest first.", json_schema_extra=ATOMIC_LIST
    )

    @property
    def taken(self) -> int:
        """How many measurements were taken in: the ordinal of the next one."""
        return self.successful + self.failed + self.inconclusive + self.error


RunKind = Literal["Background", "Step", "PrePromotion", "PostPromotion"]


class AnalysisRun(ApiModel):
    """One analysis of one version."""

    kind: RunKind = Field(description="When it is made.")
    version: ObjectName = Field(description="ModelVersion that is measured.")
    step: LabelName | None = Field(None, description="The step, with Step.")
    attempt: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="`candidateSince` of the attempt that it belongs to."
    )
    started_at: Annotated[str, Field(max_length=40)] = Field(description="When it began.")
    phase: Literal["Running", "Successful", "Failed", "Inconclusive", "Error", "Skipped"] = Field(
        description="Its verdict: the worst one of its metrics. Skipped: a person went back to this version."
    )
    promoted: bool = Field(False, description="Whether a person lets the rollout go on in spite of it.")
    message: Annotated[str, Field(max_length=1024)] | None = Field(None, description="A sentence about its verdict.")
    metrics: list[MetricRun] = Field(
        default_factory=list, max_length=METRICS_MAX, description="Its metrics.", json_schema_extra=map_list("name")
    )
