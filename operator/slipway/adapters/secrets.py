"""Secrets of the Platform and of rollouts: read live, decoded, remembered for half a minute.

Secrets are never watched: a watch would pull every Secret of the cluster into memory and need the right to list them.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from slipway.runtime.resources import SECRET, Key, Object

REMEMBER_SECONDS = 30.0


class Reader(Protocol):
    """The part of the Kubernetes client that is needed here."""

    async def find(self, key: Key) -> Object | None:
        """The object, or None."""
        ...


@dataclass(frozen=True)
class SecretData:
    """A Secret's content as text; values that are not UTF-8 are left out.

    :param type: what Kubernetes calls the Secret's type, which says what it may be used for
    """

    resource_version: str
    values: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    type: str = ""

    def missing(self, *keys: str) -> tuple[str, ...]:
        """Those of `keys` that are absent or empty."""
        return tuple(key for key in keys if not self.values.get(key))


class Secrets:
    """Reads Secrets with the client that was bound last; a missing one is asked for again each time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._client: Reader | None = None
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, SecretData]] = {}

    def bind(self, client: Reader) -> None:
        """Read with this client from now on: each term of leadership has its own."""
        self._client = client

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """The Secret, at most half a minute old; None when there is none.

        :raises Unavailable, Forbidden: the API server does not answer or does not allow it
        """
        at = (namespace, name)
        known = self._known.get(at)
        if known is not None and self._clock() - known[0] < REMEMBER_SECONDS:
            return known[1]
        if self._client is None:
            raise RuntimeError("Secrets.bind was not called")
        obj = await self._client.find(SECRET.key(name, namespace))
        if obj is None:
            self._known.pop(at, None)
            return None
        meta = obj["metadata"]
        revision, annotations = str(meta.get("resourceVersion", "")), meta.get("annotations") or {}
        data = SecretData(revision, _decoded(obj), annotations, str(obj.get("type", "")))
        self._known[at] = (self._clock(), data)
        return data

    def forget(self, namespace: str, name: str) -> None:
        """Read it anew the next time: its content was refused."""
        self._known.pop((namespace, name), None)


def _decoded(obj: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in (obj.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found
