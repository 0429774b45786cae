"""Engine `KubeflowPipelines`: the compiled pipeline as one run of a KFP endpoint, a container a task.

The id of an attempt follows from the TrainingRun's uid, so whoever asks, and however often, asks for the same run. The
endpoint is the truth; Workflow and pods wake us, and say why a run waits or failed. What a run made is read from where
only the judging tasks write, as with the other engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from slipway.adapters.artifacts import Artifacts
from slipway.adapters.engines.base import Order, Run, RunState, own_key, request_key
from slipway.adapters.jobs import folder, job_name
from slipway.adapters.kfp import launcher
from slipway.adapters.kfp.api import ApiRefused
from slipway.adapters.kfp.document import Document, Settings, document, load, unsupported
from slipway.adapters.kfp.endpoint import Endpoint
from slipway.adapters.kfp.evidence import Failure, failure, waiting
from slipway.adapters.kfp.port import RUN_LABEL, Kubeflow
from slipway.adapters.kfp.runs import ApiRun, failed_task, parse_run, progress, run_id
from slipway.adapters.kfp.submission import Submission
from slipway.api.common import PipelineVersionName
from slipway.api.meta import parse_duration, parse_time
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.api.trainingrun import PipelineRun, PipelineRunEnd, TrainingRunStatus
from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import RegisterResult, TrainingRequest
from slipway.contracts.pipelines import (
    Engine,
    OwnPipeline,
    UnfitError,
    arguments,
    combined_digest,
    compose,
    parse,
)
from slipway.contracts.training import Arguments
from slipway.runtime.conditions import timestamp
from slipway.runtime.controller import Action, Call, Io
from slipway.runtime.errors import Unavailable
from slipway.runtime.resources import CONFIG_MAP, POD, WORKFLOW, Object

MAX_ATTEMPTS = 3
MAX_PREEMPTIONS = 10
"""Attempts of a run that only ever lost its pods."""
RETRY_SECONDS = 30.0
"""Pause before the next attempt, times the number of the last one."""
POLL_SECONDS = 10.0
"""Between two looks at a run; its Workflow and pods wake us sooner."""
SOON_SECONDS = 1.0
LAUNCHER_SECONDS = 30.0
LOST_SECONDS = 60.0
"""A run that goes on without a Workflow for so long has lost it."""

_ENDED = frozenset({"Succeeded", "Failed", "Error"})
_STORE_KEYS = ("accessKey", "secretKey")
_FEAST_KEYS = ("host", "port", "database", "username", "password")


@dataclass(frozen=True)
class KubeflowFacts:
    """What endpoint, cluster and store say about an attempt.

    :param endpoint: None: the Platform names none any more
    :param request: bytes of the request as it was handed over
    :param run: None: the endpoint knows none of this id
    :param workflow: looked for where the endpoint's word is not enough
    :param told: its Workflow as the endpoint saw it last; asked for where it failed and the cluster has none
    :param seen: whether Workflows can be seen, and were looked for
    :param doubtful: whether a create may still be under way
    :param own: bytes of the team's own pipeline, as they were kept for another attempt
    :param refused: what the endpoint says against a pipeline of the team's own
    :param launcher: what keeps KFP's launcher from the store; looked for before a start
    """

    id: str
    endpoint: Endpoint | None = None
    request: bytes | None = None
    result: RegisterResult | None = None
    run: ApiRun | None = None
    workflow: Object | None = None
    told: Mapping[str, Any] | None = None
    seen: bool = False
    doubtful: bool = False
    pods: tuple[Object, ...] = ()
    own: bytes | None = None
    launcher: str = ""
    refused: str = ""
    recorded: bool = False


class KubeflowEngine:
    """One run of an endpoint an attempt.

    :param port: what is done there; the controller calls it `kfp`
    :param ir: gives the bytes of the compiled pipeline
    """

    def __init__(self, port: Kubeflow, ir: Callable[[], bytes]) -> None:
        self._port = port
        self._ir = ir
        self._loaded: tuple[str, dict[str, Any]] | None = None
        self.name: Engine = "KubeflowPipelines"
        self.ports: Mapping[str, Any] = {"kfp": port}

    # ---- observe -----------------------------------------------------------------------------------------------------
    async def observe(self, io: Io, artifacts: Artifacts, run: Run) -> KubeflowFacts:
        """The run, and what explains it where it does not simply go on."""
        self._port.bind(io.client)
        identity = run_id(run.owner.uid, run.attempt)
        endpoint = Endpoint.of(run.platform) if run.platform is not None else None
        if endpoint is None:
            return KubeflowFacts(identity)
        record = recorded(run)
        facts = KubeflowFacts(
            identity,
            endpoint,
            doubtful=self._port.doubtful(identity),
            refused=self._port.refused(identity),
            recorded=record is not None and record.id == identity and record.recorded,
            run=await self._run(endpoint, identity),
        )
        namespace = endpoint.namespace(run.owner.namespace)
        pods = tuple(io.list(POD, namespace, {RUN_LABEL: identity}))
        watched = _newest(io.list(WORKFLOW, namespace, {RUN_LABEL: identity}))
        if facts.run is not None and facts.run.active and watched is not None:
            return replace(facts, pods=pods, workflow=watched, seen=True)
        found = await self._port.workflows(namespace, identity)
        facts = replace(facts, pods=pods, workflow=_newest(found), seen=found is not None)
        if facts.run is not None and facts.run.active and _record(run, facts).missing_since is None:
            return facts
        facts = replace(
            facts,
            request=await artifacts.get(run.location, request_key(run)),
            result=await artifacts.get_json(run.location, result_key(run, run.attempt), RegisterResult),
            own=await artifacts.get(run.location, own_key(run)) if run.raw["spec"].get("pipeline") else None,
        )
        if facts.run is not None and facts.run.state == "FAILED" and facts.workflow is None and facts.result is None:
            facts = replace(facts, told=await self._port.api.last_workflow(endpoint, identity))
        if facts.run is None and facts.workflow is None and not facts.recorded and facts.result is None:
            facts = replace(facts, launcher=await self._launcher(io, artifacts, endpoint, run.platform, namespace))
        return facts

    async def version(self, run: Run, source: PipelineVersionName) -> bytes | None:
        """A version that the endpoint keeps, as JSON, which is YAML. :raises Unavailable: it does not answer"""
        endpoint = Endpoint.of(run.platform) if run.platform is not None else None
        if endpoint is None:
            raise Unavailable("The Platform names no pipelines endpoint.", reason=Reason.EngineNotAvailable)
        namespace = endpoint.api_namespace(run.owner.namespace)
        try:
            found = await self._port.api.version_spec(endpoint, namespace, source.pipeline, source.version)
        except ApiRefused as refused:
            raise Unavailable(
                f"The pipelines endpoint {endpoint.url} does not say what version {source.version} of pipeline "
                f"{source.pipeline} is ({refused.status}: {refused.message}).",
                reason=Reason.EndpointUnavailable,
            ) from refused
        return None if found is None else packaged(found)

    async def answers(self, io: Io, artifacts: Artifacts, platform: Platform) -> str:
        """Why runs cannot be started; empty when they can."""
        endpoint = Endpoint.of(platform)
        if endpoint is None:
            return "spec.pipelines.kubeflowPipelines is not set."
        try:
            health = await self._port.api.healthy(endpoint)
            await self._asked(endpoint)
        except Unavailable as error:
            return error.message
        except ApiRefused as refused:
            return f"{endpoint.url} answered {refused.status}: {refused.message}: is it the API of Kubeflow Pipelines?"
        if health.get("multi_user") is True and endpoint.shared:
            return (
                "spec.pipelines.kubeflowPipelines.namespace.policy: the endpoint serves several users, each in a "
                "namespace of their own: set Project."
            )
        if health.get("multi_user") is not True and not endpoint.shared:  # answers leave out what is false
            return (
                "spec.pipelines.kubeflowPipelines.namespace.policy: the endpoint is a single-user installation, whose "
                "runs are in its own namespace: set Shared."
            )
        if not endpoint.shared:
            return ""
        return await self._launcher(io, artifacts, endpoint, platform, endpoint.shared)

    async def _asked(self, endpoint: Endpoint) -> None:
        """Whether the token is good, and may look at runs of any namespace: of one that every cluster has."""
        try:
            await self._port.api.may_list(endpoint, endpoint.api_namespace("default"))
        except ApiRefused as refused:
            if refused.status not in (400, 404):  # it knows who asks, and that there are no users in `default`
                raise

    async def _run(self, endpoint: Endpoint, identity: str) -> ApiRun | None:
        try:
            found = await self._port.api.run(endpoint, identity)
        except ApiRefused as refused:
            raise Unavailable(
                f"The pipelines endpoint {endpoint.url} does not say how run {identity} goes ({refused.status}: "
                f"{refused.message}).",
                reason=Reason.EndpointUnavailable,
            ) from refused
        return None if found is None else parse_run(found)

    async def _launcher(
        self, io: Io, artifacts: Artifacts, endpoint: Endpoint, platform: Platform | None, namespace: str
    ) -> str:
        """What keeps tasks from the store; empty when nothing is known to."""
        assert platform is not None
        config = await io.live(CONFIG_MAP.key(launcher.CONFIG_MAP, namespace))
        needs = launcher.needs(config, namespace, endpoint.root, platform.spec.artifacts.s3.endpoint)
        if needs.problem:
            return needs.problem
        wanted = [(needs.secret, needs.keys)] if needs.secret else []
        if endpoint.shared:
            wanted += [(endpoint.shared_s3, _STORE_KEYS), (endpoint.shared_feast, _FEAST_KEYS)]
        for name, keys in wanted:
            secret = await artifacts.secrets.read(namespace, name)
            missing = keys if secret is None else secret.missing(*keys)
            if missing:
                return f"Secret {namespace}/{name} has no {', '.join(missing)}, which pods of runs need: add it."
        return ""

    # ---- decide ------------------------------------------------------------------------------------------------------
    def known(self, facts: KubeflowFacts) -> bool:
        """Whether endpoint, cluster or store have anything of it."""
        return facts.run is not None or facts.workflow is not None or facts.result is not None or facts.recorded

    def advance(self, run: Run, facts: KubeflowFacts, order: Order, now: datetime) -> RunState:
        """Start it, follow it, end it after its deadline, try it again."""
        if facts.endpoint is None:
            message = "spec.pipelines.kubeflowPipelines of the Platform is not set, where the run was started: set it."
            return RunState("Pending", attempt=run.attempt, reason=Reason.EngineNotAvailable, message=message)
        going = _going(facts)
        if facts.result is not None and not going:
            return self._answered(run, facts, facts.result)
        ending = _ending(run, facts)
        if ending is not None and not going:
            return self._failed(run, facts, Failure(ending.reason, ending.message, final=True))
        if ending is None and order.produce.deadline_seconds <= 0:
            ending = _deadline(run, facts, now)
            if not going:
                return self._failed(run, facts, Failure(Reason.DeadlineExceeded, ending.message, final=True))
            # Written down first, told to the endpoint then: whoever looks at the run next knows why it ends.
            return self._underway(run, facts, now, ending, SOON_SECONDS)
        if going:
            state = self._underway(run, facts, now, ending, POLL_SECONDS)
            if ending is not None:
                return replace(state, actions=self.cancel(run, facts))
            return self._lost(run, facts, order, now) or state
        if not self.known(facts):
            return self._first(run, facts, order)
        elsewhere = _elsewhere(run, facts)
        if elsewhere is not None:
            return elsewhere
        return self._again(run, facts, order, _why(facts), now)

    def cancel(self, run: Run, facts: KubeflowFacts) -> tuple[Action, ...]:
        """Have the endpoint end it, until it has."""
        del run
        if facts.endpoint is None or not (_going(facts) or facts.doubtful):
            return ()
        return (Call("kfp", "terminate", {"endpoint": facts.endpoint, "run_id": facts.id}),)

    def _answered(self, run: Run, facts: KubeflowFacts, result: RegisterResult) -> RunState:
        if result.refusal is not None:
            told = Failure(result.refusal.reason, result.refusal.message, final=True)
            return self._failed(run, facts, told)
        return RunState(
            "Succeeded",
            stage="Done",
            percent=100,
            attempt=run.attempt,
            reason=Reason.Succeeded,
            result=result,
            pipeline_run=_record(run, facts),
        )

    def _underway(
        self, run: Run, facts: KubeflowFacts, now: datetime, ending: PipelineRunEnd | None, look: float
    ) -> RunState:
        """It goes on: how far, and what holds it up."""
        reached = progress(facts.run.tasks) if facts.run is not None else None
        obstacle = waiting(facts.pods)
        pending = facts.run is not None and facts.run.state == "PENDING" and reached is None
        phase: Literal["Pending", "Running"] = "Pending" if pending else "Running"
        message = f"Run {facts.id} runs."
        if ending is not None:
            message = f"Run {facts.id} is being ended. {ending.message}"
        elif obstacle is not None:
            message = obstacle.message
        elif facts.run is None:
            message = f"The endpoint has no record of run {facts.id} yet; its Workflow runs."
        return RunState(
            phase,
            stage=reached[0] if reached is not None else "Pending" if pending else None,
            percent=reached[1] if reached is not None else 0 if pending else None,
            attempt=run.attempt,
            reason=obstacle.reason if obstacle is not None and ending is None else Reason.Running,
            message=message,
            requeue_after=look,
            pipeline_run=_record(run, facts, ending=ending, now=now),
        )

    def _lost(self, run: Run, facts: KubeflowFacts, order: Order, now: datetime) -> RunState | None:
        """What becomes of a run that goes on at the endpoint, and whose Workflow is gone; None for any other."""
        since = _record(run, facts, now=now).missing_since
        if since is None or now - parse_time(since) < timedelta(seconds=LOST_SECONDS):
            return None
        if facts.result is not None:
            return self._answered(run, facts, facts.result)
        message = f"The Workflow of run {facts.id} is gone, and the endpoint says that it goes on."
        return self._again(run, facts, order, Failure(Reason.PipelineRunLost, message), now)

    def _again(self, run: Run, facts: KubeflowFacts, order: Order, why: Failure, now: datetime) -> RunState:
        """Try another attempt after a while, if that may help."""
        limit = MAX_PREEMPTIONS if why.reason == Reason.Preempted else MAX_ATTEMPTS
        if why.final or run.attempt >= limit:
            return self._failed(run, facts, why)
        ended = (facts.run.finished if facts.run is not None else None) or _finished(facts.workflow)
        again = (ended or now) + timedelta(seconds=RETRY_SECONDS * run.attempt if ended is not None else 0)
        request = facts.request
        if request is None:
            return self._failed(run, facts, replace(why, message=f"{why.message} Its request is gone from the store."))
        if again <= now:
            return self._start(replace(run, attempt=run.attempt + 1), facts, order, request)
        return RunState(
            "Pending",
            attempt=run.attempt,
            reason=why.reason,
            message=f"{why.message} Attempt {run.attempt + 1} of {limit} begins at {again:%H:%M:%S} UTC.",
            requeue_after=max(0.1, (again - now).total_seconds()),
            pipeline_run=_record(run, facts),
        )

    def _first(self, run: Run, facts: KubeflowFacts, order: Order) -> RunState:
        """Hand it over, unless it cannot run there."""
        problem = unsupported(self._settings(run, facts, order))
        if problem:
            return RunState("Failed", attempt=run.attempt, reason=Reason.InvalidSpec, message=problem)
        if facts.refused:
            message = f"spec.pipeline: the endpoint does not take the pipeline: {facts.refused}."
            return RunState("Failed", attempt=run.attempt, reason=Reason.InvalidPipeline, message=message)
        if facts.launcher:
            return RunState(
                "Pending",
                stage="Pending",
                attempt=run.attempt,
                reason=Reason.LauncherMisconfigured,
                message=facts.launcher,
                requeue_after=LAUNCHER_SECONDS,
            )
        request = facts.request if run.started else None
        if request is None:
            if order.request is None:
                return RunState("Absent")
            request = canonical_json(order.request.wire())
        return self._start(run, facts, order, request)

    def _start(self, run: Run, facts: KubeflowFacts, order: Order, request: bytes) -> RunState:
        assert facts.endpoint is not None
        identity = run_id(run.owner.uid, run.attempt)
        asked = TrainingRequest.model_validate_json(request)
        try:
            digest, made, own = self._document(asked, order.own or facts.own, self._settings(run, facts, order))
        except UnfitError as error:
            return self._failed(run, facts, Failure(Reason.InvalidPipeline, f"spec.pipeline: {error}", final=True))
        asked = asked.model_copy(update={"pipeline_digest": digest})
        files = {own_key(run): order.own} if order.own is not None and order.own != facts.own else {}
        files |= {} if facts.request == request else {request_key(run): request}
        puts = [{"location": order.produce.location, "key": key, "data": data} for key, data in files.items()]
        submission = self._submission(run, facts.endpoint, identity, asked, made, own, fresh=facts.request is None)
        return RunState(
            "Pending",
            actions=(
                *(Call("artifacts", "put", each) for each in puts),
                Call("kfp", "submit", {"submission": submission}),
            ),
            stage="Pending",
            percent=0,
            attempt=run.attempt,
            reason=Reason.Running,
            message=f"Run {identity} is handed over to {facts.endpoint.url}.",
            requeue_after=SOON_SECONDS,
            pipeline_run=_record(run, KubeflowFacts(identity, facts.endpoint)),
        )

    def _document(
        self, request: TrainingRequest, own: bytes | None, settings: Settings
    ) -> tuple[str, Document, OwnPipeline | None]:
        """Digest of the pipeline, what is submitted, and the team's own, if it has a part in it.

        :raises UnfitError: the team's own is not what it was
        """
        digest, ir = self._pipeline()
        if request.own_pipeline is None:
            return digest, document(ir, digest, settings), None
        if own is None or digest_bytes(own) != request.own_pipeline.digest:
            raise UnfitError("What was kept of it for this run is gone from the store: create another run.")
        brought = parse(own)
        digest = combined_digest(digest, brought.digest)
        composed = compose(ir, brought, request.parameters)
        return digest, document(composed, digest, settings, brought.platform), brought

    def _submission(
        self,
        run: Run,
        endpoint: Endpoint,
        identity: str,
        request: TrainingRequest,
        made: Document,
        own: OwnPipeline | None,
        *,
        fresh: bool,
    ) -> Submission:
        owner = run.owner
        parameters = Arguments.of(request, result=result_key(run, run.attempt)).pipeline_parameters()
        more = arguments(own, request.parameters, request.seed) if own is not None else {}
        number = f"-{run.attempt}" if run.attempt > 1 else ""
        return Submission(
            endpoint=endpoint,
            run_id=identity,
            name=f"{owner.namespace}.{owner.name}{number}",
            description=f"TrainingRun {owner.namespace}/{owner.name}, attempt {run.attempt}.",
            namespace=endpoint.namespace(owner.namespace),
            api_namespace=endpoint.api_namespace(owner.namespace),
            group=f"{owner.namespace}.{owner.project}",
            document=made,
            parameters={**{name: plain(text) for name, text in parameters.items()}, **more},
            root=_root(run, endpoint, run.attempt),
            own=own is not None,
            fresh=fresh,
        )

    def _settings(self, run: Run, facts: KubeflowFacts, order: Order) -> Settings:
        assert facts.endpoint is not None
        pod = order.produce
        return Settings(
            image=pod.image,
            project=run.owner.project,
            store=pod.location.store,
            s3_secret=facts.endpoint.s3_secret(run.owner.project),
            feast_secret=facts.endpoint.feast_secret(run.owner.project),
            pull_policy=pod.pull_policy,
            pool=pod.pool,
            resources=pod.resources,
            deadline_seconds=max(1, int(parse_duration(run.raw["spec"].get("deadline") or "2h").total_seconds())),
        )

    def _pipeline(self) -> tuple[str, dict[str, Any]]:
        """The compiled pipeline with its digest, parsed once."""
        if self._loaded is None:
            data = self._ir()
            self._loaded = (digest_bytes(data), load(data))
        return self._loaded

    def _failed(self, run: Run, facts: KubeflowFacts, why: Failure) -> RunState:
        return RunState(
            "Failed",
            attempt=run.attempt,
            reason=why.reason,
            message=why.message,
            pipeline_run=_record(run, facts),
        )


def result_key(run: Run, attempt: int) -> str:
    """Where an attempt's judge writes its answer: code of the team cannot write there."""
    return f"{folder(run.owner.namespace, job_name(run.owner, 'judge', f'kfp-{attempt}'))}result.json"


