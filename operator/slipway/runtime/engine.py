"""Everything that an operator runs: kopf's watches feed the stores and wake keys, the queue reconciles them.

An engine begins while the process stands by, so that a leader's end costs no first lists. Until `lead` it writes
nothing, and observes for those controllers only that measure over time. It ends with its term of leadership: a new term
gets a new engine with empty stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.controller import Controller, Io, Watch, is_observed_by_standby
from slipway.runtime.errors import ApiError, NotFound, Unavailable
from slipway.runtime.execute import Executor
from slipway.runtime.kopf_glue import Watcher
from slipway.runtime.metrics import Metrics
from slipway.runtime.queue import Outcome, WorkQueue
from slipway.runtime.reconcile import Reconciler, named
from slipway.runtime.resources import ALL_TYPES, Catalogue, Key, Object, ResourceType, uid_of
from slipway.runtime.stores import Stores

logger = logging.getLogger(__name__)

Item = tuple[str, Key]
"""What the queue holds: a controller's name and a key of its kind."""

SWEEP_DELAY = 1.0
"""Seconds between a repeated list and the search for objects that it no longer had."""

ARRIVAL_PERIOD = 20.0
"""Seconds between two looks for types that were not served when the watches began."""

ANSWER_PERIOD = 2.0
"""Seconds between two questions to an API server that does not answer."""

