"""What receivers are told: alerts, and the hooks that hear of events and ends. Pure.

Notices stand in the status before anything is sent, and leave it (or are marked) after the receiver took them: neither
a crash nor a receiver that is away loses one, and no alert is sent twice. They are sent in order, one at a time to each
receiver. A queue that grows too long and receivers that stay away too long lose notices, which is counted and said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from slipway.adapters.alerts import SEVERITIES, Severity
from slipway.adapters.webhooks import Answer
from slipway.api.meta import parse_time
from slipway.api.reasons import Reason
from slipway.api.rollout_hooks import Alert, Hook, Notice
from slipway.controllers.modelrollout import messages, outputs
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.hooks import Halt, hooks_of
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Note, find, timestamp, transitions
from slipway.runtime.controller import Call

WAITING_KEPT = 32
"""Notices that may wait for their receivers."""
DELIVERED_KEPT = 32
"""Delivered alerts that are remembered."""
GIVEN_UP_AFTER = timedelta(hours=24)

_ALERTS: Mapping[str, Severity] = {
    Reason.Started: "info",
    Reason.LogChanges: "info",
    Reason.Promoted: "info",
    Reason.Stopped: "info",
    Reason.ExperimentEnded: "info",
    Reason.ArmLeft: "warning",
    Reason.WaitingForHook: "warning",
    Reason.ServersLost: "error",
    Reason.RolledBack: "error",
}
"""Events that people are alerted to, beside Stalled, the end of Ready, and outputs that change."""

_OF_WHAT_BEGINS = frozenset({Reason.Started, Reason.OutputsChange, Reason.OutputsIncompatible})
"""Events about the candidacy that begins, and not about one that it replaces."""


@dataclass(frozen=True)
class Told:
    """What one pass says.

    :param notices: for the status
    :param calls: what is sent now
    :param notes: Events about the telling itself
    :param look_in: seconds until something is to be sent or heard; None: nothing waits
    """

    notices: list[Notice]
    calls: tuple[Call, ...]
    notes: tuple[Note, ...]
    look_in: float | None


@dataclass(frozen=True)
class _Subject:
    """What an Event is about."""

    version: str | None
    candidacy: str
    step: str | None
    weight: int | None


def tell(snapshot: Snapshot, state: State, status: Mapping[str, Any], halted: Sequence[Halt], now: datetime) -> Told:
    """Take in what receivers answered, add what is new, and send what is due.

    :param status: what this pass writes, without notices
    :param halted: why the candidate is held
    """
    notes: list[Note] = []
    kept = list(_after_answers(snapshot, notes, now))
    known = {each.token for each in kept}
    kept += [each for each in _news(snapshot, state, status, halted, now) if each.token not in known]
    kept, dropped = _bounded(snapshot, kept, now)
    notes += _dropped_notes(dropped)
    calls = list(_due(snapshot, state, kept, str(status.get("phase", ""))))
    if dropped:
        calls.append(Call("webhooks", "dropped", {"number": len(dropped)}))
    return Told(kept, tuple(calls), tuple(notes), _look_in(snapshot, kept))


# ---- what was answered -----------------------------------------------------------------------------------------------
def _after_answers(snapshot: Snapshot, notes: list[Note], now: datetime) -> Iterator[Notice]:
    receivers = _receivers(snapshot)
    for notice in snapshot.rollout.status.notices or ():
        receiver = receivers.get(notice.to)
        if receiver is None:
            continue  # a person took the receiver away
        if notice.delivered_at is not None:
            yield notice
            continue
        answer = snapshot.answers.get(messages.key_of(notice), Answer())
        taken = answer.result == "Ok"
        if isinstance(receiver, Hook) and receiver.type == "post-rollout" and answer.code is not None and not taken:
            # It heard of the end; that it fails changes nothing any more, as in Flagger.
            message = f"Hook {receiver.name} (post-rollout) failed: {answer.message}"
            notes.append(Note("Warning", Reason.HookFailed, message))
        elif taken and isinstance(receiver, Alert):
            yield notice.model_copy(update={"delivered_at": timestamp(now), "error": None})
        elif not taken:
            error = answer.message[:1024] if answer.result is not None else notice.error
            yield notice.model_copy(update={"error": error or None})


def _receivers(snapshot: Snapshot) -> dict[str, Hook | Alert]:
    spec = snapshot.rollout.spec
    hooks = [each for each in spec.hooks if each.type in ("event", "post-rollout")]
    found: dict[str, Hook | Alert] = {f"hook/{each.name}": each for each in hooks}
    return {**found, **{f"alert/{each.name}": each for each in spec.alerts}}


# ---- what is new -----------------------------------------------------------------------------------------------------
def _news(
    snapshot: Snapshot, state: State, status: Mapping[str, Any], halted: Sequence[Halt], now: datetime
) -> Iterator[Notice]:
    before = snapshot.obj.get("status") or {}
    changed = transitions(before.get("conditions") or (), status.get("conditions") or ())
    for note in (*state.notes, *changed):
        yield from _events(snapshot, state, note, now)
    for note in state.notes:
        yield from _ends(snapshot, state, note, now)
        severity = _ALERTS.get(note.reason) or outputs.severity(snapshot.rollout.spec.consumers, note.reason)
        if severity is not None and not _is_muted(snapshot, note):
            yield from _alerts(snapshot, state, note.reason, note.message, severity, now)
    for reason, message, loud in _troubles(before, status):
        if not any(each.muted and each.reason == reason for each in halted):
            yield from _alerts(snapshot, state, reason, message, loud, now)


def _events(snapshot: Snapshot, state: State, note: Note, now: datetime) -> Iterator[Notice]:
    subject = _subject(snapshot, state, note.reason)
    revision = snapshot.rollout.metadata.resource_version
    for hook in hooks_of(snapshot, "event"):
        to = f"hook/{hook.name}"
        token = _token(snapshot, to, note.reason, note.message, subject.candidacy, revision)
        yield _notice(
            token, to, "info" if note.type == "Normal" else "warning", note.reason, note.message, subject, now
        )


def _ends(snapshot: Snapshot, state: State, note: Note, now: datetime) -> Iterator[Notice]:
    """Promotions, rejections and stops, but for the first version ever, which replaces nothing."""
    if note.reason not in messages.ENDS or snapshot.rollout.status.stable is None:
        return
    subject = _subject(snapshot, state, note.reason)
    severity: Severity = "warning" if note.reason == Reason.RolledBack else "info"
    for hook in hooks_of(snapshot, "post-rollout"):
        to = f"hook/{hook.name}"
        token = _token(snapshot, to, note.reason, str(subject.version), snapshot.rollout.metadata.resource_version)
        yield _notice(token, to, severity, note.reason, note.message, subject, now)


def _alerts(
    snapshot: Snapshot, state: State, reason: str, message: str, severity: Severity, now: datetime
) -> Iterator[Notice]:
    """One notice a receiver. The same reason, version and step are told once in a candidacy, else once an hour."""
    subject = _subject(snapshot, state, reason)
    occasion = subject.candidacy or now.strftime("%Y-%m-%dT%H")
    for alert in snapshot.rollout.spec.alerts:
        if SEVERITIES.index(severity) >= SEVERITIES.index(alert.severity):
            to = f"alert/{alert.name}"
            token = _token(snapshot, to, reason, str(subject.version), subject.step or "", occasion)
            yield _notice(token, to, severity, reason, message, subject, now)


def _troubles(before: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[tuple[str, str, Severity]]:
    """Conditions that became bad, or became bad for another reason."""
    for kind, bad, severity in (("Stalled", "True", "warning"), ("Ready", "False", "error")):
        old = find(before.get("conditions") or (), kind)
        new = find(status.get("conditions") or (), kind)
        if new is None or new["status"] != bad:
            continue
        if kind == "Ready" and (old is None or old["status"] != "True"):
            continue  # it has not served before
        if old is None or (old["status"], old["reason"]) != (bad, new["reason"]):
            yield str(new["reason"]), str(new["message"]), "error" if severity == "error" else "warning"


def _is_muted(snapshot: Snapshot, note: Note) -> bool:
    return note.reason == Reason.WaitingForHook and any(
        hook.mute_alert and f"waits for hook {hook.name} (" in note.message for hook in snapshot.rollout.spec.hooks
    )


def _subject(snapshot: Snapshot, state: State, reason: str) -> _Subject:
    """The version that an Event of this pass is about: a candidacy that ended is in the status before only."""
    before = snapshot.rollout.status
    if reason == Reason.RolledBack and before.candidate is None:
        return _Subject(before.stable, "", None, None)  # it had been promoted already
    if reason in _OF_WHAT_BEGINS or before.candidate is None:
        version, since = state.candidate or state.stable, state.candidacy or ""
        return _Subject(version, since, state.position.name if state.position else None, state.weight)
    step = before.step.name if before.step else None
    if state.candidate == before.candidate and state.position is not None:
        step = state.position.name
    return _Subject(before.candidate, before.candidacy or "", step, state.weight if state.candidate else before.weight)


def _notice(
    token: str, to: str, severity: Severity, reason: str, message: str, subject: _Subject, now: datetime
) -> Notice:
    return Notice(
        token=token,
        to=to,
        severity=severity,
        reason=reason,
        message=message[:1024] or reason,
        version=subject.version,
        step=subject.step or None,
        weight=subject.weight,
        at=timestamp(now),
    )


def _token(snapshot: Snapshot, *parts: str) -> str:
    text = "\n".join((snapshot.rollout.metadata.uid, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# ---- bounds ----------------------------------------------------------------------------------------------------------
def _bounded(snapshot: Snapshot, notices: Iterable[Notice], now: datetime) -> tuple[list[Notice], list[Notice]]:
    """What is kept, and what is given up: the oldest that waits where there are too many, and what waits too long."""
    kept, dropped = [], []
    for notice in notices:
        too_old = now - parse_time(notice.at) > GIVEN_UP_AFTER
        if not too_old:
            kept.append(notice)
        elif notice.delivered_at is None:
            dropped.append(notice)
    waiting = [each for each in kept if each.delivered_at is None]
    on_its_way = {each.token for each in waiting if snapshot.answers.get(messages.key_of(each), Answer()).pending}
    excess = [each for each in waiting if each.token not in on_its_way][: max(0, len(waiting) - WAITING_KEPT)]
    dropped += excess
    delivered = [each for each in kept if each.delivered_at is not None]
    forgotten = delivered[: max(0, len(delivered) - DELIVERED_KEPT)]
    gone = {each.token for each in (*excess, *forgotten)}
    return [each for each in kept if each.token not in gone], dropped


def _dropped_notes(dropped: Sequence[Notice]) -> Iterator[Note]:
    for to in dict.fromkeys(each.to for each in dropped):
        lost = [each for each in dropped if each.to == to]
        why = lost[-1].error or "there were too many."
        reasons = ", ".join(dict.fromkeys(each.reason for each in lost))
        message = f"{len(lost)} notices for {to} were given up ({reasons}): {why}"
        yield Note("Warning", Reason.NoticesDropped, message)


# ---- sending ---------------------------------------------------------------------------------------------------------
def _heads(snapshot: Snapshot, kept: Iterable[Notice]) -> Iterator[Notice]:
    """The oldest waiting notice of each receiver, if it stands in the stored status already."""
    stored = {each.token for each in snapshot.rollout.status.notices or ()}
    seen: set[str] = set()
    for notice in kept:
        if notice.delivered_at is None and notice.to not in seen:
            seen.add(notice.to)
            if notice.token in stored:
                yield notice


def _due(snapshot: Snapshot, state: State, kept: Iterable[Notice], phase: str) -> Iterator[Call]:
    receivers = _receivers(snapshot)
    for notice in _heads(snapshot, kept):
        answer = snapshot.answers.get(messages.key_of(notice), Answer())
        if answer.pending or answer.due_in > 0:
            continue
        receiver = receivers[notice.to]
        if isinstance(receiver, Hook):
            yield messages.tell_hook(snapshot, state, receiver, notice, phase)
        else:
            yield messages.tell_people(snapshot, receiver, notice)


def _look_in(snapshot: Snapshot, kept: Sequence[Notice]) -> float | None:
    waiting = [each for each in kept if each.delivered_at is None]
    if not waiting:
        return None
    times = [
        max(1.0, answer.due_in)
        for notice in _heads(snapshot, kept)
        if not (answer := snapshot.answers.get(messages.key_of(notice), Answer())).pending
    ]
    return min(times, default=1.0)
