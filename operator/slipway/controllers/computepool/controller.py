"""The controller of ComputePools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from slipway.adapters import labels
from slipway.adapters.quantities import plain, quantity
from slipway.api.computepool import ComputePool, ComputePoolStatus
from slipway.api.reasons import Reason
from slipway.controllers.computepool.quota import Holding, holdings, holdings_of_runs
from slipway.controllers.shared.typed import Subject, finish, subject
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import (
    COMPUTE_POOL,
    INFERENCE_SERVICE,
    JOB,
    TRAINING_RUN,
    Key,
    Object,
    ResourceType,
)
from slipway.runtime.stores import Stores

NODE = ResourceType("", "v1", "Node", "nodes", namespaced=False)
"""Listed by selector when a pool is looked at, never watched: nodes report to the API every few seconds."""
LOOK_SECONDS = 60.0


@dataclass(frozen=True)
class PoolSnapshot:
    """One pool, how much of its resource each matching node offers, and who holds it."""

    subject: Subject[ComputePool]
    offers: Mapping[str, Decimal]
    held: tuple[Holding, ...] = ()


class ComputePoolController:
    """Counts what a pool has and who holds it."""

    type: ResourceType = COMPUTE_POOL

    @property
    def watches(self) -> Sequence[Watch]:
        """Whatever may hold units."""
        return (Watch(JOB, _pool_of), Watch(INFERENCE_SERVICE, _pool_of), Watch(TRAINING_RUN, _pool_of_run))

    async def observe(self, io: Io, key: Key) -> PoolSnapshot | None:
        """List the nodes, and count the holdings in memory."""
        found = subject(io, key, ComputePool)
        if found is None or found.deleting:
            return None
        selector = ",".join(f"{name}={value}" for name, value in sorted(found.typed.spec.node_selector.items()))
        nodes = await io.client.list(NODE, label_selector=selector)
        offers = {node["metadata"]["name"]: _offer(node, found.typed.spec.resource) for node in nodes}
        marked = {labels.POOL: labels.label_value(key.name)}
        objects = [*io.list(JOB, labels=marked), *io.list(INFERENCE_SERVICE, labels=marked)]
        runs = holdings_of_runs(found.typed, io.where(TRAINING_RUN, {("spec", "poolRef", "name"): key.name}))
        return PoolSnapshot(found, offers, (*holdings(key.name, objects), *runs))

    def plan(self, snapshot: PoolSnapshot, now: datetime) -> Plan:
        """Say what there is; pure."""
        conditions = Conditions(snapshot.subject.raw, now)
        spec = snapshot.subject.typed.spec
        capacity = sum(snapshot.offers.values(), Decimal(0))
        in_use = sum(each.units for each in snapshot.held)
        if capacity > 0:
            message = f"{len(snapshot.offers)} nodes offer {plain(capacity)} {spec.resource}; {in_use} are in use."
            conditions.true("Ready", Reason.NodesAvailable, message)
        else:
            conditions.false("Ready", Reason.NoNodes, _nothing(snapshot))
        status = finish(
            ComputePoolStatus,
            snapshot.subject,
            conditions,
            nodes=len(snapshot.offers),
            capacity=plain(capacity),
            in_use=in_use,
        )
        return Plan(status=status, requeue_after=LOOK_SECONDS)


def _nothing(snapshot: PoolSnapshot) -> str:
    spec = snapshot.subject.typed.spec
    if snapshot.offers:
        return (
            f"spec.resource: {len(snapshot.offers)} nodes match and none offers {spec.resource}: install its device "
            "plugin, or correct the resource."
        )
    marks = ", ".join(f"{name}={value}" for name, value in sorted(spec.node_selector.items())) or "any label"
    return f"spec.nodeSelector: no node has {marks}: label a node, or correct the selector."


def _offer(node: Object, resource: str) -> Decimal:
    """What pods may use of a resource on a node; nothing where no pod may be scheduled."""
    if (node.get("spec") or {}).get("unschedulable"):
        return Decimal(0)
    status = node.get("status") or {}
    amount = (status.get("allocatable") or status.get("capacity") or {}).get(resource)
    return quantity(str(amount)) if amount is not None else Decimal(0)


def _pool_of(obj: Object, stores: Stores) -> Iterable[Key]:
    return _known((obj["metadata"].get("labels") or {}).get(labels.POOL), stores)


def _pool_of_run(run: Object, stores: Stores) -> Iterable[Key]:
    return _known((run["spec"].get("poolRef") or {}).get("name"), stores)


def _known(name: str | None, stores: Stores) -> Iterable[Key]:
    key = COMPUTE_POOL.key(name) if name else None
    return (key,) if key is not None and stores.get(key) is not None else ()
