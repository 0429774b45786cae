"""Typed objects beside their raw form, and statuses written from typed models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from slipway.api.meta import Condition, Resource, Status, parse_time
from slipway.runtime.conditions import Conditions, find
from slipway.runtime.controller import Io
from slipway.runtime.resources import Key, Object, ResourceType

R = TypeVar("R", bound=Resource)
S = TypeVar("S", bound=Status)


@dataclass(frozen=True)
class Subject(Generic[R]):
    """The object that is reconciled: as it came, which conditions and owner references need, and typed."""

    raw: Object
    typed: R

    @property
    def name(self) -> str:
        """Its name."""
        return self.typed.metadata.name

    @property
    def namespace(self) -> str:
        """Its namespace; empty for cluster-scoped kinds."""
        return self.typed.metadata.namespace or ""

    @property
    def deleting(self) -> bool:
        """Whether somebody asked to delete it."""
        return self.typed.metadata.deletion_timestamp is not None


def subject(io: Io, key: Key, model: type[R]) -> Subject[R] | None:
    """The object of a key; None when it is gone."""
    raw = io.get(key)
    return None if raw is None else Subject(raw, model.model_validate(raw))


def read(io: Io, type_: ResourceType, model: type[R], name: str, namespace: str = "") -> R | None:
    """A typed object from memory, or None."""
    raw = io.get(type_.key(name, namespace))
    return None if raw is None else model.model_validate(raw)


def read_all(io: Io, type_: ResourceType, model: type[R], namespace: str = "") -> tuple[R, ...]:
    """All typed objects of a namespace from memory, by name."""
    return tuple(model.model_validate(raw) for raw in io.list(type_, namespace))


def finish(status: type[S], of: Subject[Any], conditions: Conditions, **fields: Any) -> dict[str, Any]:
    """The whole status on the wire: conditions, the observed generation, and what is not None of `fields`."""
    made = status(
        observed_generation=of.typed.metadata.generation,
        conditions=[Condition.model_validate(each) for each in conditions.list()],
        **fields,
    )
    return made.wire()


def condition(resource: Resource, kind: str) -> Condition | None:
    """A condition of a typed object, or None."""
    status: Status = getattr(resource, "status")  # noqa: B009 - each kind declares its own
    return next((each for each in status.conditions or () if each.type == kind), None)


def is_ready(resource: Resource, kind: str = "Ready") -> bool:
    """Whether a condition is True for the object's newest generation."""
    found = condition(resource, kind)
    return found is not None and found.status == "True" and found.observed_generation == resource.metadata.generation


def age_key(resource: Resource) -> tuple[str, str]:
    """Orders objects from the oldest to the newest; the API's times have seconds, so names break ties."""
    return resource.metadata.creation_timestamp or "", resource.metadata.name


def newest(resources: Iterable[R]) -> R | None:
    """The object that was made last, or None."""
    return max(resources, key=age_key, default=None)


def created(resource: Resource) -> datetime:
    """When an object was made. ValueError for one that the API server never saw."""
    return parse_time(resource.metadata.creation_timestamp or "")


def raw_condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """A condition of a raw object, or None."""
    return find((obj.get("status") or {}).get("conditions") or (), kind)
