"""Steps of a ModelRollout: what a new version goes through before it takes all requests."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ApiModel, Duration, LabelName, Percent, exactly_one


class Pause(ApiModel):
    """Wait."""

    rules: ClassVar = (exactly_one("for", "until"),)

    for_: Duration | None = Field(None, alias="for", description="For this long.")
    until: Literal["Promoted"] | None = Field(
        None, description="Until a person annotates the rollout `slipway.dev/promote: STEP`."
    )


class Analyze(ApiModel):
    """Wait while checks run; every check must succeed."""

    for_: Duration = Field(alias="for", description="How long at least; longer while a check is Inconclusive.")


class Step(ApiModel):
    """One step: exactly one action."""

    rules: ClassVar = (exactly_one("setWeight", "pause", "analyze"),)

    name: LabelName = Field(description="Name of the step.")
    set_weight: Percent | None = Field(None, description="Percent of requests for the new version from now on.")
    pause: Pause | None = Field(None, description="Wait for a time or a person.")
    analyze: Analyze | None = Field(None, description="Wait for the checks.")
