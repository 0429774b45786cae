"""When a version answers in another form than the one before: consumers are told, and a person says that it is fine.

A field that is gone or has another type breaks a reader; a field more does not. A version that breaks readers gets no
request, by whatever way, until it is acknowledged by name:

    slipway.dev/accept-outputs: MODELVERSION

The annotation names the version, so one that is left in Git accepts no other. Records that do not say what they answer
with are not compared.

Whom it concerns most is named first, and gives the alert its severity: a consumer's criticality says both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway.adapters.alerts import Severity
from slipway.api.reasons import Reason
from slipway.api.rollout_consumers import Consumer
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Note

ACCEPT = "slipway.dev/accept-outputs"
NAMED = 600
"""Characters of an Event that names and contacts may take; an Event has 1024."""
_ORDER = ("High", "Normal", "Low")
_SEVERITY: Mapping[str, Mapping[str, Severity]] = {
    Reason.OutputsIncompatible: {"High": "error", "Normal": "warning", "Low": "info"},
    Reason.OutputsChange: {"High": "warning", "Normal": "info", "Low": "info"},
}


@dataclass(frozen=True)
class Change:
    """How a version's outputs differ from those of the one that serves: a phrase each."""

    breaking: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """All of it in one sentence, without a full stop."""
        return ", ".join((*self.breaking, *self.added))


def change(snapshot: Snapshot, state: State, version: str | None) -> Change:
    """What a version changes for those who read answers."""
    stable, other = snapshot.versions.get(state.stable or ""), snapshot.versions.get(version or "")
    if stable is None or other is None or not stable.outputs or not other.outputs:
        return Change()
    before, after = dict(stable.outputs), dict(other.outputs)
    gone = [f"{name} is gone" for name in before if name not in after]
    retyped = [
        f"{name} is {after[name]} instead of {before[name]}"
        for name in before
        if name in after and after[name] != before[name]
    ]
    return Change((*gone, *retyped), tuple(f"{name} is new" for name in after if name not in before))


def tell(snapshot: Snapshot, state: State, now: datetime) -> None:
    """Note, once, at the begin of a candidacy, who has to hear of a change."""
    consumers = snapshot.rollout.spec.consumers
    begun = state.candidate is not None and state.candidate != snapshot.rollout.status.candidate
    if not consumers or not begun or state.candidate_since != now:
        return
    found = change(snapshot, state, state.candidate)
    if found.sentence:
        message = (
            f"Version {state.candidate} answers otherwise than {state.stable}: {found.sentence[:300]}."
            f" Tell {contacts(consumers)}."
        )
        if found.breaking:
            state.notes.append(Note("Warning", Reason.OutputsIncompatible, message))
        else:
            state.notes.append(Note("Normal", Reason.OutputsChange, message))


def severity(consumers: Sequence[Consumer], reason: str) -> Severity | None:
    """How loud people are alerted to a change: as the most critical consumer needs it; None for other reasons."""
    if reason not in _SEVERITY or not consumers:
        return None
    return _SEVERITY[reason][_by_criticality(consumers)[0].criticality]


def unacknowledged(snapshot: Snapshot, state: State, version: str | None) -> str:
    """Why a version may not get requests yet; empty when it may."""
    waiting = [each.name for each in _by_criticality(snapshot.rollout.spec.consumers) if each.criticality != "Low"]
    breaking = change(snapshot, state, version).breaking
    if not waiting or not breaking or snapshot.rollout.metadata.annotations.get(ACCEPT) == version:
        return ""
    return (
        f"Version {version} breaks readers of {_listed(waiting)}: {', '.join(breaking)[:300]}. Once they can"
        f" read it, annotate the rollout {ACCEPT}: {version}."
    )


def _by_criticality(consumers: Sequence[Consumer]) -> list[Consumer]:
    return sorted(consumers, key=lambda each: _ORDER.index(each.criticality))


def contacts(consumers: Sequence[Consumer]) -> str:
    """Names and contacts, the most critical first, as many as an Event has room for."""
    return _listed([f"{each.name} ({each.contact})" for each in _by_criticality(consumers)])


def _listed(entries: Sequence[str]) -> str:
    shown: list[str] = []
    for each in entries:
        if shown and sum(len(one) + 2 for one in shown) + len(each) > NAMED:
            break
        shown.append(each)
    rest = len(entries) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
