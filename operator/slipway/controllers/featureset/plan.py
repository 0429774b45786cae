"""What becomes of a FeatureSet: a chain of questions, the first of which that has an answer decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slipway.api.featureset import FeatureSetStatus, FeatureSourceVersion
from slipway.api.reasons import Reason
from slipway.contracts.jobs import FeatureRequest, FeatureResult
from slipway.controllers.featureset.definition import definition_digest
from slipway.controllers.featureset.observe import FeatureSetSnapshot, owned_objects
from slipway.controllers.shared import links
from slipway.controllers.shared.cron import next_tick
from slipway.controllers.shared.typed import finish
from slipway.controllers.shared.work import Runner, advance, clear, listed, soonest, until
from slipway.runtime.conditions import Conditions, Note, timestamp
from slipway.runtime.controller import Action, Plan

SOON = 0.1
BUSY_PAUSE = 10.0
"""Seconds until we look again whether a neighbour still writes to Feast, should its end pass unnoticed."""


@dataclass(frozen=True)
class Store:
    """What the feature store is known to have: the part of the status that must not be lost."""

    definition_digest: str | None
    input_digest: str | None
    sources: tuple[FeatureSourceVersion, ...]
    feast_project: str | None
    objects: tuple[str, ...]
    materialized_until: str | None
    last_materialized_time: str | None

    @classmethod
    def of(cls, status: FeatureSetStatus) -> Store:
        """As it was recorded."""
        return cls(
            status.definition_digest,
            status.input_digest,
            tuple(status.sources or ()),
            status.feast_project,
            tuple(status.objects or ()),
            status.materialized_until,
            status.last_materialized_time,
        )

    def after(self, request: FeatureRequest, result: FeatureResult, now: datetime) -> Store:
        """With the answer of a Job."""
        return Store(
            request.definition_digest,
            request.input_digest,
            tuple(FeatureSourceVersion(dataset=each.dataset, version=each.version) for each in request.datasets),
            request.feast_project,
            tuple(sorted(result.objects)),
            result.materialized_until,
            timestamp(now),
        )


@dataclass(frozen=True)
class Draft:
    """A plan in the making."""

    store: Store
    ready: bool = False
    reason: Reason = Reason.Progressing
    message: str = ""
    actions: tuple[Action, ...] = ()
    job: str | None = None
    requeue_after: float | None = None
    stalled: bool = False
    recorded: bool = False
    """An earlier Job's answer was recorded: the next Job is made from it, hence in the next pass."""


def plan(snapshot: FeatureSetSnapshot, now: datetime, runner: Runner) -> Plan:
    """Decide about one FeatureSet."""
    if snapshot.subject.deleting:
        return _deletion(snapshot, now, runner)
    draft = _decide(snapshot, now, runner)
    return Plan(
        draft.actions,
        _status(snapshot, draft, now),
        requeue_after=soonest(draft.requeue_after, _next_tick(snapshot, now)),
        finalizer="keep",
    )


def _decide(snapshot: FeatureSetSnapshot, now: datetime, runner: Runner) -> Draft:
    spec = snapshot.subject.typed.spec
    draft = Draft(Store.of(snapshot.subject.typed.status))
    if snapshot.project is None:
        return replace(draft, reason=Reason.ProjectMissing, message=links.no_project(spec.project_ref))
    if snapshot.platform is None:
        return replace(draft, reason=Reason.PlatformMissing, message=links.no_platform())
    draft = _earlier(snapshot, draft, now)
    if draft.job is not None:
        return draft
    if draft.recorded:
        return _in_progress(snapshot, replace(draft, requeue_after=SOON), "Newer values follow.")
    missing = [name for name, version in sorted(snapshot.versions.items()) if version is None]
    if missing:
        message = f"spec.views: waits for a current version of Dataset {listed(missing)}, which views read."
        return replace(draft, reason=Reason.DependencyNotReady, message=message)
    return _materialize(snapshot, draft, now, runner)


def _earlier(snapshot: FeatureSetSnapshot, draft: Draft, now: datetime) -> Draft:
    """Jobs for earlier definitions or data: let one that runs end and record it, drop one that never began."""
    for job in snapshot.earlier:
        if job.state.phase == "Running":
            message = f"Job {job.name} brings earlier values to the store; the newest follow it."
            return _in_progress(snapshot, replace(draft, job=job.name), message)
        if job.state.phase == "Pending":
            draft = replace(draft, actions=(*draft.actions, clear(snapshot.subject.namespace, job.name, job.uid)))
        elif job.result is not None and job.request is not None and job.result.refusal is None:
            draft = replace(draft, store=draft.store.after(job.request, job.result, now), recorded=True)
    return draft


