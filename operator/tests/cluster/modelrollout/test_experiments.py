"""An experiment on a real API server: real requests, split by a real Envoy over four versions, one of which fails."""

from __future__ import annotations

from typing import Any

import pytest
from cluster.modelrollout.director import PROJECT, Director, Eventually, only, rejected, rollout, serves
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import EVENT, HTTP_ROUTE, MODEL_ROLLOUT, Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WAIT = {"seconds": 90, "pause": 0.2}
V1, V2, V3, V4 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3, 4))
S1, S2, S3, S4 = (f"delays-{number:010x}" for number in (1, 2, 3, 4))
ARMS = [
    {"name": "b", "modelVersionRef": {"name": V2}, "percent": 20},
    {"name": "c", "modelVersionRef": {"name": V3}, "percent": 20},
]
STEPS = [
    {"name": "compare", "experiment": {"for": "12s", "candidatePercent": 30, "arms": ARMS, "minimumRequests": 50}},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]


def pinned(version: str) -> Object:
    return {"policy": "Pinned", "modelVersionRef": {"name": version}}


async def report(director: Director) -> Object:
    return ((await director.status()).get("experiments") or [{}])[0]


async def test_requests_are_split_over_all_and_a_failing_arm_leaves_without_a_lost_request(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=STEPS, version=pinned(V1)))
    for number in (1, 2, 3, 4):
        await director.add_version(number)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, V1), **WAIT)
    director.stage.servers.failing.add(V3)

    async def phase_is(phase: str) -> bool:
        return (await report(director)).get("phase") == phase

    with sending(SteadyClient(director.url(), rate=100)) as answers:
        await director.client.merge(director.key, {"spec": {"version": pinned(V4)}})
        await eventually(lambda: phase_is("Running"), **WAIT)
        assert await director.weights() == {S1: 30, S4: 30, S2: 20, S3: 20}
        await eventually(lambda: rejected(director, V3), **WAIT)
        assert await director.weights() == {S1: 50, S4: 30, S2: 20}, "its share goes to the stable version alone"
        await eventually(lambda: phase_is("Completed"), **WAIT)
        met = {each: answers.of(each) for each in (V1, V2, V3, V4)}
        assert await director.weights() == {S1: 70, S4: 30}
        await eventually(lambda: gone(director, S2, S3), **WAIT)
        await director.client.merge(
            director.key, {"metadata": {"annotations": {"slipway.dev/promote": f"approval:{V4}"}}}
        )
        await eventually(lambda: only(director, S4), **WAIT)
    assert answers.lost == []
    assert [answers.failed(each) for each in (V1, V2, V4)] == [0, 0, 0]
    assert answers.failed(V3) > 0
    found = await report(director)
    rows = {each["name"]: each for each in found["versions"]}
    counted = {name: row["counted"]["requests"] for name, row in rows.items()}
    assert met[V2] * 0.8 <= counted["b"] <= met[V2], "the report counts what clients got"
    assert 0.6 <= counted["b"] / counted["candidate"] * 3 / 2 <= 1.6
    assert (rows["c"]["state"], rows["c"]["counted"]["failed"] > 0) == ("Left", True)
    assert (rows["b"]["verdict"], found.get("winner")) == ("NoDifference", None)
    assert float(rows["b"]["medianMilliseconds"]) > 0
    reasons = {each["reason"] for each in await director.client.list(EVENT, director.namespace)}
    assert {"ExperimentStarted", "ArmLeft", "ExperimentEnded"} <= reasons


async def gone(director: Director, *services: str) -> bool:
    """Neither servers nor pin routes are left of them."""
    running = set(director.stage.servers.running)
    pins = {f"delays-pin-{each.removeprefix('delays-')}" for each in services}
    return not running & set(services) and not set(await director.names(HTTP_ROUTE)) & pins
