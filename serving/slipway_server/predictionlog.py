"""The prediction log: what was asked and answered, kept in S3 without any request waiting for it.

A request leaves its record in a queue, after its answer is sent. A thread takes records in batches, makes Parquet of
them and puts it to the store. The queue is bounded: while the store is away it fills, and what comes then is dropped
and counted. Nothing here can delay an answer or fail one.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import Protocol

from slipway.api.modelversion import InputField
from slipway_server import metrics
from slipway_server.requestlog import Answer, RequestRecord

log = logging.getLogger("slipway.predictions")

MAX_ROWS = 20_000
MAX_BYTES = 32 * 2**20
"""What may wait: rows, and an estimate of their bytes."""
BATCH_ROWS = 5_000
"""Rows of one object at most; as many wake the thread before its time."""
_BYTES_A_VALUE = 64
"""Of a number with its place in a list and its origin; strings count their length besides."""
_PAUSE_FIRST_SECONDS, _PAUSE_LAST_SECONDS = 1.0, 30.0
_SHADOW = b"-shadow"
_TELLING = frozenset({b"host", b"x-envoy-external-address", b"x-envoy-internal"})

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Logged:
    """One answered request that the log keeps.

    :param mirrored: whether it was a copy whose answer nobody got, if that is known
    """

    record: RequestRecord
    answer: Answer
    mirrored: bool | None
    bytes: int

    @property
    def rows(self) -> int:
        """Its instances."""
        return len(self.answer.probabilities)

    @property
    def hour(self) -> str:
        """The hour that it came in, as the folder of its object."""
        return f"date={self.record.at[:10]}/hour={self.record.at[11:13]}/"


class Store(Protocol):
    """Where objects go. Every method may raise anything and must end."""

    def put(self, key: str, data: bytes) -> None:
        """Write one object; again with the same key is no error."""
        ...


Encode = Callable[[Sequence[Logged]], bytes]


class PredictionLog:
    """`offer` from the event loop's thread only; everything else happens in the log's own thread.

    :param prefix: folder of this version, ending in `/`
    :param sample_percent: share of request ids that are kept, the same ones by every version
    :param opened: gives the store and the encoder; called in the thread, for their libraries take long to import
    """

    def __init__(
        self,
        prefix: str,
        fields: Sequence[InputField],
        *,
        sample_percent: int,
        flush_seconds: float,
        opened: Callable[[], tuple[Store, Encode]],
    ) -> None:
        self._prefix = prefix
        self._texts = [field.name for field in fields if field.type == "String"]
        self._row_bytes = _BYTES_A_VALUE * (len(fields) + 8)
        self._sample_percent = sample_percent
        self._flush_seconds = flush_seconds
        self._opened = opened
        self._queue: deque[Logged] = deque()
        # The loop's thread adds and the log's takes; each writes its own two numbers, so no lock is needed.
        self._rows_in = self._bytes_in = self._rows_out = self._bytes_out = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def open(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def offer(self, record: RequestRecord, headers: Headers) -> None:
        """Keep an answered request, if it is in the sample and there is room. Never raises, never waits."""
        answer, record.answer = record.answer, None
        if answer is None or not in_sample(record.id, self._sample_percent):
            return
        rows = len(answer.probabilities)
        size = rows * self._row_bytes + sum(len(v) for name in self._texts for v in answer.columns[name] if v)
        if self._rows_in - self._rows_out + rows > MAX_ROWS or self._bytes_in - self._bytes_out + size > MAX_BYTES:
            metrics.PREDICTIONS_DROPPED.labels("full").inc(rows)
            return
        self._queue.append(Logged(record, answer, is_mirrored(headers), size))
        self._rows_in += rows
        self._bytes_in += size
        if self._rows_in - self._rows_out >= BATCH_ROWS and not self._wake.is_set():
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Write what waits, for so long at most; what is left then is counted as dropped."""
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._wake.set()
        self._thread.join(seconds)
        if left := self._rows_in - self._rows_out:
            metrics.PREDICTIONS_DROPPED.labels("store").inc(left)
            log.warning("The prediction log ended with rows that the store did not take", extra=_fields(rows=left))

    # ---- the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            store, encode = self._opened()
        except Exception:
            log.exception("The prediction log cannot start: nothing is logged")
            return
        last = False
        while not last:
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            last = self._closing.is_set()
            for batch in self._batches():
                self._write(batch, store, encode)

    def _batches(self) -> Iterator[list[Logged]]:
        """What waits, in batches of at most BATCH_ROWS (a request with more is alone) and of one hour each."""
        while self._queue:
            taken: list[Logged] = []
            rows = 0
            while self._queue and (not taken or rows + self._queue[0].rows <= BATCH_ROWS):
                taken.append(self._queue.popleft())
                rows += taken[-1].rows
            for _, batch in groupby(sorted(taken, key=lambda each: each.hour), key=lambda each: each.hour):
                yield list(batch)

    def _write(self, batch: Sequence[Logged], store: Store, encode: Encode) -> None:
        rows = sum(each.rows for each in batch)
        try:
            data = encode(batch)
        except Exception:
            log.exception("Predictions cannot be written as Parquet: they are dropped", extra=_fields(rows=rows))
            metrics.PREDICTIONS_DROPPED.labels("error").inc(rows)
        else:
            if not self._put(store, f"{self._prefix}{batch[0].hour}{uuid.uuid4()}.parquet", data):
                return  # still counted as waiting: `close` tells
            metrics.PREDICTIONS_WRITTEN.inc(rows)
        self._rows_out += rows
        self._bytes_out += sum(each.bytes for each in batch)

    def _put(self, store: Store, key: str, data: bytes) -> bool:
        """Put an object until the store takes it; false when the server ends before it does."""
        pause = _PAUSE_FIRST_SECONDS
        while True:
            try:
                store.put(key, data)
            except Exception as error:
                self._tell_failure(error)
            else:
                if self._failing:
                    log.info("The store takes predictions again")
                self._failing = False
                return True
            if self._closing.is_set() and time.monotonic() + pause >= self._deadline:
                return False
            if self._closing.is_set():
                time.sleep(pause)
            elif not self._closing.wait(pause):
                pause = min(2 * pause, _PAUSE_LAST_SECONDS)
                continue
            pause = _PAUSE_FIRST_SECONDS

    def _tell_failure(self, error: Exception) -> None:
        metrics.PREDICTIONS_FAILED_PUTS.inc()
        if not self._failing:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            log.warning("The store does not take predictions; they wait, and are dropped when too many do: %s", text)
        self._failing = True


def in_sample(request_id: str, percent: int) -> bool:
    """Whether a request is kept: by its id alone, so that every version keeps the same ones."""
    if percent >= 100:
        return True
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "big") % 100 < percent


def is_mirrored(headers: Headers) -> bool | None:
    """Whether a gateway sent this request as a copy whose answer nobody gets; None where that cannot be told.

    Envoy adds `-shadow` to a copy's host name, unless it is told not to, as Envoy Gateway tells it. What is left then:
    a copy of a request from outside says both that it comes from outside and that it comes from inside.
    """
    found = {name: value for name, value in headers if name in _TELLING}
    if found.get(b"host", b"").partition(b":")[0].endswith(_SHADOW):
        return True
    if b"x-envoy-external-address" not in found:
        return None
    return found.get(b"x-envoy-internal") == b"true"


def _fields(**fields: object) -> dict[str, object]:
    return {"fields": fields}
