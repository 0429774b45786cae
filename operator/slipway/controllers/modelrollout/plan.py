"""The plan of a rollout, as one page: remember, hear people, select, advance, lay out, report. Pure."""

from __future__ import annotations

from datetime import datetime

from slipway.api.meta import parse_time
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
from slipway.controllers.modelrollout.layout import Layout, lay_out, next_removal, tear_down
from slipway.controllers.modelrollout.notices import Told
from slipway.controllers.modelrollout.report import report
from slipway.controllers.modelrollout.state import State, recall
from slipway.controllers.modelrollout.steps import Progress
from slipway.runtime.controller import Plan

WATCHING = 1.0
"""Seconds between looks while a candidate has a step: how fast a failing version loses its requests."""
STARTING = 5.0
_SOON = 0.2


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to write for one rollout."""
    deleted_at = snapshot.rollout.metadata.deletion_timestamp
    if deleted_at:
        return _end(snapshot, parse_time(deleted_at), now)
    state = recall(snapshot, now)
    promoted = people.hear(snapshot, state, now)
    choice = selection.choose(snapshot, state)
    selection.select(snapshot, state, choice, now)
    outputs.tell(snapshot, state, now)
    readers.tell(snapshot, state, now)
    comparing.take_in(snapshot, state, now)
    progress = steps.advance(snapshot, state, promoted, now)
    if not analysis.needs_previous(state):
        _expire(state, now)
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


def _expire(state: State, now: datetime) -> None:
    """Let the previous version go when its time is over."""
    for member in list(state.members.values()):
        if member.role == "Previous" and (member.keep_until is None or member.keep_until <= now):
            state.release(member.name)


def _next_look(snapshot: Snapshot, state: State, progress: Progress, told: Told, now: datetime) -> float | None:
    """Seconds until the next look without any event; objects that change wake the rollout by themselves."""
    times = [next_removal(state, now), admission.next_look(snapshot, now), comparing.next_look(snapshot, state, now)]
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


def _end(snapshot: Snapshot, since: datetime, now: datetime) -> Plan:
    actions, done = (
        knative_layout.tear_down(snapshot) if snapshot.knative is not None else tear_down(snapshot, since, now)
    )
    patch = retrying.remove(snapshot)
    actions, done = (*patch, *actions), done and not patch
    return Plan(actions, requeue_after=None if done else WATCHING, finalizer="drop" if done else "keep")
