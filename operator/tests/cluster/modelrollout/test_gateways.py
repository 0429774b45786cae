"""A gateway that is not Envoy Gateway, on a real API server: the test plays its controller, an Envoy its data plane."""

from __future__ import annotations

from typing import Any

import pytest
from cluster.modelrollout.director import Director, Eventually, rollout, serves
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import Interest, Reading
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import MODEL_ROLLOUT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OTHER = "example.com/other-gateway"


class NoStatistics:
    """What our scraper finds where no proxy of Envoy Gateway runs."""

    def read(self, owner: str, interest: Interest) -> Reading:  # noqa: ARG002 - a protocol's
        return Reading()

    def forget(self, owner: str) -> None:
        pass


async def test_weights_work_and_what_is_missing_is_said(
    director: Director, start_operator: Any, eventually: Eventually
) -> None:
    director.stage.controller = OTHER
    steps = [
        {"name": "some", "setWeight": 30},
        {"name": "watch", "pause": {"for": "4s"}},
        {"name": "everyone", "setWeight": 100},
    ]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=steps))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(NoStatistics())])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)

    async def said() -> str:
        conditions = (await director.status()).get("conditions", ())
        return next((str(each["message"]) for each in conditions if each["type"] == "StatisticsAvailable"), "")

    message = await eventually(said, seconds=60, pause=0.2)
    assert f"is run by {OTHER}" in message
    assert "provider is prometheus" in message
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.of(first) > 0
    assert answers.of(second) > 0
