"""Steps of a ModelRollout: what a new version goes through before it takes all requests."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ApiModel, Duration, LabelName, Percent, Text, exactly_one, map_list, rule
from slipway.api.rollout_analysis import ArgumentValue, TemplateRef
from slipway.api.rollout_experiment import Experiment
from slipway.api.rollout_hooks import WebhookStep

Share = Annotated[int, Field(ge=1, le=100)]
"""A percentage that is not nothing."""
HeaderName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-z0-9]([-_a-z0-9]*[a-z0-9])?$")]
"""Lower case, because the names of headers do not differ by case."""
HeaderValue = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[ -~]+$")]


class Pause(ApiModel):
    """Wait."""

    rules: ClassVar = (exactly_one("for", "until"),)

    for_: Duration | None = Field(None, alias="for", description="For this long.")
    until: Literal["Promoted"] | None = Field(
        None, description="Until a person annotates the rollout `slipway.dev/promote: STEP`."
    )


class Analyze(ApiModel):
    """Wait while checks run, templates are measured, or both; all of them must succeed."""

    rules: ClassVar = (
        rule("has(self.__for__) || has(self.templates)", "set for, templates, or both"),
        rule("!has(self.args) || has(self.templates)", "args are for templates: set templates, or remove args"),
    )

    for_: Duration | None = Field(
        None,
        alias="for",
        description="How long at least, with every check a Success; longer while a check is Inconclusive.",
    )
    templates: list[TemplateRef] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="Templates that are measured anew for this step.",
        json_schema_extra=map_list(["name", "clusterScope"]),
    )
    args: list[ArgumentValue] | None = Field(
        None, max_length=32, description="Arguments of the templates.", json_schema_extra=map_list("name")
    )


class Mirror(ApiModel):
    """Copy requests of the stable version to the new one, while nobody gets its answers."""

    percent: Share = Field(100, description="Percent of requests that are copied.")
    for_: Duration = Field(
        alias="for", description="How long at least; longer while a check on the copies is Inconclusive."
    )


class SetScale(ApiModel):
    """How many servers the new version has from now on, until it is to take all requests."""

    rules: ClassVar = (exactly_one("replicas", "percent", "matchWeight"),)

    replicas: int | None = Field(
        None, ge=1, le=1000, description="Exactly so many servers; at most `serving.replicas.max`."
    )
    percent: Share | None = Field(
        None, description="This share of `serving.replicas`, of `min` and of `max`, rounded up."
    )
    match_weight: Literal[True] | None = Field(
        None, description="The share of `serving.replicas` that the version has of the requests; added before them."
    )


class HeaderMatch(ApiModel):
    """A header that a request must have."""

    rules: ClassVar = (
        exactly_one("exact", "prefix", "regex"),
        rule(
            "!self.name.startsWith('x-slipway-')",
            "headers that start with x-slipway- are Slipway's own, and one of them pins a version: choose another name",
        ),
        # A comparison, because `||` would hide the error of a pattern that cannot be compiled.
        rule(
            "!has(self.regex) || ''.matches(self.regex) in [true, false]",
            "regex must be a regular expression in RE2 syntax",
        ),
    )

    name: HeaderName = Field(description="Name of the header, in lower case.")
    exact: HeaderValue | None = Field(None, description="Its whole value.")
    prefix: HeaderValue | None = Field(None, description="What its value begins with.")
    regex: HeaderValue | None = Field(None, description="RE2 expression that its whole value matches.")


class SetHeaderRoute(ApiModel):
    """Send requests with certain headers to the new version, whatever its weight."""

    match: list[HeaderMatch] = Field(
        default_factory=list,
        max_length=8,
        description="Headers of these requests; all must match. Empty: requests with headers go the general way again.",
        json_schema_extra=map_list("name"),
    )


class Stop(ApiModel):
    """End the candidacy here: all requests stay with the stable version, and the new one is not tried again."""

    message: Text | None = Field(None, description="Why, for the Event and `status.rejected`.")


class Step(ApiModel):
    """One step: exactly one action."""

    rules: ClassVar = (
        exactly_one(
            "setWeight", "pause", "analyze", "mirror", "setScale", "setHeaderRoute", "stop", "webhook", "experiment"
        ),
    )

    name: LabelName = Field(description="Name of the step.")
    set_weight: Percent | None = Field(None, description="Percent of requests for the new version from now on.")
    pause: Pause | None = Field(None, description="Wait for a time or a person.")
    analyze: Analyze | None = Field(None, description="Wait for the checks.")
    mirror: Mirror | None = Field(
        None, description="Copy requests to the new version and judge its answers; only before it gets requests."
    )
    set_scale: SetScale | None = Field(None, description="How many servers the new version has from now on.")
    set_header_route: SetHeaderRoute | None = Field(
        None, description="Requests with certain headers go to the new version from now on."
    )
    stop: Stop | None = Field(None, description="End the candidacy without a promotion; only as the last step.")
    webhook: WebhookStep | None = Field(None, description="Wait until an endpoint answers 2xx.")
    experiment: Experiment | None = Field(
        None, description="Compare further versions with the new and the stable one, for a time."
    )

    @property
    def weight(self) -> int | None:
        """Percent of requests that the new version has once this step is done; None: as many as before."""
        return self.experiment.candidate_percent if self.experiment is not None else self.set_weight
