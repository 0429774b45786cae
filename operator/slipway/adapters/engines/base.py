"""The port to whatever executes a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.jobs import Owner, PodSettings, folder, job_name
from slipway.api.common import PipelineVersionName
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.api.trainingrun import PipelineRun
from slipway.contracts.jobs import RegisterResult, TrainingRequest
from slipway.contracts.pipelines import Engine
from slipway.runtime.controller import Action, Io
from slipway.runtime.resources import Object

F = TypeVar("F")

RunPhase = Literal["Absent", "Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True)
class Run:
    """A training run, as an engine knows it.

    :param raw: the TrainingRun as it came
    :param attempt: the attempt that its status has, from 1
    :param started: whether its status says that it was started
    :param platform: names the engine's endpoint, where it has one
    """

    owner: Owner
    raw: Object
    location: Location
    attempt: int = 1
    started: bool = False
    platform: Platform | None = None

    @property
    def prefix(self) -> str:
        """Folder of everything that the run's code writes."""
        return f"runs/{self.owner.namespace}/{self.owner.uid}/"


@dataclass(frozen=True)
class Order:
    """What an engine needs to start a run, or the next part of it.

    :param request: for a start; one that was made before goes before it
    :param produce, judge: pods of the two halves
    :param own: bytes of the team's own pipeline, with `request`; they are kept at `own_key`
    """

    request: TrainingRequest | None
    produce: PodSettings
    judge: PodSettings
    own: bytes | None = None


@dataclass(frozen=True)
class RunState:
    """How a run goes.

    :param phase: Absent: the engine knows nothing of it; Failed is final
    :param stage: part of the pipeline that runs, in the words of `TrainingRun.status.stage`
    :param percent: how much of the whole pipeline is done
    :param job: Kubernetes Job to look at, where there is one
    :param pipeline_run: the run at the engine's endpoint, where there is one
    :param result: what to record, with Succeeded
    """

    phase: RunPhase
    actions: tuple[Action, ...] = ()
    stage: str | None = None
    percent: int | None = None
    attempt: int = 1
    job: str | None = None
    pipeline_run: PipelineRun | None = None
    reason: Reason | str = Reason.Progressing
    message: str = ""
    result: RegisterResult | None = None
    requeue_after: float | None = None


class PipelineEngine(Protocol[F]):
    """Executes compiled pipelines.

    :param name: as a Platform says it
    """

    @property
    def name(self) -> Engine: ...

    @property
    def ports(self) -> Mapping[str, Any]:
        """Adapters that its `Call` actions name, beside `artifacts`."""
        ...

    async def answers(self, io: Io, artifacts: Artifacts, platform: Platform) -> str:
        """Why runs cannot be started there now, as a sentence; empty when they can."""
        ...

    async def observe(self, io: Io, artifacts: Artifacts, run: Run) -> F:
        """Read all that is known about a run. :raises Unavailable: the engine or the store does not answer"""
        ...

    async def version(self, run: Run, source: PipelineVersionName) -> bytes | None:
        """A pipeline version that the engine's endpoint keeps, as YAML; None when there is none.

        :raises UnfitError: the engine keeps none
        :raises Unavailable: the endpoint does not answer
        """
        ...

    def known(self, facts: F) -> bool:
        """Whether the run was handed over: then nothing may keep it from going on."""
        ...

    def advance(self, run: Run, facts: F, order: Order, now: datetime) -> RunState:
        """Hand the run over, or say how it goes and what it needs next. Pure; the same facts give the same actions."""
        ...

    def cancel(self, run: Run, facts: F) -> tuple[Action, ...]:
        """End a run that is no longer wanted; nothing where it has ended. Pure."""
        ...


Engines = Mapping[str, PipelineEngine[Any]]


def request_key(run: Run) -> str:
    """Where the request is kept: in the folder of the first Job, which user code cannot write to."""
    return f"{_kept(run)}request.json"


def own_key(run: Run) -> str:
    """Where the team's own pipeline is kept as it was when the run started: beside the request."""
    return f"{_kept(run)}pipeline.yaml"


def _kept(run: Run) -> str:
    return folder(run.owner.namespace, job_name(run.owner, "train", "1"))
