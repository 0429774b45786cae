"""AnalysisTemplate and ClusterAnalysisTemplate: metrics that a rollout measures, and what their results mean.

Names and meaning are those of Argo Rollouts wherever they fit. Conditions are CEL over `result`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import (
    ATOMIC_LIST,
    ApiModel,
    Column,
    Duration,
    ObjectName,
    Resource,
    Resources,
    Status,
    exactly_one,
    map_list,
    rule,
)

ArgumentName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]
ArgumentText = Annotated[str, Field(max_length=1024)]
Expression = Annotated[str, Field(min_length=1, max_length=1024)]
Url = Annotated[str, Field(min_length=8, max_length=1024, pattern=r"^https?://[^\s]+$")]

GIVEN = ("rollout", "namespace", "stable-version", "candidate-version", "stable-service", "candidate-service")
"""Arguments that every rollout gives by itself."""

HistogramBound = Literal[1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000]
"""Bounds of Envoy's latency histogram in milliseconds: a share below another value cannot be counted exactly."""


class Argument(ApiModel):
    """A value that a rollout may, or must, give."""

    name: ArgumentName = Field(description="Name; texts of metrics refer to it as `args.NAME` in double braces.")
    value: ArgumentText | None = Field(None, description="Used when the rollout gives none; without it, it must.")


class SecretKeyRef(ApiModel):
    """A key of a Secret in the rollout's namespace.

    The Secret must say in its annotation `slipway.dev/analysis-hosts` to which hosts its content may be sent.
    """

    name: ObjectName = Field(description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key in the Secret.")


class Header(ApiModel):
    """A header of a request."""

    rules: ClassVar = (exactly_one("value", "secretKeyRef"),)

    key: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]+$", description="Its name.")
    value: str | None = Field(None, min_length=1, max_length=1024, pattern=r"^[ -~]+$", description="Its value.")
    secret_key_ref: SecretKeyRef | None = Field(None, description="Where its value is, when nobody should read it.")


def _headers() -> list[Header]:
    return Field(
        default_factory=list,
        max_length=16,
        description="Headers that are sent.",
        json_schema_extra=map_list("key"),
    )


_TIMEOUT = rule(
    "!has(self.timeout) || duration(self.timeout) <= duration('60s') && duration(self.timeout) > duration('0s')",
    "timeout must be above 0 and at most 60s",
)


class GatewayProvider(ApiModel):
    """The gateway's own statistics, as inline checks use them.

    `result` has `value` (percent) and `requests`, and with `includeStable` also `stable` and `stableRequests`.
    """

    rules: ClassVar = (
        rule(
            "(self.metric == 'shareBelowMilliseconds') == has(self.bound)",
            "set bound (milliseconds) with metric shareBelowMilliseconds, and only then",
        ),
    )

    metric: Literal["successPercent", "shareBelowMilliseconds"] = Field(
        description="successPercent: percent of answers that are not 5xx. shareBelowMilliseconds: percent of answers"
        " within `bound`."
    )
    bound: HistogramBound | None = Field(None, description="Milliseconds; one of the gateway's histogram bounds.")
    window: Duration = Field("60s", description="How far back requests count.")
    minimum_requests: int = Field(
        100, ge=1, le=10**9, description="Requests that a measurement needs; fewer make it Inconclusive."
    )
    include_stable: bool = Field(
        False, description="Measure the stable version in the same window too; it needs as many requests."
    )


class PrometheusProvider(ApiModel):
    """An instant query; `result` is a list of numbers, or a number for a scalar."""

    rules: ClassVar = (_TIMEOUT,)

    address: Url = Field(description="URL of the Prometheus API, without `/api/v1/query`.")
    query: str = Field(min_length=1, max_length=4096, description="PromQL.")
    headers: list[Header] = _headers()
    token_secret_ref: SecretKeyRef | None = Field(None, description="Bearer token.")
    ca_secret_ref: SecretKeyRef | None = Field(None, description="PEM certificates that the server is checked with.")
    timeout: Duration = Field("10s", description="How long an answer may take.")


class WebProvider(ApiModel):
    """An HTTP endpoint that answers with JSON; `result` is the answer, or the part that `jsonPath` names."""

    rules: ClassVar = (
        _TIMEOUT,
        rule("!has(self.body) || self.method == 'POST'", "body is only for method POST: remove it, or set method"),
    )

    url: Url = Field(description="URL.")
    method: Literal["GET", "POST"] = Field("GET", description="Method of the request.")
    headers: list[Header] = _headers()
    body: str | None = Field(None, max_length=4096, description="JSON that is sent, with POST.")
    json_path: str | None = Field(
        None,
        max_length=256,
        pattern=r"^\$(\.[A-Za-z_][A-Za-z0-9_-]*|\['[^']+'\]|\[(0|-?[1-9][0-9]*)\])*$",
        description="A singular query of RFC 9535, such as `$.data.values[0]`; the whole answer when empty.",
    )
    ca_secret_ref: SecretKeyRef | None = Field(None, description="PEM certificates that the server is checked with.")
    timeout: Duration = Field("10s", description="How long an answer may take.")


