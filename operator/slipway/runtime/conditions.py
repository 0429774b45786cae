"""Status conditions: built anew on every pass, with the time of the last transition carried over.

A controller states every condition that holds now; one that it does not state is gone. So a status is a function of
what was observed, and no stale condition survives the code that once set it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Status = Literal["True", "False", "Unknown"]
MAX_MESSAGE = 1024
"""Longer messages are cut: the CRDs allow no more, and a sentence is what people read."""


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as the API prints times."""
    return now.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def find(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """The condition of a type, or None."""
    for each in conditions:
        if each.get("type") == kind:
            return each
    return None


def is_true(obj: Mapping[str, Any], kind: str, *, current: bool = True) -> bool:
    """Whether an object's condition is True and, with `current`, was observed for its newest generation."""
    found = find((obj.get("status") or {}).get("conditions") or (), kind)
    if found is None or found.get("status") != "True":
        return False
    generation = obj["metadata"].get("generation")
    return not current or generation is None or found.get("observedGeneration", generation) == generation


class Conditions:
    """Collects the conditions of one pass.

    >>> conditions = Conditions(live, now)
    >>> conditions.true("Ready", "Serving", "Version 9f2c1a takes all traffic.")
    >>> status = {"conditions": conditions.list()}
    """

    def __init__(self, obj: Mapping[str, Any], now: datetime) -> None:
        """`obj` is the live object: its generation is observed, its conditions give the earlier transition times."""
        self._previous: Sequence[Mapping[str, Any]] = (obj.get("status") or {}).get("conditions") or ()
        self._generation = int(obj["metadata"].get("generation", 0))
        self._now = timestamp(now)
        self._conditions: dict[str, dict[str, Any]] = {}

    def set(self, kind: str, status: Status | bool, reason: str, message: str = "") -> None:
        """State a condition; the last word for a type counts. `reason` is a CamelCase word."""
        word = status if isinstance(status, str) else str(status)
        before = find(self._previous, kind)
        unchanged = before is not None and before.get("status") == word and before.get("lastTransitionTime")
        self._conditions[kind] = {
            "type": kind,
            "status": word,
            "reason": reason,
            "message": message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
            "observedGeneration": self._generation,
            "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else self._now,
        }

    def true(self, kind: str, reason: str, message: str = "") -> None:
        self.set(kind, "True", reason, message)

    def false(self, kind: str, reason: str, message: str = "") -> None:
        self.set(kind, "False", reason, message)

    def unknown(self, kind: str, reason: str, message: str = "") -> None:
        self.set(kind, "Unknown", reason, message)

    def carry(self, *kinds: str) -> None:
        """Keep earlier conditions as they are, with the generation that they were observed for."""
        for kind in kinds:
            before = find(self._previous, kind)
            if before is not None and kind not in self._conditions:
                self._conditions[kind] = dict(before)

    def carry_all(self) -> None:
        """Keep every earlier condition that was not stated in this pass."""
        self.carry(*(str(each["type"]) for each in self._previous))

    def list(self) -> list[dict[str, Any]]:
        """All conditions, sorted by type so that equal statuses compare equal."""
        return [self._conditions[kind] for kind in sorted(self._conditions)]


@dataclass(frozen=True, slots=True)
class Note:
    """An Event to be: `type` Normal or Warning, a CamelCase reason, a sentence."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def transitions(before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]) -> tuple[Note, ...]:
    """One note for each condition whose status changed in a way that people want to hear of.

    Becoming True is Normal, ceasing to be True is a Warning. A first False and any Unknown are silent: that is how
    every object begins. `Stalled` has the opposite polarity: becoming True is the Warning, and its end is silent.
    """
    earlier = {each["type"]: each.get("status") for each in before}
    notes: list[Note] = []
    for each in after:
        old, new, inverted = earlier.get(each["type"]), each["status"], each["type"] == "Stalled"
        if new == old or new == "Unknown":
            continue
        if new == "True":
            notes.append(Note("Warning" if inverted else "Normal", each["reason"], each.get("message", "")))
        elif old == "True" and not inverted:
            notes.append(Note("Warning", each["reason"], each.get("message", "")))
    return tuple(notes)
