"""The Lease on a real API server, without an operator around it."""

from __future__ import annotations

import asyncio
from typing import Any

from slipway.runtime.client import Client
from slipway.runtime.lease import Lease, Timing
from slipway.runtime.resources import LEASE, Key, Object

TIMING = Timing(duration=60.0, renew=50.0, retry=2.0)


async def held(client: Client, key: Key, identity: str) -> Lease:
    lease = Lease(client, key, identity, TIMING)
    await lease.acquire()
    return lease


async def spec_of(client: Client, key: Key) -> Object:
    spec: Object = (await client.get(key))["spec"]
    return spec


async def test_a_released_lease_goes_to_the_one_who_waits(client: Client, namespace: str) -> None:
    key = LEASE.key("one", namespace)
    first = await held(client, key, "first")
    waiting = asyncio.create_task(held(client, key, "second"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await first.release()
    second = await asyncio.wait_for(waiting, 10)
    assert not first.valid()
    assert second.valid()
    assert (await spec_of(client, key))["leaseTransitions"] == 1


async def test_a_renewal_that_nobody_saw_succeed_does_not_stop_the_release(client: Client, namespace: str) -> None:
    """Stopping cancels a renewal in flight: the server may have taken it, so the version that we know is outdated."""
    key = LEASE.key("one", namespace)
    lease = await held(client, key, "first")
    await client.merge(key, {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}})
    await lease.release()
    assert not (await spec_of(client, key)).get("holderIdentity")


async def test_a_lease_that_someone_else_took_is_not_released(client: Client, namespace: str) -> None:
    key = LEASE.key("one", namespace)
    lease = await held(client, key, "first")
    await client.merge(key, {"spec": {"holderIdentity": "second"}})
    await lease.release()
    assert (await spec_of(client, key))["holderIdentity"] == "second"
    assert not lease.valid()


async def test_a_holder_that_is_replaced_learns_it_with_its_next_renewal(client: Client, namespace: str) -> None:
    key = LEASE.key("one", namespace)
    lease = Lease(client, key, "first", Timing(duration=60.0, renew=50.0, retry=0.1))
    await lease.acquire()
    keeping = asyncio.create_task(lease.keep())
    await client.merge(key, {"spec": {"holderIdentity": "second"}})
    await asyncio.wait_for(keeping, 10)
    assert not lease.valid()
    assert lease.holder() == "second"


async def test_a_lease_that_somebody_deletes_is_made_anew(client: Client, namespace: str, eventually: Any) -> None:
    key = LEASE.key("one", namespace)
    lease = Lease(client, key, "first", Timing(duration=60.0, renew=50.0, retry=0.1))
    await lease.acquire()
    keeping = asyncio.create_task(lease.keep())
    await client.delete(key)
    await eventually(lambda: client.find(key))
    assert lease.valid()
    keeping.cancel()
