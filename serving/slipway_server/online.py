"""The online store as requests see it: bounded in time, left alone while it is down, never a reason to wait.

Three things happen apart from requests, in a thread and a task of their own: Feast is imported and its registry read at
the start, the registry is refreshed, and a store that failed is probed until it answers again (half-open), so that no
request pays for a probe.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from slipway.api.modelversion import FeatureServiceRecord
from slipway_server import metrics
from slipway_server.errors import Refused
from slipway_server.features import Lookup
from slipway_server.inputs import Instance
from slipway_server.instrumentation import without_typeguard
from slipway_server.settings import FeastConnection

if TYPE_CHECKING:
    from slipway_server.feast_repo import FeastRepo, ServicePlan

log = logging.getLogger("slipway.features")

_READERS = 8
_FAILURES_TO_OPEN = 5
_ABORT_SECONDS = 1.0
"""After a read was given up, how long its thread may go on before its connection is broken: a read that is merely late
keeps its connection, one that waits for a stopped database frees its thread."""
_PROBE_FIRST_SECONDS, _PROBE_LAST_SECONDS = 0.5, 5.0
_RETRY_SECONDS = 5.0

Rows = Sequence[Mapping[str, Any]]


class OnlineStore:
    """A FeatureSource over Feast. `open` once, then `lookup` from the event loop."""

    def __init__(
        self,
        connection: FeastConnection,
        service: FeatureServiceRecord,
        *,
        timeout: float,
        refresh_every: float,
        required: bool,
    ) -> None:
        """`required`: whether requests fail without the store, so that the server is ready only once it answered."""
        self._connection = connection
        self._service = service
        self._timeout = timeout
        self._refresh_every = refresh_every
        self._required = required
        self._repo: FeastRepo | None = None
        self._plan: ServicePlan | None = None
        self._tried = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="features")
        self._reading = 0
        self._failures = 0
        self._probe: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether look-ups are answered as declared; with defaults, also once the store is known to be down."""
        return self._plan is not None or (self._tried.is_set() and not self._required)

    def open(self) -> None:
        """Start the maintenance thread; returns at once."""
        threading.Thread(target=self._maintain, name="feast", daemon=True).start()

    async def lookup(self, instances: Sequence[Instance], features: Sequence[str]) -> Lookup:
        """See FeatureSource. Refused (400) when an instance lacks an entity key that is needed."""
        plan = self._plan
        if plan is None:
            return Lookup("error")
        served = [plan.features[name] for name in features if name in plan.features]
        if not served:
            return Lookup("answered")
        keys = dict.fromkeys(key for feature in served for key in feature.keys)
        rows = [_entity_row(instance, keys, plan.integer_keys, index) for index, instance in enumerate(instances)]
        if self._probe is not None:
            return Lookup("error")
        return await self._read([feature.reference for feature in served], rows)

    async def _read(self, references: Sequence[str], rows: Rows) -> Lookup:
        """A read that counts for the breaker."""
        with metrics.FEATURES.time():
            answer = await self._attempt(references, rows)
        if answer.outcome == "answered":
            self._failures = 0
            return answer
        self._failures += 1
        if self._failures >= _FAILURES_TO_OPEN and self._probe is None:
            log.warning("The online feature store fails: leaving it alone until it answers again")
            metrics.BREAKER_OPEN.set(1)
            self._probe = asyncio.create_task(self._probe_until_answered(references, rows))
        return answer

    async def _attempt(self, references: Sequence[str], rows: Rows) -> Lookup:
        """One read within the timeout."""
        from slipway_server.pooledstore import Call

        if self._reading >= _READERS:
            return Lookup("timeout")
        loop = asyncio.get_running_loop()
        call = Call()
        self._reading += 1
        future = loop.run_in_executor(self._threads, self._read_in_thread, call, references, rows)
        abort = loop.call_later(self._timeout + _ABORT_SECONDS, call.abort)

        def ended(done: asyncio.Future[dict[str, list[Any]]]) -> None:
            self._reading -= 1
            abort.cancel()
            done.exception()  # retrieved here, for nobody may be waiting any more

        future.add_done_callback(ended)
        await asyncio.wait([future], timeout=self._timeout)
        if not future.done():
            return Lookup("timeout")
        if (error := future.exception()) is not None:
            log.warning("The online feature store failed: %s", _line(error))
            return Lookup("error")
        return Lookup("answered", future.result())

    def _read_in_thread(self, call: Any, references: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
        assert self._repo is not None
        with call.running():
            return self._repo.read(references, rows)

    async def _probe_until_answered(self, references: Sequence[str], rows: Rows) -> None:
        pause = _PROBE_FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            if (await self._attempt(references, rows)).outcome == "answered":
                break
            pause = min(pause * 2, _PROBE_LAST_SECONDS)
        log.info("The online feature store answers again")
        self._failures = 0
        self._probe = None
        metrics.BREAKER_OPEN.set(0)

    def _maintain(self) -> None:
        """The thread: open, then refresh for ever. Errors are logged and tried again."""
        while True:
            started = time.perf_counter()
            try:
                if self._repo is None:
                    self._repo = self._opened()
                else:
                    self._repo.refresh()
                self._plan = self._repo.plan(self._service)
                pause = self._refresh_every
            except Exception as error:
                log.warning("Feast's registry cannot be read: %s", _line(error))
                pause = _RETRY_SECONDS
            if not self._tried.is_set():
                log.info("Feast opened", extra={"fields": {"seconds": round(time.perf_counter() - started, 2)}})
                self._tried.set()
            time.sleep(pause)

    def _opened(self) -> FeastRepo:
        with without_typeguard():
            from slipway_server.feast_repo import FeastRepo

        repo = FeastRepo(self._connection, self._service.project, wait=self._timeout, connections=_READERS)
        plan = repo.plan(self._service)
        # The first read imports, connects and prepares; a client should not wait for it.
        row = {key: 0 if key in plan.integer_keys else "" for f in plan.features.values() for key in f.keys}
        repo.read([f.reference for f in plan.features.values()], [row])
        return repo


def _entity_row(
    instance: Instance, keys: Mapping[str, None], integer_keys: frozenset[str], index: int
) -> dict[str, Any]:
    row = {}
    for key in keys:
        value = instance.get(key)
        kind: type = int if key in integer_keys else str
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = "a whole number" if kind is int else "a string"
            raise Refused(
                400,
                f"instances[{index}].{key} must be {wanted}: features are looked up by it. "
                "Send it, or send the features themselves.",
            )
        row[key] = value
    return row


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