def packaged(found: Mapping[str, Any]) -> bytes:
    """A version's pipeline as the file that it was uploaded as would have it; the same bytes each time."""
    spec, platform = found.get("pipeline_spec"), found.get("platform_spec")
    documents = [spec, platform] if isinstance(spec, Mapping) else [found]
    return b"\n---\n".join(canonical_json(each) for each in documents if each)


def plain(text: str) -> str:
    """JSON in which no template of Argo begins: `{{` can only stand inside of a string."""
    return text.replace("{{", "{\\u007b")


def recorded(run: Run) -> PipelineRun | None:
    """What the run's status says of its newest attempt."""
    return TrainingRunStatus.model_validate(run.raw.get("status") or {}).pipeline_run


def _going(facts: KubeflowFacts) -> bool:
    """Whether it may still do something."""
    if facts.run is not None:
        return facts.run.active
    return facts.workflow is not None and _phase(facts.workflow) not in _ENDED


def _elsewhere(run: Run, facts: KubeflowFacts) -> RunState | None:
    """A run that was handed to another endpoint than the Platform names now; None for any other."""
    record = recorded(run)
    if facts.run is not None or facts.workflow is not None or record is None or record.id != facts.id:
        return None
    assert facts.endpoint is not None
    if record.endpoint in (None, facts.endpoint.url):
        return None
    message = (
        f"Run {facts.id} was handed to {record.endpoint}; spec.pipelines.kubeflowPipelines.endpoint of the Platform is "
        f"{facts.endpoint.url} now, which does not know it: set it back until the run has ended, or delete the run."
    )
    return RunState(
        "Pending",
        attempt=run.attempt,
        reason=Reason.EngineNotAvailable,
        message=message,
        requeue_after=POLL_SECONDS,
        pipeline_run=_record(run, facts),
    )


