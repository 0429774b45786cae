"""The mailbox never waits: what is known is told, what is missing is begun, few at once, and tried again later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slipway.adapters.artifacts import Location
from slipway.adapters.jobs import Owner, Work, prepare
from slipway.adapters.mailbox import MAX_UNDER_WAY, RETRY_SECONDS, Mailbox
from slipway.contracts.predictions import SweepRequest, SweepResult
from slipway.runtime.errors import Unavailable

WHERE = Location("http://s3", "slipway", "us-east-1", "system", "s3")


class Artifacts:
    """A store that answers when it is let."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.open = asyncio.Event()
        self.broken = False
        self.calls = 0

    async def _wait(self) -> None:
        self.calls += 1
        await self.open.wait()
        if self.broken:
            raise Unavailable("the store does not answer")

    async def put(self, _: Location, key: str, data: bytes) -> None:
        await self._wait()
        self.objects[key] = data

    async def get_json(self, _: Location, key: str, __: type[SweepResult]) -> Any:
        await self._wait()
        return self.objects.get(key)


class Desk:
    """A mailbox, its store and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = Artifacts()
        self.box = Mailbox(self.store, clock=lambda: self.now)  # type: ignore[arg-type]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


def work(number: int = 1) -> Work:
    owner = Owner("ModelRollout", "flights", "delays", "uid", "flight-delays")
    request = SweepRequest(store=WHERE.store, prefix="", folder=f"predictions/flights/{number}/", before="2026-11-23")
    return prepare(owner, "sweep-predictions", request)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_a_request_is_delivered_in_the_background_and_once(desk: Desk) -> None:
    assert [desk.box.delivered(WHERE, work()) for _ in range(3)] == [False] * 3
    await desk.settle()
    assert desk.store.calls == 1
    desk.store.open.set()
    await desk.settle()
    assert desk.box.delivered(WHERE, work())
    assert desk.store.objects == {work().request_key: work().request}
    assert desk.store.calls == 1


async def test_an_answer_that_is_not_there_yet_is_looked_for_again(desk: Desk) -> None:
    desk.store.open.set()
    assert desk.box.answer(WHERE, work(), SweepResult) is None
    await desk.settle()
    desk.store.objects[work().result_key] = SweepResult(objects=7)
    assert desk.box.answer(WHERE, work(), SweepResult) is None
    await desk.settle()
    assert desk.store.calls == 1, "not before its pause is over"
    desk.now += RETRY_SECONDS
    assert desk.box.answer(WHERE, work(), SweepResult) is None
    await desk.settle()
    assert desk.box.answer(WHERE, work(), SweepResult) == SweepResult(objects=7)


async def test_a_store_that_fails_is_asked_again_after_a_pause(desk: Desk) -> None:
    desk.store.open.set()
    desk.store.broken = True
    assert not desk.box.delivered(WHERE, work())
    await desk.settle()
    desk.store.broken = False
    assert not desk.box.delivered(WHERE, work())
    await desk.settle()
    assert desk.store.calls == 1
    desk.now += RETRY_SECONDS
    desk.box.delivered(WHERE, work())
    await desk.settle()
    assert desk.box.delivered(WHERE, work())


async def test_only_some_are_under_way_at_once(desk: Desk) -> None:
    for number in range(20):
        desk.box.delivered(WHERE, work(number))
    await desk.settle()
    assert desk.store.calls == MAX_UNDER_WAY
    desk.store.open.set()
    for _ in range(10):
        await desk.settle()
        for number in range(20):
            desk.box.delivered(WHERE, work(number))
    assert all(desk.box.delivered(WHERE, work(number)) for number in range(20))
