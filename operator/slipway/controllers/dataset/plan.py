"""What becomes of a Dataset: a chain of questions, the first of which that has an answer decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import MAX_LISTED, Location
from slipway.api.dataset import DatasetStatus
from slipway.api.datasetversion import DatasetVersion, DatasetVersionSpec
from slipway.api.meta import API_VERSION, ObjectMeta
from slipway.api.reasons import Reason
from slipway.controllers.dataset.observe import poll, recorded
from slipway.controllers.dataset.record import record, same_record, version_name
from slipway.controllers.dataset.snapshot import DatasetSnapshot, IngestJob
from slipway.controllers.shared import links
from slipway.controllers.shared.cron import next_tick
from slipway.controllers.shared.erasure import erase
from slipway.controllers.shared.typed import age_key, finish
from slipway.controllers.shared.work import Runner, advance, clear, listed, soonest, until
from slipway.runtime.conditions import Conditions, timestamp
from slipway.runtime.controller import Action, Create, Delete, Plan
from slipway.runtime.resources import DATASET_VERSION, Key

SENTENCES = 3
"""Broken rules that a message quotes."""


@dataclass(frozen=True)
class Draft:
    """A plan in the making.

    :param ready: reason when there is a usable version and nothing newer is wrong
    """

    ready: bool
    reason: Reason
    message: str
    actions: tuple[Action, ...] = ()
    versions: tuple[DatasetVersion, ...] = ()
    latest: DatasetVersion | None = None
    source_digest: str | None = None
    job: str | None = None
    requeue_after: float | None = None
    stalled: bool = False
    """Only a person can go on."""


def plan(snapshot: DatasetSnapshot, now: datetime, runner: Runner) -> Plan:
    """Decide about one Dataset."""
    if snapshot.subject.deleting:
        return _deletion(snapshot, now, runner)
    draft = _decide(snapshot, now, runner)
    dataset = snapshot.subject.typed
    status = _status(snapshot, draft, now)
    return Plan(
        actions=draft.actions,
        status=status,
        requeue_after=soonest(draft.requeue_after, _next_look(snapshot, now)),
        finalizer="keep" if dataset.spec.deletion_policy == "Delete" else "drop",
    )


def _decide(snapshot: DatasetSnapshot, now: datetime, runner: Runner) -> Draft:
    dataset = snapshot.subject.typed
    held = _kept(snapshot)
    if snapshot.project is None:
        return replace(
            held, ready=False, reason=Reason.ProjectMissing, message=links.no_project(dataset.spec.project_ref)
        )
    if snapshot.platform is None:
        return replace(held, ready=False, reason=Reason.PlatformMissing, message=links.no_platform())
    missing = [name for name, version in sorted(snapshot.references.items()) if version is None]
    if missing:
        message = f"spec.columns: waits for a current version of Dataset {listed(missing)}, which columns refer to."
        return replace(held, ready=False, reason=Reason.DependencyNotReady, message=message)
    if snapshot.listing is None or not snapshot.listing.objects:
        return replace(held, ready=False, reason=Reason.SourceEmpty, message=_empty(snapshot))
    if snapshot.listing.truncated:
        message = (
            f"spec.source.s3.prefix: there are more than {MAX_LISTED} objects below {_prefix(snapshot)}: put the data "
            "into fewer, larger objects."
        )
        return replace(held, ready=False, reason=Reason.SourceTooLarge, message=message, stalled=True)
    held = _earlier(snapshot, held)
    if held.job is not None:
        return held
    done = recorded(dataset, snapshot.source_digest, snapshot.versions)
    if done is not None:
        return _recorded(replace(held, latest=done, source_digest=snapshot.source_digest))
    return _ingest(snapshot, held, now, runner)


def _kept(snapshot: DatasetSnapshot) -> Draft:
    """What holds before anything is decided: the status as it is, rebuilt from the records where it was lost."""
    status = snapshot.subject.typed.status
    latest = next((each for each in snapshot.versions if each.metadata.name == status.latest_version), None)
    if latest is None:
        latest = max(snapshot.versions, key=age_key, default=None)
    return Draft(
        ready=False,
        reason=Reason.Progressing,
        message="",
        versions=snapshot.versions,
        latest=latest,
        source_digest=status.source_digest,
    )


def _earlier(snapshot: DatasetSnapshot, held: Draft) -> Draft:
    """Jobs for an earlier state of the source: let one that runs end and record it, drop one that never began."""
    for job in snapshot.earlier:
        if job.state.phase == "Running":
            message = f"Job {job.name} reads an earlier state of the source; the newest is read after it."
            return replace(_in_progress(snapshot, held, message), job=job.name)
        if job.state.phase == "Pending":
            held = replace(held, actions=(*held.actions, clear(snapshot.subject.namespace, job.name, job.uid)))
        elif job.result is not None and job.request is not None and job.result.refusal is None:
            held = _with_record(snapshot, held, job, job.request.source_digest)
    return held


def _ingest(snapshot: DatasetSnapshot, held: Draft, now: datetime, runner: Runner) -> Draft:
    assert snapshot.work is not None
    assert snapshot.job is not None
    assert snapshot.platform is not None
    assert snapshot.listing is not None
    result = snapshot.job.result
    if result is not None and result.refusal is not None:
        return replace(
            held,
            ready=False,
            reason=result.refusal.reason,  # type: ignore[arg-type] # a word that the Job chose
            message=result.refusal.message,
            source_digest=snapshot.source_digest,
            stalled=result.refusal.reason != Reason.SourceChanged,
        )
    if result is not None:
        return _recorded(_with_record(snapshot, held, snapshot.job, snapshot.source_digest))
    objects = len(snapshot.listing.objects)
    what = f"Job {snapshot.work.name} reads {objects} object{'s' if objects > 1 else ''} below {_prefix(snapshot)}."
    step = advance(snapshot.work, snapshot.job, runner.pod(snapshot.platform), now, doing=Reason.Ingesting, what=what)
    draft = replace(
        held,
        reason=step.reason,
        message=step.message,
        actions=(*held.actions, *step.actions),
        job=snapshot.work.name,
        requeue_after=step.requeue_after,
    )
    return _in_progress(snapshot, draft, step.message) if step.reason == Reason.Ingesting else draft


def _in_progress(snapshot: DatasetSnapshot, draft: Draft, message: str) -> Draft:
    """While newer data is read, a Dataset that was good stays so."""
    current = _current(snapshot, draft)
    if current is not None and draft.latest is not None and draft.latest.spec.verdict == "Passed":
        return replace(draft, ready=True, reason=_passed(current), message=f"{_good(current)} {message}")
    return replace(draft, ready=False, reason=Reason.Ingesting, message=message)


def _with_record(snapshot: DatasetSnapshot, held: Draft, job: IngestJob, source_digest: str) -> Draft:
    """The draft with the answer of a Job recorded as its latest version; no second record where it stands already."""
    assert job.result is not None
    assert snapshot.platform is not None
    dataset, result = snapshot.subject.typed, job.result
    name = version_name(snapshot.subject.name, result, source_digest, held.versions)
    known = next((each for each in held.versions if each.metadata.name == name), None)
    if known is not None and same_record(known, result):
        return replace(held, latest=known, source_digest=source_digest)
    manifest = record(dataset, name, result, source_digest, Location.of(snapshot.platform))
    version = _as_version(manifest)
    return replace(
        held,
        actions=(*held.actions, Create(manifest)),
        versions=(*held.versions, version),
        latest=version,
        source_digest=source_digest,
    )


def _as_version(manifest: dict[str, Any]) -> DatasetVersion:
    meta = ObjectMeta(name=manifest["metadata"]["name"], namespace=manifest["metadata"]["namespace"])
    return DatasetVersion(
        api_version=API_VERSION,
        kind="DatasetVersion",
        metadata=meta,
        spec=DatasetVersionSpec.model_validate(manifest["spec"]),
    )


def _recorded(draft: Draft) -> Draft:
    """The newest state of the source has its version: say what it is."""
    version = draft.latest
    assert version is not None
    if version.spec.verdict == "Passed":
        return replace(draft, ready=True, reason=_passed(version), message=_good(version))
    return replace(draft, ready=False, reason=Reason.QualityRulesBroken, message=_broken(version), stalled=True)


def _passed(version: DatasetVersion) -> Reason:
    return Reason.PassedWithWarnings if version.spec.violations else Reason.Passed


def _good(version: DatasetVersion) -> str:
    spec = version.spec
    warned = f"; {len(spec.violations)} warnings, the first: {spec.violations[0].message}" if spec.violations else ""
    parts = f"{spec.partitions} object{'s' if spec.partitions != 1 else ''}"
    return f"{version.metadata.name} is current: {spec.rows} rows from {parts}{warned}."


def _broken(version: DatasetVersion) -> str:
    blocking = [each for each in version.spec.violations if each.severity == "Block"]
    sentences = [f"{each.rule}: {each.message}" for each in blocking[:SENTENCES]]
    more = f" And {len(blocking) - SENTENCES} more." if len(blocking) > SENTENCES else ""
    return f"{version.metadata.name} did not pass. {' '.join(sentences)}{more}".strip()


def _empty(snapshot: DatasetSnapshot) -> str:
    assert snapshot.platform is not None
    bucket = snapshot.platform.spec.artifacts.s3.bucket
    return (
        f"spec.source.s3.prefix: there is no object below s3://{bucket}/{_prefix(snapshot)}: put data there, or "
        "correct the prefix."
    )


def _prefix(snapshot: DatasetSnapshot) -> str:
    s3 = snapshot.subject.typed.spec.source.s3
    return s3.prefix if s3 is not None else ""


def _current(snapshot: DatasetSnapshot, draft: Draft) -> DatasetVersion | None:
    """The version that others use: the latest if it passed, else the one from before, else the newest that passed."""
    if draft.latest is not None and draft.latest.spec.verdict == "Passed":
        return draft.latest
    passed = [each for each in draft.versions if each.spec.verdict == "Passed"]
    before = snapshot.subject.typed.status.current_version
    kept = next((each for each in passed if each.metadata.name == before), None)
    return kept or max(passed, key=age_key, default=None)


def _status(snapshot: DatasetSnapshot, draft: Draft, now: datetime) -> dict[str, Any]:
    status = snapshot.subject.typed.status
    conditions = Conditions(snapshot.subject.raw, now)
    conditions.set("Ready", draft.ready, draft.reason, draft.message)
    if draft.stalled:
        conditions.true("Stalled", draft.reason, draft.message)
    current = _current(snapshot, draft)
    began = draft.job is not None and draft.job != status.job
    changed = began or (status.job is None and draft.source_digest != status.source_digest)
    return finish(
        DatasetStatus,
        snapshot.subject,
        conditions,
        current_version=current.metadata.name if current else None,
        latest_version=draft.latest.metadata.name if draft.latest else None,
        rows=current.spec.rows if current else None,
        partitions=current.spec.partitions if current else None,
        source_digest=draft.source_digest,
        last_listed_time=timestamp(now) if changed else status.last_listed_time,
        job=draft.job,
    )


def _next_look(snapshot: DatasetSnapshot, now: datetime) -> float | None:
    """Seconds until the source is looked at again; None while it is not looked at."""
    if snapshot.listing is None:
        return None
    dataset = snapshot.subject.typed
    if dataset.spec.schedule is not None:
        return until(next_tick(dataset.spec.schedule, dataset.spec.time_zone, now, "spec.schedule"), now)
    return until(snapshot.listing.at + poll(dataset), now)


def _deletion(snapshot: DatasetSnapshot, now: datetime, runner: Runner) -> Plan:
    """Retain: nothing goes with the Dataset. Delete: first the records, then the data, then the Dataset."""
    if snapshot.erasure is None:
        return Plan(finalizer="drop")
    doomed = tuple(
        Delete(Key(DATASET_VERSION, snapshot.subject.namespace, each.metadata.name), uid=each.metadata.uid)
        for each in snapshot.versions
        if each.metadata.deletion_timestamp is None
    )
    step, notes = erase(snapshot.erasure, runner, now)
    conditions = Conditions(snapshot.subject.raw, now)
    if step.done and not snapshot.versions:
        conditions.unknown("Ready", step.reason, step.message)
        status = finish(DatasetStatus, snapshot.subject, conditions)
        return Plan(status=status if notes else None, events=notes, finalizer="drop")
    waiting = f"Waits until {len(snapshot.versions)} DatasetVersions are gone."
    if doomed or step.done:
        conditions.false("Ready", Reason.Deleting, waiting)
    else:
        conditions.false("Ready", step.reason, step.message)
    return Plan(
        actions=doomed or step.actions,
        status=finish(DatasetStatus, snapshot.subject, conditions),
        requeue_after=step.requeue_after,
        finalizer="keep",
    )
