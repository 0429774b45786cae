"""What servers are told to log, what is left out, and what is said when nothing can be."""

from __future__ import annotations

from typing import Any

import pytest
from unit.modelrollout.world import NAME, NAMESPACE, PROJECT, World

from slipway.runtime.resources import DATASET, INFERENCE_SERVICE, PLATFORM, Object

LOGGING: dict[str, Any] = {"predictionLog": {"enabled": True, "samplePercent": 25, "retention": "720h"}}
V1 = f"{PROJECT}-{1:010x}"
S1 = f"{NAME}-{1:010x}"


def dataset(name: str, *sensitive: str, project: str = PROJECT) -> Object:
    columns = [{"name": each, "type": "String", "sensitive": True} for each in sensitive]
    spec = {"projectRef": {"name": project}, "columns": [*columns, {"name": "hour", "type": "Integer"}]}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def allow_logging(world: World) -> None:
    """Let the Platform name credentials for the log."""
    found = world.get(PLATFORM, "default")
    assert found is not None
    s3 = {**found["spec"]["artifacts"]["s3"], "predictionLogSecretRef": {"namespace": "slipway-system", "name": "p"}}
    world.edit(PLATFORM, "default", {"spec": {"artifacts": {"s3": s3}}})


def environment(world: World) -> dict[str, Any]:
    """Variables of the first version's server."""
    service = world.get(INFERENCE_SERVICE, S1)
    assert service is not None
    container = service["spec"]["predictor"]["model"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def logged(world: World) -> dict[str, Any]:
    prefix = "SLIPWAY_PREDICTION_LOG_"
    return {name.removeprefix(prefix): value for name, value in environment(world).items() if name.startswith(prefix)}


def test_servers_are_told_where_what_and_with_which_credentials() -> None:
    world = World(LOGGING)
    allow_logging(world)
    world.serve_first()
    secret = {"name": f"{PROJECT}-slipway-s3-predictions", "optional": True}
    assert logged(world) == {
        "PREFIX": f"predictions/{NAMESPACE}/{NAME}/{V1}/",
        "SAMPLE_PERCENT": "25",
        "S3_ENDPOINT": "http://store:8333",
        "S3_BUCKET": "slipway",
        "S3_REGION": "us-east-1",
        "S3_ACCESS_KEY": {"secretKeyRef": {**secret, "key": "accessKey"}},
        "S3_SECRET_KEY": {"secretKeyRef": {**secret, "key": "secretKey"}},
    }
    assert world.condition("PredictionLogAvailable") is None


@pytest.mark.parametrize("spec", [{}, {"predictionLog": {"enabled": False, "samplePercent": 100, "retention": "24h"}}])
def test_nothing_is_logged_unless_it_is_asked_for(spec: dict[str, Any]) -> None:
    world = World(spec)
    allow_logging(world)
    world.serve_first()
    assert logged(world) == {}
    assert world.condition("PredictionLogAvailable") is None


def test_what_datasets_of_the_project_call_sensitive_is_left_out() -> None:
    world = World({"predictionLog": {**LOGGING["predictionLog"], "redact": ["tailnum", "pilot"]}})
    allow_logging(world)
    world.put(DATASET, dataset("flights", "pilot", "passenger"))
    world.put(DATASET, dataset("other", "foreign", project="other"))
    world.serve_first()
    assert logged(world)["REDACT"] == "passenger,pilot,tailnum"


def test_a_column_that_becomes_sensitive_is_left_out_from_then_on() -> None:
    world = World(LOGGING)
    allow_logging(world)
    world.put(DATASET, dataset("flights"))
    world.serve_first()
    assert "REDACT" not in logged(world)
    world.put(DATASET, dataset("flights", "carrier"))
    world.reconcile()
    assert logged(world)["REDACT"] == "carrier"


def test_without_credentials_the_rollout_goes_on_and_says_what_is_missing() -> None:
    world = World(LOGGING)
    world.serve_first()
    assert logged(world) == {}
    condition = world.condition("PredictionLogAvailable")
    assert condition is not None
    assert condition[:2] == ("False", "DependencyMissing")
    assert "predictionLogSecretRef" in condition[2]
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[0] == "True"
    allow_logging(world)
    world.reconcile()
    assert logged(world)["SAMPLE_PERCENT"] == "25"
    assert world.condition("PredictionLogAvailable") is None
