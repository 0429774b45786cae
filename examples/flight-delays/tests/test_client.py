"""The client counts every answer, against servers on loopback that answer, fail, vanish and stay silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from flights.client import Load, Newcomer, Tally, choose, classify, quantile, run

FLIGHT = {"carrier": "UA"}
STRANGER = {"carrier": "OO"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def counted(handler: Handler, *, requests: int = 20, **changes: Any) -> Tally:
    """What the client counts when `handler` answers."""
    app = web.Application()
    app.router.add_post("/delays/v1/models/m:predict", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    tally = Tally()
    fields: dict[str, Any] = {"rate": 200, "seconds": requests / 200, "instances": [FLIGHT], "timeout": 5} | changes
    try:
        await run(Load(f"http://127.0.0.1:{port}/delays", "m", **fields), tally, asyncio.Event())
    finally:
        await runner.cleanup()
    return tally


def answer(status: int, version: str | None = "v1") -> web.Response:
    """An answer of a model server, or without version of somebody else."""
    headers = {"x-request-id": f"id-{status}"} | ({"x-slipway-version": version} if version else {})
    return web.json_response({}, status=status, headers=headers)


async def test_every_answer_is_counted_once() -> None:
    async def ok(_: web.Request) -> web.Response:
        return answer(200)

    tally = await counted(ok)
    summary = tally.summary()
    assert (summary["sent"], summary["ok"], summary["lost"]) == (20, 20, 0)
    assert summary["versions"] == {"v1": {"ok": 20}}
    assert summary["statuses"] == {"200": 20}
    assert summary["latencyMilliseconds"]["p50"] <= summary["latencyMilliseconds"]["p99"]


async def test_own_errors_of_a_version_are_not_lost() -> None:
    async def failing(request: web.Request) -> web.Response:
        body = await request.json()
        return answer(500, "v3") if body["instances"] == [STRANGER] else answer(200, "v2")

    newcomer = Newcomer([STRANGER], after=0.05, every=2)
    tally = await counted(failing, newcomer=newcomer)
    # Requests 10, 12, … 18 are due after 0.05 s.
    assert tally.kinds == {"ok": 15, "version": 5}
    assert tally.by_version == {"v2": {"ok": 15}, "v3": {"version": 5}}
    assert tally.failed_ids == ["id-500"] * 5


async def test_error_that_the_gateway_made_is_lost() -> None:
    async def gateway(_: web.Request) -> web.Response:
        return answer(503, version=None)

    tally = await counted(gateway)
    assert tally.kinds == {"lost": 20}
    assert tally.losses == {"503 without x-slipway-version": 20}


async def test_reset_is_lost() -> None:
    async def reset(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    tally = await counted(reset)
    assert tally.kinds == {"lost": 20}


async def test_silence_is_lost() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return answer(200)

    tally = await counted(silent, timeout=0.2)
    assert tally.losses == {"TimeoutError": 20}


async def test_nobody_there_is_lost() -> None:
    tally = Tally()
    load = Load("http://127.0.0.1:9", "m", rate=100, seconds=0.05, instances=[FLIGHT])
    await run(load, tally, asyncio.Event())
    assert tally.kinds == {"lost": 5}


async def test_slow_answers_do_not_thin_the_load() -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return answer(200)

    tally = await counted(slow)
    assert tally.kinds == {"ok": 20}


async def test_stop_ends_an_endless_run() -> None:
    tally, stop = Tally(), asyncio.Event()
    load = Load("http://127.0.0.1:9", "m", rate=100, seconds=None, instances=[FLIGHT])
    asyncio.get_running_loop().call_later(0.1, stop.set)
    await asyncio.wait_for(run(load, tally, stop), 10)
    assert tally.sent >= 1
    assert tally.kinds["lost"] == tally.sent


@pytest.mark.parametrize(
    ("status", "version", "kind"),
    [
        (200, "v", "ok"),
        (400, "v", "ok"),
        (500, "v", "version"),
        (503, "v", "version"),
        (503, None, "lost"),
        (200, None, "lost"),
    ],
)
def test_classification(status: int, version: str | None, kind: str) -> None:
    assert classify(status, version) == kind


def test_instances_go_round() -> None:
    load = Load("", "m", 1, None, [{"n": 0}, {"n": 1}])
    assert [choose(load, number, 0)["n"] for number in range(4)] == [0, 1, 0, 1]


def test_quantiles_are_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, q) for q in (50, 90, 99)] == [50.0, 90.0, 99.0]
    assert quantile([3.0], 99) == 3.0