def _materialize(snapshot: FeatureSetSnapshot, draft: Draft, now: datetime, runner: Runner) -> Draft:
    assert snapshot.request is not None
    assert snapshot.work is not None
    assert snapshot.job is not None
    assert snapshot.platform is not None
    if draft.store.input_digest == snapshot.request.input_digest and not snapshot.due:
        return _materialized(draft)
    result = snapshot.job.result
    if result is not None and result.refusal is not None:
        reason, message = result.refusal.reason, result.refusal.message
        return replace(draft, reason=reason, message=message, stalled=True)  # type: ignore[arg-type] # the Job's word
    if result is not None and snapshot.job.state.phase != "Absent":
        return _materialized(replace(draft, store=draft.store.after(snapshot.request, result, now)))
    if snapshot.job.state.phase == "Absent" and snapshot.busy:
        message = f"Waits for Job {snapshot.busy}, which writes to the same Feast project."
        return _in_progress(snapshot, replace(draft, requeue_after=BUSY_PAUSE), message)
    views = listed(view.name for view in snapshot.request.views)
    what = f"Job {snapshot.work.name} computes {views} and brings the values to the online store."
    pod = runner.pod(snapshot.platform, feast=True)
    job = replace(snapshot.job, result=None)  # an answer without a Job is from another time: ask again
    step = advance(snapshot.work, job, pod, now, doing=Reason.Materializing, what=what)
    draft = replace(
        draft,
        reason=step.reason,
        message=step.message,
        actions=(*draft.actions, *step.actions),
        job=snapshot.work.name,
        requeue_after=step.requeue_after,
    )
    return _in_progress(snapshot, draft, step.message) if step.reason == Reason.Materializing else draft


def _materialized(draft: Draft) -> Draft:
    return replace(draft, ready=True, reason=Reason.Materialized, message=_good(draft.store))


def _in_progress(snapshot: FeatureSetSnapshot, draft: Draft, message: str) -> Draft:
    """While newer data goes to the store, features with unchanged definitions stay good."""
    if draft.store.definition_digest == definition_digest(snapshot.subject.typed):
        return replace(draft, ready=True, reason=Reason.Materialized, message=f"{_good(draft.store)} {message}")
    return replace(draft, ready=False, reason=Reason.Materializing, message=message)


def _good(store: Store) -> str:
    versions = listed(each.version for each in store.sources)
    until_ = f" until {store.materialized_until}" if store.materialized_until else ""
    return f"The online store has the values of {versions}{until_}."


def _status(snapshot: FeatureSetSnapshot, draft: Draft, now: datetime) -> dict[str, Any]:
    conditions = Conditions(snapshot.subject.raw, now)
    conditions.set("Ready", draft.ready, draft.reason, draft.message)
    if draft.stalled:
        conditions.true("Stalled", draft.reason, draft.message)
    store = draft.store
    return finish(
        FeatureSetStatus,
        snapshot.subject,
        conditions,
        definition_digest=store.definition_digest,
        input_digest=store.input_digest,
        sources=list(store.sources) or None,
        feast_project=store.feast_project,
        objects=list(store.objects) or None,
        materialized_until=store.materialized_until,
        last_materialized_time=store.last_materialized_time,
        job=draft.job,
    )


def _next_tick(snapshot: FeatureSetSnapshot, now: datetime) -> float | None:
    schedule = snapshot.subject.typed.spec.materialize
    if schedule is None:
        return None
    return until(next_tick(schedule.schedule, schedule.time_zone, now, "spec.materialize.schedule"), now)


def _deletion(snapshot: FeatureSetSnapshot, now: datetime, runner: Runner) -> Plan:
    """Take the FeatureSet's objects out of Feast, then let it go."""
    objects = owned_objects(snapshot.subject.typed, snapshot.earlier)
    if snapshot.unreachable and objects:
        message = f"Feast still has {listed(objects)}: {snapshot.unreachable}, so no Job could remove them."
        return _left(snapshot, message, now)
    active = [job for job in snapshot.earlier if job.state.active]
    clearing = tuple(
        clear(snapshot.subject.namespace, job.name, job.uid) for job in active if job.state.phase == "Pending"
    )
    if not active and not objects:
        return Plan(finalizer="drop")
    status = snapshot.subject.typed.status
    draft = Draft(replace(Store.of(status), objects=objects), reason=Reason.Deleting, job=status.job)
    if active:
        message = f"Waits for Job {listed(job.name for job in active)} to end."
        return _leaving(snapshot, replace(draft, actions=clearing, message=message), now)
    if snapshot.busy:
        return _leaving(snapshot, _busy(draft, snapshot.busy), now)
    assert snapshot.teardown_work is not None
    assert snapshot.teardown is not None
    assert snapshot.platform is not None
    if snapshot.teardown.result is not None and snapshot.teardown.result.refusal is not None:
        return _left(snapshot, snapshot.teardown.result.refusal.message, now)
    what = f"Job {snapshot.teardown_work.name} removes {len(objects)} objects from Feast."
    pod = runner.pod(snapshot.platform, feast=True)
    step = advance(snapshot.teardown_work, snapshot.teardown, pod, now, doing=Reason.Deleting, what=what)
    if step.done:
        return Plan(finalizer="drop")
    draft = replace(
        draft, actions=step.actions, reason=step.reason, message=step.message, requeue_after=step.requeue_after
    )
    return _leaving(snapshot, draft, now)


def _left(snapshot: FeatureSetSnapshot, message: str, now: datetime) -> Plan:
    """Let the FeatureSet go, and say what of it stays in Feast."""
    conditions = Conditions(snapshot.subject.raw, now)
    conditions.unknown("Ready", Reason.DataLeft, message)
    status = finish(FeatureSetStatus, snapshot.subject, conditions)
    return Plan(status=status, events=(Note("Warning", Reason.DataLeft, message),), finalizer="drop")


def _busy(draft: Draft, job: str) -> Draft:
    return replace(draft, message=f"Waits for Job {job} to end.", requeue_after=BUSY_PAUSE)


def _leaving(snapshot: FeatureSetSnapshot, draft: Draft, now: datetime) -> Plan:
    status = _status(snapshot, draft, now)
    return Plan(draft.actions, status, requeue_after=draft.requeue_after, finalizer="keep")
