"""Knative mode on a real API server with KServe's own CRD. KServe and Knative are played: see `knative_play`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from cluster.modelrollout.conftest import crd_manifests, make_surroundings
from cluster.modelrollout.director import NAME, PROJECT, Eventually, rollout, version
from cluster.modelrollout.knative_stage import knative_staged

from slipway.adapters import knative
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.kserve import Deployment, Model
from slipway.api.modelrollout import Serving
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, MODEL_VERSION, Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "wait", "pause": {"for": "2s"}},
    {"name": "everyone", "setWeight": 100},
]
MODEL = Model("flight-delays-1", f"sha256:{'a' * 64}", "s3://slipway/models/1", f"sha256:{'c' * 64}", True)


@pytest.fixture
def statistics() -> GatewayStatistics:
    return GatewayStatistics()


async def test_a_canary_runs_through_canary_traffic_percent(
    crds: None,  # noqa: ARG001 - installed for their effect
    client: Client,
    namespace: str,
    start_operator: Any,
    statistics: GatewayStatistics,
    eventually: Eventually,
) -> None:
    await make_surroundings(client, 19001, "Knative")
    key = MODEL_ROLLOUT.key(NAME, namespace)
    wanted = rollout(namespace, routing={"path": "/delays"}, steps=STEPS, checks=[])
    await client.create(MODEL_ROLLOUT, wanted)
    await client.create(MODEL_VERSION, version(namespace, 1))
    first, second = (f"{PROJECT}-000000000{number}" for number in (1, 2))

    async def stable(name: str) -> bool:
        status = (await client.get(key)).get("status") or {}
        return bool((status.get("stable"), status.get("phase")) == (name, "Healthy"))

    async with knative_staged(client, namespace) as stage:
        await start_operator([ModelRolloutController(statistics)])
        await eventually(lambda: stable(first), seconds=90, pause=0.2)
        await client.create(MODEL_VERSION, version(namespace, 2))
        await eventually(lambda: stable(second), seconds=90, pause=0.2)
        one = await client.get(INFERENCE_SERVICE.key(NAME, namespace))
    distinct = [each for each, after in zip(stage.served, [*stage.served[1:], {}], strict=True) if each != after]
    assert distinct == [{first: 100}, {second: 30, first: 70}, {second: 100}]
    assert len(stage.play.revisions) == 2, "weights and what the API server adds make no revision"
    assert "canaryTrafficPercent" not in one["spec"]["predictor"]
    assert await client.list(HTTP_ROUTE, namespace) == []


async def test_what_knative_cannot_do_stalls_the_rollout(
    crds: None,  # noqa: ARG001 - installed for their effect
    client: Client,
    namespace: str,
    start_operator: Any,
    statistics: GatewayStatistics,
    eventually: Eventually,
) -> None:
    await make_surroundings(client, 19001, "Knative")
    await client.create(MODEL_ROLLOUT, rollout(namespace))
    await client.create(MODEL_VERSION, version(namespace, 1))
    await start_operator([ModelRolloutController(statistics)])

    async def stalled() -> str:
        status = (await client.get(MODEL_ROLLOUT.key(NAME, namespace))).get("status") or {}
        found = [each["message"] for each in status.get("conditions", ()) if each["reason"] == "UnsupportedInKnative"]
        return str(found[0]) if found else ""

    message = await eventually(stalled, seconds=60, pause=0.2)
    assert "spec.routing.hostnames: models.example.com" in message
    assert "spec.checks[success]: source Gateway" in message
    assert await client.list(INFERENCE_SERVICE, namespace) == []


# ---- contracts -------------------------------------------------------------------------------------------------------
def _unknown(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Fields that a structural schema does not have: the API server would drop them without a word."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, Mapping):
        known, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, each in value.items():
            if name in known:
                yield from _unknown(each, known[name], f"{path}.{name}")
            elif not more:
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for each in value:
            yield from _unknown(each, schema.get("items") or {}, f"{path}[]")


def test_every_field_that_is_written_is_in_kserves_schema() -> None:
    crd = next(each for each in crd_manifests() if each["spec"]["names"]["kind"] == "InferenceService")
    schema = next(each for each in crd["spec"]["versions"] if each["name"] == "v1beta1")["schema"]["openAPIV3Schema"]
    written = knative.inference_service(Deployment("n", "delays", "p", Serving()), MODEL, 5, (("v", 0),), ("x",), "{}")
    assert list(_unknown(written["spec"], schema["properties"]["spec"])) == []
    percent = schema["properties"]["spec"]["properties"]["predictor"]["properties"]["canaryTrafficPercent"]
    assert percent["type"] == "integer"
    component = schema["properties"]["status"]["properties"]["components"]["additionalProperties"]["properties"]
    read = {"latestCreatedRevision", "latestReadyRevision", "latestRolledoutRevision", "previousRolledoutRevision"}
    assert read <= set(component)
    assert {"revisionName", "percent", "latestRevision"} <= set(component["traffic"]["items"]["properties"])
