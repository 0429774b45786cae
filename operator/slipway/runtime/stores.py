"""Read stores that the watches keep up to date, so that observing costs no request.

Besides watch events, a store takes the answers to our own writes (read your own writes) and refuses anything older than
what it has. A deleted object leaves its UID and last version behind for a while, so that a late answer to a write
cannot bring it back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from slipway.runtime.resources import Key, Object, Objects, ResourceType, uid_of

_TOMBSTONES = 4096
_NONE: frozenset[Key] = frozenset()
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def trim(obj: Object) -> Object:
    """The object without what no controller reads and what weighs most: managed fields, kubectl's copy of the spec."""
    meta = dict(obj["metadata"])
    meta.pop("managedFields", None)
    annotations = meta.get("annotations")
    if annotations and _LAST_APPLIED in annotations:
        meta["annotations"] = {name: value for name, value in annotations.items() if name != _LAST_APPLIED}
    return {**obj, "metadata": meta}


def brief(obj: Object, fields: tuple[str, ...]) -> Object:
    """The object with its metadata and some fields of its status; all of it where none are named."""
    if not fields:
        return obj
    status = obj.get("status") or {}
    kept = {name: value for name, value in obj.items() if name in ("apiVersion", "kind", "metadata")}
    return {**kept, "status": {name: status[name] for name in fields if name in status}}


def version_of(obj: Mapping[str, Any]) -> int:
    """The resource version as a number: the API guarantees that newer is greater within one type."""
    text = str(obj["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0


Path = tuple[str, ...]
"""Names of nested fields, such as `("spec", "projectRef", "name")`."""


class Store:
    """The objects of one type, indexed by namespace, by owner, and by each field or label that somebody asked by."""

    def __init__(self, type_: ResourceType) -> None:
        self.type = type_
        self._objects: dict[Key, Object] = {}
        self._by_namespace: dict[str, dict[str, Object]] = {}
        self._by_owner: dict[str, set[Key]] = {}
        self._by_field: dict[Path, dict[str | None, set[Key]]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def keys(self) -> Iterator[Key]:
        return iter(tuple(self._objects))

    def put(self, obj: Object) -> bool:
        """Take an object in; False when it is older than what is known, unchanged, or already deleted."""
        key, uid = self.type.key_of(obj), uid_of(obj)
        known = self._objects.get(key)
        if uid in self._gone and version_of(obj) <= self._gone[uid]:
            return False
        if known is not None and uid_of(known) == uid and version_of(obj) <= version_of(known):
            return False
        if known is not None and uid_of(known) != uid and version_of(obj) < version_of(known):
            return False
        if known is not None:
            self._unindex(key, known)
        self._index(key, trim(brief(obj, self.type.brief)))
        return True

    def remove(self, obj: Mapping[str, Any]) -> bool:
        """Forget an object that was deleted or lost the labels that we watch for; a newer one of that name stays."""
        key, uid = self.type.key_of(obj), uid_of(obj)
        self._bury(uid, version_of(obj))
        known = self._objects.get(key)
        if known is None or uid_of(known) != uid:
            return False
        self._unindex(key, known)
        return True

    def list(self, namespace: str = "", labels: Mapping[str, str] | None = None) -> Objects:
        """Objects of a namespace (or of all), with all of `labels`, ordered by name."""
        return self.where({("metadata", "labels", name): value for name, value in (labels or {}).items()}, namespace)

    def where(self, fields: Mapping[Path, str], namespace: str = "") -> Objects:
        """Objects of a namespace (or of all) in which all of `fields` have their values, ordered by name.

        The first question by a field makes an index, which is kept from then on: later ones cost what they find.
        """
        sets = [self._index_of(path).get(value, _NONE) for path, value in fields.items()]
        fewest = min(sets, key=len, default=None)
        there = self._by_namespace.get(namespace, {}) if namespace else self._objects
        if fewest is None or len(there) < len(fewest):
            found: Iterable[Object] = there.values()
        else:
            found = [self._objects[key] for key in fewest if not namespace or key.namespace == namespace]
            if len(fields) == 1:
                return _ordered(found)
        return _ordered([obj for obj in found if all(_at(obj, path) == value for path, value in fields.items())])

    def owned_by(self, uid: str) -> Objects:
        """Objects with an owner reference to this UID, ordered by name."""
        return _ordered([self._objects[key] for key in self._by_owner.get(uid, ())])

    def _index_of(self, path: Path) -> dict[str | None, set[Key]]:
        index = self._by_field.get(path)
        if index is None:
            index = self._by_field[path] = {}
            for key, obj in self._objects.items():
                index.setdefault(_at(obj, path), set()).add(key)
        return index

    def _index(self, key: Key, obj: Object) -> None:
        self._objects[key] = obj
        for path, index in self._by_field.items():
            index.setdefault(_at(obj, path), set()).add(key)
        self._by_namespace.setdefault(key.namespace, {})[key.name] = obj
        for owner in obj["metadata"].get("ownerReferences") or ():
            self._by_owner.setdefault(owner["uid"], set()).add(key)

    def _unindex(self, key: Key, obj: Object) -> None:
        del self._objects[key]
        self._by_namespace[key.namespace].pop(key.name)
        if not self._by_namespace[key.namespace]:
            del self._by_namespace[key.namespace]
        for owner in obj["metadata"].get("ownerReferences") or ():
            keys = self._by_owner.get(owner["uid"], set())
            keys.discard(key)
            if not keys:
                self._by_owner.pop(owner["uid"], None)
        for path, index in self._by_field.items():
            value = _at(obj, path)
            index[value].discard(key)
            if not index[value]:
                del index[value]

    def _bury(self, uid: str, version: int) -> None:
        if uid:
            self._gone[uid] = version
            if len(self._gone) > _TOMBSTONES:
                self._gone.popitem(last=False)


def _ordered(objects: Objects) -> Objects:
    """By namespace and name, in place."""
    if len(objects) > 1:
        objects.sort(key=lambda obj: (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
    return objects


def _at(obj: Mapping[str, Any], path: Path) -> str | None:
    """The text at a path; None where there is none."""
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else None


class Stores:
    """All stores, and whether their first lists are complete (`synced`): before that nothing may be reconciled."""

    def __init__(self, types: Iterable[ResourceType] = ()) -> None:
        self._stores = {each: Store(each) for each in types}
        self.synced = False

    @property
    def types(self) -> tuple[ResourceType, ...]:
        return tuple(self._stores)

    def watches(self, type_: ResourceType) -> bool:
        return type_ in self._stores

    def of(self, type_: ResourceType) -> Store:
        """:raises KeyError: with a sentence, when no controller declared that it watches this type"""
        store = self._stores.get(type_)
        if store is None:
            raise KeyError(f"{type_} is not watched: declare a Watch for it, or read it live with Io.live()")
        return store

    def get(self, key: Key) -> Object | None:
        return self.of(key.type).get(key)

    def list(self, type_: ResourceType, namespace: str = "", labels: Mapping[str, str] | None = None) -> Objects:
        return self.of(type_).list(namespace, labels)

    def where(self, type_: ResourceType, fields: Mapping[Path, str], namespace: str = "") -> Objects:
        return self.of(type_).where(fields, namespace)

    def owned(self, owner: Mapping[str, Any], type_: ResourceType) -> Objects:
        """Children of a type that carry an owner reference to `owner`."""
        return self.of(type_).owned_by(uid_of(owner))
