"""Decides whether a live object already is what we want, so that nothing is written when nothing has to change.

Two questions. Does the live object still hold every field that we set (subset comparison)? And did we apply exactly
these fields the last time (a hash in an annotation)? The second finds fields that we no longer set.

The API server rewrites some values (`1000m` becomes `1`, empty maps vanish). Where an apply leaves an object that still
does not compare as a superset, `Futile` remembers the pair, so that the same apply is not sent again until either side
changes.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from slipway.runtime.resources import APPLIED_HASH, Key

_OPEN_LISTS = (("metadata", "ownerReferences"), ("metadata", "finalizers"))
"""Lists to which others may add entries. Everywhere else an added entry is an edit of ours, and is put back."""


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def covers(live: Any, desired: Any, path: tuple[str, ...] = ()) -> bool:
    """Whether `live` holds everything in `desired`. A missing field equals null, an empty map and an empty list."""
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return live is None and not desired
        return all(covers(live.get(name), value, (*path, name)) for name, value in desired.items())
    if isinstance(desired, list | tuple):
        return _list_covers(live, desired, path)
    if desired is None or live is None:
        return desired is None
    if isinstance(desired, bool) or isinstance(live, bool):
        return live is desired
    return bool(live == desired)


def _list_covers(live: Any, desired: list[Any] | tuple[Any, ...], path: tuple[str, ...]) -> bool:
    if live is None:
        return not desired
    if not isinstance(live, list):
        return False
    if path in _OPEN_LISTS:
        return all(any(covers(candidate, wanted, path) for candidate in live) for wanted in desired)
    return len(live) == len(desired) and all(map(covers, live, desired, [path] * len(live)))


def with_hash(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with an annotation that holds its own digest."""
    meta = dict(manifest["metadata"])
    meta["annotations"] = {**(meta.get("annotations") or {}), APPLIED_HASH: digest(manifest)}
    return {**manifest, "metadata": meta}


def is_applied(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether applying `desired` (from `with_hash`) would change nothing."""
    return covers(live, desired)  # the annotation is one of the fields, so an equal digest is included


def is_edited(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether exactly `desired` (from `with_hash`) was applied before, and somebody has changed a field of it since."""
    applied = (live["metadata"].get("annotations") or {}).get(APPLIED_HASH)
    return bool(applied == desired["metadata"]["annotations"][APPLIED_HASH]) and not is_applied(live, desired)


def first_difference(live: Any, desired: Any, path: tuple[str, ...] = ()) -> str:
    """Path of the first field that `live` does not hold as desired; a list is named as a whole. Empty without one."""
    if covers(live, desired, path):
        return ""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        for name, value in desired.items():
            if found := first_difference(live.get(name), value, (*path, name)):
                return found
    return ".".join(path)


def fingerprint(live: Mapping[str, Any]) -> str:
    """Digest of what people and controllers set on an object: no status, no server-side bookkeeping."""
    meta = {name: live["metadata"].get(name) for name in ("labels", "annotations", "ownerReferences", "finalizers")}
    rest = {name: value for name, value in live.items() if name not in ("metadata", "status", "apiVersion", "kind")}
    return digest([meta, rest])


class Futile:
    """Remembers applies that did not make the live object a superset of what was applied.

    :param size: how many objects are remembered; the ones used longest ago are dropped
    """

    def __init__(self, size: int = 4096) -> None:
        self._known: OrderedDict[Key, tuple[str, str]] = OrderedDict()
        self._size = size

    def remember(self, key: Key, desired: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
        """Note the result of an apply; True when it is futile to repeat it."""
        if is_applied(result, desired):
            self._known.pop(key, None)
            return False
        self._known[key] = (digest(desired), fingerprint(result))
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return True

    def __call__(self, key: Key, desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
        """Whether exactly this was applied before and nothing has changed since."""
        return key in self._known and self._known[key] == (digest(desired), fingerprint(live))
