"""Autoscalers of versions: what KServe is told, and bounds that follow the weights."""

from __future__ import annotations

from typing import Any

import pytest
from unit.modelrollout.test_adapters import MODEL, deployment
from unit.modelrollout.test_capacity import CHECK, S1, S2, V1, V2, steps
from unit.modelrollout.world import World

from slipway.adapters import kserve
from slipway.runtime.resources import INFERENCE_SERVICE

ROOM = {"min": 2, "max": 8}
PROMETHEUS = {
    "type": "Prometheus",
    "serverAddress": "http://prometheus.monitoring:9090",
    "query": 'sum(rate(http_requests_total{pod=~"{service}-predictor-.*"}[1m]))',
    "threshold": "50",
    "authenticationRef": {"name": "prometheus"},
}


def told(autoscaling: dict[str, Any] | None) -> tuple[str, Any]:
    serving = {"replicas": ROOM, **({"autoscaling": autoscaling} if autoscaling else {})}
    manifest = kserve.inference_service(deployment(serving), MODEL)
    annotations, predictor = manifest["metadata"]["annotations"], manifest["spec"]["predictor"]
    return annotations["serving.kserve.io/autoscalerClass"], predictor.get("autoScaling")


@pytest.mark.parametrize(
    ("autoscaling", "scaler", "metrics"),
    [
        (None, "hpa", None),
        ({"duringRollout": "Proportional"}, "hpa", None),
        (
            {"metrics": [{"type": "CPU", "utilization": 70}, {"type": "Memory", "averageValue": "2Gi"}]},
            "hpa",
            [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                },
                {
                    "type": "Resource",
                    "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "2Gi"}},
                },
            ],
        ),
        (
            {"scaler": "KEDA", "metrics": [PROMETHEUS]},
            "keda",
            [
                {
                    "type": "External",
                    "external": {
                        "metric": {
                            "backend": "prometheus",
                            "serverAddress": "http://prometheus.monitoring:9090",
                            "query": 'sum(rate(http_requests_total{pod=~"delays-9f2c1a4b7e-predictor-.*"}[1m]))',
                        },
                        "target": {"type": "Value", "value": "50"},
                        "authenticationRef": {"authenticationRef": {"name": "prometheus"}},
                    },
                }
            ],
        ),
        (
            {"scaler": "KEDA", "metrics": [{"type": "OpenTelemetry", "query": "vllm:waiting", "threshold": "4"}]},
            "keda",
            [
                {
                    "type": "PodMetric",
                    "podmetric": {
                        "metric": {"backend": "opentelemetry", "query": "vllm:waiting"},
                        "target": {"type": "Value", "value": "4"},
                    },
                }
            ],
        ),
    ],
)
def test_kserve_is_told_scaler_and_metrics(autoscaling: dict[str, Any] | None, scaler: str, metrics: Any) -> None:
    assert told(autoscaling) == (scaler, {"metrics": metrics} if metrics else None)


# ---- bounds while a version takes over -------------------------------------------------------------------------------
def world_with(during: str, *weights: int, **spec: Any) -> World:
    serving = {"replicas": {"min": 4, "max": 8}, "autoscaling": {"duringRollout": during}}
    world = World({"serving": serving, "steps": steps(*weights), "checks": [CHECK], **spec})
    world.serve_first()
    return world


def bounds(world: World) -> dict[str, tuple[int, int]]:
    services = world.stores.list(INFERENCE_SERVICE, "flights")
    predictors = {each["metadata"]["name"]: each["spec"]["predictor"] for each in services}
    return {name: (each["minReplicas"], each["maxReplicas"]) for name, each in predictors.items()}


def seen_at_weights(world: World) -> dict[int, dict[str, tuple[int, int]]]:
    """Bounds of both versions when each weight was first given."""
    seen: dict[int, dict[str, tuple[int, int]]] = {}
    for _ in range(200):
        world.step()
        if world.status.candidate:
            seen.setdefault(world.status.weight or 0, bounds(world))
    return seen


@pytest.mark.slow
def test_bounds_follow_the_weights_where_that_is_declared() -> None:
    world = world_with("Proportional", 25, 50, 100)
    world.add_version(2)
    seen = seen_at_weights(world)
    assert seen[25] == {S1: (3, 8), S2: (1, 2)}
    assert seen[50] == {S1: (2, 8), S2: (2, 4)}
    assert world.status.stable == V2
    assert bounds(world)[S2] == (4, 8)


@pytest.mark.slow
def test_a_weight_is_raised_only_when_its_servers_are_there() -> None:
    world = world_with("Proportional", 25, 50, 100)
    world.add_version(2)
    for _ in range(200):
        world.step()
        weight = world.gateway.in_force.get(S2, 0)
        assert world.endpoints(S2) >= 4 * weight / 100
    assert world.status.stable == V2


@pytest.mark.slow
def test_a_rejected_version_leaves_the_stable_one_its_full_bounds() -> None:
    world = world_with("Proportional", 25, 50, 100)
    world.add_version(2, failing=60)
    for _ in range(200):
        world.step()
    assert [each.name for each in world.status.rejected or ()] == [V2]
    assert world.status.stable == V1
    assert bounds(world) == {S1: (4, 8)}


@pytest.mark.slow
def test_bounds_are_whole_otherwise() -> None:
    world = world_with("Full", 25, 50, 100)
    world.add_version(2)
    assert set(map(str, seen_at_weights(world)[50].values())) == {"(4, 8)"}


@pytest.mark.slow
def test_a_step_that_scales_comes_before_the_proportion() -> None:
    scaled = [{"name": "half", "setScale": {"percent": 50}}, *steps(25, 100)]
    world = world_with("Proportional", steps=scaled)
    world.add_version(2)
    assert seen_at_weights(world)[25][S2] == (2, 4)
