"""Copies, headers, sizes and a change at once, on a real API server and with real requests through a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from cluster.modelrollout.director import Director, Eventually, only, rejected, rollout, serves, weight_is
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.gateway import Aside, aside_of
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FIRST, SECOND = "delays-0000000001", "delays-0000000002"
PREVIEW = [{"name": "x-preview", "exact": "yes"}]
WAIT = {"seconds": 90, "pause": 0.2}


class Company:
    """A rollout whose first version serves, and the operator that looks after it."""

    def __init__(self, director: Director, first: str, eventually: Eventually) -> None:
        self.director = director
        self.first = first
        self._eventually = eventually

    async def until(self, holds: Any) -> None:
        await self._eventually(holds, **WAIT)

    async def at(self, step: str) -> None:
        async def there() -> bool:
            return bool(((await self.director.status()).get("step") or {}).get("name") == step)

        await self.until(there)

    async def aside(self) -> Aside | None:
        route = await self.director.client.find(HTTP_ROUTE.key("delays", self.director.namespace))
        return aside_of(route) if route else None

    async def promote(self, step: str) -> None:
        change = {"metadata": {"annotations": {"slipway.dev/promote": step}}}
        await self.director.client.merge(self.director.key, change)

    async def ask(self, **headers: str) -> str:
        """The version that answers one request."""
        client = SteadyClient(self.director.url(), rate=1, headers=headers)
        async with aiohttp.ClientSession() as session:
            await client.send(session)
        assert client.answers.lost == []
        ((version, code),) = client.answers.counts
        assert code == 200
        return version


@pytest_asyncio.fixture
async def company(
    request: pytest.FixtureRequest, director: Director, start_operator: Any, eventually: Eventually
) -> AsyncIterator[Company]:
    """With the spec that the test is parametrized with."""
    spec: Object = request.param
    manifest = rollout(director.namespace, **spec)
    manifest["spec"] = {name: value for name, value in manifest["spec"].items() if value is not None}
    await director.client.create(MODEL_ROLLOUT, manifest)
    first = await director.add_version(1)
    statistics = GatewayStatistics()
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), **WAIT)
    yield Company(director, first, eventually)
    await statistics.close()


SHADOW = {"steps": None, "strategy": {"shadow": {"percent": 50, "for": "3s"}}}


@pytest.mark.parametrize("company", [SHADOW], indirect=True)
async def test_a_version_is_judged_on_copies_and_no_client_notices(company: Company) -> None:
    director = company.director
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        second = await director.add_version(2)
        await company.at("shadow")
        await company.until(lambda: copies_seen(director, second, 20))
        assert answers.of(second) == 0, "an answer to a copy came to a client"
        assert (await company.aside()) == Aside(SECOND, copied=50)
        plan = [(each["name"], each["state"]) for each in (await director.status())["plan"]]
        assert plan == [("shadow", "Running"), ("everyone", "Waiting")]
        await company.until(lambda: serves(director, second))
        await company.until(lambda: only(director, SECOND))
    assert answers.lost == []
    assert answers.failed(company.first) == answers.failed(second) == 0
    assert director.stage.servers.running[SECOND].paths == {"/v1/models/delays:predict"}, "copies are rewritten too"
    assert await company.aside() is None


@pytest.mark.parametrize("company", [SHADOW], indirect=True)
async def test_a_version_that_fails_on_copies_is_rejected_before_any_client_met_it(company: Company) -> None:
    director = company.director
    second = "flight-delays-0000000002"
    director.stage.servers.failing.add(second)
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        await director.add_version(2)
        await company.until(lambda: rejected(director, second))
        await company.until(lambda: only(director, FIRST))
    assert answers.lost == []
    assert answers.of(second) == 0
    assert answers.failed(company.first) == 0
    assert director.stage.servers.seen[second] >= 20
    assert (await director.status())["rejected"][0]["reason"] == "ChecksFailed"


BLUE_GREEN = {"steps": None, "strategy": {"blueGreen": {"preview": PREVIEW}}}


@pytest.mark.parametrize("company", [BLUE_GREEN], indirect=True)
async def test_blue_green_shows_the_new_version_to_those_who_ask_and_changes_over_at_once(company: Company) -> None:
    director = company.director
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        second = await director.add_version(2)
        await company.at("approval")
        assert await company.ask(**{"x-preview": "yes"}) == second
        assert await company.ask(**{"x-preview": "no"}) == company.first
        assert await company.ask() == company.first
        assert answers.of(second) == 0
        await company.promote(f"approval:{second}")
        await company.until(lambda: serves(director, second))
        await company.until(lambda: only(director, SECOND))
    assert answers.lost == []
    assert answers.failed(company.first) == answers.failed(second) == 0
    assert await company.aside() is None
    assert await company.ask(**{"x-preview": "no"}) == second


SCALED = {
    "serving": {"replicas": {"min": 3, "max": 6}},
    "steps": [
        {"name": "small", "setScale": {"percent": 34}},
        {"name": "testers", "setHeaderRoute": {"match": [{"name": "x-team", "prefix": "flights-"}]}},
        {"name": "approval", "pause": {"until": "Promoted"}},
        {"name": "some", "setWeight": 30},
        {"name": "nobody", "setHeaderRoute": {}},
        {"name": "again", "pause": {"until": "Promoted"}},
        {"name": "everyone", "setWeight": 100},
    ],
    "checks": [],
}


@pytest.mark.parametrize("company", [SCALED], indirect=True)
async def test_a_small_version_meets_testers_and_is_complete_before_it_takes_all(company: Company) -> None:
    director = company.director
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        second = await director.add_version(2)
        await company.at("approval")
        assert await bounds(director, FIRST) == (3, 6)
        assert await bounds(director, SECOND) == (2, 3)
        assert await company.ask(**{"x-team": "flights-east"}) == second
        assert await company.ask(**{"x-team": "trains"}) == company.first
        await company.promote(f"approval:{second}")
        await company.at("again")
        assert await company.aside() is None
        assert await weight_is(director, SECOND, 30)
        assert await bounds(director, SECOND) == (2, 3)
        await company.promote(f"again:{second}")
        await company.until(lambda: serves(director, second))
    assert answers.lost == []
    assert await bounds(director, SECOND) == (3, 6)


async def bounds(director: Director, service: str) -> tuple[int, int]:
    obj = await director.client.get(INFERENCE_SERVICE.key(service, director.namespace))
    predictor = obj["spec"]["predictor"]
    return predictor["minReplicas"], predictor["maxReplicas"]


async def copies_seen(director: Director, version: str, count: int) -> bool:
    return director.stage.servers.seen[version] >= count
