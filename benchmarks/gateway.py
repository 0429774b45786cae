"""Plays the statistics of a gateway's Envoy: the text that its admin port prints, from counters that we move."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

_BOUNDS: Final = (
    *("0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000"),
    *("30000", "60000", "300000", "600000", "1.8e+06", "3.6e+06", "+Inf"),
)
"""Upper bounds in milliseconds of Envoy's default histogram."""
_FAST: Final = _BOUNDS.index("25")


@dataclass
class Traffic:
    """Requests of one Envoy cluster, each answered within 25 ms.

    :param rate: requests a second
    :param begun: monotonic seconds
    :param failing_since: from then on every answer is a 500
    :param burst: requests that failed at that very moment
    """

    rate: float
    begun: float
    failing_since: float | None = None
    burst: int = 0

    def counts(self, now: float) -> tuple[int, int]:
        """Answers so far: with 200, with 500."""
        turn = now if self.failing_since is None else self.failing_since
        good = 1000 + int(self.rate * (turn - self.begun))
        bad = 0 if self.failing_since is None else self.burst + int(self.rate * (now - self.failing_since))
        return good, bad


class Statistics:
    """The admin port of one proxy.

    :param rate: requests a second for each cluster; 0: all have counted something, and nothing moves
    """

    def __init__(self, rate: float = 0.0) -> None:
        self._rate = rate
        self._clusters: dict[str, Traffic] = {}
        self._still: dict[str, str] = {}
        self.port = 0

    def add(self, cluster: str) -> None:
        """The proxy has taken a cluster in."""
        self._clusters.setdefault(cluster, Traffic(self._rate, time.monotonic()))

    def remove(self, cluster: str) -> None:
        self._clusters.pop(cluster, None)
        self._still.pop(cluster, None)

    def fail(self, cluster: str, burst: int) -> float:
        """From now on a cluster answers with 500, and so many answers were that at this moment; returns it.

        Every window that ends at this moment or later has these failures in it.
        """
        traffic = self._clusters[cluster]
        traffic.burst, traffic.failing_since = burst, time.monotonic()
        return traffic.failing_since

    def text(self) -> str:
        """What `/stats/prometheus?usedonly` prints."""
        now = time.monotonic()
        return "".join(self._of(name, traffic, now) for name, traffic in self._clusters.items())

    def _of(self, name: str, traffic: Traffic, now: float) -> str:
        if traffic.rate:
            return _lines(name, *traffic.counts(now))
        if name not in self._still:
            self._still[name] = _lines(name, *traffic.counts(now))
        return self._still[name]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer on a free port of 127.0.0.1."""
        app = web.Application()
        app.router.add_get("/stats/prometheus", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = int(runner.addresses[0][1])
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.text())


def _lines(cluster: str, good: int, bad: int) -> str:
    label = f'envoy_cluster_name="{cluster}"'
    total = good + bad
    lines = [
        f"envoy_cluster_membership_healthy{{{label}}} 1",
        f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",{label}}} {good}',
        *([f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",{label}}} {bad}'] if bad else []),
        *(
            f'envoy_cluster_upstream_rq_time_bucket{{{label},le="{bound}"}} {total if index >= _FAST else 0}'
            for index, bound in enumerate(_BOUNDS)
        ),
        f"envoy_cluster_upstream_rq_time_sum{{{label}}} {total * 20}",
        f"envoy_cluster_upstream_rq_time_count{{{label}}} {total}",
    ]
    return "\n".join(lines) + "\n"
