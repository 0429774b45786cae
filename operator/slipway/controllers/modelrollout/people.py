"""What people ask for by annotation. A value acts once, when it is first seen, and is remembered.

    slipway.dev/promote: STEP[:MODELVERSION]    end the pause that the rollout is in, if it is this step (and version)
    slipway.dev/retry: MODELVERSION[:ANYTHING]  forget that the version was rejected

A value that does not fit when it is seen is spent all the same, so that what was meant for one version can never
promote another. To say the same again, change what stands after the colon, or remove the annotation and set it anew.
"""

from __future__ import annotations

from slipway.api.reasons import Reason
from slipway.api.rollout_steps import Step
from slipway.controllers.modelrollout.analysis import held_at, waits_for_person
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import PROMOTE, RETRY, State
from slipway.runtime.conditions import Note


def hear(snapshot: Snapshot, state: State) -> bool:
    """Take in what the annotations say; whether the present pause is over."""
    annotations = snapshot.rollout.metadata.annotations
    _retry(annotations.get(RETRY), state)
    return _promote(annotations.get(PROMOTE), snapshot.steps, state)


def _retry(value: str | None, state: State) -> None:
    if value == state.retry_seen:
        return
    state.retry_seen = value
    name = (value or "").partition(":")[0]
    if state.rejected.pop(name, None):
        state.notes.append(Note("Normal", Reason.Retried, f"Version {name} may be tried again, as annotated."))
    elif name:
        state.notes.append(
            Note("Warning", Reason.AnnotationIgnored, f"{RETRY}: {name} is not among the rejected versions.")
        )


def _promote(value: str | None, steps: list[Step], state: State) -> bool:
    if value == state.promote_seen:
        return False
    state.promote_seen = value
    if not value:
        return False
    name, _, version = value.partition(":")
    waiting = waiting_step(steps, state)
    if waiting is not None and waiting.name == name and version in ("", state.candidate):
        return True
    if waits_for_person(state) and name == held_at(state) and version in ("", state.candidate or state.stable):
        return True
    state.notes.append(Note("Warning", Reason.AnnotationIgnored, f"{PROMOTE}: {value}: {_what_waits(waiting, state)}"))
    return False


def waiting_step(steps: list[Step], state: State) -> Step | None:
    """The step that waits for a person; None when there is none."""
    position = state.position
    if position is None or position.index >= len(steps):
        return None
    step = steps[position.index]
    return step if step.pause is not None and step.pause.until == "Promoted" else None


def _what_waits(waiting: Step | None, state: State) -> str:
    if waiting is None and waits_for_person(state):
        return f"what waits is {held_at(state)} of version {state.candidate or state.stable}."
    if waiting is None:
        return "no step waits for a person now."
    return f"what waits is step {waiting.name} of version {state.candidate}."