def _ending(run: Run, facts: KubeflowFacts) -> PipelineRunEnd | None:
    record = recorded(run)
    return record.ending if record is not None and record.id == facts.id else None


def _deadline(run: Run, facts: KubeflowFacts, now: datetime) -> PipelineRunEnd:
    deadline = run.raw["spec"].get("deadline") or "2h"
    held_up = waiting(facts.pods)
    why = f" It waited: {held_up.message}" if held_up is not None else ""
    message = f"The run was ended after its deadline of {deadline}.{why}"
    return PipelineRunEnd(reason=Reason.DeadlineExceeded, message=message[:1024], at=timestamp(now))


def _why(facts: KubeflowFacts) -> Failure:
    """Why a run that has ended, or is gone, made nothing."""
    run = facts.run
    if run is None and facts.workflow is None:
        message = f"Run {facts.id} was deleted at the endpoint, and has left no result."
        return Failure(Reason.Cancelled, message, final=True)
    workflow = facts.workflow or facts.told
    if (run is not None and run.cancelled) or _shut_down(workflow):
        message = f"Run {facts.id} was ended at the endpoint, by somebody else than Slipway."
        return Failure(Reason.Cancelled, message, final=True)
    if run.succeeded if run is not None else _phase(facts.workflow) == "Succeeded":
        return Failure(Reason.PipelineTaskFailed, f"Run {facts.id} ended well and has left no result.")
    task = failed_task(run.tasks) if run is not None else None
    return failure(facts.pods, workflow, task, run.error if run is not None else "")


