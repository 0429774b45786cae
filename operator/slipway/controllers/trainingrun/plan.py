"""What becomes of a TrainingRun."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, get_args

from slipway.adapters.engines.base import Engines, Order, PipelineEngine, RunState
from slipway.api.meta import parse_duration, parse_time
from slipway.api.reasons import Reason
from slipway.api.trainingrun import Stage, TrainingRunStatus
from slipway.controllers.shared.typed import finish
from slipway.controllers.shared.work import Runner
from slipway.controllers.trainingrun.checks import Obstacle, obstacle
from slipway.controllers.trainingrun.copying import copy_step, given_up
from slipway.controllers.trainingrun.observe import ENDED, TrainingRunSnapshot
from slipway.controllers.trainingrun.request import record, training_request, version_name
from slipway.runtime.conditions import Conditions, timestamp
from slipway.runtime.controller import Action, Create, Plan

LOOK_SECONDS = 60.0
CANCEL_SECONDS = 5.0
"""Between two looks at a run that is being ended."""

_STAGES = get_args(Stage)


def plan(snapshot: TrainingRunSnapshot, now: datetime, runner: Runner, engines: Engines, pipeline_digest: str) -> Plan:
    """Decide about one run. One that has ended is left as it is."""
    run = snapshot.subject.typed
    if run.status.phase in ENDED:
        return Plan(finalizer="drop")
    engine = engines[snapshot.engine] if snapshot.engine is not None else None
    known = engine is not None and snapshot.run is not None and engine.known(snapshot.facts)
    if snapshot.subject.deleting:
        return _cancelled(snapshot, engine)
    if not known:
        found = obstacle(snapshot)
        if found is not None:
            return _held_up(snapshot, found, now, runner)
    assert engine is not None
    assert snapshot.run is not None
    order = _order(snapshot, now, runner, pipeline_digest, start=not known)
    state = engine.advance(snapshot.run, snapshot.facts, order, now)
    if state.phase == "Succeeded":
        return _succeeded(snapshot, state, now)
    return Plan(
        state.actions,
        _status(snapshot, state, now),
        requeue_after=state.requeue_after,
        finalizer="drop" if state.phase == "Failed" else "keep",
    )


def _cancelled(snapshot: TrainingRunSnapshot, engine: PipelineEngine[Any] | None) -> Plan:
    """A run that is deleted while its engine works on it: nothing of it may go on by itself."""
    if engine is None or snapshot.run is None:
        return Plan(finalizer="drop")
    actions = engine.cancel(snapshot.run, snapshot.facts)
    if not actions:
        return Plan(finalizer="drop")
    return Plan(actions, requeue_after=CANCEL_SECONDS, finalizer="keep")


def _order(snapshot: TrainingRunSnapshot, now: datetime, runner: Runner, pipeline_digest: str, *, start: bool) -> Order:
    run, platform = snapshot.subject.typed, snapshot.platform
    assert platform is not None
    deadline = parse_duration(run.spec.deadline)
    begun = parse_time(run.status.start_time) if run.status.start_time else now
    left = int((begun + deadline - now) / timedelta(seconds=1))
    pool = snapshot.pool.pool if snapshot.pool is not None else None
    return Order(
        request=training_request(snapshot, pipeline_digest) if start else None,
        own=snapshot.own.data if snapshot.own is not None else None,
        produce=runner.pod(
            platform,
            user_code=True,
            image=run.spec.code.image.name,
            pool=pool,
            resources=run.spec.resources,
            deadline_seconds=left,
        ),
        judge=runner.pod(
            platform,
            feast=True,
            image=run.spec.code.image.name,
            resources=run.spec.resources if pool is None else None,
            deadline_seconds=left,
        ),
    )


def _held_up(snapshot: TrainingRunSnapshot, found: Obstacle, now: datetime, runner: Runner) -> Plan:
    copying = snapshot.own.copying if snapshot.own is not None else None
    actions: tuple[Action, ...] = ()
    wait: float | None = None
    if copying is not None and found.copying:
        assert snapshot.platform is not None
        step = copy_step(copying, runner, snapshot.platform, now)
        found = replace(found, reason=step.reason, message=step.message)
        actions, wait = step.actions, step.requeue_after
    elif copying is not None and found.final:
        actions = given_up(copying)
    conditions = Conditions(snapshot.subject.raw, now)
    conditions.set("Succeeded", "False" if found.fault else "Unknown", found.reason, found.message)
    if found.fault:
        conditions.true("Stalled", found.reason, found.message)
    status = snapshot.subject.typed.status
    fields = _kept(status)
    fields["phase"] = "Failed" if found.final else "Pending"
    fields["stage"] = "Pending"
    if found.final:
        fields["completion_time"] = timestamp(now)
    # Labels of a namespace are not watched, and a pool may be opened to it at any time.
    # Nor is the store, where somebody may yet put a pipeline, nor the endpoint.
    unseen = found.reason == Reason.NotAllowed or (snapshot.own is not None and snapshot.own.missing)
    look = LOOK_SECONDS if unseen and not found.final else wait
    return Plan(actions, finish(TrainingRunStatus, snapshot.subject, conditions, **fields), requeue_after=look)


def _status(snapshot: TrainingRunSnapshot, state: RunState, now: datetime) -> dict[str, Any]:
    status = snapshot.subject.typed.status
    conditions = Conditions(snapshot.subject.raw, now)
    failed = state.phase == "Failed"
    conditions.set("Succeeded", "False" if failed else "Unknown", state.reason, state.message)
    if failed:
        conditions.true("Stalled", state.reason, state.message)
    fields = _kept(status)
    fields.update(
        phase=state.phase,
        attempt=max(state.attempt, status.attempt or 1),
        engine=snapshot.engine,
        start_time=status.start_time or timestamp(now),
        job=state.job,
        pipeline_run=state.pipeline_run or status.pipeline_run,
    )
    if snapshot.own is not None and snapshot.own.pipeline is not None:
        fields["own_pipeline_digest"] = snapshot.own.pipeline.digest
    if state.stage in _STAGES:
        fields["stage"] = state.stage
    if state.percent is not None:
        fields["progress_percent"] = state.percent
    if failed:
        fields["completion_time"] = timestamp(now)
    return finish(TrainingRunStatus, snapshot.subject, conditions, **fields)


def _succeeded(snapshot: TrainingRunSnapshot, state: RunState, now: datetime) -> Plan:
    """Record the version, or point to the one that is the same."""
    run, result = snapshot.subject.typed, state.result
    assert result is not None
    assert result.digests is not None
    assert snapshot.run is not None
    name = version_name(run.spec.project_ref.name, result)
    known = snapshot.recorded.get(name)
    actions: tuple[Action, ...] = ()
    if known is None:
        actions = (Create(record(run, result, snapshot.run.location)),)
        message = f"ModelVersion {name} was made; {'it passed every gate' if result.passed else 'it failed a gate'}."
    else:
        message = f"The result is ModelVersion {name}, which {known.spec.run.name} made before from the same inputs."
    conditions = Conditions(snapshot.subject.raw, now)
    conditions.true("Succeeded", Reason.Succeeded, message)
    status = _status(snapshot, replace(state, message=message), now)
    fields = _kept(TrainingRunStatus.model_validate(status))
    fields.update(
        phase="Succeeded",
        stage="Done",
        progress_percent=100,
        completion_time=timestamp(now),
        job=None,
        pipeline_digest=result.digests.pipeline,
        model_version=name,
        manifest=snapshot.run.location.uri(result.manifest or ""),
    )
    return Plan(actions, finish(TrainingRunStatus, snapshot.subject, conditions, **fields), finalizer="drop")


def _kept(status: TrainingRunStatus) -> dict[str, Any]:
    """The fields of a status, to change some of."""
    return {name: getattr(status, name) for name in type(status).model_fields if name not in _ALWAYS_NEW}


_ALWAYS_NEW = frozenset({"conditions", "observed_generation"})