class Variable(ApiModel):
    """An environment variable."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name.")
    value: ArgumentText = Field(description="Value.")


class JobProvider(ApiModel):
    """A Job in the rollout's namespace: exit code 0 is Successful, any other Failed."""

    image: str = Field(min_length=1, max_length=512, description="Image of the container.")
    command: list[ArgumentText] = Field(
        default_factory=list,
        max_length=32,
        description="Command; the image's when empty.",
        json_schema_extra=ATOMIC_LIST,
    )
    args: list[ArgumentText] = Field(
        default_factory=list, max_length=64, description="Arguments of the command.", json_schema_extra=ATOMIC_LIST
    )
    env: list[Variable] = Field(
        default_factory=list,
        max_length=64,
        description="Environment variables.",
        json_schema_extra=map_list("name"),
    )
    resources: Resources | None = Field(None, description="Resources of the container.")
    deadline: Duration = Field("10m", description="How long the Job may take; a longer one is an Error.")


class Provider(ApiModel):
    """Where the value comes from: exactly one."""

    rules: ClassVar = (exactly_one("gateway", "prometheus", "web", "job"),)

    gateway: GatewayProvider | None = Field(None, description="The gateway's statistics.")
    prometheus: PrometheusProvider | None = Field(None, description="A Prometheus query.")
    web: WebProvider | None = Field(None, description="A web endpoint.")
    job: JobProvider | None = Field(None, description="A Job.")


class Metric(ApiModel):
    """Something that is measured, how often, and what the results mean."""

    rules: ClassVar = (
        rule(
            "has(self.provider.job) != (has(self.successCondition) || has(self.failureCondition))",
            "set successCondition, failureCondition or both; a job has none: its exit code decides",
        ),
        rule(
            "!has(self.count) || self.count == 1 || has(self.interval)",
            "set interval: several measurements need a time between them",
        ),
        rule(
            "!has(self.interval) || duration(self.interval) >= duration('1s')",
            "interval must be at least 1s",
        ),
    )

    name: ArgumentName = Field(description="Name of the metric.")
    provider: Provider = Field(description="Where the value comes from.")
    interval: Duration | None = Field(None, description="Time between two measurements; one measurement when empty.")
    count: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Measurements without Error after which the metric is Successful. Empty: one without interval,"
        " else as many as there is time for.",
    )
    initial_delay: Duration | None = Field(None, description="Time before the first measurement.")
    success_condition: Expression | None = Field(
        None, description="CEL over `result`: true is Successful. Alone, anything else is Failed."
    )
    failure_condition: Expression | None = Field(
        None,
        description="CEL over `result`: true is Failed. Alone, anything else is Successful; with both conditions false,"
        " a measurement is Inconclusive.",
    )
    failure_limit: int = Field(0, ge=0, le=1000, description="Failed measurements that are forgiven.")
    inconclusive_limit: int = Field(0, ge=0, le=1000, description="Inconclusive measurements that are forgiven.")
    consecutive_error_limit: int = Field(4, ge=0, le=1000, description="Errors in a row that are forgiven.")
    dry_run: bool = Field(False, description="Measure and show, and decide nothing.")


class AnalysisTemplateSpec(ApiModel):
    """Metrics and their arguments."""

    rules: ClassVar = (
        rule(
            f"!has(self.args) || self.args.all(a, !(a.name in {list(GIVEN)!r}))",
            f"every rollout gives {', '.join(GIVEN)} by itself: remove them from args",
        ),
    )

    args: list[Argument] = Field(
        default_factory=list,
        max_length=32,
        description="Values that a rollout gives; they are put in place of `args.NAME` in double braces.",
        json_schema_extra=map_list("name"),
    )
    metrics: list[Metric] = Field(
        min_length=1, max_length=16, description="What is measured.", json_schema_extra=map_list("name")
    )


class AnalysisTemplateStatus(Status):
    """Whether the template can be used."""

    metrics: int | None = Field(None, ge=0, description="How many metrics it has.")


_COLUMNS = (
    Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
    Column(name="Metrics", path=".status.metrics", type="integer"),
    Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
    Column(name="Message", path='.status.conditions[?(@.type=="Ready")].message', priority=1),
    Column(name="Age", path=".metadata.creationTimestamp", type="date"),
)


class AnalysisTemplate(Resource):
    """Metrics that rollouts of the namespace measure on a new version."""

    kind_name: ClassVar = "AnalysisTemplate"
    plural: ClassVar = "analysistemplates"
    short_names: ClassVar = ("sat",)
    columns: ClassVar = _COLUMNS

    spec: AnalysisTemplateSpec
    status: AnalysisTemplateStatus = Field(default_factory=AnalysisTemplateStatus)


class ClusterAnalysisTemplate(Resource):
    """Metrics that rollouts of every namespace may measure on a new version."""

    kind_name: ClassVar = "ClusterAnalysisTemplate"
    plural: ClassVar = "clusteranalysistemplates"
    short_names: ClassVar = ("scat",)
    namespaced: ClassVar = False
    columns: ClassVar = _COLUMNS

    spec: AnalysisTemplateSpec
    status: AnalysisTemplateStatus = Field(default_factory=AnalysisTemplateStatus)
