"""Consumers of a ModelRollout: who may call it, with what credential, how much, and how much they did."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import (
    ATOMIC_LIST,
    SET_LIST,
    ApiModel,
    LabelName,
    NamespacedRef,
    ObjectName,
    Text,
    exactly_one,
    rule,
)

SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class ApiKeySource(ApiModel):
    """One API key, in a Secret of the rollout's namespace."""

    name: ObjectName = Field(description="Secret, in the same namespace.")
    key: SecretKey = Field("apiKey", description="Entry of the Secret; its value is the API key.")


class ApiKey(ApiModel):
    """API keys of one consumer, each of them valid."""

    secret_refs: list[ApiKeySource] = Field(
        min_length=1,
        max_length=4,
        description="One key; during a rotation the old and the new one.",
        json_schema_extra=ATOMIC_LIST,
    )


class ConsumerLimit(ApiModel):
    """How much a consumer may ask for."""

    requests: int = Field(ge=1, le=10**7, description="Requests in each period, at each proxy of the gateway.")
    per: Literal["Second", "Minute", "Hour"] = Field(description="The period.")


class Consumer(ApiModel):
    """A program that uses the model's predictions."""

    rules: ClassVar = (
        exactly_one("serviceAccountRef", "apiKey"),
        rule(
            "!has(self.rateLimit) || !has(self.access) || self.access.exists(a, a == 'Serving')",
            "rateLimit limits requests: add Serving to access, or remove rateLimit",
        ),
    )

    name: LabelName = Field(description="Name of the consumer.")
    service_account_ref: NamespacedRef | None = Field(
        None, description="ServiceAccount whose token it sends, as `Authorization: Bearer TOKEN`."
    )
    api_key: ApiKey | None = Field(None, description="Key that it sends, as `x-api-key`.")
    access: list[Literal["Serving", "PredictionLog"]] = Field(
        default=["Serving"],
        min_length=1,
        max_length=2,
        description="Serving: may ask for predictions. PredictionLog: reads stored predictions.",
        json_schema_extra=SET_LIST,
    )
    purpose: Text = Field(description="What it uses predictions for.")
    contact: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Whom to tell about changes.")
    rate_limit: ConsumerLimit | None = Field(None, description="How much it may ask for; anything when empty.")
    criticality: Literal["High", "Normal", "Low"] = Field(
        "Normal",
        description="How much it is hurt by a version that answers in another form. Contacts of High are named first,"
        " and alerts are louder (error instead of warning). Low: it is told of incompatible outputs, but the version"
        " does not wait for a person's acknowledgement on its behalf.",
    )


class AccessControl(ApiModel):
    """How callers are kept out."""

    when_unsupported: Literal["Refuse", "Serve"] = Field(
        "Refuse",
        description="What happens while the gateway does not enforce who may call. Refuse: nobody is served. Serve:"
        " everybody is, which acknowledges that consumers are only declared.",
    )


class ConsumerStatus(ApiModel):
    """What the servers have answered to a consumer."""

    name: LabelName = Field(description="The consumer.")
    requests: int = Field(0, ge=0, description="Prediction requests that servers answered.")
    errors: int = Field(0, ge=0, description="Of these, answers of 400 and above.")
    last_seen: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When it was last seen to have asked, to half a minute."
    )
