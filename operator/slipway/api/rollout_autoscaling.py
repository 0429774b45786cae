"""How many servers a version has as its load changes: HPA or KEDA, by way of KServe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ATOMIC_LIST, ApiModel, DecimalString, LocalRef, Quantity, Uri, rule

SERVICE_PLACE = "{service}"
"""What stands for the InferenceService of a version in a query."""

_RESOURCES, _SERVERS = "['CPU', 'Memory']", "['Prometheus', 'Graphite']"


class ScaleMetric(ApiModel):
    """What an autoscaler looks at."""

    rules: ClassVar = (
        rule(
            "self.type == 'CPU' ? has(self.utilization) && !has(self.averageValue) : self.type == 'Memory'"
            " ? has(self.utilization) != has(self.averageValue) : !has(self.utilization) && !has(self.averageValue)",
            "set utilization with CPU, either utilization or averageValue with Memory, and neither with other types",
        ),
        rule(
            f"(self.type in {_RESOURCES}) == !has(self.query) && (self.type in {_RESOURCES}) == !has(self.threshold)",
            "set query and threshold with Prometheus, Graphite and OpenTelemetry, and only there",
        ),
        rule(
            f"self.type in {_SERVERS} ? has(self.serverAddress)"
            " : self.type == 'OpenTelemetry' || !has(self.serverAddress)",
            "set serverAddress with Prometheus and Graphite; CPU and Memory have none",
        ),
        rule(
            f"!(self.type in {_SERVERS}) || !has(self.query) || self.query.contains('{SERVICE_PLACE}')",
            f"query must contain {SERVICE_PLACE}, the InferenceService of a version: each version is scaled by itself",
        ),
        rule(
            f"self.type in {_SERVERS} || !has(self.authenticationRef)",
            "authenticationRef is for Prometheus and Graphite: remove it",
        ),
    )

    type: Literal["CPU", "Memory", "Prometheus", "Graphite", "OpenTelemetry"] = Field(
        description="Where the value comes from. All but CPU and Memory need KEDA."
    )
    utilization: int | None = Field(None, ge=1, le=100, description="Percent of what the servers request.")
    average_value: Quantity | None = Field(None, description="Amount a server, with Memory.")
    server_address: Uri | None = Field(None, description="Server that is asked.")
    query: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, description=f"Query; `{SERVICE_PLACE}` is the InferenceService of a version."
    )
    threshold: DecimalString | None = Field(None, description="Value a server.")
    authentication_ref: LocalRef | None = Field(None, description="KEDA TriggerAuthentication.")


class Autoscaling(ApiModel):
    """How `replicas` are used; without it an HPA looks at CPU at 80 percent."""

    rules: ClassVar = (
        rule(
            f"self.scaler == 'KEDA' || !has(self.metrics) || self.metrics.all(m, m.type in {_RESOURCES})",
            "an HPA looks at CPU and Memory: set scaler: KEDA for other metrics",
        ),
        rule(
            "self.scaler != 'KEDA' || has(self.metrics) && self.metrics.size() > 0",
            "KEDA needs something to look at: add a metric",
        ),
    )

    scaler: Literal["HPA", "KEDA"] = Field("HPA", description="Who scales; KEDA has to be installed.")
    metrics: list[ScaleMetric] = Field(
        default_factory=list,
        max_length=8,
        description="What is looked at; the one that asks for most servers wins. CPU at 80 percent when empty.",
        json_schema_extra=ATOMIC_LIST,
    )
    during_rollout: Literal["Full", "Proportional"] = Field(
        "Full",
        description="Bounds while a new version takes over. Full: both versions have all of `replicas`. Proportional:"
        " the new version's bounds follow its weight, and the stable version's least number follows its own.",
    )
