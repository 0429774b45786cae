"""Requests and answers of Jobs, carried to and from the artifact store in the background.

A rollout that watches a candidate must not wait for the store: whoever asks here is told what is known now, and what is
missing is begun. A store that is away costs nothing but the news.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.jobs import Work
from slipway.contracts.jobs import Contract

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Contract)

MAX_UNDER_WAY = 4
"""Operations at once, for all rollouts."""
RETRY_SECONDS = 10.0
"""Pause after one that failed, or found nothing."""
_REMEMBERED = 1000

Errand = tuple[str, str]


class Mailbox:
    """For one event loop. What is known is forgotten when much newer things are asked for, and asked for again then."""

    def __init__(self, artifacts: Artifacts, clock: Callable[[], float] = time.monotonic) -> None:
        self._artifacts = artifacts
        self._clock = clock
        self._known: OrderedDict[Errand, Contract | None] = OrderedDict()
        self._next_try: dict[Errand, float] = {}
        self._under_way: dict[Errand, asyncio.Task[None]] = {}

    def delivered(self, location: Location, work: Work) -> bool:
        """Whether the request of a Job is in the store; it is put there if not."""
        errand = ("put", work.request_key)
        if errand in self._known:
            return True
        self._begin(errand, lambda: self._deliver(errand, location, work))
        return False

    def answer(self, location: Location, work: Work, model: type[A]) -> A | None:
        """The answer of a Job that ended; None while it is not known, or there is none."""
        errand = ("get", work.result_key)
        found = self._known.get(errand)
        if isinstance(found, model):
            return found
        self._begin(errand, lambda: self._fetch(errand, location, work, model))
        return None

    def _begin(self, errand: Errand, start: Callable[[], Awaitable[None]]) -> None:
        waits = self._clock() < self._next_try.get(errand, 0.0)
        if waits or errand in self._under_way or len(self._under_way) >= MAX_UNDER_WAY:
            return
        self._under_way[errand] = asyncio.create_task(self._run(errand, start))

    async def _run(self, errand: Errand, start: Callable[[], Awaitable[None]]) -> None:
        self._next_try[errand] = self._clock() + RETRY_SECONDS
        try:
            await start()
        except Exception as error:
            logger.warning("The artifact store did not do its part for %s: %s", errand[1], error)
        finally:
            self._next_try[errand] = self._clock() + RETRY_SECONDS
            del self._under_way[errand]
            while len(self._next_try) > _REMEMBERED:
                del self._next_try[next(iter(self._next_try))]

    async def _deliver(self, errand: Errand, location: Location, work: Work) -> None:
        await self._artifacts.put(location, work.request_key, work.request)
        self._remember(errand, None)

    async def _fetch(self, errand: Errand, location: Location, work: Work, model: type[A]) -> None:
        found = await self._artifacts.get_json(location, work.result_key, model)
        if found is not None:
            self._remember(errand, found)

    def _remember(self, errand: Errand, value: Contract | None) -> None:
        self._known[errand] = value
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
