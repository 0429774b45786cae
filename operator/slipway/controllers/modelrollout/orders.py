"""Orders of people: `slipway.dev/order`. Each acts once, on the version that it names, or is spent with a sentence.

An order that does not fit the moment when it is heard has no effect then or later. What was heard is in
`status.orders`, with who and when; the token of an order that stands there never acts again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from slipway.api.reasons import Reason
from slipway.api.rollout_control import OrderStatus, PausedStatus, PromoteFullStatus, UndoStatus
from slipway.api.rollout_steps import Step
from slipway.contracts.orders import ANNOTATION, Order, parse, version_before
from slipway.controllers.modelrollout import undo as back
from slipway.controllers.modelrollout.analysis import accept, held_at, waits_for_person
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.controllers.modelrollout.steps import reject
from slipway.runtime.conditions import Note, timestamp

_KEPT = 20


class SpentError(Exception):
    """An order does not fit; the message says why."""


def hear(value: str | None, snapshot: Snapshot, state: State, now: datetime) -> bool:
    """Take in the annotation's value; whether the step that waits is over."""
    if value is None or value == state.order_seen:
        return False
    state.order_seen = value
    try:
        order = parse(value)
    except ValueError as error:
        state.notes.append(Note("Warning", Reason.AnnotationIgnored, f"{ANNOTATION}: {error}"))
        return False
    if any(each.token == order.token for each in state.orders):
        message = f"{ANNOTATION}: #{order.token} was heard before: give a new order."
        state.notes.append(Note("Warning", Reason.AnnotationIgnored, message))
        return False
    try:
        reason, message = _HANDLERS[order.verb](order, snapshot, state, now)
    except SpentError as error:
        _keep(state, order, False, str(error), now)
        message = f"{order.verb} {order.version}, as {order.by} ordered, is not possible: {error}"
        state.notes.append(Note("Warning", Reason.AnnotationIgnored, message))
        return False
    _keep(state, order, True, message, now)
    state.notes.append(Note("Normal", reason, f"{order.by}: {message}"))
    return order.verb == "promote"


def _keep(state: State, order: Order, obeyed: bool, message: str, now: datetime) -> None:
    record = OrderStatus(
        order=order.verb,
        version=order.version,
        token=order.token,
        by=order.by,
        at=timestamp(now),
        obeyed=obeyed,
        message=message[:1024],
    )
    state.orders = [record, *state.orders][:_KEPT]


# ---- what each order does --------------------------------------------------------------------------------------------
def _promote(order: Order, snapshot: Snapshot, state: State, _: datetime) -> tuple[Reason, str]:
    if waits_for_person(state) and state.paused is None:
        if (order.step, order.version) != (held_at(state), state.candidate or state.stable):
            raise SpentError(what_waits(None, state))
        return Reason.StepPromoted, f"Version {order.version} goes on from {order.step} without a verdict."
    _require_candidate(order, state)
    _require_running(state)
    _require_no_failure(snapshot)
    waiting = waiting_step(snapshot.steps, state)
    if waiting is None or waiting.name != order.step:
        raise SpentError(what_waits(waiting, state))
    return Reason.StepPromoted, f"Step {order.step} of version {order.version} is over."


def _promote_full(order: Order, snapshot: Snapshot, state: State, now: datetime) -> tuple[Reason, str]:
    _require_candidate(order, state)
    _require_running(state)
    _require_no_failure(snapshot)
    if state.promote_full is not None:
        raise SpentError("it takes no further steps already.")
    message = f"Version {order.version} takes no further steps."
    accept(state)
    state.promote_full = PromoteFullStatus(since=timestamp(now), by=order.by, reason=message)
    return Reason.StepsSkipped, message


def _pause(order: Order, _: Snapshot, state: State, now: datetime) -> tuple[Reason, str]:
    _require_candidate(order, state)
    _require_running(state)
    state.paused = PausedStatus(since=timestamp(now), by=order.by)
    return Reason.Paused, f"Version {order.version} is held at {state.weight} %; its checks go on."


def _resume(order: Order, _: Snapshot, state: State, __: datetime) -> tuple[Reason, str]:
    _require_candidate(order, state)
    if state.paused is None:
        raise SpentError("nobody paused it.")
    state.paused = None
    return Reason.Resumed, f"Version {order.version} goes on from {state.weight} %."


