"""What the API server says of itself that admission of consumers needs: who signs its tokens, and which types it has.

Both are asked for at most once a minute in the whole operator. While the API server does not answer, what it said last
is kept: its keys do not change because it is away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from slipway.adapters.access import Issuer
from slipway.runtime.errors import ApiError, Unavailable
from slipway.runtime.resources import ResourceType

CONFIGURATION: Final = "/.well-known/openid-configuration"
KEYS: Final = "/openid/v1/jwks"
REMEMBER_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0


class Source(Protocol):
    """The part of `Io` that is needed here."""

    async def document(self, path: str) -> Any:
        """A JSON document of the API server."""
        ...

    async def serves(self, type_: ResourceType) -> bool:
        """Whether it serves a type now."""
        ...


class ClusterFacts:
    """Remembers the answers; `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._issuer: Issuer | None = None
        self._issuer_until = float("-inf")
        self._served: dict[ResourceType, tuple[float, bool]] = {}

    async def issuer(self, source: Source) -> Issuer | None:
        """Who signs tokens of ServiceAccounts; None while the API server has not told."""
        if self._clock() >= self._issuer_until:
            try:
                configuration = await source.document(CONFIGURATION)
                self._issuer = Issuer(str(configuration["issuer"]), _text(await source.document(KEYS)))
                self._issuer_until = self._clock() + REMEMBER_SECONDS
            except (ApiError, Unavailable, KeyError):
                self._issuer_until = self._clock() + RETRY_SECONDS
        return self._issuer

    async def serves(self, source: Source, type_: ResourceType) -> bool:
        """Whether the API server serves a type, as of the last minute.

        :raises Unavailable: it does not answer, and never has
        """
        until, served = self._served.get(type_, (float("-inf"), False))
        if self._clock() < until:
            return served
        try:
            now = await source.serves(type_)
        except (ApiError, Unavailable):
            if type_ not in self._served:
                raise
            now = served
        # What is missing may come any moment, and somebody waits for it.
        self._served[type_] = (self._clock() + (REMEMBER_SECONDS if now else RETRY_SECONDS), now)
        return now


def _text(keys: Mapping[str, Any]) -> str:
    """The same text for the same keys, so that a policy changes only with them."""
    ordered = sorted(keys["keys"], key=lambda each: str(each.get("kid", "")))
    return json.dumps({"keys": ordered}, sort_keys=True, separators=(",", ":"))
