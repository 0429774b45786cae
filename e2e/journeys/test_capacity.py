"""Rollouts on a GPU pool that has room for few servers, in all three ways to come by them; no request is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from journeys.parcels import NAME, SMALL, Parcels, Rollout
from slipway_demo.watcher import Watcher
from slipway_demo.world import Obj

pytestmark = pytest.mark.timeout(1800)

POOL = "scarce"
GPU = "nvidia.com/gpu"
STEPS = [
    {"name": "half", "setWeight": 50},
    {"name": "watch", "analyze": {"for": "5s"}},
    {"name": "everyone", "setWeight": 100},
]


class Scarce:
    """A GPU pool of which everything is in the journeys' hands: the node's GPUs, and each project's share of them."""

    def __init__(self, parcels: Parcels) -> None:
        self._world = parcels.world
        (self._node,) = self._world.core.list_node(label_selector="slipway.dev/pool=gpu").items
        self._before = self._node.status.allocatable[GPU]

    def has(self, gpus: int) -> None:
        """So many GPUs are there, and a project may have them all."""
        self._offer(str(gpus))
        spec = {
            "resource": GPU,
            "nodeSelector": {"slipway.dev/pool": "gpu"},
            "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
            "quota": {"perProject": gpus},
        }
        self._world.apply(
            {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ComputePool",
                "metadata": {"name": POOL},
                "spec": spec,
            }
        )

    def end(self) -> None:
        """As it was."""
        self._world.delete("ComputePool", POOL)
        self._offer(self._before)

    def _offer(self, count: str) -> None:
        amounts = {GPU: count}
        body = {"status": {"capacity": amounts, "allocatable": amounts}}
        self._world.core.patch_node_status(self._node.metadata.name, body)


@pytest.fixture
def pool(parcels: Parcels) -> Iterator[Scarce]:
    """The pool; each test has its rollout gone before the pool goes."""
    made = Scarce(parcels)
    yield made
    made.end()


def start(parcels: Parcels, capacity: str) -> Rollout:
    """Two servers of the first version, each with a GPU, and a steady client."""
    serving: dict[str, Any] = {
        "resources": SMALL,
        "poolRef": {"name": POOL},
        "replicas": {"min": 2, "max": 2},
        "capacity": capacity,
    }
    rollback = {"automatic": True, "keepPrevious": "1s"}
    made = Rollout(parcels, f"scarce-{capacity.lower()}", steps=STEPS, serving=serving, rollback=rollback)
    made.serves("first")
    made.client()
    return made


def finish(rollout: Rollout, watcher: Watcher, gpus: int) -> None:
    """The second version has taken over; there always was a server, never more than there is room for."""
    rollout.serves("second", 240)
    rollout.until("the first version's servers are gone", lambda told: len(told.get("versions", [])) == 1)
    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    seen = [_servers(each, rollout.name) for each in watcher.servers(NAME)]
    serving = seen[next(place for place, count in enumerate(seen) if count == 2) :]
    assert min(serving) >= 1
    assert max(serving) <= gpus


def test_surge_waits_until_there_is_room_for_a_complete_version(
    parcels: Parcels, pool: Scarce, watcher: Watcher
) -> None:
    pool.has(3)
    rollout = start(parcels, "Surge")
    try:
        rollout.pin("second")
        rollout.until(
            "it waits for room", lambda _: rollout.condition("Progressing").get("reason") == "WaitingForPool", 60
        )
        said = rollout.condition("Progressing")["message"]
        assert "holds 2 of its 3 nvidia.com/gpu in ComputePool scarce" in said
        assert "needs 2" in said
        assert rollout.counts().versions.keys() == {parcels.versions["first"]}
        pool.has(4)
        finish(rollout, watcher, 4)
    finally:
        rollout.close()


def test_partial_needs_room_for_one_server_more(parcels: Parcels, pool: Scarce, watcher: Watcher) -> None:
    pool.has(3)
    rollout = start(parcels, "Partial")
    try:
        rollout.pin("second")
        finish(rollout, watcher, 3)
    finally:
        rollout.close()


def test_recreate_needs_no_more_room(parcels: Parcels, pool: Scarce, watcher: Watcher) -> None:
    pool.has(2)
    rollout = start(parcels, "Recreate")
    try:
        rollout.pin("second")
        finish(rollout, watcher, 2)
    finally:
        rollout.close()


def _servers(ready: Obj, rollout: str) -> int:
    return sum(count for service, count in ready.items() if service.startswith(f"{rollout}-"))
