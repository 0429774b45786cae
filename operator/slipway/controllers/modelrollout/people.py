"""What people ask for by annotation. A value acts once, when it is first seen, and is remembered.

    slipway.dev/order: VERB VERSION #TOKEN by USER      see `slipway.contracts.orders`
    slipway.dev/promote: STEP[:MODELVERSION]    end the pause that the rollout is in, if it is this step (and version)
    slipway.dev/retry: MODELVERSION[:ANYTHING]  forget that the version was rejected

A value that does not fit when it is seen is spent all the same, so that what was meant for one version can never
promote another. To say the same again, change what stands after the colon, or remove the annotation and set it anew.
"""

from __future__ import annotations

from datetime import datetime

from slipway.api.reasons import Reason
from slipway.api.rollout_steps import Step
from slipway.contracts.orders import ANNOTATION as ORDER
from slipway.controllers.modelrollout import orders
from slipway.controllers.modelrollout.analysis import held_at, waits_for_person
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.orders import waiting_step, what_waits
from slipway.controllers.modelrollout.state import PROMOTE, RETRY, State, read_annotation
from slipway.runtime.conditions import Note


def hear(snapshot: Snapshot, state: State, now: datetime) -> bool:
    """Take in what the annotations say; whether the present pause is over."""
    _retry(read_annotation(snapshot, RETRY), state)
    promoted = _promote(read_annotation(snapshot, PROMOTE), snapshot.steps, state)
    return orders.hear(read_annotation(snapshot, ORDER), snapshot, state, now) or promoted


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
    if state.paused is None and waiting is not None and waiting.name == name and version in ("", state.candidate):
        return True
    held = state.paused is None and waits_for_person(state) and name == held_at(state)
    if held and version in ("", state.candidate or state.stable):
        return True
    state.notes.append(Note("Warning", Reason.AnnotationIgnored, f"{PROMOTE}: {value}: {what_waits(waiting, state)}"))
    return False
