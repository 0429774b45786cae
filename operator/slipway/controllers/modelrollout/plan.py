"""The plan of a rollout, as one page: remember, hear people, select, advance, lay out, report. Pure."""

from __future__ import annotations

from datetime import datetime

from slipway.api.reasons import Reason
from slipway.controllers.modelrollout import (
    admission,
    analysis,
    comparing,
    knative_layout,
    messages,
    notices,
    outputs,
    people,
    readers,
    retrying,
    selection,
    sessions,
    steps,
)
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.layout import Layout, lay_out, next_removal, remains, tear_down
from slipway.controllers.modelrollout.notices import Told
from slipway.controllers.modelrollout.report import report
from slipway.controllers.modelrollout.state import State, recall
from slipway.controllers.modelrollout.steps import Progress
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Plan

WATCHING = 1.0
"""Seconds between looks while a candidate has a step: how fast a failing version loses its requests."""
STARTING = 5.0
_SOON = 0.2


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to write for one rollout."""
    if snapshot.rollout.metadata.deletion_timestamp:
        return _end(snapshot, now)
    state = recall(snapshot, now)
    promoted = people.hear(snapshot, state, now)
    choice = selection.choose(snapshot, state)
    selection.select(snapshot, state, choice, now)
    outputs.tell(snapshot, state, now)
    readers.tell(snapshot, state, now)
    comparing.take_in(snapshot, state, now)
    progress = steps.advance(snapshot, state, promoted, now)
    if not analysis.needs_previous(state):
        _expire(snapshot, state, now)
    layout = _lay_out(snapshot, state, now)
    status = report(snapshot, state, selection.choose(snapshot, state), progress, layout, now)
    due = progress.hooks.asks if state.candidate else ()
    asks = [messages.question(snapshot, state, ask, str(status["phase"])) for ask in due]
    told = notices.tell(snapshot, state, status, progress.hooks.halted, now)
    if told.notices:
        status["notices"] = [each.wire() for each in told.notices]
    # Weights come first: whoever hears of a rollback hears of something that is so.
    jobs = comparing.jobs(snapshot, state, now)
    actions = (*layout.actions, *progress.actions, *jobs, *asks, *told.calls)
    look = _next_look(snapshot, state, progress, told, now)
    return Plan(actions, status, (*state.notes, *told.notes), look, "keep")


def _lay_out(snapshot: Snapshot, state: State, now: datetime) -> Layout:
    """What should be there: routes and an InferenceService a version, or, in Knative mode, one for all of them."""
    if snapshot.knative is not None:
        return knative_layout.lay_out(snapshot, state, now)
    layout = admission.admit(snapshot, sessions.stick(snapshot, state, lay_out(snapshot, state, now)), now)
    return retrying.repeat(snapshot, state, layout)


def _expire(snapshot: Snapshot, state: State, now: datetime) -> None:
    """Let the previous version go when its time is over."""
    for member in list(state.members.values()):
        until = member.keep_until
        if member.role == "Previous" and (until is None or until <= snapshot.lived.now(until, now)):
            state.release(member.name)


def _next_look(snapshot: Snapshot, state: State, progress: Progress, told: Told, now: datetime) -> float | None:
    """Seconds until the next look without any event; objects that change wake the rollout by themselves."""
    times = [
        next_removal(snapshot, state, now),
        admission.next_look(snapshot, now),
        comparing.next_look(snapshot, state, now),
    ]
    times.append(told.look_in)
    if state.candidate is not None:
        server = snapshot.server_of(state.candidate)
        watched = state.position is not None or (server is not None and server.ready)
        watched = watched or bool(progress.hooks.waiting_for)
        times.append(WATCHING if watched else STARTING)
    elif analysis.needs_previous(state):
        times.append(WATCHING)
    ahead = [time for time in times if time is not None]
    return max(_SOON, min(ahead)) if ahead else None


def _end(snapshot: Snapshot, now: datetime) -> Plan:
    down = knative_layout.tear_down if snapshot.knative is not None else tear_down
    actions = (*retrying.remove(snapshot), *down(snapshot))
    left = remains(snapshot)
    if not actions and not left:
        return Plan(finalizer="drop")
    conditions = Conditions(snapshot.obj, now)
    conditions.false("Ready", Reason.Deleting, f"Clients get 404 from now on. Still there: {left or 'a patch'}.")
    status = {**(snapshot.obj.get("status") or {}), "conditions": conditions.list()}
    return Plan(actions, status, requeue_after=WATCHING, finalizer="keep")
