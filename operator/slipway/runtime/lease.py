"""Leader election on a `coordination.k8s.io` Lease, with fencing.

`Term` is the bookkeeping without clock, loop or network. All durations are measured on this process's monotonic clock:
the times in the Lease are only compared for equality, so that clocks that differ or jump do not elect two leaders.

A leader writes only until `renew` seconds after it *began* its last successful renewal; a standby takes over only when
it has seen no renewal for `duration` seconds. The gap between the two covers requests in flight, whose timeout is cut
to what is left of `duration`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slipway.runtime.client import Client
from slipway.runtime.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound, Unavailable
from slipway.runtime.resources import LEASE, MANAGED_BY, MANAGED_BY_LABEL, Key, Object

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: `retry` < `renew` < `duration`."""

    duration: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


@dataclass
class Term:
    """What one candidate knows: the record as last seen, since when, and its own last renewal.

    All times passed in are monotonic seconds.
    """

    identity: str
    timing: Timing = field(default_factory=Timing)
    _record: tuple[Any, ...] | None = None
    _seen_at: float = 0.0
    _duration: float = 0.0
    _renewed_at: float | None = None

    def observe(self, lease: Mapping[str, Any], now: float) -> None:
        """Take note of the Lease as read from the server; a record that did not change keeps its age."""
        spec = lease.get("spec") or {}
        record = (spec.get("holderIdentity") or "", spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._record:
            self._record, self._seen_at = record, now
            self._duration = float(spec.get("leaseDurationSeconds") or self.timing.duration)

    def holder(self) -> str:
        """Who holds the Lease as far as we know; empty when it was released."""
        return str(self._record[0]) if self._record else ""

    def may_acquire(self, now: float) -> bool:
        """Whether the Lease is free, ours, or was not renewed for its whole duration while we looked."""
        if self._record is None or self.holder() in ("", self.identity):
            return True
        return now >= self._seen_at + self._duration

    def wait(self, now: float) -> float:
        """Seconds until the present holder's Lease runs out for us."""
        return 0.0 if self.may_acquire(now) else self._seen_at + self._duration - now

    def renewed(self, begun: float) -> None:
        """A renewal that was sent at `begun` succeeded."""
        self._renewed_at = begun

    def lost(self) -> None:
        """Write nothing any more: someone else holds the Lease, or we gave it up."""
        self._renewed_at = None

    def valid(self, now: float) -> bool:
        """Whether a write may begin."""
        return self._renewed_at is not None and now < self._renewed_at + self.timing.renew

    def remaining(self, now: float) -> float:
        """Seconds that a write which begins now may last: until another could take over; 0 if none may begin."""
        return (
            self._renewed_at + self.timing.duration - now if self._renewed_at is not None and self.valid(now) else 0.0
        )

    def deadline(self) -> float:
        """When our right to write ends unless we renew."""
        return -1.0 if self._renewed_at is None else self._renewed_at + self.timing.renew


class Lease:
    """Holds (or waits for) the Lease of one process. It is the `Fence` of the process's client.

    :param client: a client without a fence
    :param monotonic: the clock for all durations
    """

    def __init__(
        self,
        client: Client,
        key: Key,
        identity: str,
        timing: Timing | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._key = key
        self._now = monotonic
        self._term = Term(identity, timing or Timing())
        self._lease: Object | None = None

    @property
    def identity(self) -> str:
        return self._term.identity

    def valid(self) -> bool:
        """Whether this process may write now."""
        return self._term.valid(self._now())

    def remaining(self) -> float:
        """Seconds that a write which begins now may last; 0 if none may begin."""
        return self._term.remaining(self._now())

    def holder(self) -> str:
        """Identity of the holder as last seen; empty when nobody holds it."""
        return self._term.holder()

    async def acquire(self) -> None:
        """Wait until this process is the leader."""
        while not await self._try():
            await self._wait_for_change()
        logger.info("became the leader as %s", self.identity)

    async def keep(self) -> None:
        """Renew until the Lease is lost; returns then. Cancel to stop renewing."""
        while self._term.deadline() > self._now():
            await asyncio.sleep(min(self._term.timing.retry, self._term.deadline() - self._now()))
            await self._try()
        self._term.lost()
        logger.error("lost the Lease: %s holds it, or it could not be renewed in time", self.holder() or "nobody")

    async def release(self) -> None:
        """Give the Lease up, so that a standby need not wait; nothing may be written afterwards."""
        held, self._lease = self._lease, None
        was_leader = self.valid()
        self._term.lost()
        if held is None or not was_leader:
            return
        try:
            async with asyncio.timeout(self._term.timing.retry):
                await self._give_up(held)
        except (ApiError, Unavailable, TimeoutError) as error:
            logger.warning("The Lease could not be released (a standby waits for it to expire): %s", error)
        else:
            logger.info("released the Lease")

    async def _give_up(self, held: Object) -> None:
        """Empty the holder. A cancelled renewal may have reached the server unseen: then read and try again."""
        while (held.get("spec") or {}).get("holderIdentity") == self.identity:
            spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
            try:
                await self._client.replace(LEASE, {**held, "spec": spec})
            except Conflict:
                held = await self._client.get(self._key)
            else:
                return

    async def _try(self) -> bool:
        """One attempt to acquire or renew; True when this process is the leader."""
        begun = self._now()
        try:
            async with asyncio.timeout(self._term.timing.renew):
                return await self._attempt(begun)
        except (Conflict, AlreadyExists, NotFound):
            self._lease = None  # someone else was faster: read it anew
        except (Forbidden, Unavailable, ApiError, TimeoutError) as error:
            logger.warning("The Lease could not be renewed: %s", error or "no answer in time")
        return self.valid()

    async def _attempt(self, begun: float) -> bool:
        lease = self._lease if self.valid() else await self._client.find(self._key)
        if lease is None:
            lease = await self._client.find(self._key)
        if lease is None:
            self._lease = await self._client.create(LEASE, self._manifest(_micro_time(), 0))
        else:
            self._term.observe(lease, self._now())
            if not self._term.may_acquire(self._now()):
                self._lease = lease
                self._term.lost()
                return False
            self._lease = await self._client.replace(LEASE, self._renewal(lease))
        self._term.observe(self._lease, self._now())
        self._term.renewed(begun)
        return True

    def _manifest(self, acquired: str, transitions: int) -> Object:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {
                "name": self._key.name,
                "namespace": self._key.namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            },
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": max(1, round(self._term.timing.duration)),
                "acquireTime": acquired,
                "renewTime": _micro_time(),
                "leaseTransitions": transitions,
            },
        }

    def _renewal(self, lease: Object) -> Object:
        spec = lease.get("spec") or {}
        ours = spec.get("holderIdentity") == self.identity
        acquired = spec.get("acquireTime") if ours else None
        transitions = int(spec.get("leaseTransitions") or 0) + (0 if ours else 1)
        return {**lease, "spec": self._manifest(acquired or _micro_time(), transitions)["spec"]}

    async def _wait_for_change(self) -> None:
        """Wait until the Lease changes or may have expired: a watch hands over at once, a pause is the fallback."""
        timing = self._term.timing
        patience = min(self._term.wait(self._now()), timing.duration) + timing.retry * random.uniform(0.1, 0.3)
        if self._lease is None:
            await asyncio.sleep(timing.retry * random.uniform(0.5, 1.0))
            return
        begun = self._now()
        try:
            async with asyncio.timeout(patience):
                version = self._lease["metadata"]["resourceVersion"]
                async for _ in self._client.watch_name(self._key, version, patience):
                    return
        except TimeoutError:
            return
        except (ApiError, Unavailable) as error:
            logger.debug("the watch of the Lease ended: %s", error)
        if self._now() - begun < timing.retry:  # the server refuses watches: do not ask in a tight loop
            await asyncio.sleep(timing.retry * random.uniform(0.5, 1.0))


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
