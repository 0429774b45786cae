"""Readers of stored predictions: who they are, what they read, and that they hear when its form is about to change.

A version writes what its model saw, so one with other inputs writes another form below its own folder. Readers are told
before it has written anything. Who can read is the store's to say: nothing here lets anybody in or keeps anybody out.
"""

from __future__ import annotations

from datetime import datetime

from slipway.adapters.predictions import rollout_folder
from slipway.api.reasons import Reason
from slipway.api.rollout_consumers import Consumer
from slipway.api.rollout_predictions import LogReader, PredictionLogStatus
from slipway.controllers.modelrollout.facts import Snapshot, Version
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Note

_MOST = 600
"""Characters of an Event that names and contacts may take."""


def readers(snapshot: Snapshot) -> list[Consumer]:
    """Consumers that read what is stored."""
    return [each for each in snapshot.rollout.spec.consumers if "PredictionLog" in each.access]


def tell(snapshot: Snapshot, state: State, now: datetime) -> None:
    """Note, once, at the begin of a candidacy, who has to hear that the log gets another form."""
    who, log = readers(snapshot), snapshot.rollout.spec.prediction_log
    begun = state.candidate is not None and state.candidate != snapshot.rollout.status.candidate
    if not who or log is None or not log.enabled or not begun or state.candidate_since != now:
        return
    stable, candidate = snapshot.versions.get(state.stable or ""), snapshot.versions.get(state.candidate or "")
    changes = _changes(stable, candidate) if stable is not None and candidate is not None else []
    if changes:
        names = ", ".join(f"{each.name} ({each.contact})" for each in who)
        message = (
            f"Version {state.candidate} logs other inputs than {state.stable}: {', '.join(changes)[:300]}."
            f" Tell {names[:_MOST]}."
        )
        state.notes.append(Note("Normal", Reason.LogChanges, message))


def _changes(stable: Version, candidate: Version) -> list[str]:
    """What differs in the log's inputs: a phrase each."""
    before = {each["name"]: each["type"] for each in stable.inputs}
    after = {each["name"]: each["type"] for each in candidate.inputs}
    gone = [f"{name} is gone" for name in before if name not in after]
    retyped = [
        f"{name} is {after[name]} instead of {before[name]}"
        for name in before
        if name in after and after[name] != before[name]
    ]
    return [*gone, *retyped, *(f"{name} is new" for name in after if name not in before)]


def report_log(snapshot: Snapshot, state: State) -> PredictionLogStatus | None:
    """Where the log is, who reads it, and what is remembered of sweeps; None without a log."""
    if snapshot.rollout.spec.prediction_log is None:
        return None
    folder = rollout_folder(snapshot.namespace, snapshot.name)
    where = f"s3://{snapshot.predictions.store.bucket}/{folder}" if snapshot.predictions is not None else None
    listed = [LogReader(name=each.name, contact=each.contact) for each in readers(snapshot)]
    return PredictionLogStatus(swept_day=state.swept_day, location=where, readers=listed or None)
