"""Analysis by templates: runs of metrics in the background, for a step, before and after the promotion. Pure.

A measurement goes through three passes: one writes into the status that it is next, one begins it, one takes its answer
in. So what is measured is always named by what the status says (candidate, attempt, run, metric, ordinal): a restart
begins what was under way again under the same name, and nothing that was taken in is measured twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.adapters import analysisjobs
from slipway.adapters.envoy_stats import WindowStats
from slipway.adapters.measurements import Answer, Token
from slipway.adapters.templates import Metrics, metrics_of
from slipway.api.analysis import GatewayProvider, Metric
from slipway.api.meta import parse_duration
from slipway.api.reasons import Reason
from slipway.api.rollout_analysis import AnalysisRun, ArgumentValue, Measurement, MetricRun, RunKind, TemplateRef
from slipway.api.rollout_steps import Step
from slipway.controllers.modelrollout import checks, metrics, posture
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import timestamp
from slipway.runtime.controller import Action, Call, Create, Delete
from slipway.runtime.resources import JOB, uid_of

PORT_NAME = "measurements"
_UNDECIDED = ("Inconclusive", "Error")


@dataclass(frozen=True)
class Use:
    """Templates that a rollout uses for one purpose.

    :param ends: whether its metrics need an end of their own
    """

    kind: RunKind
    templates: Sequence[TemplateRef]
    args: Sequence[ArgumentValue] = ()
    step: str | None = None
    ends: bool = True

    @property
    def what(self) -> str:
        """Its place in the spec."""
        if self.kind == "Step":
            return f"step {self.step}"
        return {"PrePromotion": "spec.analysis.prePromotion", "PostPromotion": "spec.analysis.postPromotion"}.get(
            self.kind, "spec.analysis"
        )


# ---- what is used ----------------------------------------------------------------------------------------------------
def background(snapshot: Snapshot) -> Use | None:
    """What is measured while the candidate has requests."""
    spec = snapshot.rollout.spec.analysis
    return Use("Background", spec.templates, ends=False) if spec is not None and spec.templates else None


def of_step(step: Step) -> Use | None:
    """What a step measures."""
    analyze = step.analyze
    if analyze is None or not analyze.templates:
        return None
    return Use("Step", analyze.templates, analyze.args or (), step.name, ends=analyze.for_ is None)


def before_promotion(snapshot: Snapshot) -> Use | None:
    """What must be Successful before a version gets all requests."""
    spec = snapshot.rollout.spec.analysis
    use = spec.pre_promotion if spec is not None else None
    return Use("PrePromotion", use.templates, use.args) if use is not None else None


def after_promotion(snapshot: Snapshot) -> Use | None:
    """What is measured once a version has all requests."""
    spec = snapshot.rollout.spec.analysis
    use = spec.post_promotion if spec is not None else None
    return Use("PostPromotion", use.templates, use.args) if use is not None else None


def uses(snapshot: Snapshot) -> Iterator[Use]:
    """Everything that the rollout uses templates for."""
    found = (
        background(snapshot),
        *(of_step(step) for step in snapshot.steps),
        before_promotion(snapshot),
        after_promotion(snapshot),
    )
    return (use for use in found if use is not None)


def problem(snapshot: Snapshot, state: State) -> str:
    """Why some template cannot be used; empty when all can."""
    found = (_metrics(snapshot, state, use).problem for use in uses(snapshot))
    return next((each for each in found if each), "")


def _metrics(snapshot: Snapshot, state: State, use: Use) -> Metrics:
    spec = snapshot.rollout.spec.analysis
    common = spec.args if spec is not None else ()
    found = metrics_of(use.templates, snapshot.templates, _given(snapshot, state, use), common, use.args)
    endless = [each.name for each in found.metrics if metrics.is_endless(each) and not each.dry_run]
    if found.problem:
        return Metrics(problem=f"{use.what}: {found.problem}")
    if use.ends and endless:
        sentence = f"metric {endless[0]} has an interval and no count, so it never ends: set count in its template."
        return Metrics(problem=f"{use.what}: {sentence}")
    return found


def _given(snapshot: Snapshot, state: State, use: Use) -> dict[str, str]:
    """What every rollout gives. After the promotion, the stable version is the one before."""
    candidate, stable = state.candidate, state.stable
    if use.kind == "PostPromotion":
        candidate, stable = state.stable, previous(state)

    def service(name: str | None) -> str:
        member = state.members.get(name or "")
        return snapshot.backend_of(name, member.service) if member else ""

    return {
        "rollout": snapshot.name,
        "namespace": snapshot.namespace,
        "stable-version": stable or "",
        "candidate-version": candidate or "",
        "stable-service": service(stable),
        "candidate-service": service(candidate),
    }


def previous(state: State) -> str | None:
    """The version that served before the stable one and is still warm, unless a person went back from it."""
    names = (each.name for each in state.members.values() if each.role == "Previous")
    return next((name for name in names if name not in state.rejected), None)


# ---- runs ------------------------------------------------------------------------------------------------------------
def current(state: State, kind: RunKind) -> AnalysisRun | None:
    """The run of the version, attempt and step that it is about now."""
    run = state.runs.get(kind)
    if run is None:
        return None
    if kind == "PostPromotion":
        return run if run.version == state.stable and state.candidate is None else None
    # Who goes back to a version goes back however often it has to start.
    if run.version != state.candidate or (run.attempt != _attempt(state) and run.phase != "Skipped"):
        return None
    if kind == "Step":
        return run if state.position is not None and run.step == state.position.name else None
    return run


def _attempt(state: State) -> str | None:
    return timestamp(state.candidate_since) if state.candidate_since else None


def all_current(state: State) -> list[AnalysisRun]:
    """Every run that is about what goes on now."""
    kinds: tuple[RunKind, ...] = ("Background", "Step", "PrePromotion", "PostPromotion")
    return [run for kind in kinds if (run := current(state, kind)) is not None]


def _begun(state: State, use: Use, now: datetime) -> AnalysisRun:
    post = use.kind == "PostPromotion"
    return AnalysisRun(
        kind=use.kind,
        version=str(state.stable if post else state.candidate),
        step=use.step,
        attempt=None if post else _attempt(state),
        started_at=timestamp(now),
        phase="Running",
    )


@dataclass(frozen=True)
class Proceeding:
    """A run after one look. :param problem: why it cannot be made; the run is None then"""

    run: AnalysisRun | None = None
    actions: tuple[Action, ...] = ()
    problem: str = ""


def proceed(snapshot: Snapshot, state: State, use: Use, now: datetime, *, over: bool = False) -> Proceeding:
    """Take in what was measured, and begin what is due. The run is noted in `state`.

    :param over: the time of metrics without end is over
    """
    run = current(state, use.kind) or _begun(state, use, now)
    if run.phase != "Running":
        return Proceeding(run)
    found = _metrics(snapshot, state, use)
    if found.problem:
        return Proceeding(problem=found.problem)
    known = {each.name: each for each in run.metrics}
    actions: list[Action] = []
    results: list[tuple[Metric, MetricRun]] = []
    for metric in found.metrics:
        before = known.get(metric.name) or metrics.begin(metric, now)
        after, more = _look(snapshot, state, run, metric, before, now)
        results.append((metric, metrics.close(metric, after) if over else after))
        actions += more
    run = metrics.conclude(run, results)
    state.runs[use.kind] = run
    return Proceeding(run, tuple(actions) if run.phase == "Running" else ())


def _look(
    snapshot: Snapshot, state: State, run: AnalysisRun, metric: Metric, before: MetricRun, now: datetime
) -> tuple[MetricRun, list[Action]]:
    if before.phase != "Running":
        return before, []
    if metric.provider.gateway is not None:
        measured = _at_gateway(snapshot, state, run, metric, metric.provider.gateway, before, now)
        return (metrics.add(metric, before, measured, now) if measured else before), []
    token = token_of(snapshot, run, before)
    answer = _answer(snapshot, metric, token)
    if answer is not None:
        return metrics.add(metric, before, metrics.interpret(metric, answer, now), now), []
    may_begin = metrics.is_due(metric, before, now) and _is_written(snapshot, run, before)
    return before, [_beginning(snapshot, metric, token)] if may_begin and not _is_under_way(snapshot, token) else []


def token_of(snapshot: Snapshot, run: AnalysisRun, metric: MetricRun) -> Token:
    """Names the next measurement of a metric."""
    return Token(
        uid_of(snapshot.obj),
        f"{run.kind}/{run.step or ''}/{metric.name}",
        f"{run.version}/{run.attempt or ''}/{run.started_at}/{metric.taken}",
    )


def _is_written(snapshot: Snapshot, run: AnalysisRun, metric: MetricRun) -> bool:
    """Whether the stored status names this measurement as the next one."""
    stored = next((each for each in snapshot.rollout.status.analysis or () if each.kind == run.kind), None)
    if stored is None or (stored.version, stored.attempt, stored.step) != (run.version, run.attempt, run.step):
        return False
    known = next((each for each in stored.metrics if each.name == metric.name), None)
    return stored.started_at == run.started_at and known is not None and known.taken == metric.taken


# ---- sources ---------------------------------------------------------------------------------------------------------
def _job(snapshot: Snapshot, token: Token) -> str:
    return analysisjobs.name_of(snapshot.name, token)


def _answer(snapshot: Snapshot, metric: Metric, token: Token) -> Answer | None:
    if metric.provider.job is not None:
        job = snapshot.jobs.get(_job(snapshot, token))
        return job.answer if job is not None else None
    return snapshot.heard.answers.get(token)


def _is_under_way(snapshot: Snapshot, token: Token) -> bool:
    return token in snapshot.heard.under_way or _job(snapshot, token) in snapshot.jobs


def _beginning(snapshot: Snapshot, metric: Metric, token: Token) -> Action:
    if metric.provider.job is not None:
        project = snapshot.rollout.spec.project_ref.name
        name = _job(snapshot, token)
        return Create(analysisjobs.manifest(name, snapshot.namespace, project, metric.provider.job), owned=True)
    arguments = {"token": token, "namespace": snapshot.namespace, "provider": metric.provider}
    return Call(PORT_NAME, "begin", arguments)


def _at_gateway(
    snapshot: Snapshot,
    state: State,
    run: AnalysisRun,
    metric: Metric,
    source: GatewayProvider,
    before: MetricRun,
    now: datetime,
) -> Measurement | None:
    """A measurement from the statistics that the snapshot has. Too few requests: it waits for one more window."""
    if not metrics.is_due(metric, before, now):
        return None
    stable = _stats(snapshot, state, state.stable, source) if source.include_stable else None
    requests, value = checks.measure(source, _stats(snapshot, state, run.version, source))
    compared, reference = checks.measure(source, stable) if stable is not None else (requests, None)
    if value is None or min(requests, compared) < source.minimum_requests:
        if metrics.overdue(before, now) < parse_duration(source.window) + timedelta(seconds=checks.SLACK):
            return None
        whose = "The version" if requests < source.minimum_requests else "The stable version"
        message = f"{whose} had {min(requests, compared)} of {source.minimum_requests} requests in {source.window}."
        return Measurement(at=timestamp(now), phase="Inconclusive", message=message)
    result = {"value": round(float(value), 4), "requests": float(requests)}
    if reference is not None:
        result |= {"stable": round(float(reference), 4), "stableRequests": float(compared)}
    return metrics.interpret(metric, Answer(result), now)


def _stats(snapshot: Snapshot, state: State, version: str | None, source: GatewayProvider) -> WindowStats:
    window = parse_duration(source.window).total_seconds()
    if version == state.candidate:
        return posture.measured(snapshot, state, window)
    member = state.members.get(version or "")
    cluster = snapshot.cluster_of(member.service) if member else ""
    return snapshot.reading.windows.get((cluster, window), checks.NOTHING)


# ---- verdicts --------------------------------------------------------------------------------------------------------
def failures(state: State) -> list[str]:
    """A sentence for each run that failed and that nobody let pass."""
    return [
        f"{_title(run)} failed: {run.message or 'a metric failed.'}"
        for run in all_current(state)
        if run.phase == "Failed" and not run.promoted
    ]


def hold(state: State) -> tuple[Reason, str] | None:
    """Why the rollout waits for a person: a run that came to no verdict."""
    for run in all_current(state):
        if run.phase in _UNDECIDED and not run.promoted:
            reason = Reason.AnalysisInconclusive if run.phase == "Inconclusive" else Reason.AnalysisError
            remedy = f"Annotate the rollout slipway.dev/promote: {held_at(state)}:{run.version} to go on all the same"
            return reason, f"{_title(run)} is {run.phase}: {run.message or ''} {remedy}, or pin another version."
    return None


def held_at(state: State) -> str:
    """What a person names to let the rollout go on: the step, or `postPromotion`."""
    return state.position.name if state.position is not None else "postPromotion"


def waits_for_person(state: State) -> bool:
    """Whether a run failed or came to no verdict, and a person may let it pass."""
    return any(run.phase in ("Failed", *_UNDECIDED) and not run.promoted for run in all_current(state))


def accept(state: State) -> bool:
    """A person lets pass what failed or came to no verdict; whether there was such a run."""
    waiting = [run for run in all_current(state) if run.phase in ("Failed", *_UNDECIDED) and not run.promoted]
    for run in waiting:
        state.runs[run.kind] = run.model_copy(update={"promoted": True})
    return bool(waiting)


def passed(run: AnalysisRun) -> bool:
    """Whether the rollout may go on."""
    return run.promoted or run.phase in ("Successful", "Skipped")


def _title(run: AnalysisRun) -> str:
    named = {"Background": "The analysis in the background", "Step": f"The analysis of step {run.step}"}
    named |= {"PrePromotion": "The analysis before the promotion", "PostPromotion": "The analysis after the promotion"}
    return f"{named[run.kind]} of version {run.version}"


# ---- begin and end of a candidacy ------------------------------------------------------------------------------------
def skip(state: State, now: datetime) -> None:
    """A person goes back to the candidate, which served before: nothing is measured."""
    kinds: tuple[RunKind, ...] = ("PrePromotion", "PostPromotion")
    state.runs = {
        kind: _begun(state, Use(kind, ()), now).model_copy(
            update={"phase": "Skipped", "version": state.candidate, "attempt": _attempt(state)}
        )
        for kind in kinds
    }


def is_skipped(state: State) -> bool:
    """Whether the candidate is promoted without an analysis."""
    run = current(state, "PrePromotion")
    return run is not None and run.phase == "Skipped"


def promote(snapshot: Snapshot, state: State, version: str, now: datetime) -> None:
    """A version with this name takes all requests from now on: what was measured is over, what follows begins."""
    running = state.runs.get("Background")
    if running is not None and running.phase == "Running":
        good = all(each.phase == "Successful" or each.successful for each in running.metrics if not each.dry_run)
        message = None if good else "The version was promoted before every metric had a Successful measurement."
        phase = "Successful" if good else "Inconclusive"
        state.runs["Background"] = running.model_copy(update={"phase": phase, "message": message})
    use = after_promotion(snapshot)
    if use is not None and previous(state) is not None and "PostPromotion" not in state.runs:
        begun = _begun(state, use, now)
        state.runs["PostPromotion"] = begun.model_copy(update={"version": version, "attempt": None})


def is_watching(state: State) -> bool:
    """Whether the stable version is still measured after its promotion."""
    run = current(state, "PostPromotion")
    return run is not None and run.phase == "Running"


def needs_previous(state: State) -> bool:
    """Whether everybody may have to go back to the version before."""
    run = current(state, "PostPromotion")
    return run is not None and (run.phase == "Running" or (run.phase == "Failed" and not run.promoted))


def superfluous_jobs(snapshot: Snapshot, state: State) -> Iterator[Action]:
    """Jobs that still run and that no run waits for."""
    wanted = {
        _job(snapshot, token_of(snapshot, run, metric))
        for run in all_current(state)
        if run.phase == "Running"
        for metric in run.metrics
    }
    for name, job in snapshot.jobs.items():
        if name not in wanted and job.answer is None:
            yield Delete(JOB.key(name, snapshot.namespace), job.uid)
