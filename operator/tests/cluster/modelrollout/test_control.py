"""People control a rollout by the command line, on a real API server and under a client that counts every answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster.modelrollout.director import NAME, Director, Eventually, only, rollout, serves, weight_is
from cluster.modelrollout.stage import SteadyClient, sending
from typer.main import get_command

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.cli import rollout as cli
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import EVENT, MODEL_ROLLOUT, Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]
PLUGIN = Path(__file__).parents[4] / "manifests/krew"
ROLLBACK = {"keepPrevious": "1s", "window": {"within": "1h"}}


async def test_people_pause_abort_promote_and_undo_and_no_request_is_lost(
    director: Director,
    start_operator: Any,
    statistics: GatewayStatistics,
    eventually: Eventually,
    kubeconfig: Path,
) -> None:
    async def slipway(*arguments: str) -> int:
        """Runs the command beside the operator; its code."""
        options = ["--kubeconfig", str(kubeconfig), "-n", director.namespace]
        command = get_command(cli.app)
        return int(await asyncio.to_thread(command, [*arguments, *options], standalone_mode=False) or 0)

    async def kubectl(*arguments: str) -> int:
        """The same by the kubectl plugin, where there is a kubectl."""
        program = shutil.which("kubectl")
        if program is None:
            return await slipway(*arguments)
        bin_ = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{bin_}:{PLUGIN}:/usr/bin:/bin"}
        options = ["--kubeconfig", str(kubeconfig), "-n", director.namespace]
        command = [program, "slipway", "rollout", *arguments, *options]
        return await (await asyncio.create_subprocess_exec(*command, env=environment)).wait()

    async def at_the_gate() -> bool:
        step = (await director.status()).get("step") or {}
        return step.get("name") == "approval" and await weight_is(director, "delays-0000000002", 30)

    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=STEPS, rollback=ROLLBACK))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(at_the_gate, seconds=90, pause=0.2)

        assert await slipway("pause", NAME) == 0
        assert (await director.status())["paused"]["by"] == "admin"
        assert await slipway("promote", NAME, "approval") == 1, "it is paused"
        assert await slipway("abort", NAME, "--wait") == 0
        status = await director.status()
        (rejection,) = status["rejected"]
        assert (rejection["name"], rejection["reason"], status["stable"]) == (second, "Aborted", first)
        assert "paused" not in status
        assert "delays-0000000002" not in await director.weights()

        assert await slipway("retry", NAME, second) == 0
        await eventually(at_the_gate, seconds=90, pause=0.2)
        assert await kubectl("status", NAME) == 0
        assert await kubectl("promote", NAME, "--wait") == 0
        await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
        await eventually(lambda: only(director, "delays-0000000002"), seconds=90, pause=0.2)

        assert await slipway("undo", NAME, "--wait") == 0
        await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
        await eventually(lambda: only(director, "delays-0000000001"), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0
    status = await director.status()
    assert [(each["name"], each["reason"]) for each in status["rejected"]] == [(second, "Undone")]
    assert (status["history"][0]["name"], status["history"][0]["by"]) == (first, "admin")
    orders = [(each["order"], each["obeyed"]) for each in reversed(status["orders"])]
    assert orders == [
        ("pause", True),
        ("promote", False),
        ("abort", True),
        ("retry", True),
        ("promote", True),
        ("undo", True),
    ]
    reasons = {each["reason"] for each in await director.client.list(EVENT, director.namespace)}
    assert {"Paused", "AnnotationIgnored", "Aborted", "Retried", "StepPromoted", "Undone"} <= reasons
