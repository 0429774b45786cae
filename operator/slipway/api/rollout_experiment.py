"""Experiments of a ModelRollout: several versions answer users side by side for a time, and are compared."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.analysis import HistogramBound
from slipway.api.meta import (
    ATOMIC_LIST,
    ApiModel,
    DecimalString,
    Duration,
    LabelName,
    LocalRef,
    ObjectName,
    Percent,
    Text,
    cel_name,
    exactly_one,
    map_list,
    rule,
)

ArmShare = Annotated[int, Field(ge=1, le=98)]
"""Percent of requests; the stable version keeps some."""
Time = Annotated[str, Field(max_length=40)]
Count = Annotated[int, Field(ge=0)]


_ARMS = 4
_SUM = " + ".join(f"(self.arms.size() > {index} ? self.arms[{index}].percent : 0)" for index in range(_ARMS))


class Arm(ApiModel):
    """A further version that takes part in an experiment."""

    rules: ClassVar = (
        exactly_one("modelVersionRef", "policy"),
        rule("!(self.name in ['stable', 'candidate'])", "stable and candidate take part anyway: choose another name"),
    )

    name: LabelName = Field(description="Name of the arm, for the report.")
    model_version_ref: LocalRef | None = Field(None, description="ModelVersion of the project.")
    policy: Literal["NewestPassing"] | None = Field(
        None,
        description="NewestPassing: the newest version that passed every gate, was not rejected here and does not take"
        " part already.",
    )
    percent: ArmShare = Field(description="Percent of requests that it gets.")


class Experiment(ApiModel):
    """Let further versions answer users beside the new and the stable one, for a time, and compare all of them."""

    rules: ClassVar = (
        rule(
            # Not by `sum()`, which is Kubernetes' own: CEL elsewhere does not have it.
            f"self.candidatePercent + {_SUM} <= 99",
            "candidatePercent and the arms' percents must sum up to 99 at most: the stable version keeps the rest, to"
            " be compared with",
        ),
        rule(
            "self.arms.all(a, !has(a.modelVersionRef) || self.arms.exists_one(b, has(b.modelVersionRef)"
            " && b.modelVersionRef.name == a.modelVersionRef.name))",
            "two arms have the same modelVersionRef: name another version, or remove one of them",
        ),
        rule(
            "(self.metric == 'shareBelowMilliseconds') == has(self.bound)",
            "set bound (milliseconds) with metric shareBelowMilliseconds, and only then",
        ),
        rule(f"duration(self.{cel_name('for')}) >= duration('1s')", "for must be at least 1s"),
    )

    for_: Duration = Field(
        alias="for", description="How long, from when the gateway has accepted the shares of all that take part."
    )
    candidate_percent: ArmShare = Field(
        description="Percent of requests for the new version from now on, as with `setWeight`."
    )
    arms: list[Arm] = Field(
        min_length=1,
        max_length=_ARMS,
        description="Further versions. They get servers of their own for the time of the experiment.",
        json_schema_extra=map_list("name"),
    )
    metric: Literal["successPercent", "shareBelowMilliseconds"] = Field(
        "successPercent", description="What the report compares: percent of answers without 5xx, or within `bound`."
    )
    bound: HistogramBound | None = Field(None, description="Milliseconds; one of the gateway's histogram bounds.")
    minimum_requests: int = Field(
        100, ge=1, le=10**9, description="Requests that a version needs; with fewer, nothing is said about it."
    )
    confidence: Literal["80", "90", "95", "99"] = Field(
        "95", description="Percent, with which all that the report says about differences holds together."
    )


# ---- status ----------------------------------------------------------------------------------------------------------
class Counted(ApiModel):
    """Requests that the gateway counted."""

    requests: Count = Field(0, description="Answers.")
    failed: Count = Field(0, description="Answers with 5xx.")
    timed: Count = Field(0, description="Answers whose time is known.")
    below: list[Count] = Field(
        default_factory=list,
        max_length=12,
        description="Of these, how many within 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000 milliseconds.",
        json_schema_extra=ATOMIC_LIST,
    )


class ExperimentVersion(ApiModel):
    """A version that takes part."""

    name: LabelName = Field(description="stable, candidate, or the name of the arm.")
    version: ObjectName | None = Field(None, description="ModelVersion; empty where none was found.")
    percent: Percent = Field(description="Percent of requests that it is to get.")
    state: Literal["Starting", "Running", "Completed", "Left"] = Field(
        description="Running: it has its share. Left: it did not take part, or not to the end."
    )
    message: Text | None = Field(None, description="Why it left.")
    counted: Counted | None = Field(None, description="What was counted while it had its share.")
    earlier: Counted | None = Field(None, description="The part of `counted` that an earlier operator counted.")
    value: DecimalString | None = Field(None, description="The metric, in percent; at the end.")
    median_milliseconds: DecimalString | None = Field(
        None, description="Half of its answers were faster; interpolated within the gateway's bounds."
    )
    p95_milliseconds: DecimalString | None = Field(None, description="95 percent of its answers were faster.")
    difference_low: DecimalString | None = Field(
        None, description="By how many points it is better than the stable version at least; negative: worse."
    )
    difference_high: DecimalString | None = Field(None, description="By how many points it is better at most.")
    verdict: Literal["Better", "Worse", "NoDifference", "TooFewRequests"] | None = Field(
        None, description="Compared with the stable version; at the end."
    )


class ExperimentStatus(ApiModel):
    """An experiment, and its report once it is over."""

    step: LabelName = Field(description="The step.")
    candidate: ObjectName = Field(description="The candidate at the time.")
    attempt: Time | None = Field(None, description="When the candidate last began to start.")
    phase: Literal["Starting", "Running", "Completed", "Aborted"] = Field(
        description="Running: the shares are in force. Aborted: it ended before its time was over."
    )
    begun_at: Time = Field(description="When the arms began to start; `progressDeadline` counts from here.")
    started_at: Time | None = Field(None, description="When the shares were in force.")
    ended_at: Time | None = Field(None, description="When it ended.")
    counted_at: Time | None = Field(None, description="When numbers were last written: at most every ten seconds.")
    counted_by: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Who counts now: with another operator, what was counted before is kept apart."
    )
    versions: list[ExperimentVersion] = Field(
        default_factory=list, max_length=6, description="Who takes part.", json_schema_extra=map_list("name")
    )
    winner: LabelName | None = Field(
        None, description="The one that is better than every other; empty where that cannot be told."
    )
    message: Text | None = Field(None, description="The report in a sentence, or why it ended early.")
