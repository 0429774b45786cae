"""One call of the model for all requests that wait for it.

A scikit-learn pipeline takes about as long for a hundred rows as for one: the time goes into its layers, not into rows.
So one thread calls the model, and whatever has arrived while it was busy goes into the next call together. Nobody waits
for others to arrive: a request that finds the model idle is alone in its call. When a shared call raises, each of its
requests is tried alone, so that only those at fault fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from slipway.api.modelversion import InputField

Columns = dict[str, list[Any]]
_MAX_ROWS = 256
"""Rows up to which requests are put together; one request may have more."""


@dataclass(eq=False)
class _Request:
    columns: Columns
    rows: int
    shape: tuple[str, ...]
    """Columns whose type depends on whether a value is missing: only requests that agree on them share a call."""
    answer: asyncio.Future[list[float]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Calls `predict`, which maps columns to one probability a row, from one thread. For one event loop."""

    def __init__(self, fields: Sequence[InputField], predict: Callable[[Columns], list[float]]) -> None:
        self._predict = predict
        self._typed_by_missing = [each.name for each in fields if each.type in ("Integer", "Boolean")]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._waiting: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, columns: Columns, rows: int) -> list[float]:
        """Probabilities of a request's rows. Whatever `predict` raises on them."""
        shape = tuple(name for name in self._typed_by_missing if None in columns[name])
        request = _Request(columns, rows, shape)
        self._waiting.append(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await request.answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                if not await self._together(batch):
                    for request in batch:
                        await self._alone(request)
        finally:
            self._worker = None

    def _next(self) -> list[_Request]:
        """The oldest request, and others that may share its call; they leave the queue."""
        batch, rows = [self._waiting[0]], self._waiting[0].rows
        for request in self._waiting[1:]:
            if request.shape == batch[0].shape and rows + request.rows <= _MAX_ROWS:
                batch.append(request)
                rows += request.rows
        taken = set(batch)
        self._waiting = [request for request in self._waiting if request not in taken]
        return [request for request in batch if not request.answer.done()]

    async def _together(self, batch: Sequence[_Request]) -> bool:
        """Answer several requests by one call; false when it raised, or there are no two."""
        if len(batch) < 2:
            return False
        columns = {name: [v for request in batch for v in request.columns[name]] for name in batch[0].columns}
        try:
            answers = iter(await self._call(columns))
        except Exception:
            return False  # whose fault it is shows when each is tried alone
        for request in batch:
            own = [next(answers) for _ in range(request.rows)]
            if not request.answer.done():
                request.answer.set_result(own)
        return True

    async def _alone(self, request: _Request) -> None:
        try:
            own = await self._call(request.columns)
        except Exception as error:
            if not request.answer.done():
                request.answer.set_exception(error)
        else:
            if not request.answer.done():
                request.answer.set_result(own)

    async def _call(self, columns: Columns) -> list[float]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, columns)
