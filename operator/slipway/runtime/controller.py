"""How a controller is written: observe, then a pure plan. Everything else is the runtime's work.

    observe(io, key) → Snapshot | None     reads stores (and, rarely, services) into one frozen value
    plan(snapshot, now) → Plan             a pure function: what to write, the whole status, when to look again

The runtime executes a plan in this order: finalizer kept, actions, status, Events, finalizer dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from slipway.runtime.client import Client
from slipway.runtime.conditions import Note
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import Key, Object, Objects, ResourceType, owner_label
from slipway.runtime.stores import Path, Stores

S = TypeVar("S")


# Actions: frozen data, so that a unit test of `plan` compares them by value.


@dataclass(frozen=True)
class Apply:
    """Make an object look like this by server-side apply; no request when it does already.

    The runtime adds the managed-by and owner labels, the applied hash and, with `owned`, an owner reference.

    :param owned: the object dies with the one that is reconciled (same namespace, or a cluster-scoped owner)
    :param adopt: take over an object of that name that Slipway did not make, instead of a UserError
    """

    manifest: Mapping[str, Any]
    owned: bool = True
    adopt: bool = False


@dataclass(frozen=True)
class Create:
    """Create a record that never changes. One that exists already is fine when it has the same content.

    :param owned: False by default: records outlive what made them
    """

    manifest: Mapping[str, Any]
    owned: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete an object, if it is still the one with this UID. No request when it is being deleted already."""

    key: Key
    uid: str = ""
    propagation: Literal["Background", "Foreground", "Orphan"] = "Background"


@dataclass(frozen=True)
class WriteStatus:
    """Set the status of another object of ours (a record that this controller fills); only when it differs."""

    key: Key
    status: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """An effect outside of Kubernetes: `await controller.ports[port].method(**arguments)`. It must be idempotent.

    Its result is not used: the next `observe` sees what it did. Requeue when nothing will wake the key.
    """

    port: str
    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Action = Apply | Create | Delete | WriteStatus | Call


@dataclass(frozen=True)
class Plan:
    """What one reconcile should bring about.

    :param actions: executed in order; the first that fails ends the reconcile, and the error goes to the condition
    :param status: the whole status, or None to leave it alone; written only when it differs
    :param events: sent when this reconcile changed something, beside one for each transition of a condition
    :param requeue_after: seconds until the next look without any event; None: when something changes
    :param finalizer: `keep` puts `slipway.dev/cleanup` on before the first action, `drop` takes it off at the end
    """

    actions: tuple[Action, ...] = ()
    status: Mapping[str, Any] | None = None
    events: tuple[Note, ...] = ()
    requeue_after: float | None = None
    finalizer: Literal["keep", "drop", "none"] = "none"


class Io:
    """What `observe` may read of the cluster. Adapters to the world outside are the controller's own attributes."""

    def __init__(self, stores: Stores, client: Client, clock: Callable[[], datetime]) -> None:
        self.stores = stores
        self.client = client
        self.clock = clock

    def get(self, key: Key) -> Object | None:
        """From memory. :raises KeyError: the type is not watched"""
        return self.stores.get(key)

    def list(self, type_: ResourceType, namespace: str = "", labels: Mapping[str, str] | None = None) -> Objects:
        """From memory, ordered by name. :raises KeyError: the type is not watched"""
        return self.stores.list(type_, namespace, labels)

    def where(self, type_: ResourceType, fields: Mapping[Path, str], namespace: str = "") -> Objects:
        """From memory, by an index: objects in which all of `fields` have their values, ordered by name."""
        return self.stores.where(type_, fields, namespace)

    def owned(self, owner: Mapping[str, Any], type_: ResourceType) -> Objects:
        """From memory: objects with an owner reference to `owner`."""
        return self.stores.owned(owner, type_)

    async def live(self, key: Key) -> Object | None:
        """From the API server, one request: for what is not watched, above all Secrets."""
        return await self.client.find(key)

    async def serves(self, type_: ResourceType) -> bool:
        """Whether the API server serves a type now: one request."""
        return await self.client.serves(type_)

    async def document(self, path: str) -> Object:
        """A document of the API server that is no object: one request. :raises NotFound, Forbidden:"""
        return await self.client.document(path)


