"""Pairs of transformer and model server at the real Envoy Gateway: where predictions and explanations go."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from cluster.modelrollout.realgateway import Backends, running

from slipway.adapters import gateway as gw
from slipway.api.modelrollout import Routing
from slipway.api.platform import GatewayParentRef

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PARENT = GatewayParentRef(namespace="slipway-system", name="models")
ROUTED = gw.Routed(
    "flights", "delays", "flight-delays", PARENT, Routing(path="/delays"), transformed=True, explained=True
)
PREDICT, EXPLAIN = "/delays/v1/models/delays:predict", "/delays/v1/models/delays:explain"


async def test_predictions_and_explanations_of_a_version_go_to_its_own_parts(tmp_path: Path) -> None:
    backends = Backends()
    for service in ("delays-1", "delays-2"):
        for part in ("transformer", "explainer"):
            await backends.start(f"{service}-{part}")
    aside = gw.Aside("delays-2", headers=(("x-preview", "Exact", "yes"),))
    route = gw.weighted_route(ROUTED, [("delays-1", 70), ("delays-2", 30)], aside=aside)
    pin = gw.pin_route(ROUTED, "delays-2", "sesame")
    try:
        async with running(tmp_path, "flights", [route, pin], backends) as gateway, aiohttp.ClientSession() as session:

            async def met(path: str, headers: dict[str, str], times: int = 1) -> Counter[str]:
                found = Counter[str]()
                for _ in range(times):
                    status, body = await gateway.ask(session, path, headers)
                    assert status == 200
                    found[body["service"]] += 1
                return found

            predicted, explained = await met(PREDICT, {}, 200), await met(EXPLAIN, {}, 200)
            assert set(predicted) == {"delays-1-transformer", "delays-2-transformer"}
            assert set(explained) == {"delays-1-explainer", "delays-2-explainer"}
            for found, part in ((predicted, "transformer"), (explained, "explainer")):
                assert 30 <= found[f"delays-2-{part}"] <= 90
            for headers in ({"x-preview": "yes"}, {"x-slipway-pin": "sesame"}):
                assert set(await met(PREDICT, headers, 5)) == {"delays-2-transformer"}
                assert set(await met(EXPLAIN, headers, 5)) == {"delays-2-explainer"}
            _, body = await gateway.ask(session, EXPLAIN, {})
            assert body["path"] == "/v1/models/delays:explain"
    finally:
        await backends.close()
