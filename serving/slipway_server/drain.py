"""Leaving without losing a request.

After SIGTERM the gateway goes on sending for a moment: it has to hear first that the pod is leaving. So the server says
that it is not ready, keeps answering, asks clients to close their connections, and exits when nobody has asked anything
for a while: at the earliest after `minimum` seconds, at the latest after `maximum`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Drain:
    """State of leaving; used from the event loop's thread only, but for `begin`."""

    def __init__(
        self, minimum: float, quiet: float, maximum: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._minimum = minimum
        self._quiet = quiet
        self._maximum = maximum
        self._clock = clock
        self._began: float | None = None
        self._active = 0
        self._last = clock()

    @property
    def started(self) -> bool:
        """Whether the server is leaving."""
        return self._began is not None

    def begin(self) -> None:
        """Start to leave; safe in a signal handler."""
        if self._began is None:
            self._began = self._clock()

    @contextmanager
    def request(self, *, counts: bool) -> Iterator[None]:
        """Around a request. Probes and scrapes go on until the end, so they do not count."""
        if not counts:
            yield
            return
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._last = self._clock()

    @property
    def finished(self) -> bool:
        """Whether the server may exit now."""
        if self._began is None:
            return False
        now = self._clock()
        if now - self._began >= self._maximum:
            return True
        idle = self._active == 0 and now - self._last >= self._quiet
        return idle and now - self._began >= self._minimum
