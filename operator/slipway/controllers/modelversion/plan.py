"""What a ModelVersion says of itself."""

from __future__ import annotations

from datetime import datetime

from slipway.api.modelversion import ModelVersionSpec, ModelVersionStatus
from slipway.api.reasons import Reason
from slipway.controllers.modelversion.observe import ModelVersionSnapshot
from slipway.controllers.shared.erasure import erase
from slipway.controllers.shared.typed import finish
from slipway.controllers.shared.work import Runner, listed
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Plan

SENTENCES = 3
"""Failed gates that a message quotes."""


def plan(snapshot: ModelVersionSnapshot, now: datetime, runner: Runner) -> Plan:
    """Decide about one record."""
    found = snapshot.subject
    conditions = Conditions(found.raw, now)
    _serving(snapshot, conditions)
    if found.deleting:
        return _deletion(snapshot, conditions, now, runner)
    reason, message = verdict(found.typed.spec)
    conditions.set("Ready", found.typed.spec.passed, reason, message)
    return Plan(
        status=finish(ModelVersionStatus, found, conditions),
        finalizer="keep" if found.typed.spec.deletion_policy == "Delete" else "drop",
    )


def verdict(spec: ModelVersionSpec) -> tuple[Reason, str]:
    """Reason and sentence of a record: how many gates passed, and what the others say."""
    counted = [each for each in spec.verdicts if each.verdict != "Deferred"]
    passed = sum(1 for each in counted if each.verdict == "Passed")
    deferred = len(spec.verdicts) - len(counted)
    suffix = f", {deferred} deferred" if deferred else ""
    count = f"{passed} of {len(counted)} gates passed{suffix}."
    others = [each for each in counted if each.verdict == ("Inconclusive" if spec.passed else "Failed")]
    sentences = [f"{each.name}: {each.message}" for each in others[:SENTENCES]]
    more = f" And {len(others) - SENTENCES} more." if len(others) > SENTENCES else ""
    reason = Reason.Passed if spec.passed else Reason.GatesFailed
    return reason, f"{count} {' '.join(sentences)}{more}".strip()


def _serving(snapshot: ModelVersionSnapshot, conditions: Conditions) -> None:
    """Where it serves; nothing is said where it does not, for the end of a service is no news of the version."""
    if snapshot.places:
        where = listed(f"ModelRollout {each.rollout} ({each.role})" for each in snapshot.places)
        conditions.true("Serving", Reason.Serving, f"Served by {where}.")


def _deletion(snapshot: ModelVersionSnapshot, conditions: Conditions, now: datetime, runner: Runner) -> Plan:
    """Retain: the artifact stays. Delete: it goes once no server can load it any more."""
    found = snapshot.subject
    if snapshot.erasure is None:
        return Plan(finalizer="drop")
    if snapshot.places:
        where = listed(each.rollout for each in snapshot.places)
        message = f"ModelRollout {where} still serves this version; its artifact goes when that ends."
        conditions.false("Ready", Reason.Deleting, message)
        return Plan(status=finish(ModelVersionStatus, found, conditions), finalizer="keep")
    step, notes = erase(snapshot.erasure, runner, now)
    conditions.set("Ready", "Unknown" if step.done else "False", step.reason, step.message)
    status = finish(ModelVersionStatus, found, conditions)
    if step.done:
        return Plan(status=status if notes else None, events=notes, finalizer="drop")
    return Plan(step.actions, status, requeue_after=step.requeue_after, finalizer="keep")
