"""A deduplicating work queue: each key is due at most once and never runs twice at the same time.

`Schedule` is the bookkeeping, without clock or loop, so that its rules can be tested exhaustively. `WorkQueue` drives
it in an event loop: a bounded number of workers, one task per running key.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slipway.runtime.metrics import Metrics

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

BACKOFF_BASE = 0.25
BACKOFF_CAP = 300.0
EAGER = 1.0
"""Seconds between runs of a failing key however many events arrive for it."""


@dataclass(frozen=True, slots=True)
class Done:
    """A run succeeded. `requeue_after`: seconds until the next run, None to wait for an event."""

    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A run failed and is tried again with backoff.

    :param retry_after: at least so many seconds (a server asked for it)
    :param cap: at most so many seconds between tries
    """

    retry_after: float = 0.0
    cap: float = BACKOFF_CAP


Outcome = Done | Failed


@dataclass(slots=True)
class _Entry:
    due: float | None = None  # when to run next; None: nothing to do
    ticket: int = 0  # the heap entry that counts; earlier ones are leftovers
    running: bool = False
    failures: int = 0
    not_before: float = 0.0  # while failing, events cannot pull the next run before this time


@dataclass
class Schedule(Generic[K]):
    """Which key runs when. All times are seconds of one monotonic clock, passed in by the caller.

    :param jitter: factor in [0, 1) by which a backoff may be shortened, drawn from `rand` (0 ≤ rand() < 1)
    """

    base: float = BACKOFF_BASE
    jitter: float = 0.2
    rand: Callable[[], float] = random.random
    _entries: dict[K, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, int, K]] = field(default_factory=list)
    _tickets: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, key: K, now: float, delay: float = 0.0) -> None:
        """Make a key due after `delay`; the earlier of two times counts. A running key runs once more afterwards."""
        entry = self._entries.setdefault(key, _Entry())
        due = max(now + delay, entry.not_before)
        if entry.due is None or due < entry.due:
            self._set_due(key, entry, due)

    def take(self, now: float) -> K | None:
        """The key that has been due longest and does not run; it counts as running until `done`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        key = heapq.heappop(self._heap)[2]
        entry = self._entries[key]
        entry.running, entry.due = True, None
        return key

    def done(self, key: K, now: float, outcome: Outcome) -> float | None:
        """A run ended; returns when the key is due next, None when nothing is planned."""
        entry = self._entries[key]
        entry.running = False
        woken, entry.due = entry.due, None  # set by events during the run
        if isinstance(outcome, Done):
            entry.failures, entry.not_before = 0, 0.0
            planned = None if outcome.requeue_after is None else now + max(0.0, outcome.requeue_after)
        else:
            delay = max(self.backoff(entry.failures, outcome.cap), outcome.retry_after)
            entry.failures += 1
            entry.not_before = now + max(min(delay, EAGER), outcome.retry_after)
            planned = now + delay
        wanted = [due for due in (woken, planned) if due is not None]
        if not wanted:
            del self._entries[key]
            return None
        self._set_due(key, entry, max(min(wanted), entry.not_before))
        return entry.due

    def forget(self, key: K) -> None:
        """Drop what is planned for a key and its failures; a running key is left to end."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.running:
            entry.due, entry.failures, entry.not_before = None, 0, 0.0
        else:
            del self._entries[key]

    def backoff(self, failures: int, cap: float) -> float:
        """Seconds before the next try after so many earlier failures."""
        return float(min(cap, self.base * 2.0 ** min(failures, 32))) * (1 - self.jitter * self.rand())

    def next_due(self) -> float | None:
        """When the next key that does not run is due; None when there is none."""
        while self._heap:
            due, ticket, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.ticket == ticket and entry.due is not None and not entry.running:
                return due
            heapq.heappop(self._heap)
        return None

    def failures(self, key: K) -> int:
        entry = self._entries.get(key)
        return entry.failures if entry else 0

    def depth(self, now: float) -> int:
        """How many keys are due and do not run."""
        return sum(1 for e in self._entries.values() if e.due is not None and e.due <= now and not e.running)

    def running(self) -> int:
        return sum(1 for e in self._entries.values() if e.running)

    def lag(self, now: float) -> float:
        """Seconds that the oldest due key has waited for a worker."""
        due = [e.due for e in self._entries.values() if e.due is not None and not e.running]
        return max(0.0, now - min(due)) if due else 0.0

    def _set_due(self, key: K, entry: _Entry, due: float) -> None:
        entry.due = due
        if not entry.running:  # a running key enters the heap again when it is done
            entry.ticket = next(self._tickets)
            heapq.heappush(self._heap, (due, entry.ticket, key))


class WorkQueue(Generic[K]):
    """Runs `work(key)` for due keys with at most `workers` at a time.

    `work` returns an Outcome and is expected to handle its own errors; an exception that escapes counts as Failed.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[Outcome]],
        metrics: Metrics,
        workers: int = 8,
        schedule: Schedule[K] | None = None,
    ) -> None:
        self._work = work
        self._workers = workers
        self._schedule = schedule or Schedule()
        self._tasks: dict[asyncio.Task[None], tuple[K, float]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        metrics.queue_depth.set_function(self.depth)  # computed when scraped
        metrics.queue_running.set_function(self.running)
        metrics.queue_lag.set_function(self.lag)

    def add(self, key: K, delay: float = 0.0) -> None:
        """Make a key due; cheap, and safe to call for every event."""
        self._schedule.add(key, self._now(), delay)
        self._changed.set()

    def forget(self, key: K) -> None:
        self._schedule.forget(key)

    def failures(self, key: K) -> int:
        """How often a key has failed in a row."""
        return self._schedule.failures(key)

    async def run(self) -> None:
        """Serve until `stop`; cancel only after it."""
        while not self._stopping:
            self._changed.clear()
            self._start_due()
            await self._wait_for_change()

    async def stop(self, grace: float) -> None:
        """Start nothing any more, give running keys `grace` seconds, then cancel them."""
        self._stopping = True
        self._changed.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)

    def depth(self) -> int:
        return self._schedule.depth(self._now())

    def running(self) -> int:
        return len(self._tasks)

    def lag(self) -> float:
        """Seconds that the oldest due key has waited for a worker."""
        return self._schedule.lag(self._now())

    def longest_run(self) -> tuple[K, float] | None:
        """The key that has been running longest, and for how many seconds."""
        if not self._tasks:
            return None
        key, begin = min(self._tasks.values(), key=lambda item: item[1])
        return key, self._now() - begin

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _start_due(self) -> None:
        while len(self._tasks) < self._workers and not self._stopping:
            key = self._schedule.take(self._now())
            if key is None:
                return
            task = asyncio.create_task(self._run_one(key), name=f"reconcile {key}")
            self._tasks[task] = (key, self._now())
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._changed.set()

    async def _run_one(self, key: K) -> None:
        outcome: Outcome = Failed()
        try:
            outcome = await self._work(key)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("A reconcile of %s ended in an unexpected error.", key)
        finally:
            self._schedule.done(key, self._now(), outcome)

    async def _wait_for_change(self) -> None:
        handle: asyncio.TimerHandle | None = None
        due = self._schedule.next_due() if len(self._tasks) < self._workers else None
        if due is not None:
            handle = asyncio.get_running_loop().call_at(due, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if handle is not None:
                handle.cancel()
