"""Failures that clients do not see, on a real Envoy with the retry policy that the gateway is patched with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from unit.modelrollout.test_envoy_stats import CANDIDATE, STABLE, Proxy, Watcher, cluster, free_port, until

from slipway.adapters import retry
from slipway.adapters.envoy_stats import GatewayStatistics, Reading, WindowStats

PATIENT, SHORT = 60, 3
"""Seconds that a try may take; the short time is for servers that hang. A machine may have much else to do."""


@pytest.fixture
async def statistics() -> AsyncIterator[GatewayStatistics]:
    one = GatewayStatistics(interval=0.2)
    yield one
    await one.close()


@asynccontextmanager
async def serving(behaviour: str) -> AsyncIterator[int]:
    """A version's server, which is `well`, answers with a code, resets connections, hangs, or is not there."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if behaviour == "resets" and request.transport is not None:
            request.transport.abort()
        if behaviour == "hangs":
            await asyncio.sleep(PATIENT)
        return web.json_response({"is": behaviour}, status=int(behaviour) if behaviour.isdigit() else 200)

    port = free_port()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    if behaviour != "gone":
        await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


@asynccontextmanager
async def split(folder: Path, stable: str, candidate: str) -> AsyncIterator[Proxy]:
    """Half of the requests to each version, repeated as the gateway is patched to do, but for the time of a try."""
    seconds = SHORT if candidate == "hangs" else PATIENT
    weighted = {"clusters": [{"name": STABLE, "weight": 50}, {"name": CANDIDATE, "weight": 50}]}
    policy = {**retry.POLICY, "per_try_timeout": f"{seconds}s"}
    route: dict[str, Any] = {
        "match": {"prefix": "/"},
        "route": {"weighted_clusters": weighted, "retry_policy": policy, "timeout": f"{3 * seconds}s"},
        "request_body_buffer_limit": retry.BODY_LIMIT,
    }
    async with serving(stable) as one, serving(candidate) as other:
        # Envoy Gateway allows this many retries at once; Envoy alone three.
        many = {"circuit_breakers": {"thresholds": [{"max_retries": 1024}]}, "connect_timeout": f"{seconds}s"}
        proxy = Proxy(folder, [route], [cluster(STABLE, one) | many, cluster(CANDIDATE, other) | many])
        try:
            await proxy.start()
            yield proxy
        finally:
            await proxy.stop()


async def post(proxy: Proxy, count: int, body: bytes = b"{}") -> list[int]:
    """Status codes of so many requests at once."""
    async with aiohttp.ClientSession() as session:

        async def one() -> int:
            async with session.post(f"http://127.0.0.1:{proxy.listener}/", data=BytesIO(body)) as answer:
                return answer.status

        return list(await asyncio.gather(*(one() for _ in range(count))))


def hidden(watcher: Watcher) -> tuple[WindowStats, WindowStats]:
    """Of the stable version and of the candidate, with each other's hidden failures."""
    windows = watcher.read().with_hidden(STABLE, CANDIDATE).windows
    return windows[STABLE, 60.0], windows[CANDIDATE, 60.0]


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["500", "502", "503", "504", "resets", "hangs", "gone"])
async def test_clients_see_nothing_and_checks_see_every_failure(
    tmp_path: Path, statistics: GatewayStatistics, behaviour: str
) -> None:
    async with split(tmp_path, "well", behaviour) as proxy:
        watcher = Watcher(statistics, proxy)
        await watcher.baseline()
        assert await post(proxy, 40) == [200] * 40

        async def counted() -> bool:
            return watcher.read().windows[STABLE, 60.0].requests == 40

        await until(counted)
        stable, candidate = hidden(watcher)
    assert (stable.requests, stable.failed) == (40, 0)
    assert 5 < candidate.requests < 35, "about a half: every request that went there first"
    assert candidate.failed == candidate.requests


async def test_answers_that_are_no_failures_are_not_repeated(tmp_path: Path, statistics: GatewayStatistics) -> None:
    async with split(tmp_path, "well", "404") as proxy:
        watcher = Watcher(statistics, proxy)
        await watcher.baseline()
        codes = await post(proxy, 40)

        async def counted() -> bool:
            return sum(each.requests for each in hidden(watcher)) == 40

        await until(counted)
        assert [each.failed for each in hidden(watcher)] == [0, 0]
    assert 0 < codes.count(404) < 40


async def test_a_failure_of_the_stable_version_counts_for_the_stable_version(
    tmp_path: Path, statistics: GatewayStatistics
) -> None:
    async with split(tmp_path, "500", "well") as proxy:
        watcher = Watcher(statistics, proxy)
        await watcher.baseline()
        assert await post(proxy, 40) == [200] * 40

        async def counted() -> bool:
            return watcher.read().windows[CANDIDATE, 60.0].requests == 40

        await until(counted)
        stable, candidate = hidden(watcher)
    assert candidate.failed == 0
    assert 0 < stable.failed == stable.requests < 40


@pytest.mark.parametrize(("size", "repeated"), [(200_000, True), (retry.BODY_LIMIT + 200_000, False)])
async def test_a_request_is_repeated_up_to_a_mebibyte(tmp_path: Path, size: int, repeated: bool) -> None:
    async with split(tmp_path, "well", "500") as proxy:
        codes = await post(proxy, 20, b"x" * size)
    assert set(codes) == ({200} if repeated else {200, 500})


def test_nothing_is_added_where_one_of_the_two_is_not_watched() -> None:
    reading = Reading(windows={(STABLE, 60.0): WindowStats(10, 1, repeated=4)})
    assert reading.with_hidden(STABLE, CANDIDATE) == reading
