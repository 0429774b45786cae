"""The work queue's rules, tried on random histories, and its driver in an event loop."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry
from support.search import examples

from slipway.runtime.metrics import Metrics
from slipway.runtime.queue import EAGER, Done, Failed, Outcome, Schedule, WorkQueue

KEYS = st.sampled_from(["a", "b", "c", "d"])


class ScheduleMachine(RuleBasedStateMachine):
    """Compares the Schedule with a plain model: what was asked for and not yet done."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule[str] = Schedule(rand=lambda: 0.0)
        self.now = 0.0
        self.running: set[str] = set()
        self.wanted: dict[str, float] = {}  # key → a run that starts at or after this time must come
        self.failures: Counter[str] = Counter()

    @rule(key=KEYS, delay=st.sampled_from([0.0, 0.0, 0.5, 3.0]))
    def add(self, key: str, delay: float) -> None:
        self.schedule.add(key, self.now, delay)
        self.wanted[key] = min(self.wanted.get(key, float("inf")), self.now + delay)

    @rule()
    def take(self) -> None:
        key = self.schedule.take(self.now)
        if key is not None:
            assert key not in self.running, "a key runs twice at the same time"
            assert self.wanted.pop(key) <= self.now, "a key runs before it is due"
            self.running.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), requeue=st.one_of(st.none(), st.sampled_from([0.0, 2.0])))
    def succeed(self, data: st.DataObject, requeue: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.schedule.done(key, self.now, Done(requeue))
        self.running.discard(key)
        self.failures.pop(key, None)
        if requeue is not None:
            self.wanted[key] = min(self.wanted.get(key, float("inf")), self.now + requeue)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), retry_after=st.sampled_from([0.0, 4.0]))
    def fail(self, data: st.DataObject, retry_after: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        due = self.schedule.done(key, self.now, Failed(retry_after))
        self.running.discard(key)
        self.failures[key] += 1
        assert due is not None, "a failed key is forgotten"
        assert due >= self.now + retry_after
        self.wanted[key] = min(self.wanted.get(key, float("inf")), due)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        """Everything wanted runs in the end, in bounded time, and nothing else does."""
        assert self.schedule.running() == len(self.running)
        pending = {key for key in self.wanted if key not in self.running}
        due = self.schedule.next_due()
        assert (due is not None) == bool(pending)
        if due is not None:
            assert due <= max(max(self.wanted[key] for key in pending), self.now + 400)
        for key, count in self.failures.items():
            assert self.schedule.failures(key) == count

    def teardown(self) -> None:
        for key in tuple(self.running):
            self.schedule.done(key, self.now, Done())
        seen = set()
        self.now += 1_000_000
        while (taken := self.schedule.take(self.now)) is not None:
            seen.add(taken)
            self.schedule.done(taken, self.now, Done())
        assert seen == set(self.wanted)
        assert self.schedule.next_due() is None


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(examples(40, 400), stateful_step_count=40)


@given(failures=st.integers(0, 200), jitter=st.floats(0, 0.999), cap=st.floats(1, 1000))
def test_backoff_doubles_up_to_the_cap_and_is_shortened_by_at_most_the_jitter(
    failures: int, jitter: float, cap: float
) -> None:
    delay = Schedule[str](jitter=0.2, rand=lambda: jitter).backoff(failures, cap)
    full = min(cap, 0.25 * 2.0 ** min(failures, 32))
    assert full * 0.8 <= delay <= full


def test_events_for_a_failing_key_cannot_run_it_more_than_once_a_second() -> None:
    schedule: Schedule[str] = Schedule(rand=lambda: 0.0)
    now = 0.0
    schedule.add("a", now)
    for _ in range(6):  # until the backoff is longer than EAGER
        now = schedule.next_due() or now
        assert schedule.take(now) == "a"
        schedule.done("a", now, Failed())
    schedule.add("a", now + 0.01)
    assert schedule.next_due() == now + EAGER


def test_success_resets_the_backoff() -> None:
    schedule: Schedule[str] = Schedule(rand=lambda: 0.0)
    for outcome in (Failed(), Failed(), Failed(), Done()):
        schedule.add("a", 100.0)
        assert schedule.take(1000.0) == "a"
        schedule.done("a", 100.0, outcome)
    assert schedule.failures("a") == 0
    schedule.add("a", 100.0)
    assert schedule.take(100.0) == "a"
    assert schedule.done("a", 100.0, Failed()) == 100.25


def test_a_server_that_asks_for_patience_gets_it_whatever_events_come() -> None:
    schedule: Schedule[str] = Schedule(rand=lambda: 0.0)
    schedule.add("a", 0.0)
    schedule.take(0.0)
    schedule.done("a", 0.0, Failed(retry_after=20.0))
    schedule.add("a", 1.0)
    assert schedule.next_due() == 20.0


def test_the_lag_is_the_wait_of_the_oldest_due_key() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0.0)
    schedule.add("b", 2.0)
    schedule.add("c", 2.0, delay=60.0)
    assert (schedule.lag(5.0), schedule.depth(5.0)) == (5.0, 2)
    schedule.take(5.0)
    assert (schedule.lag(5.0), schedule.depth(5.0)) == (3.0, 1)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


async def test_at_most_so_many_workers_and_a_busy_key_runs_once_more_for_all_its_events(metrics: Metrics) -> None:
    running: Counter[str] = Counter()
    peak, runs = 0, Counter[str]()
    full, release, all_done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(key: str) -> Outcome:
        nonlocal peak
        running[key] += 1
        runs[key] += 1
        assert running[key] == 1
        peak = max(peak, running.total())
        if running.total() == 3:
            full.set()
        await release.wait()
        running[key] -= 1
        if runs.total() == 9:
            all_done.set()
        return Done()

    queue: WorkQueue[str] = WorkQueue(work, metrics, workers=3)
    task = asyncio.create_task(queue.run())
    for key in "abcdefgh":
        queue.add(key)
    await full.wait()
    for _ in range(50):
        queue.add("a")
    release.set()
    await all_done.wait()
    await queue.stop(1.0)
    await task
    assert peak == 3
    assert runs == Counter({**dict.fromkeys("bcdefgh", 1), "a": 2})


async def test_an_exception_that_escapes_is_a_failure_and_is_tried_again(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []
    again = asyncio.Event()

    async def work(key: str) -> Outcome:
        tries.append(queue.failures(key))
        if len(tries) == 1:
            raise ZeroDivisionError
        again.set()
        return Done()

    queue: WorkQueue[str] = WorkQueue(work, metrics, schedule=Schedule(base=0.001))
    task = asyncio.create_task(queue.run())
    queue.add("a")
    await again.wait()
    assert tries == [0, 1]
    assert "unexpected error" in caplog.text
    await queue.stop(0.0)
    await task


async def test_stopping_lets_running_keys_end_and_starts_no_new_ones(metrics: Metrics) -> None:
    ended: list[str] = []
    started, release = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> Outcome:
        started.set()
        await release.wait()
        ended.append(key)
        return Done()

    queue: WorkQueue[str] = WorkQueue(work, metrics, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add("b")
    await started.wait()
    stopping = asyncio.create_task(queue.stop(5.0))
    await asyncio.sleep(0)
    release.set()
    await stopping
    await task
    assert ended == ["a"]


async def test_stopping_cancels_what_does_not_end_in_time(metrics: Metrics) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work(_: str) -> Outcome:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Done()

    queue: WorkQueue[str] = WorkQueue(work, metrics)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    await started.wait()
    await queue.stop(0.01)
    assert cancelled.is_set()
    await task