Mapper = Callable[[Object, Stores], Iterable[Key]]
"""From an object that changed to the keys that should look again."""


@dataclass(frozen=True)
class Watch:
    """Wake keys of a controller when an object of another type changes.

    :param type: what to watch; its selector limits what is kept in memory
    :param map: which keys to wake
    """

    type: ResourceType
    map: Mapper


def owned(child: ResourceType, owner: ResourceType) -> Watch:
    """Watch children of a type and wake the owner that their owner reference names."""

    def keys(obj: Object, _: Stores) -> Iterable[Key]:
        meta = obj["metadata"]
        for reference in meta.get("ownerReferences") or ():
            if reference["kind"] == owner.kind and reference["apiVersion"].split("/")[0] == owner.group:
                yield owner.key(reference["name"], meta.get("namespace", "") if owner.namespaced else "")

    return Watch(child, keys)


def labelled(child: ResourceType, owner: ResourceType) -> Watch:
    """Watch objects that name their owner by label: records, and children in other namespaces."""
    label = owner_label(owner.kind)

    def keys(obj: Object, _: Stores) -> Iterable[Key]:
        meta = obj["metadata"]
        name = (meta.get("labels") or {}).get(label)
        if name:
            yield owner.key(name, meta.get("namespace", "") if owner.namespaced else "")

    return Watch(child, keys)


def referring(target: ResourceType, source: ResourceType, refers: Callable[[Object, Object], bool]) -> Watch:
    """Watch a target and wake each source for which `refers(source, target)`; namespaced pairs share a namespace."""

    def keys(obj: Object, stores: Stores) -> Iterable[Key]:
        namespace = obj["metadata"].get("namespace", "") if source.namespaced else ""
        for candidate in stores.list(source, namespace):
            if refers(candidate, obj):
                yield source.key_of(candidate)

    return Watch(target, keys)


class Controller(Protocol[S]):
    """Keeps the objects of one kind true. One controller a kind: the status is written as a whole.

    Optional attributes: `ready_condition` (the condition that errors go to, `Ready`), `ports` (adapters by name) and
    `observed_by_standby` (a standby observes and plans too, and writes nothing: whatever the controller measures over
    time is there when the standby takes over).
    """

    @property
    def type(self) -> ResourceType:
        """The kind whose objects this controller reconciles."""
        ...

    @property
    def watches(self) -> Sequence[Watch]:
        """What else wakes its keys, and is in memory for `observe`."""
        ...

    async def observe(self, io: Io, key: Key) -> S | None:
        """Read all that the plan needs. None: there is nothing to do for this key.

        :raises MissingDependency, UserError, Unavailable: see `slipway.runtime.errors`
        """
        ...

    def plan(self, snapshot: S, now: datetime) -> Plan:
        """Decide, without any side effect. :raises UserError, MissingDependency:"""
        ...


@runtime_checkable
class Measured(Protocol):
    """A port that counts what it does."""

    def measure(self, metrics: Metrics) -> None:
        """Count there from now on."""
        ...


def ports_of(controller: object) -> Mapping[str, Any]:
    """The adapters that `Call` actions name: the controller's `ports`, by default none."""
    found: Mapping[str, Any] = getattr(controller, "ports", {})
    return found


def ready_condition(controller: object) -> str:
    """The condition that errors go to: the controller's `ready_condition`, by default `Ready`."""
    return str(getattr(controller, "ready_condition", "Ready"))


def is_observed_by_standby(controller: object) -> bool:
    """Whether a replica that does not lead observes for this controller too."""
    return bool(getattr(controller, "observed_by_standby", False))
