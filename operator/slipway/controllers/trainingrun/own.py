"""The team's own pipeline: fetched from where the run says it is, and held against the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.adapters.engines.base import PipelineEngine, Run, own_key
from slipway.adapters.pools import is_extended, pool_units
from slipway.api.common import PipelineSource
from slipway.api.computepool import ComputePool
from slipway.api.reasons import Reason
from slipway.api.trainingrun import TrainingRun
from slipway.contracts.digests import digest_bytes
from slipway.contracts.pipelines import Circumstances, Engine, OwnPipeline, UnfitError, parse, require_fit
from slipway.controllers.trainingrun.copying import Copying, read_copy
from slipway.runtime.controller import Io
from slipway.runtime.threads import in_thread

PARSE_SECONDS = 30.0


@dataclass(frozen=True)
class OwnFacts:
    """What there is of it.

    :param problem: why it is none; with `missing` it may yet come
    :param reason: of the problem
    :param data: its bytes, with `pipeline`
    :param copying: the Job that copies it out of an image, while it has not, or where it never will
    """

    pipeline: OwnPipeline | None = None
    data: bytes = b""
    problem: str = ""
    missing: bool = False
    reason: Reason | str = Reason.InvalidPipeline
    copying: Copying | None = None


async def read_own(
    io: Io, artifacts: Artifacts, engine: PipelineEngine[Any], run: Run, source: PipelineSource
) -> OwnFacts:
    """The pipeline as it was when the run was started, else as it is now. :raises Unavailable: nobody answers"""
    kept = await artifacts.get(run.location, own_key(run)) if run.started else None
    try:
        data = kept if kept is not None else await _fetched(io, artifacts, engine, run, source)
        if isinstance(data, OwnFacts):
            return data
        if source.digest is not None and digest_bytes(data) != source.digest:
            raise UnfitError(f"The file has digest {digest_bytes(data)}, not {source.digest}: correct either.")
        pipeline = await in_thread(parse, data, timeout=PARSE_SECONDS, what="the parser of YAML")
    except UnfitError as error:
        return OwnFacts(problem=f"spec.pipeline: {error}")
    return OwnFacts(pipeline, data)


async def _fetched(
    io: Io, artifacts: Artifacts, engine: PipelineEngine[Any], run: Run, source: PipelineSource
) -> bytes | OwnFacts:
    """Its bytes, or why there are none."""
    if source.image is not None:
        copying = await read_copy(io, artifacts, run, source.image)
        if copying.refusal is not None:
            return OwnFacts(problem=copying.refusal.message, reason=copying.refusal.reason, copying=copying)
        return OwnFacts(copying=copying) if copying.data is None else copying.data
    if source.s3 is not None:
        found = await artifacts.get(run.location, source.s3.key)
        where = (
            f"spec.pipeline.s3.key: {run.location.uri(source.s3.key)} does not exist: upload it, or correct the key."
        )
        return OwnFacts(problem=where, missing=True, reason=Reason.DependencyMissing) if found is None else found
    assert source.pipeline_version is not None
    found = await engine.version(run, source.pipeline_version)
    if found is not None:
        return found
    where = (
        f"spec.pipeline.pipelineVersion: the endpoint has no version {source.pipeline_version.version} of pipeline "
        f"{source.pipeline_version.pipeline}: upload it, or correct the names."
    )
    return OwnFacts(problem=where, missing=True, reason=Reason.DependencyMissing)


def unfit(own: OwnPipeline, run: TrainingRun, engine: Engine, pool: ComputePool | None) -> str:
    """Why a pipeline cannot run, with field, value and remedy; empty when it can. Pure."""
    spec = run.spec
    extended = pool is not None and is_extended(pool.spec.resource)
    given = Circumstances(
        engine=engine,
        image=spec.code.image.name,
        values=spec.parameters,
        seed=spec.seed,
        accelerator=pool.spec.resource if pool is not None and extended else "",
        accelerators=pool_units(spec.resources, pool.spec.resource) if pool is not None and extended else 0,
    )
    try:
        require_fit(own, given)
    except UnfitError as error:
        return f"spec.pipeline: {error}"
    return ""
