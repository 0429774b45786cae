"""Who asked the model servers: their counters by consumer, added up over servers that come and go.

The gateway's statistics know no callers, so servers count by the header that the gateway sets. What the gateway
answered itself (401, 403, 429, no server) is therefore in no number here. Counters are read every half minute in the
background; a server that ends takes what it counted since the last reading with it. Totals live in the rollout's
status: they are handed in when a rollout is first asked for, and go on from there. What was counted while no operator
was there to read is only missing where the server has gone meanwhile or the operator had not seen it before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import aiohttp

logger = logging.getLogger(__name__)

METRIC: Final = "slipway_consumer_requests_total{"
INTERVAL: Final = 30.0
LEASE: Final = 120.0
"""Seconds for which servers are read after a rollout last asked."""
TIMEOUT: Final = 5.0
_LIMIT: Final = 4 * 2**20
_PARALLEL: Final = 8


@dataclass(frozen=True, slots=True)
class Usage:
    """What one caller did.

    :param requests: answers that it got from servers
    :param errors: of these, with 400 and above
    """

    requests: int = 0
    errors: int = 0
    last_seen: datetime | None = None


Raw = Mapping[str, tuple[int, int]]
"""By caller: answers and errors as one server counts them."""


@dataclass(slots=True)
class _Watched:
    servers: tuple[str, ...]
    until: float
    totals: dict[str, Usage]
    before: dict[str, Raw] = field(default_factory=dict)
    rounds: int = 0
    task: asyncio.Task[None] | None = None


class ConsumerUsage:
    """Reads the servers of rollouts that ask; never makes anybody wait.

    :param clock: monotonic seconds
    :param now: the wall clock
    """

    def __init__(
        self,
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._now = now
        self._watched: dict[str, _Watched] = {}

    def read(self, owner: str, servers: tuple[str, ...], known: Mapping[str, Usage]) -> Mapping[str, Usage]:
        """Totals by caller as of the last reading.

        :param servers: base URLs
        :param known: totals to go on from, when nothing is known of this owner here
        """
        watched = self._watched.setdefault(owner, _Watched(servers, 0.0, dict(known)))
        watched.servers, watched.until = servers, self._clock() + LEASE
        if watched.task is None or watched.task.done():
            watched.task = asyncio.get_running_loop().create_task(self._follow(owner), name=f"usage of {owner}")
        return dict(watched.totals)

    def forget(self, owner: str) -> None:
        """The rollout has no consumers any more."""
        watched = self._watched.pop(owner, None)
        if watched is not None and watched.task is not None:
            watched.task.cancel()

    async def _follow(self, owner: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            while (watched := self._watched.get(owner)) is not None:
                if self._clock() > watched.until:
                    self._watched.pop(owner, None)
                    return
                await self._round(session, watched)
                await asyncio.sleep(self._interval)

    async def _round(self, session: aiohttp.ClientSession, watched: _Watched) -> None:
        gate = asyncio.Semaphore(_PARALLEL)

        async def one(server: str) -> tuple[str, Raw | None]:
            async with gate:
                return server, await _scrape(session, server)

        answers = await asyncio.gather(*(one(server) for server in watched.servers))
        for server, raw in answers:
            if raw is not None:
                self._add(watched, server, raw)
        for gone in set(watched.before) - set(watched.servers):
            del watched.before[gone]
        watched.rounds += 1

    def _add(self, watched: _Watched, server: str, raw: Raw) -> None:
        # A server that was there before us has counted before our time; one that came later has counted for us.
        fallback: Raw = raw if watched.rounds == 0 else {}
        before = watched.before.get(server, fallback)
        for caller, (requests, errors) in raw.items():
            old = before.get(caller, (0, 0))
            if requests < old[0]:  # another process at the same address
                old = (0, 0)
            if requests > old[0]:
                total = watched.totals.get(caller, Usage())
                watched.totals[caller] = replace(
                    total,
                    requests=total.requests + requests - old[0],
                    errors=total.errors + max(0, errors - old[1]),
                    last_seen=self._now(),
                )
        watched.before[server] = raw


async def _scrape(session: aiohttp.ClientSession, base: str) -> Raw | None:
    try:
        async with session.get(f"{base}/metrics") as answer:
            answer.raise_for_status()
            body = b""
            async for part in answer.content.iter_chunked(2**16):
                body += part
                if len(body) > _LIMIT:
                    raise ValueError(f"more than {_LIMIT} bytes of metrics")
        return parse(body.decode())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        logger.debug("%s does not tell who asked: %s", base, error or type(error).__name__)
        return None


def parse(text: str) -> dict[str, tuple[int, int]]:
    """Answers and errors by caller from a server's Prometheus text. :raises ValueError: it cannot be read"""
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        if line.startswith(METRIC):
            labels, _, value = line[len(METRIC) :].rpartition("} ")
            pairs = dict(each.split("=", 1) for each in labels.rstrip(",").split(","))
            caller, code = pairs["consumer"].strip('"'), pairs["code"].strip('"')
            count = int(float(value))
            requests, errors = found.get(caller, (0, 0))
            found[caller] = (requests + count, errors + (count if code >= "4" else 0))
    return found
