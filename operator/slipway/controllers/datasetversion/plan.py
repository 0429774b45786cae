"""What a DatasetVersion says of itself."""

from __future__ import annotations

from datetime import datetime

from slipway.api.datasetversion import DatasetVersionSpec, DatasetVersionStatus
from slipway.api.reasons import Reason
from slipway.controllers.datasetversion.observe import DatasetVersionSnapshot
from slipway.controllers.shared.erasure import erase
from slipway.controllers.shared.typed import finish
from slipway.controllers.shared.work import Runner
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Plan


def plan(snapshot: DatasetVersionSnapshot, now: datetime, runner: Runner) -> Plan:
    """Decide about one record."""
    found = snapshot.subject
    conditions = Conditions(found.raw, now)
    if found.deleting:
        if snapshot.erasure is None:
            return Plan(finalizer="drop")
        step, notes = erase(snapshot.erasure, runner, now)
        conditions.set("Ready", "Unknown" if step.done else "False", step.reason, step.message)
        status = finish(DatasetVersionStatus, found, conditions)
        if step.done:
            return Plan(status=status if notes else None, events=notes, finalizer="drop")
        return Plan(step.actions, status, requeue_after=step.requeue_after, finalizer="keep")
    reason, message = verdict(found.typed.spec)
    conditions.set("Ready", found.typed.spec.verdict == "Passed", reason, message)
    _current(snapshot, conditions)
    return Plan(
        status=finish(DatasetVersionStatus, found, conditions),
        finalizer="keep" if found.typed.spec.deletion_policy == "Delete" else "drop",
    )


def verdict(spec: DatasetVersionSpec) -> tuple[Reason, str]:
    """Reason and sentence of a record."""
    blocking = [each for each in spec.violations if each.severity == "Block"]
    warnings = [each for each in spec.violations if each.severity == "Warn"]
    if spec.verdict == "Failed":
        count = f"{len(blocking)} blocking rule{'s are' if len(blocking) != 1 else ' is'} broken"
        first = f" {blocking[0].rule}: {blocking[0].message}" if blocking else ""
        return Reason.QualityRulesBroken, f"{count}.{first}"
    rows = f"{spec.rows} rows of {spec.partitions} object{'s' if spec.partitions != 1 else ''} passed"
    if warnings:
        first = f"{warnings[0].rule}: {warnings[0].message}"
        return Reason.PassedWithWarnings, f"{rows} with {len(warnings)} warnings. {first}"
    return Reason.Passed, f"{rows} every rule."


def _current(snapshot: DatasetVersionSnapshot, conditions: Conditions) -> None:
    """That the Dataset uses this version; nothing is said of others, for being superseded is no fault."""
    dataset = snapshot.dataset
    if dataset is not None and dataset.status.current_version == snapshot.subject.name:
        conditions.true("Current", Reason.Current, f"Dataset {dataset.metadata.name} has this version.")
