"""Engine `Local`: the compiled pipeline in two Jobs of this cluster, `train` and then `judge`.

The team's code runs in the first and never sees the credentials of the second. The request is kept where only the
operator writes; the first Job gets a copy in the folder that it may write to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from slipway.adapters import labels
from slipway.adapters.artifacts import Artifacts
from slipway.adapters.engines.base import Order, Run, RunState, own_key, request_key
from slipway.adapters.jobs import Command, PodSettings, Work, folder, job_name, manifest
from slipway.adapters.jobstate import ABSENT, JobState, job_state
from slipway.api.common import PipelineVersionName
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import Contract, ProduceResult, Progress, RegisterResult
from slipway.contracts.pipelines import Engine, UnfitError
from slipway.runtime.controller import Action, Call, Create, Delete, Io
from slipway.runtime.resources import JOB, POD, Key, uid_of

MAX_ATTEMPTS = 3
RETRY_SECONDS = 30.0
"""Pause before the next attempt, times the number of the last one."""
POLL_SECONDS = 2.0
"""Between two looks at a Job's progress."""

FINAL = frozenset({Reason.TrainingCodeFailed, Reason.OutOfMemory, Reason.DeadlineExceeded})
"""Reasons for which another attempt would end in the same way."""

JUDGE_PERCENT = 65
"""How much of the pipeline is done when the second Job starts; Jobs report percents of the whole."""


@dataclass(frozen=True)
class Half:
    """One of the two Jobs: its newest attempt and its answer."""

    attempt: int = 0
    """0: there is no Job."""
    name: str = ""
    uid: str = ""
    state: JobState = ABSENT
    result: Contract | None = None


@dataclass(frozen=True)
class LocalFacts:
    """What the cluster and the store say about a run.

    :param request: bytes of the request as it was handed over
    """

    request: bytes | None = None
    produce: Half = Half()
    judge: Half = Half()
    progress: Progress | None = None


class LocalEngine:
    """Two Jobs a run."""

    name: Engine = "Local"
    ports: Mapping[str, Any] = MappingProxyType({})

    async def answers(self, io: Io, artifacts: Artifacts, platform: Platform) -> str:
        """Nothing stands in the way of Jobs of this cluster."""
        del io, artifacts, platform
        return ""

    async def observe(self, io: Io, artifacts: Artifacts, run: Run) -> LocalFacts:
        """Both Jobs, their answers, and the progress of the one that runs."""
        request = await artifacts.get(run.location, request_key(run))
        produce = _half(io, run, "train")
        if not produce.state.active and request is not None:
            key = f"{run.prefix}result.json"
            produce = replace(produce, result=await artifacts.get_json(run.location, key, ProduceResult))
        judge = _half(io, run, "judge")
        if not judge.state.active and isinstance(produce.result, ProduceResult) and produce.result.refusal is None:
            name = judge.name or job_name(run.owner, "judge", "1")
            key = f"{folder(run.owner.namespace, name)}result.json"
            judge = replace(judge, result=await artifacts.get_json(run.location, key, RegisterResult))
        progress = None
        if judge.state.phase == "Running":
            progress = await artifacts.get_json(
                run.location, f"{folder(run.owner.namespace, judge.name)}progress.json", Progress
            )
        elif produce.state.phase == "Running":
            progress = await artifacts.get_json(run.location, f"{run.prefix}progress.json", Progress)
        return LocalFacts(request, produce, judge, progress)

    async def version(self, run: Run, source: PipelineVersionName) -> bytes | None:
        """None of them is here."""
        del run, source
        raise UnfitError("The Platform's engine is Local, which keeps no pipeline versions: set type S3 or Image.")

    def known(self, facts: LocalFacts) -> bool:
        """Whether there is a Job or an answer."""
        halves = (facts.produce, facts.judge)
        return any(half.state.phase != "Absent" or half.result is not None for half in halves)

    def advance(self, run: Run, facts: LocalFacts, order: Order, now: datetime) -> RunState:
        """First the team's half, then the judge's."""
        request = facts.request if run.started or self.known(facts) else None
        if request is None:
            if order.request is None:
                return RunState("Absent")
            request = canonical_json(order.request.wire())
        produce = facts.produce
        if produce.result is None:
            return self._go(run, produce, "train", request, order.produce, facts.progress, now, order.own)
        assert isinstance(produce.result, ProduceResult)
        if produce.result.refusal is not None:
            return _refused(produce, produce.result.refusal.reason, produce.result.refusal.message)
        judge = facts.judge
        if judge.result is None:
            return self._go(run, judge, "judge", request, order.judge, facts.progress, now)
        assert isinstance(judge.result, RegisterResult)
        if judge.result.refusal is not None:
            return _refused(judge, judge.result.refusal.reason, judge.result.refusal.message)
        return RunState(
            "Succeeded",
            stage="Done",
            percent=100,
            attempt=max(1, produce.attempt, judge.attempt, run.attempt),
            reason=Reason.Succeeded,
            result=judge.result,
        )

    def cancel(self, run: Run, facts: LocalFacts) -> tuple[Action, ...]:
        """Delete the Job that is active."""
        return tuple(
            Delete(Key(JOB, run.owner.namespace, half.name), uid=half.uid)
            for half in (facts.produce, facts.judge)
            if half.state.active
        )

    def _go(
        self,
        run: Run,
        half: Half,
        command: Command,
        request: bytes,
        pod: PodSettings,
        progress: Progress | None,
        now: datetime,
        own: bytes | None = None,
    ) -> RunState:
        """Start one half, wait for it, or try it again."""
        attempt = max(1, half.attempt)
        if half.state.phase == "Absent":
            return _start(run, command, attempt, request, pod, own)
        if half.state.active:
            return _underway(half, command, progress)
        reason, message = half.state.reason, half.state.message
        if half.state.phase == "Complete":
            reason, message = Reason.JobFailed, f"Job {half.name} is complete and left no result."
        if reason in FINAL or attempt >= MAX_ATTEMPTS:
            return RunState("Failed", attempt=attempt, job=half.name, reason=reason, message=message)
        again = (half.state.since or now) + timedelta(seconds=RETRY_SECONDS * attempt)
        if again <= now:
            return _start(run, command, attempt + 1, request, pod)
        wait = (again - now).total_seconds()
        message = f"{message} Attempt {attempt + 1} of {MAX_ATTEMPTS} begins at {again:%H:%M:%S} UTC."
        return RunState(
            "Pending", attempt=attempt, job=half.name, reason=reason, message=message, requeue_after=max(0.1, wait)
        )


