"""The Job that copies the team's own pipeline out of an image, and keeps it where the operator reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from slipway.adapters.artifacts import Artifacts
from slipway.adapters.copystate import never_copied
from slipway.adapters.engines.base import Run
from slipway.adapters.jobs import COPIED, FileCopy, Work, prepare
from slipway.api.common import PipelineImage
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.contracts.jobs import CopyPipelineRequest, CopyPipelineResult, Refusal
from slipway.controllers.shared.work import Answered, Runner, Step, advance, answered, clear, pods_of
from slipway.runtime.controller import Action, Io

DEADLINE_SECONDS = 600
"""For the pull of the image, the copy, and the write."""
_FIELD = "spec.pipeline.image"


@dataclass(frozen=True)
class Copying:
    """How far it is.

    :param data: the pipeline, when it is done
    :param refusal: why it never will be
    """

    work: Work
    job: Answered[CopyPipelineRequest, CopyPipelineResult]
    copy: FileCopy
    data: bytes | None = None
    refusal: Refusal | None = None


async def read_copy(io: Io, artifacts: Artifacts, run: Run, source: PipelineImage) -> Copying:
    """What the Job of this run made; the same one at every look. :raises Unavailable: the store does not answer"""
    owner, copy = run.owner, FileCopy(source.name, source.path)
    request = CopyPipelineRequest(store=run.location.store, prefix="", image=source.name, path=source.path, file=COPIED)
    work = prepare(owner, "copy-pipeline", request)
    job = await answered(
        io, artifacts, run.location, owner.namespace, work.name, CopyPipelineRequest, CopyPipelineResult
    )
    if job.result is None:
        never = never_copied(_FIELD, copy, job.state, pods_of(io, work.name, owner.namespace))
        refusal = Refusal(reason=str(Reason.InvalidPipeline), message=never) if never else None
        return Copying(work, job, copy, refusal=refusal)
    if job.result.refusal is not None:
        return Copying(work, job, copy, refusal=job.result.refusal)
    data = await artifacts.get(run.location, job.result.key or "")
    if data is None:  # somebody deleted it, and it can be made again
        job = replace(job, result=None)
    return Copying(work, job, copy, data)


def copy_step(copying: Copying, runner: Runner, platform: Platform, now: datetime) -> Step:
    """The next step to it; pure."""
    what = f"Job {copying.work.name} copies {copying.copy.path} out of image {copying.copy.image}."
    pod = runner.pod(platform, copy=copying.copy, deadline_seconds=DEADLINE_SECONDS)
    return advance(copying.work, copying.job, pod, now, doing=Reason.Progressing, what=what)


def given_up(copying: Copying) -> tuple[Action, ...]:
    """Ends a Job that would try again in vain."""
    if copying.refusal is None or not copying.job.state.active:
        return ()
    return (clear(copying.work.owner.namespace, copying.job.name, copying.job.uid),)
