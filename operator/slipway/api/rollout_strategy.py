"""Ready-made strategies of a ModelRollout: each is a short way to write a list of steps."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import SET_LIST, ApiModel, Duration, exactly_one, map_list, rule
from slipway.api.rollout_steps import Analyze, HeaderMatch, Pause, Share

STAGES = 15
"""Weights that a strategy may go through: with what stands between them, a rollout has at most 32 steps."""

Stage = Annotated[int, Field(ge=1, le=99)]


def _headers(description: str) -> Any:
    return Field(min_length=1, max_length=8, description=description, json_schema_extra=map_list("name"))


def _some_headers(description: str) -> Any:
    return Field(None, min_length=1, max_length=8, description=description, json_schema_extra=map_list("name"))


class Canary(ApiModel):
    """A few requests, then more; the same wait at each weight; then all."""

    rules: ClassVar = (
        exactly_one("pause", "analyze"),
        rule("self.weights.isSorted()", "weights must not fall: order them"),
    )

    weights: list[Stage] = Field(
        min_length=1,
        max_length=STAGES,
        description="Percents of requests, in their order; 100 follows by itself.",
        json_schema_extra=SET_LIST,
    )
    pause: Pause | None = Field(None, description="Wait at each weight for a time or a person.")
    analyze: Analyze | None = Field(None, description="Wait at each weight for the checks.")


class Shadow(ApiModel):
    """Copies of requests first, which no user notices."""

    percent: Share = Field(100, description="Percent of requests that are copied.")
    for_: Duration = Field(alias="for", description="How long at least.")
    then: Canary | None = Field(None, description="Real requests, a few first; all at once when empty.")


class BlueGreen(ApiModel):
    """The new version stands complete beside the old one, then all requests change over at once."""

    rules: ClassVar = (
        rule("!has(self.after) || self.autoPromote", "after says when autoPromote acts: set autoPromote: true"),
    )

    preview: list[HeaderMatch] | None = _some_headers("Requests with these headers see the new version beforehand.")
    auto_promote: bool = Field(False, description="Change over without a person.")
    after: Duration | None = Field(None, description="With autoPromote: how long the new version stands by first.")


class AB(ApiModel):
    """A part of the users has the new version for a time; then it is decided."""

    rules: ClassVar = (exactly_one("header", "percent"),)

    header: list[HeaderMatch] | None = _some_headers("Requests with these headers go to the new version.")
    percent: Stage | None = Field(None, description="Percent of requests that go to the new version.")
    for_: Duration = Field(alias="for", description="How long.")
    on_end: Literal["Promote", "Stop", "Pause"] = Field(
        description="Promote: all requests go to the new version if every check is a Success. Stop: all stay with the"
        " stable one. Pause: wait for a person to promote it."
    )


class Progressive(ApiModel):
    """A little more at a time, as long as checks succeed; then all."""

    rules: ClassVar = (
        rule("self.stepWeight <= self.maxWeight", "stepWeight must not be greater than maxWeight (50 unless set)"),
        rule(
            f"self.maxWeight <= {STAGES} * self.stepWeight",
            f"at most {STAGES} weights: raise stepWeight or lower maxWeight",
        ),
    )

    step_weight: Share = Field(description="How many percent more at a time.")
    max_weight: Share = Field(50, description="From here on, the new version gets all requests.")
    interval: Duration = Field(description="How long checks must succeed before the next raise.")


class Strategy(ApiModel):
    """Exactly one ready-made list of steps; `status.plan` shows it."""

    rules: ClassVar = (exactly_one("canary", "shadow", "blueGreen", "ab", "progressive"),)

    canary: Canary | None = Field(None, description="A few requests, then more, then all.")
    shadow: Shadow | None = Field(None, description="Copies of requests first.")
    blue_green: BlueGreen | None = Field(None, description="All requests at once, after a look.")
    ab: AB | None = Field(None, description="A part of the users for a time.")
    progressive: Progressive | None = Field(None, description="A little more at a time.")
