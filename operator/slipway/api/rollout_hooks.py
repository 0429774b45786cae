"""Web calls of a ModelRollout: hooks that open gates, the step `webhook`, and alerts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ApiModel, Duration, LabelName, LocalRef, ObjectName, Percent, Text, rule

Url = Annotated[str, Field(min_length=1, max_length=2048)]
Time = Annotated[str, Field(max_length=40)]
Metadata = Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=32)]

HookType = Literal[
    "confirm-rollout",
    "pre-rollout",
    "rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
    "post-rollout",
    "rollback",
    "event",
]
"""Flagger's names, and what they mean there."""

OnFailure = Literal["Reject", "Halt", "Ignore"]


class WebCall(ApiModel):
    """A POST of JSON that asks or tells something; an answer of 2xx is a yes."""

    rules: ClassVar[tuple[dict[str, str], ...]] = (
        rule(
            "self.url.matches(r'^https?://[^/?#@ ]+([/?#][^ ]*)?$')",
            "url must be an http:// or https:// URL without a user name: credentials belong into the Secret",
        ),
        rule(
            "duration(self.timeout) > duration('0s') && duration(self.timeout) <= duration('60s')",
            "timeout must be more than 0 and at most 60s: the endpoint is asked again",
        ),
        rule(
            "duration(self.interval) >= duration('5s')",
            "interval must be at least 5s: endpoints are not asked more often",
        ),
    )

    url: Url = Field(description="Endpoint, http or https. Its host must be allowed: see Platform `spec.webhooks`.")
    secret_ref: LocalRef | None = Field(
        None,
        description="Secret of type `slipway.dev/webhook` with `hosts` (to which it may be sent), and"
        " `token` (sent as a bearer token), `hmacKey` (signs the body as Standard Webhooks say), or both.",
    )
    timeout: Duration = Field("10s", description="How long one try may take.")
    retries: int = Field(
        0, ge=0, le=10, description="Tries more, seconds apart, when no answer comes, or 408, 429 or 5xx."
    )
    interval: Duration = Field("10s", description="Pause until it is asked again.")
    metadata: Metadata = Field(default_factory=dict, description="Sent along as it is.")


class Hook(WebCall):
    """A gate that another program opens, or hears of."""

    rules: ClassVar = (
        *WebCall.rules,
        rule(
            "!has(self.onFailure) || self.type in ['pre-rollout', 'rollout']",
            "onFailure is only for hooks of type pre-rollout and rollout: confirm-* hooks wait, others hold nothing up",
        ),
        rule(
            "!has(self.failureLimit) || self.type in ['pre-rollout', 'rollout']",
            "failureLimit is only for hooks of type pre-rollout and rollout: remove it",
        ),
        rule(
            "!self.muteAlert || !(self.type in ['rollback', 'event', 'post-rollout'])",
            "muteAlert is only for hooks that can hold a rollout up: remove it",
        ),
    )

    name: LabelName = Field(description="Name of the hook.")
    type: HookType = Field(description="When it is called, and what its answer does.")
    on_failure: OnFailure | None = Field(
        None,
        description="Once `failureLimit` is exceeded: Reject the version, or Halt until the hook answers 2xx or a"
        " person acts. Ignore: go on at the first failure. Unset, it follows `rollback.automatic`: Reject, or Halt.",
    )
    failure_limit: int | None = Field(
        None, ge=0, le=1000, description="Failed answers that a version may have; 2 unless set."
    )
    mute_alert: bool = Field(False, description="Send no alert when this hook holds the rollout up.")


class WebhookStep(WebCall):
    """A step that is done when an endpoint answers 2xx."""

    rules: ClassVar = WebCall.rules

    on_failure: OnFailure | None = Field(
        None,
        description="Once `failureLimit` is exceeded: Reject the version, or Halt until the endpoint answers 2xx or a"
        " person acts. Ignore: go on at the first failure. Unset, it follows `rollback.automatic`: Reject, or Halt.",
    )
    failure_limit: int = Field(5, ge=0, le=1000, description="Failed answers that are allowed while it waits.")


class Alert(ApiModel):
    """Where people are told."""

    name: LabelName = Field(description="Name of the receiver.")
    type: Literal["Webhook", "Slack", "Teams"] = Field(
        description="Form of the message: plain JSON, a Slack incoming webhook, or a Teams workflow webhook."
    )
    secret_ref: LocalRef = Field(
        description="Secret of type `slipway.dev/webhook` with `address`, the URL; with Webhook also `token` and"
        " `hmacKey` as in hooks."
    )
    severity: Literal["info", "warning", "error"] = Field("info", description="Least severity that is sent.")


# ---- status ----------------------------------------------------------------------------------------------------------
class HookStatus(ApiModel):
    """Where a hook or a webhook step of the present candidate stands."""

    name: Annotated[str, Field(max_length=80)] = Field(description="`hook/NAME`, or `step/NAME`.")
    token: Annotated[str, Field(max_length=64)] = Field(description="Idempotency token of what was asked.")
    state: Literal["Waiting", "Passed", "Failed", "Ignored"] = Field(description="What it answered last.")
    failures: int = Field(0, ge=0, le=1001, description="Failed answers that were counted.")
    failed_at: Time | None = Field(None, description="When the last one was counted.")
    message: Text | None = Field(None, description="A sentence on the last answer that was no yes.")


class Notice(ApiModel):
    """Something to tell a receiver, or that it was told."""

    token: Annotated[str, Field(max_length=64)] = Field(description="Idempotency token.")
    to: Annotated[str, Field(max_length=80)] = Field(description="`hook/NAME`, or `alert/NAME`.")
    severity: Literal["info", "warning", "error"] = Field(description="How bad it is.")
    reason: Annotated[str, Field(max_length=128)] = Field(description="One word.")
    message: Text = Field(description="A sentence.")
    version: ObjectName | None = Field(None, description="ModelVersion that it is about.")
    step: LabelName | None = Field(None, description="Step in which it happened.")
    weight: Percent | None = Field(None, description="The candidate's weight then.")
    at: Time = Field(description="When it happened.")
    delivered_at: Time | None = Field(None, description="When the receiver took it; not sent again.")
    error: Text | None = Field(None, description="Why the receiver has not taken it so far.")
