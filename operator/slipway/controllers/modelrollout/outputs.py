"""When a version answers in another form than the one before: consumers are told, and a person says that it is fine.

A field that is gone or has another type breaks a reader; a field more does not. A version that breaks readers gets no
request, by whatever way, until it is acknowledged by name:

    slipway.dev/accept-outputs: MODELVERSION

The annotation names the version, so one that is left in Git accepts no other. Records that do not say what they answer
with are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Note

ACCEPT = "slipway.dev/accept-outputs"


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
        names = ", ".join(f"{each.name} ({each.contact})" for each in consumers)
        message = f"Version {state.candidate} answers otherwise than {state.stable}: {found.sentence}. Tell {names}."
        if found.breaking:
            state.notes.append(Note("Warning", Reason.OutputsIncompatible, message))
        else:
            state.notes.append(Note("Normal", Reason.OutputsChange, message))


def unacknowledged(snapshot: Snapshot, state: State, version: str | None) -> str:
    """Why a version may not get requests yet; empty when it may."""
    waiting = [each.name for each in snapshot.rollout.spec.consumers if each.criticality != "Low"]
    breaking = change(snapshot, state, version).breaking
    if not waiting or not breaking or snapshot.rollout.metadata.annotations.get(ACCEPT) == version:
        return ""
    return (
        f"Version {version} breaks readers of {', '.join(waiting)}: {', '.join(breaking)}. Once they can read"
        f" it, annotate the rollout {ACCEPT}: {version}."
    )
