"""Autoscalers, as KServe is told about them: a class for the whole InferenceService, metrics for its servers."""

from __future__ import annotations

from typing import Final

from slipway.api.modelrollout import Serving
from slipway.api.rollout_autoscaling import SERVICE_PLACE, ScaleMetric
from slipway.runtime.resources import Object

_BUSY: Final = 80
"""Percent of CPU at which KServe's HPA adds servers."""


def scaler_class(serving: Serving) -> str:
    """KServe's class, one for all parts. The spec's bounds count: a version that is scaled down keeps it."""
    parts = [each for each in (serving.transformer, serving.explainer) if each is not None]
    if all(each.max == each.min for each in (serving.replicas, *(part.replicas for part in parts))):
        return "none"
    return serving.autoscaling.scaler.lower() if serving.autoscaling is not None else "hpa"


def scaling_spec(serving: Serving, service: str) -> Object:
    """What the servers of a version are scaled by; nothing where KServe's default is meant.

    :param service: the version's InferenceService
    """
    if serving.autoscaling is None or not serving.autoscaling.metrics:
        return {}
    return {"autoScaling": {"metrics": [_metric(each, service) for each in serving.autoscaling.metrics]}}


def component_scaling(serving: Serving) -> Object:
    """What a transformer or explainer is scaled by: CPU. An HPA looks there anyway; KEDA has to be told."""
    if scaler_class(serving) != "keda":
        return {}
    return {"autoScaling": {"metrics": [_metric(ScaleMetric(type="CPU", utilization=_BUSY), "")]}}


def _metric(metric: ScaleMetric, service: str) -> Object:
    if metric.type in ("CPU", "Memory"):
        return {"type": "Resource", "resource": {"name": metric.type.lower(), "target": _resource_target(metric)}}
    query = str(metric.query).replace(SERVICE_PLACE, service)
    asked: Object = {"backend": metric.type.lower(), "query": query}
    if metric.server_address is not None:
        asked["serverAddress"] = metric.server_address
    source: Object = {"metric": asked, "target": {"type": "Value", "value": metric.threshold}}
    if metric.type == "OpenTelemetry":
        return {"type": "PodMetric", "podmetric": source}
    if metric.authentication_ref is not None:
        source["authenticationRef"] = {"authenticationRef": metric.authentication_ref.wire()}
    return {"type": "External", "external": source}


def _resource_target(metric: ScaleMetric) -> Object:
    if metric.utilization is not None:
        return {"type": "Utilization", "averageUtilization": metric.utilization}
    return {"type": "AverageValue", "averageValue": metric.average_value}
