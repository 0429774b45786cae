"""Time as the operator lived through it: neither a clock that steps nor an outage makes it pass for a version.

The status keeps times of the wall clock, because it outlives processes. Within one process, what has passed since such
a time is measured on the monotonic clock, from the moment at which the process first saw it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway.api.meta import parse_time
from slipway.runtime.conditions import timestamp

LOOK = 30.0
"""Seconds between two looks of which no more are counted: whatever happened meanwhile, nobody saw it."""


@dataclass(frozen=True)
class Lived:
    """What one look knows of time.

    :param steady: the present moment as it is counted from a time in the status, by that time's text
    :param lasted: seconds for which something was seen to be so, by its name
    """

    steady: Mapping[str, datetime] = field(default_factory=dict)
    lasted: Mapping[str, float] = field(default_factory=dict)

    def now(self, since: datetime, now: datetime) -> datetime:
        """The present moment, to be compared with a time in the status; `now` for a time that is not written yet."""
        return self.steady.get(timestamp(since), now)

    def passed(self, since: datetime, now: datetime) -> timedelta:
        """What has passed since a time in the status."""
        return self.now(since, now) - since


@dataclass
class _Memory:
    looked: tuple[datetime, float]
    anchors: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    states: dict[str, tuple[str, float]] = field(default_factory=dict)


class Attention:
    """Remembers looks at objects, in memory only.

    :param clock: monotonic seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Memory] = {}

    def look(
        self,
        owner: str,
        now: datetime,
        begun: Iterable[str] = (),
        ends: Iterable[str] = (),
        states: Mapping[str, tuple[str, bool]] | None = None,
    ) -> Lived:
        """Note a look.

        :param begun: times in the status at which something began; one that lies ahead was written by another clock
        :param ends: times in the status at which something ends
        :param states: what may be so, in which form, and whether it is so now. Another form begins anew
        """
        mono = self._clock()
        memory = self._known.setdefault(owner, _Memory((now, mono)))
        anchors = {text: memory.anchors.get(text) or _anchor(text, memory, now, mono, clamp=True) for text in begun}
        for text in ends:
            anchors.setdefault(text, memory.anchors.get(text) or _anchor(text, memory, now, mono, clamp=False))
        passed = min(max(0.0, mono - memory.looked[1]), LOOK)
        lasting: dict[str, tuple[str, float]] = {}
        for name, (form, holds) in (states or {}).items():
            known = memory.states.get(name)
            so_far = known[1] if known is not None and known[0] == form else 0.0
            lasting[name] = (form, so_far + passed if holds and known is not None and known[0] == form else so_far)
        memory.looked, memory.anchors, memory.states = (now, mono), anchors, lasting
        steady = {text: wall + timedelta(seconds=mono - since) for text, (wall, since) in anchors.items()}
        return Lived(steady, {name: seconds for name, (_, seconds) in lasting.items()})

    def forget(self, owner: str) -> None:
        self._known.pop(owner, None)


def _anchor(text: str, memory: _Memory, now: datetime, mono: float, *, clamp: bool) -> tuple[datetime, float]:
    """From when on, on both clocks, a time is counted: from the look that wrote it, or else from the present one."""
    wall, since = memory.looked if mono - memory.looked[1] <= LOOK else (now, mono)
    return (max(wall, parse_time(text)) if clamp else wall), since
