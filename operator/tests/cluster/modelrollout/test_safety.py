"""Rivals, outages and deletions on a real API server, with real requests; unit tests have them in every order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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
    version,
    weight_is,
)
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import (
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    PLATFORM,
    Object,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FASTER = 30
V2, S2 = f"{PROJECT}-0000000002", f"{NAME}-0000000002"
SOME: Object = {"name": "some", "setWeight": 30}
WAIT: Object = {"name": "wait", "pause": {"until": "Promoted"}}
EVERYONE: Object = {"name": "everyone", "setWeight": 100}


def faster() -> float:
    """A clock on which minutes pass in seconds; of the time between two looks, half a minute counts at most."""
    return time.monotonic() * FASTER


def condition(status: Object, kind: str) -> tuple[str, str, str]:
    found = [each for each in status.get("conditions", ()) if each["type"] == kind]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")


# ---- rivals ----------------------------------------------------------------------------------------------------------
async def test_of_two_rollouts_for_one_path_the_younger_waits_for_the_older_to_go(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    client, namespace = director.client, director.namespace
    younger = Director(client, namespace, director.stage)
    younger.key = MODEL_ROLLOUT.key("younger", namespace)
    spec = rollout(namespace, steps=[SOME, WAIT, EVERYONE], checks=[])
    await client.create(MODEL_ROLLOUT, spec)
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    steady = SteadyClient(director.url(), rate=30)
    with sending(steady) as answers:
        second = await director.add_version(2)
        await eventually(lambda: weight_is(director, S2, 30), seconds=90, pause=0.2)

        # The younger one comes while the older one is on its way.
        await client.create(MODEL_ROLLOUT, {**spec, "metadata": {**spec["metadata"], "name": "younger"}})
        await eventually(lambda: stalled(younger, "PathTaken"), seconds=30, pause=0.2)
        message = condition(await younger.status(), "Stalled")[2]
        assert f"belongs to ModelRollout {namespace}/{NAME}, which had it first" in message
        assert condition(await director.status(), "Stalled") == ("", "", "")
        assert await director.weights() == {f"{NAME}-0000000001": 70, S2: 30}

        # The older one goes on to its end, and begins anew with the next version; the younger one has nothing.
        await client.merge(director.key, {"metadata": {"annotations": {"slipway.dev/promote": "wait"}}})
        await eventually(lambda: serves(director, second), seconds=60, pause=0.2)
        third = await director.add_version(3)
        await eventually(lambda: weight_is(director, f"{NAME}-0000000003", 30), seconds=90, pause=0.2)
        assert await stalled(younger, "PathTaken")
        names = [*await director.names(HTTP_ROUTE), *await director.names(INFERENCE_SERVICE)]
        assert not any(each.startswith("younger") for each in names), "servers that nobody can reach"
        assert answers.lost == []

        await client.delete(director.key)
        await eventually(lambda: serves(younger, third), seconds=90, pause=0.2)
        count = answers.of(third)
        await eventually(lambda: answers.of(third) > count + 20, seconds=30, pause=0.2)
        await eventually(lambda: only(director, "younger-0000000003"), seconds=60, pause=0.2)
    assert condition(await younger.status(), "Stalled") == ("", "", "")
    await eventually(lambda: is_gone(director), seconds=30, pause=0.2)
    assert {each.partition(" ")[0] for each in answers.lost} <= {"404"}, "between the two there is no such path"


async def is_gone(director: Director) -> bool:
    return await director.client.find(director.key) is None


# ---- outages ---------------------------------------------------------------------------------------------------------
async def test_minutes_without_a_word_of_kserve_are_told_and_count_against_no_version(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    steps = [SOME, EVERYONE]
    spec = rollout(director.namespace, steps=steps, checks=[], progressDeadline="60s")
    await director.client.create(MODEL_ROLLOUT, spec)
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, monotonic=faster)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    director.stage.kserve_answers = False
    await director.add_version(2)
    await eventually(lambda: stalled(director, "KServeSilent"), seconds=90, pause=0.2)
    assert "look whether KServe's controller runs" in condition(await director.status(), "Stalled")[2]
    await asyncio.sleep(12)  # two looks at least, each of half a minute: twice the deadline is over
    status = await director.status()
    assert (status["candidate"], status.get("rejected"), status["stable"]) == (V2, None, first)
    assert condition(status, "Ready")[0] == "True", "the version before serves"
    director.stage.kserve_answers = True
    await eventually(lambda: serves(director, V2), seconds=90, pause=0.2)
    assert [each["outcome"] for each in (await director.status())["history"]] == ["Promoted", "Promoted"]


@asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """A port that takes connections and never answers."""
    done = asyncio.Event()

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        done.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("failing", [False, True], ids=["good", "bad"])
async def test_minutes_without_the_gateways_statistics_decide_nothing(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually, failing: bool
) -> None:
    steps = [SOME, {"name": "watch", "analyze": {"for": "2m"}}, EVERYONE]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=steps, progressDeadline="60s"))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, monotonic=faster)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)

    async def ask_at(port: int) -> None:
        await director.client.merge(PLATFORM.key("default"), {"spec": {"gateway": {"statisticsPort": port}}})

    async def unknown() -> bool:
        return condition(await director.status(), "StatisticsAvailable")[:2] == ("False", "NoStatistics")

    with sending(SteadyClient(director.url(), rate=50)) as answers:
        async with mute() as nobody:
            await director.add_version(2)
            await eventually(lambda: weight_is(director, S2, 0), seconds=90, pause=0.1)
            await ask_at(nobody)
            if failing:
                director.stage.servers.failing.add(V2)
            await eventually(lambda: weight_is(director, S2, 30), seconds=90, pause=0.2)
            await eventually(unknown, seconds=60, pause=0.2)
            before = answers.of(V2)
            await asyncio.sleep(12)  # six minutes, three times what the analysis takes
            status = await director.status()
            assert (status["candidate"], status["step"]["name"], status.get("rejected")) == (V2, "watch", None)
            assert await director.weights() == {f"{NAME}-0000000001": 70, S2: 30}
            assert answers.of(V2) > before + 20, "requests there were enough"
            await ask_at(director.stage.proxy.admin)
            end = (lambda: rejected(director, V2)) if failing else (lambda: serves(director, V2))
            await eventually(end, seconds=90, pause=0.2)
    assert condition(await director.status(), "StatisticsAvailable") == ("", "", "")
    assert answers.lost == []
    assert answers.failed(first) == 0


# ---- deletion --------------------------------------------------------------------------------------------------------
LONG: Object = {"name": "watch", "analyze": {"for": "10m"}}
STEPS_TO: dict[str, list[Object]] = {
    "Paused": [SOME, WAIT, EVERYONE],
    "Analyzing": [SOME, LONG, EVERYONE],
    "RollingBack": [SOME, LONG, EVERYONE],
    "Healthy": [EVERYONE],
}


async def arrive(director: Director, phase: str, eventually: Eventually) -> None:
    """Bring the rollout into a phase. A rollout has no deletionPolicy, its versions have: one of each kind."""

    async def add(number: int, policy: str) -> None:
        manifest = version(director.namespace, number)
        await director.client.create(
            MODEL_VERSION, {**manifest, "spec": {**manifest["spec"], "deletionPolicy": policy}}
        )

    async def is_there() -> bool:
        return (await director.status()).get("phase") == phase

    if phase == "Starting":
        director.stage.servers.broken.add(f"{NAME}-0000000001")
    if phase != "Waiting":
        await add(1, "Retain")
    if phase in STEPS_TO:
        await eventually(lambda: serves(director, f"{PROJECT}-0000000001"), seconds=90, pause=0.2)
        if phase == "RollingBack":
            director.stage.servers.failing.add(V2)
        await add(2, "Delete")
        if phase == "Healthy":
            await eventually(lambda: serves(director, V2), seconds=90, pause=0.2)
        elif phase != "RollingBack":
            await eventually(lambda: weight_is(director, S2, 30), seconds=90, pause=0.2)
    await eventually(is_there, seconds=90, pause=0.05)


@pytest.mark.parametrize("phase", ["Waiting", "Starting", *STEPS_TO])
async def test_deletion_in_a_phase_leaves_records_and_nothing_else(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually, phase: str
) -> None:
    client = director.client
    spec = rollout(director.namespace, steps=STEPS_TO.get(phase, [EVERYONE]), rollback={"keepPrevious": "1h"})
    await client.create(MODEL_ROLLOUT, spec)
    await start_operator([ModelRolloutController(statistics)])
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        await arrive(director, phase, eventually)
        answers.lost.clear()
        before = await client.list(MODEL_VERSION, director.namespace)
        await client.delete(director.key)

        async def gone() -> bool:
            left = [*await director.names(HTTP_ROUTE), *await director.names(INFERENCE_SERVICE)]
            return not left and await is_gone(director)

        await eventually(gone, seconds=90, pause=0.2)
    assert {each.partition(" ")[0] for each in answers.lost} <= {"404"}, "no error, there is no such path any more"
    after = await client.list(MODEL_VERSION, director.namespace)
    assert [(each["metadata"]["name"], each["spec"]) for each in after] == [
        (each["metadata"]["name"], each["spec"]) for each in before
    ]
    assert not any(each["metadata"].get("deletionTimestamp") for each in after)
    assert [each["spec"]["deletionPolicy"] for each in after] == ["Retain", "Delete"][: len(before)]