def _half(io: Io, run: Run, command: Command) -> Half:
    """The newest attempt of one half, from memory."""
    found = Half()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        name = job_name(run.owner, command, str(attempt))
        job = io.get(JOB.key(name, run.owner.namespace))
        if job is not None and not job["metadata"].get("deletionTimestamp"):
            pods = io.list(POD, run.owner.namespace, {labels.JOB_NAME: name})
            found = Half(attempt, name, uid_of(job), job_state(job, pods))
    return found


def _work(run: Run, command: Command, attempt: int, request: bytes) -> Work:
    name = job_name(run.owner, command, str(attempt))
    prefix = run.prefix if command == "train" else folder(run.owner.namespace, name)
    return Work(run.owner, command, command, name, prefix, request, digest_bytes(request))


def _start(
    run: Run, command: Command, attempt: int, request: bytes, pod: PodSettings, own: bytes | None = None
) -> RunState:
    work = _work(run, command, attempt, request)
    keys = (request_key(run), work.request_key) if command == "train" else (work.request_key,)
    kept = (Call("artifacts", "put", _put(pod, own_key(run), own)),) if own is not None else ()
    puts = (*kept, *(Call("artifacts", "put", _put(pod, key, request)) for key in keys))
    labelled = replace(pod, labels={**pod.labels, labels.ATTEMPT: str(attempt)})
    return RunState(
        "Pending",
        actions=(*puts, Create(manifest(work, labelled), owned=True)),
        stage="Pending" if command == "train" else "Evaluation",
        percent=0 if command == "train" else JUDGE_PERCENT,
        attempt=attempt,
        job=work.name,
        reason=Reason.Running,
        message=f"Job {work.name} starts.",
    )


def _put(pod: PodSettings, key: str, data: bytes) -> dict[str, Any]:
    return {"location": pod.location, "key": key, "data": data}


def _underway(half: Half, command: Command, progress: Progress | None) -> RunState:
    first = command == "train"
    if half.state.phase == "Pending":
        held_up = half.state.reason != Reason.Progressing
        return RunState(
            "Pending" if first else "Running",
            stage="Pending" if first else "Evaluation",
            percent=0 if first else JUDGE_PERCENT,
            attempt=half.attempt,
            job=half.name,
            reason=half.state.reason if held_up else Reason.Running,
            message=half.state.message,
        )
    stage = progress.stage if progress else ("Features" if first else "Evaluation")
    return RunState(
        "Running",
        stage=stage,
        percent=progress.percent if progress else (0 if first else JUDGE_PERCENT),
        attempt=half.attempt,
        job=half.name,
        reason=Reason.Running,
        message=f"Job {half.name} runs.",
        requeue_after=POLL_SECONDS,
    )


def _refused(half: Half, reason: str, message: str) -> RunState:
    return RunState("Failed", attempt=max(1, half.attempt), job=half.name or None, reason=reason, message=message)