def _abort(order: Order, snapshot: Snapshot, state: State, now: datetime) -> tuple[Reason, str]:
    _require_candidate(order, state)
    _require_way_back(snapshot, state)
    where = f" in step {state.position.name}" if state.position else " before its first step"
    reject(snapshot, state, Reason.Aborted, f"{order.by} aborted it at {state.weight} %{where}.", now, by=order.by)
    back_to = f": all of them go to {state.stable}" if state.stable else ""
    return Reason.Aborted, f"Version {order.version} gets no requests any more{back_to}."


def _retry(order: Order, _: Snapshot, state: State, __: datetime) -> tuple[Reason, str]:
    if state.rejected.pop(order.version, None) is None:
        raise SpentError("it is not among the rejected versions.")
    return Reason.Retried, f"Version {order.version} may be tried again."


def _undo(order: Order, snapshot: Snapshot, state: State, now: datetime) -> tuple[Reason, str]:
    if order.version != state.stable:
        raise SpentError(f"what users rely on is {state.stable or 'no version yet'}.")
    to = order.target or version_before(order.version, state.history, state.rejected)
    if to is None:
        raise SpentError("no earlier version is known that may serve again: name one, `undo VERSION to VERSION`.")
    _require_target(to, snapshot, state)
    undo = UndoStatus(version=order.version, to=to, since=timestamp(now), by=order.by)
    pinned = back.pin_against(snapshot, state, undo)
    if pinned is not None:
        raise SpentError(f"spec.version pins {pinned}: abort that first, or pin {to}.")
    _require_way_back(snapshot, state)
    state.rejected.pop(to, None)
    state.undo = undo
    why = back.why_no_steps(snapshot, state, to, now)
    return Reason.Undone, f"{to} takes over from {order.version} {f'without steps. {why}' if why else 'by the steps.'}"


# ---- what an order needs ---------------------------------------------------------------------------------------------
def _require_candidate(order: Order, state: State) -> None:
    if state.candidate is None:
        raise SpentError("no version is on its way.")
    if state.candidate != order.version:
        raise SpentError(f"the version on its way is {state.candidate}.")


def _require_running(state: State) -> None:
    if state.paused is not None:
        raise SpentError(f"{state.paused.by} paused it at {state.paused.since}: resume it first.")


def _require_no_failure(snapshot: Snapshot) -> None:
    """A version that is held for its failing checks (`automatic: false`) goes no further by an order either."""
    failed = [each.name for each in snapshot.rollout.status.checks or () if each.verdict == "Failed"]
    if failed:
        raise SpentError(f"check {failed[0]} fails.")


def _require_way_back(snapshot: Snapshot, state: State) -> None:
    """Requests that the candidate has need a place to go."""
    stable = snapshot.server_of(state.stable)
    if state.weight and (stable is None or not stable.alive):
        raise SpentError(f"version {state.stable} has no ready server for the requests of {state.candidate}.")


def _require_target(to: str, snapshot: Snapshot, state: State) -> None:
    version, rejection = snapshot.versions.get(to), state.rejected.get(to)
    if version is None:
        raise SpentError(f"project {snapshot.rollout.spec.project_ref.name} has no ModelVersion {to}.")
    if not version.passed:
        raise SpentError(f"version {to} did not pass its gates.")
    if to == state.stable:
        raise SpentError(f"version {to} is what users rely on.")
    if to == state.candidate:
        raise SpentError(f"version {to} is on its way: promote-full takes it there without further steps.")
    # What a person gave up, a person may take up again; what failed has to be tried again, by the steps.
    if rejection is not None and rejection.reason not in (Reason.Aborted, Reason.Undone, Reason.Stopped):
        raise SpentError(f"version {to} was rejected here: {rejection.message} Order retry {to} first.")


def waiting_step(steps: list[Step], state: State) -> Step | None:
    """The step that waits for a person; None when there is none."""
    position = state.position
    if position is None or position.index >= len(steps):
        return None
    step = steps[position.index]
    return step if step.pause is not None and step.pause.until == "Promoted" else None


def what_waits(waiting: Step | None, state: State) -> str:
    """A sentence about the step that waits."""
    if state.paused is not None:
        return f"{state.paused.by} paused it at {state.paused.since}: resume it first."
    if waiting is None and waits_for_person(state):
        return f"what waits is {held_at(state)} of version {state.candidate or state.stable}."
    if waiting is None:
        return "no step waits for a person now."
    return f"what waits is step {waiting.name} of version {state.candidate}."


_HANDLERS: dict[str, Callable[[Order, Snapshot, State, datetime], tuple[Reason, str]]] = {
    "promote": _promote,
    "promote-full": _promote_full,
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "retry": _retry,
    "undo": _undo,
}
