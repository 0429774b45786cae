"""What becomes of a ModelProject."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from slipway.api.modelproject import ModelProjectStatus
from slipway.api.reasons import Reason
from slipway.controllers.modelproject.access import access, missing_credentials
from slipway.controllers.modelproject.priority import assess
from slipway.controllers.modelproject.rollup import (
    Failure,
    debt,
    failure,
    newest_version,
    next_due,
    overdue,
    passing_version,
    phase,
    serving_version,
)
from slipway.controllers.modelproject.snapshot import ModelProjectSnapshot
from slipway.controllers.modelproject.training import Waiting, Wanted, next_run
from slipway.controllers.shared import links
from slipway.controllers.shared.cron import next_tick
from slipway.controllers.shared.typed import finish, newest
from slipway.controllers.shared.work import listed, soonest, until
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Action, Create, Plan

LOOK_SECONDS = 120.0
"""Between two looks at the Platform's Secrets, which are not watched."""


def plan(snapshot: ModelProjectSnapshot, now: datetime, pipeline_digest: str) -> Plan:
    """Set up access, make the run that is due, say where the project stands."""
    actions: tuple[Action, ...] = ()
    next_: Wanted | Waiting | None = None
    blocked = _blocked(snapshot)
    if blocked is None:
        next_ = next_run(snapshot, pipeline_digest, now)
        actions = access(snapshot)
        if isinstance(next_, Wanted):
            actions = (*actions, Create(next_.manifest, owned=True))
    return Plan(
        actions,
        _status(snapshot, blocked, next_, now),
        requeue_after=_next_look(snapshot, now),
    )


def _blocked(snapshot: ModelProjectSnapshot) -> Failure | None:
    """Why nothing can be done for the project at all."""
    if snapshot.platform is None:
        return Failure(Reason.PlatformMissing, links.no_platform())
    missing = missing_credentials(snapshot)
    return Failure(Reason.SecretMissing, missing) if missing else None


def _status(
    snapshot: ModelProjectSnapshot, blocked: Failure | None, next_: Wanted | Waiting | None, now: datetime
) -> dict[str, Any]:
    spec = snapshot.subject.typed.spec
    failed = blocked or failure(snapshot)
    if failed is None and isinstance(next_, Waiting) and next_.reason == Reason.DependencyMissing:
        failed = Failure(next_.reason, next_.message)
    conditions = Conditions(snapshot.subject.raw, now)
    if failed is not None:
        conditions.false("Ready", failed.reason, failed.message)
    elif spec.training is None:
        message = "Access and credentials are set up; spec.training is not set, so no versions are made."
        conditions.true("Ready", Reason.NothingToTrain, message)
    else:
        conditions.true("Ready", Reason.Accepted, _going(snapshot, next_))
    late = overdue(spec, now)
    if late:
        message = f"spec.requirements.satisfy: the deferral of {listed(late)} is over, and it counts from now on."
        conditions.false("DebtInTime", Reason.DeferralsDue, message)
    elif debt(spec, now):
        conditions.true("DebtInTime", Reason.NoDebt, "No deferred requirement is overdue.")
    run = next_.name if isinstance(next_, Wanted) else None
    last, passing, latest = newest(snapshot.runs), passing_version(snapshot), newest_version(snapshot)
    return finish(
        ModelProjectStatus,
        snapshot.subject,
        conditions,
        phase=phase(snapshot, failed),
        priority=assess(spec.priority) if spec.priority is not None else None,
        dataset_version=snapshot.current.metadata.name if snapshot.current else None,
        last_run=run or (last.metadata.name if last else None),
        newest_version=latest.metadata.name if latest else None,
        passing_version=passing.metadata.name if passing else None,
        serving_version=serving_version(snapshot),
        score=passing.spec.score if passing else None,
        debt=list(debt(spec, now)) or None,
    )


def _going(snapshot: ModelProjectSnapshot, next_: Wanted | Waiting | None) -> str:
    """What goes on, in one sentence."""
    if isinstance(next_, Waiting):
        return f"Access and credentials are set up. {next_.message}"
    if isinstance(next_, Wanted):
        return f"Access and credentials are set up. TrainingRun {next_.name} was made."
    active = [each.metadata.name for each in snapshot.runs if each.status.phase in (None, "Pending", "Running")]
    if active:
        return f"Access and credentials are set up. TrainingRun {listed(active)} goes on."
    return "Access and credentials are set up; nothing has changed since the last run."


def _next_look(snapshot: ModelProjectSnapshot, now: datetime) -> float:
    spec = snapshot.subject.typed.spec
    due = next_due(spec, now)
    tick = None
    if spec.training is not None and spec.retrain.schedule is not None:
        tick = next_tick(spec.retrain.schedule, spec.retrain.time_zone, now, "spec.retrain.schedule")
    times = [until(each, now) + 1 for each in (due, tick) if each is not None]
    return soonest(LOOK_SECONDS, *times) or LOOK_SECONDS
