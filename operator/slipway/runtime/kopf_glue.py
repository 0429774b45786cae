"""kopf's part: it discovers the served types, lists and watches them, reconnects, and follows CRDs that come and go.

kopf runs in a thread with a loop of its own, because an embedded kopf takes the signal handlers and, on its way out,
cancels every task of its loop. Only the level-triggered handlers are used, so kopf never patches an object.

The index handlers fill the stores; kopf calls `on.event` handlers only after the first lists of *all* indexed types
are complete. So the first `on.event` call is the proof that no store is half filled.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import kopf

from slipway.runtime.connection import Connection
from slipway.runtime.resources import Object, ResourceType

# kopf says here that it ignores signals outside of the main thread, which is what we want.
logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


class Sink(Protocol):
    """What kopf's events go to; called in the runtime's loop, in the order in which they arrived."""

    def seen(self, type_: ResourceType, obj: Object) -> None:
        """An object is there: listed, added or modified. Before the first `listed`, others may be missing."""
        ...

    def listed(self, type_: ResourceType, again: bool) -> None:
        """All first lists are complete. `again`: the type was listed anew, so a deletion may have been missed."""
        ...

    def gone(self, type_: ResourceType, obj: Object) -> None:
        """An object was deleted, or lost the labels that its type is watched for."""
        ...


_Deliver: TypeAlias = Callable[[Callable[[Sink], None]], None]


_CLOSING = 0.25
"""Seconds for kopf's TLS connections to say goodbye before their loop ends."""


class _Forever(Iterable[float]):
    """Backoff of kopf's requests: a watch never gives up, whatever the API server answers."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 0.5, 1.0, 2.0)
        while True:
            yield 5.0


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf keeps no copy of an object to compare with: our handlers do not ask for differences."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("kopf must not write to objects")


class _NoProgress(kopf.ProgressStorage):
    """kopf keeps no handler's state in annotations: our handlers have none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("kopf must not write to objects")

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        raise AssertionError("kopf must not write to objects")

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def settings_for(types: Sequence[ResourceType]) -> kopf.OperatorSettings:
    """kopf's settings: selectors in the server, bounded requests, nothing posted and nothing persisted."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.networking.request_timeout = 30.0
    settings.networking.error_backoffs = _Forever()
    settings.watching.chunk_size = 500
    settings.watching.inactivity_timeout = 70.0
    settings.queueing.exit_timeout = 0.5
    settings.queueing.idle_timeout = 1.0  # kopf keeps a task for each object so long after its last event
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.process.ultimate_exiting_timeout = None
    for type_ in types:
        if type_.selector:
            settings.watching.label_selectors[kopf_selection(type_)] = type_.selector
    return settings


def registry_for(types: Sequence[ResourceType], connection: Connection, deliver: _Deliver) -> kopf.OperatorRegistry:
    """The handlers of all types; each hands its object over and returns at once."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection.for_kopf()

    for type_ in types:
        _handlers_of(type_, registry, deliver)
    return registry


def _handlers_of(type_: ResourceType, registry: kopf.OperatorRegistry, deliver: _Deliver) -> None:
    selection = kopf_selection(type_)

    @kopf.index(*selection, registry=registry, id=f"index-{type_}")
    async def index(body: kopf.Body, **_: Any) -> None:
        deliver(lambda sink: sink.seen(type_, dict(body)))

    @kopf.on.event(*selection, registry=registry, id=f"event-{type_}")
    async def event(event: kopf.RawEvent, **_: Any) -> None:
        obj = dict(event["object"])
        if event["type"] == "DELETED":
            deliver(lambda sink: sink.gone(type_, obj))
        deliver(lambda sink: sink.listed(type_, event["type"] is None))


def kopf_selection(type_: ResourceType) -> tuple[str, str, str]:
    return type_.group, type_.version, type_.plural


class Watcher:
    """kopf in its thread; `run` ends when kopf does."""

    def __init__(self, types: Sequence[ResourceType], connection: Connection, sink: Sink) -> None:
        self._types = types
        self._connection = connection
        self._sink: Sink | None = sink
        self._stop: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kopf: threading.Thread | None = None
        self._inbox: collections.deque[Callable[[Sink], None]] = collections.deque()
        self._waking = False

    async def run(self) -> None:
        """Watch until `stop`; raises what made kopf end by itself."""
        self._loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = self._loop.create_future()
        self._kopf = threading.Thread(target=self._thread, args=(ended,), name="kopf", daemon=True)
        self._kopf.start()
        await ended

    def leave_out(self, types: Iterable[ResourceType]) -> None:
        """Before `run`: do not watch these. kopf tries for ever to list what it may not, and says nothing meanwhile."""
        left = set(types)
        self._types = [each for each in self._types if each not in left]

    def stop(self) -> None:
        """Deliver nothing any more and let kopf's thread end."""
        self._sink = None
        if not self._stop.done():
            self._stop.set_result(None)

    async def ended(self, seconds: float) -> None:
        """Wait until kopf's thread has ended, but not longer: it is a daemon and cannot hold the process up."""
        if self._kopf is not None:
            await asyncio.to_thread(self._kopf.join, seconds)

    def _deliver(self, message: Callable[[Sink], None]) -> None:
        """In kopf's thread: queue a message, and wake our loop once for all that is queued until it gets there."""
        self._inbox.append(message)
        if self._loop is not None and not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop was closed: the process is about to end
                self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._waking = False  # before the inbox is emptied, so that whatever comes later wakes us again
        while self._inbox:
            message = self._inbox.popleft()
            if self._sink is not None:
                message(self._sink)

    def _thread(self, ended: asyncio.Future[None]) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._operate())
        except BaseException as raised:
            error = raised

        def finish() -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(RuntimeError(f"kopf ended: {error!r}"))

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(finish)

    async def _operate(self) -> None:
        await kopf.operator(
            registry=registry_for(self._types, self._connection, self._deliver),
            settings=settings_for(self._types),
            standalone=True,
            clusterwide=True,
            stop_flag=self._stop,
        )
        await asyncio.sleep(_CLOSING)
