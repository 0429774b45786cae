"""Rollouts on a real API server with the CRDs of KServe and Gateway API, and real requests through a real Envoy."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from cluster.modelrollout.director import (
    NAME,
    PROJECT,
    Director,
    Eventually,
    only,
    rejected,
    rollout,
    serves,
    stalled,
    weight_is,
)
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.gateway import PIN_HEADER, token_of
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.errors import Invalid
from slipway.runtime.resources import EVENT, HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, Object

pytestmark = pytest.mark.timeout(300)


@pytest.mark.slow
async def test_a_canary_is_promoted_and_no_request_is_lost(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
        # The version before goes too: its reference, its pin route, its servers.
        await eventually(lambda: only(director, "delays-0000000002"), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0
    assert answers.of(first) > 100
    assert answers.of(second) > 100
    assert await director.names(HTTP_ROUTE) == ["delays", "delays-pin-0000000002"]
    server = director.stage.servers.running["delays-0000000002"]
    assert server.paths == {f"/v1/models/{NAME}:predict"}
    history = (await director.status())["history"]
    assert [each["outcome"] for each in history] == ["Promoted", "Promoted"]


@pytest.mark.slow
async def test_a_failing_version_is_rolled_back_and_clients_see_only_its_own_errors(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = f"{PROJECT}-0000000002"
        director.stage.servers.failing.add(second)
        await director.add_version(2)
        await eventually(lambda: rejected(director, second), seconds=90, pause=0.2)
        await eventually(lambda: only(director, "delays-0000000001"), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.failed(first) == 0
    assert 0 < answers.failed(second) <= answers.of(second) // 2 + 1
    status = await director.status()
    assert (status["stable"], status["phase"]) == (first, "Healthy")
    assert "successPercent" not in status["rejected"][0]["message"], "a sentence, not a field"
    reasons = {each["reason"] for each in await director.client.list(EVENT, director.namespace)}
    assert {"Started", "StepStarted", "RolledBack"} <= reasons


@pytest.mark.slow
async def test_an_operator_that_is_replaced_on_the_way_comes_to_the_same_end(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    operator = await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(lambda: weight_is(director, "delays-0000000002", 30), seconds=90, pause=0.2)
        operator.stop()
        other = GatewayStatistics()
        await start_operator([ModelRolloutController(other)], identity="another")
        await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
        await other.close()
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0


@pytest.mark.slow
async def test_a_model_that_does_not_load_is_told_and_rejected(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    director.stage.servers.broken.add("delays-0000000001")
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    name = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: stalled(director, "LoadFailed"), seconds=90, pause=0.2)
    await director.client.merge(director.key, {"spec": {"progressDeadline": "1s"}})
    await eventually(lambda: rejected(director, name), seconds=90, pause=0.2)
    (rejection,) = (await director.status())["rejected"]
    assert rejection["reason"] == "LoadFailed"
    assert "the digest of model.joblib differs" in rejection["message"]


async def test_clients_cannot_pin_themselves_to_a_version(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    steps = [{"name": "wait", "pause": {"until": "Promoted"}}, {"name": "everyone", "setWeight": 100}]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=steps))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    second = await director.add_version(2)
    await eventually(lambda: weight_is(director, "delays-0000000002", 0), seconds=90, pause=0.2)
    pin = await director.client.get(HTTP_ROUTE.key("delays-pin-0000000002", director.namespace))
    guesses = ["0000000002", second, "", "*", token_of(pin)[:-1], token_of(pin).upper() + "x"]
    async with aiohttp.ClientSession() as session:
        for guess in guesses:
            client = SteadyClient(director.url(), rate=1, headers={PIN_HEADER: guess, "x-slipway-version": second})
            await client.send(session)
            assert dict(client.answers.counts) == {(first, 200): 1}, guess
        known = SteadyClient(director.url(), rate=1, headers={PIN_HEADER: token_of(pin)})
        await known.send(session)
    assert dict(known.answers.counts) == {(second, 200): 1}, "the pin route is in force"


@pytest.mark.slow
async def test_a_rollout_deleted_between_two_versions_loses_no_request_and_leaves_nothing(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    steps = [
        {"name": "some", "setWeight": 30},
        {"name": "wait", "pause": {"until": "Promoted"}},
        {"name": "everyone", "setWeight": 100},
    ]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=steps))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(lambda: answers.of(second) > 5, seconds=90, pause=0.2)
        await director.client.delete(director.key)

        async def gone() -> bool:
            left = [*await director.names(HTTP_ROUTE), *await director.names(INFERENCE_SERVICE)]
            return not left and await director.client.find(director.key) is None

        await eventually(gone, seconds=90, pause=0.2)
    assert {each.partition(" ")[0] for each in answers.lost} == {"404"}, "there is no such path any more, and no error"
    assert answers.failed(first) == answers.failed(second) == 0


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"name": "a", "setWeight": 50}], "the last setWeight must be 100"),
        (
            [{"name": "a", "setWeight": 50}, {"name": "b", "setWeight": 20}, {"name": "c", "setWeight": 100}],
            "weights must not fall",
        ),
    ],
)
@pytest.mark.usefixtures("crds")
async def test_steps_that_make_no_sense_are_refused(
    client: Client, namespace: str, steps: list[Object], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        await client.create(MODEL_ROLLOUT, rollout(namespace, steps=steps))
