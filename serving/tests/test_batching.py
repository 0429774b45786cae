"""Requests that share a call of the model get their own answers, and only those at fault fail."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from slipway.api.modelversion import InputField
from slipway_server.batching import Batcher, Columns

FIELDS = [
    InputField(name="x", type="Double", source="Request"),
    InputField(name="n", type="Integer", source="Request"),
]


class Gated:
    """A function like a model: it waits at a gate, remembers its calls, and refuses negative values."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[list[float]] = []

    def __call__(self, columns: Columns) -> list[float]:
        assert self.gate.wait(20)
        self.calls.append(list(columns["x"]))
        if min(columns["x"]) < 0:
            raise ValueError(f"negative: {columns['x']}")
        return [value / 100 for value in columns["x"]]


async def answers(model: Gated, *requests: Columns) -> list[Any]:
    """Answers, or exceptions, of requests that all arrive while the model is busy with the first."""
    batcher = Batcher(FIELDS, model)
    running = [asyncio.create_task(batcher(columns, len(columns["x"]))) for columns in requests]
    await asyncio.sleep(0.05)
    model.gate.set()
    return list(await asyncio.gather(*running, return_exceptions=True))


def request(*values: float, n: Any = 1) -> Columns:
    """Columns of a request."""
    return {"x": list(values), "n": [n] * len(values)}


async def test_waiting_requests_share_one_call() -> None:
    model = Gated()
    found = await answers(model, request(1), request(2, 3), request(4))
    assert found == [[0.01], [0.02, 0.03], [0.04]]
    assert sorted(map(len, model.calls)) == [4] or model.calls == [[1], [2, 3, 4]]


async def test_only_the_request_at_fault_fails() -> None:
    model = Gated()
    first, good, bad, other = await answers(model, request(1), request(2), request(-1), request(3))
    assert (first, good, other) == ([0.01], [0.02], [0.03])
    with pytest.raises(ValueError, match=r"negative: \[-1\]"):
        raise bad


async def test_requests_whose_column_types_differ_do_not_share() -> None:
    model = Gated()
    await answers(model, request(1), request(2), request(3, n=None), request(4))
    assert [3] in model.calls


async def test_calls_are_bounded() -> None:
    model = Gated()
    found = await answers(model, request(0), *(request(*range(100)) for _ in range(5)))
    assert [len(each) for each in found] == [1, 100, 100, 100, 100, 100]
    assert max(map(len, model.calls)) <= 256


async def test_one_large_request_is_one_call() -> None:
    model = Gated()
    [found] = await answers(model, request(*range(1000)))
    assert len(found) == 1000
    assert len(model.calls) == 1


async def test_request_that_was_cancelled_does_not_disturb_others() -> None:
    model = Gated()
    batcher = Batcher(FIELDS, model)
    tasks = [asyncio.create_task(batcher(request(n), 1)) for n in range(4)]
    await asyncio.sleep(0.05)
    tasks[2].cancel()
    model.gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [done[0], done[1], done[3]] == [[0.0], [0.01], [0.03]]
    assert isinstance(done[2], asyncio.CancelledError)
    assert await batcher(request(7), 1) == [0.07]