def _record(
    run: Run, facts: KubeflowFacts, *, ending: PipelineRunEnd | None = None, now: datetime | None = None
) -> PipelineRun:
    """What the status says of the attempt; `now` where its Workflow may be found missing."""
    assert facts.endpoint is not None
    before = recorded(run)
    known = before if before is not None and before.id == facts.id else None
    seen = known.workflow if known is not None else None
    active = facts.run is not None and facts.run.active
    # One that was never seen may well be in another cluster, or in another namespace than the Platform says.
    missing = active and facts.seen and facts.workflow is None and seen is not None
    since = (known.missing_since if known is not None else None) or (timestamp(now) if now is not None else None)
    return PipelineRun(
        id=facts.id,
        endpoint=(known.endpoint if known is not None and known.recorded else None) or facts.endpoint.url,
        namespace=facts.endpoint.namespace(run.owner.namespace),
        state=facts.run.state[:64] or None if facts.run is not None else None,
        recorded=facts.run is not None or facts.recorded,
        url=facts.endpoint.page(facts.id),
        artifacts=_root(run, facts.endpoint, run.attempt),
        workflow=str(facts.workflow["metadata"]["name"]) if facts.workflow is not None else seen,
        missing_since=since if missing else None,
        ending=ending or (known.ending if known is not None else None),
    )


def _root(run: Run, endpoint: Endpoint, attempt: int) -> str:
    return f"{endpoint.root}/{run.owner.namespace}/{run.owner.uid}/{attempt}"


def _newest(found: list[Object] | None) -> Object | None:
    """The Workflow that was made last; None where there is none."""
    ordered = sorted(found or (), key=lambda each: str(each["metadata"].get("creationTimestamp") or ""))
    return ordered[-1] if ordered else None


def _phase(workflow: Mapping[str, Any] | None) -> str:
    return str(((workflow or {}).get("status") or {}).get("phase") or "")


def _finished(workflow: Mapping[str, Any] | None) -> datetime | None:
    text = ((workflow or {}).get("status") or {}).get("finishedAt")
    return parse_time(text) if isinstance(text, str) else None


def _shut_down(workflow: Mapping[str, Any] | None) -> bool:
    """Whether a Workflow was told to end: KFP gives it no time any more, people shut it down."""
    spec = (workflow or {}).get("spec") or {}
    return spec.get("activeDeadlineSeconds") == 0 or bool(spec.get("shutdown"))
