"""Where a project stands: its phase, its debt, and what is wrong with anything that belongs to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal

from slipway.api.meta import Condition, Resource
from slipway.api.modelproject import Debt, ModelProjectSpec
from slipway.api.modelversion import ModelVersion
from slipway.api.reasons import Reason
from slipway.controllers.modelproject.snapshot import ModelProjectSnapshot
from slipway.controllers.modelversion.plan import verdict
from slipway.controllers.shared.links import full_name
from slipway.controllers.shared.typed import condition, newest

Phase = Literal["Planning", "Data", "Training", "Testing", "Deployed", "Stalled"]

WAITING = frozenset(
    {
        Reason.Progressing,
        Reason.Ingesting,
        Reason.Materializing,
        Reason.Running,
        Reason.DependencyNotReady,
        Reason.WaitingForPool,
        Reason.WaitingForVersion,
        Reason.Paused,
        Reason.Starting,
        Reason.Analyzing,
        Reason.TooFewRequests,
        Reason.Deleting,
        Reason.Accepted,
    }
)
"""Reasons for which something is not ready, and nobody needs to do anything."""


@dataclass(frozen=True)
class Failure:
    """What is wrong with an object of the project."""

    reason: str
    message: str


def failure(snapshot: ModelProjectSnapshot) -> Failure | None:
    """What is wrong first, along the way from data to users."""
    for resource in (*snapshot.datasets, *snapshot.feature_sets):
        if (found := _failed(resource, condition(resource, "Ready"))) is not None:
            return found
    run = newest(snapshot.runs)
    if run is not None and (found := _failed(run, condition(run, "Succeeded"))) is not None:
        return found
    version = newest_version(snapshot)
    if version is not None and not version.spec.passed:
        return Failure(Reason.GatesFailed, f"{full_name(version)}: {verdict(version.spec)[1]}")
    for rollout in snapshot.rollouts:
        if (found := _failed(rollout, condition(rollout, "Ready"))) is not None:
            return found
    return None


def _failed(resource: Resource, found: Condition | None) -> Failure | None:
    if found is None or found.status != "False" or found.reason in WAITING:
        return None
    return Failure(found.reason, f"{full_name(resource)}: {found.message}")


def newest_version(snapshot: ModelProjectSnapshot) -> ModelVersion | None:
    """The version that was recorded last."""
    return newest(snapshot.versions)


def passing_version(snapshot: ModelProjectSnapshot) -> ModelVersion | None:
    """The newest version that passed every gate."""
    return newest(each for each in snapshot.versions if each.spec.passed)


def serving_version(snapshot: ModelProjectSnapshot) -> str | None:
    """The version that the project's first rollout, by name, calls stable."""
    return next((each.status.stable for each in snapshot.rollouts if each.status.stable), None)


def phase(snapshot: ModelProjectSnapshot, failed: Failure | None) -> Phase:
    """Stage of the life cycle; Stalled when something failed and nothing serves users yet."""
    if snapshot.subject.typed.spec.training is None:
        return "Planning"
    if serving_version(snapshot) is not None:
        return "Deployed"
    if failed is not None and (snapshot.current is None or passing_version(snapshot) is None):
        return "Stalled"
    if snapshot.current is None:
        return "Data"
    return "Testing" if snapshot.versions else "Training"


def debt(spec: ModelProjectSpec, now: datetime) -> tuple[Debt, ...]:
    """Requirements that are put off, and until when; those whose day has come say so."""
    found = []
    for each in spec.requirements.satisfy:
        if each.deferred is not None:
            due = f"Due since {each.deferred.until}: " if is_due(each.deferred.until, now) else ""
            found.append(Debt(name=each.name, since=each.deferred.until, why=f"{due}{each.deferred.why}"[:1024]))
    return tuple(found)


def overdue(spec: ModelProjectSpec, now: datetime) -> tuple[str, ...]:
    """Names of requirements whose deferral is over."""
    return tuple(
        each.name
        for each in spec.requirements.satisfy
        if each.deferred is not None and is_due(each.deferred.until, now)
    )


def is_due(day: str, now: datetime) -> bool:
    """Whether a day, as YYYY-MM-DD in UTC, has come. A day that does not exist never does."""
    begin = _begin(day)
    return begin is not None and begin <= now


def next_due(spec: ModelProjectSpec, now: datetime) -> datetime | None:
    """When the next deferral ends."""
    days = [_begin(each.deferred.until) for each in spec.requirements.satisfy if each.deferred is not None]
    return min((each for each in days if each is not None and each > now), default=None)


def _begin(day: str) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(day), time(), UTC)
    except ValueError:
        return None