INCOMPLETE_AFTER = 30.0
"""Seconds after which missing first lists are worth a warning."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Engine:
    """Runs controllers; also the `Sink` of kopf's events.

    :param client: fenced by the Lease
    """

    def __init__(
        self,
        controllers: Sequence[Controller[Any]],
        client: Client,
        connection: Connection,
        metrics: Metrics,
        *,
        workers: int = 8,
        resync: float = 600.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._controllers = named(controllers)
        self._client = client
        self._metrics = metrics
        self._resync = resync
        types = watched_types(controllers)
        self.stores = Stores(types)
        self._watcher = Watcher(types, connection, self)
        io = Io(self.stores, client, clock)
        executor = Executor(client, self.stores, Catalogue((*ALL_TYPES, *types)), clock)
        self.queue: WorkQueue[Item] = WorkQueue(self._work, metrics, workers)
        self._reconciler = Reconciler(
            self._controllers, io, executor, metrics, lambda name, key: self.queue.failures((name, key))
        )
        self._leads = False
        self._types = types
        self._sweeps: dict[ResourceType, asyncio.Task[None]] = {}
        for type_ in types:
            metrics.stored_objects.labels(str(type_)).set_function(self.stores.of(type_).__len__)

    async def run(self) -> None:
        """Run until `stop`, or until a type is served that was not when the watches began.

        :raises RuntimeError: kopf ended by itself
        """
        absent = [each for each in self._types if not await self._told(self._client.serves, each)]  # before kopf looks
        self._watcher.leave_out(await self._forbidden(absent))
        watching = asyncio.create_task(self._watcher.run(), name="watches")
        arrived = asyncio.create_task(self._arrival(absent), name="arrival of types")
        background = [
            arrived,
            asyncio.create_task(self.queue.run()),
            asyncio.create_task(self._resync_forever()),
            asyncio.create_task(self._warn_if_incomplete()),
        ]
        try:
            await asyncio.wait((watching, arrived), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            watching.cancel()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    def lead(self) -> None:
        """Reconcile everything from now on: the Lease is ours."""
        self._leads = True
        self._wake_all()

    async def _forbidden(self, absent: Sequence[ResourceType]) -> list[ResourceType]:
        """Types that are optional, and that we may not watch."""
        found = [
            type_
            for type_ in self._types
            if type_.optional
            and type_ not in absent
            and not all([await self._told(self._client.allowed, type_, verb) for verb in ("list", "watch")])
        ]
        if found:
            logger.info("not watched, for want of the right to: %s", ", ".join(map(str, found)))
        return found

    async def stop(self, grace: float) -> None:
        """Take no more events, let running reconciles end within `grace` seconds, then cancel them."""
        self._watcher.stop()
        for task in self._sweeps.values():
            task.cancel()
        await self.queue.stop(grace)

    async def ended(self, seconds: float) -> None:
        """After `stop`: wait for what is left of kopf, at most so long."""
        await self._watcher.ended(seconds)

    # What kopf tells us

    def seen(self, type_: ResourceType, obj: Object) -> None:
        self._metrics.watch_events.labels(str(type_)).inc()
        store = self.stores.of(type_)
        before = store.get(type_.key_of(obj))
        store.put(obj)
        if self.stores.synced:
            if before is not None:  # its labels may have named another owner
                self._wake(type_, before)
            self._wake(type_, obj)

    def listed(self, type_: ResourceType, again: bool) -> None:
        if not self.stores.synced:
            self.stores.synced = True
            logger.info(
                "all first lists are complete: %d objects", sum(len(self.stores.of(t)) for t in self.stores.types)
            )
            self._wake_all()
        elif again and type_ not in self._sweeps:
            self._sweeps[type_] = asyncio.create_task(self._sweep_soon(type_))

    def gone(self, type_: ResourceType, obj: Object) -> None:
        self._metrics.watch_events.labels(str(type_)).inc()
        self.stores.of(type_).remove(obj)
        if self.stores.synced:
            self._wake(type_, obj)

    # What we do with it

    async def _work(self, item: Item) -> Outcome:
        return await (self._reconciler.reconcile(*item) if self._leads else self._reconciler.rehearse(*item))

    def _active(self) -> Iterable[tuple[str, Controller[Any]]]:
        return ((n, each) for n, each in self._controllers.items() if self._leads or is_observed_by_standby(each))

    def _wake_all(self) -> None:
        for item in self._items() if self.stores.synced else ():
            self.queue.add(item)

    def _wake(self, type_: ResourceType, obj: Object) -> None:
        for name, controller in self._active():
            if controller.type == type_:
                self.queue.add((name, type_.key_of(obj)))
            for watch in controller.watches:
                if watch.type == type_:
                    for key in self._mapped(watch, obj):
                        self.queue.add((name, key))

    def _mapped(self, watch: Watch, obj: Object) -> Iterable[Key]:
        try:
            return tuple(watch.map(obj, self.stores))
        except Exception:
            logger.exception("the mapping of a %s to keys failed", watch.type.kind)
            return ()

    def _items(self) -> Iterable[Item]:
        for name, controller in self._active():
            for key in self.stores.of(controller.type).keys():  # noqa: SIM118 - a Store is no mapping
                yield name, key

    async def _resync_forever(self) -> None:
        """Look at every object again once in each period, spread over the period, and sweep every store."""
        while True:
            await asyncio.sleep(self._resync)
            for item in self._items() if self.stores.synced else ():
                self.queue.add(item, delay=random.uniform(0, self._resync))
            for type_ in self.stores.types if self.stores.synced else ():
                await self._sweep(type_)

    async def _sweep_soon(self, type_: ResourceType) -> None:
        try:
            await asyncio.sleep(SWEEP_DELAY)
            await self._sweep(type_)
        finally:
            self._sweeps.pop(type_, None)

    async def _sweep(self, type_: ResourceType) -> None:
        """Forget objects that were deleted while the watch was interrupted: kopf does not report those."""
        store = self.stores.of(type_)
        before = {key: store.get(key) for key in store.keys()}  # noqa: SIM118 - a Store is no mapping
        if not before:
            return
        try:
            listed = await self._client.list(type_, label_selector=type_.selector, metadata_only=True)
        except NotFound:
            listed = []  # the type itself is gone, with all its objects
        except (ApiError, Unavailable) as error:
            logger.warning("%s could not be compared with the API server: %s", type_, error)
            return
        alive = {uid_of(obj) for obj in listed}
        for known in before.values():
            if known is not None and uid_of(known) not in alive:
                logger.info("%s was deleted while its watch was interrupted", type_.key_of(known))
                self.gone(type_, known)

    async def _told(self, question: Callable[..., Awaitable[bool]], *about: Any) -> bool:
        """The API server's answer, whenever it comes."""
        while True:
            with contextlib.suppress(Unavailable):
                return await question(*about)
            await asyncio.sleep(ANSWER_PERIOD)

    async def _arrival(self, absent: Sequence[ResourceType]) -> None:
        """Return when one of the types is served.

        kopf follows CRDs by their events, but one that comes between its discovery and its first list of CRDs, or whose
        discovery fails at that moment, would never be watched.
        """
        if absent:
            logger.info("not served yet: %s", ", ".join(map(str, absent)))
        while True:
            await asyncio.sleep(ARRIVAL_PERIOD)
            for type_ in absent:
                with contextlib.suppress(ApiError, Unavailable):
                    if await self._client.serves(type_):
                        logger.info("%s is served now: the watches begin anew", type_)
                        return

    async def _warn_if_incomplete(self) -> None:
        await asyncio.sleep(INCOMPLETE_AFTER)
        while not self.stores.synced:
            if any(len(self.stores.of(type_)) for type_ in self.stores.types):
                logger.warning("nothing is reconciled yet: a first list is missing; kopf's messages say which")
            await asyncio.sleep(INCOMPLETE_AFTER)


def watched_types(controllers: Sequence[Controller[Any]]) -> tuple[ResourceType, ...]:
    """All types that the controllers reconcile or watch, each once."""
    found: dict[ResourceType, None] = {}
    for controller in controllers:
        found[controller.type] = None
        found.update((watch.type, None) for watch in controller.watches)
    return tuple(found)
