"""The status: what a person reads, and what the next pass remembers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from slipway.adapters.kserve import Trouble
from slipway.api.meta import parse_time
from slipway.api.modelrollout import (
    HandledAnnotations,
    ModelRolloutStatus,
    PlannedStep,
    ServedVersion,
    StepStatus,
)
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout import (
    admission,
    analysis,
    checks,
    experiments,
    retrying,
    rivals,
    statistics,
    waiting,
)
from slipway.controllers.modelrollout.abstaining import state_baseline
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.layout import Layout, may_route
from slipway.controllers.modelrollout.predictionlog import state_log
from slipway.controllers.modelrollout.readers import report_log
from slipway.controllers.modelrollout.selection import Choice
from slipway.controllers.modelrollout.state import Member, State
from slipway.controllers.modelrollout.steps import Progress
from slipway.controllers.modelrollout.strategy import told
from slipway.runtime.conditions import Conditions, timestamp

NUMBERS_EVERY = timedelta(seconds=10)
"""Verdicts are written at once, numbers alone not more often than this: each write is a request to the API server."""
_VERSIONS_SHOWN = 8


def report(
    snapshot: Snapshot, state: State, choice: Choice, progress: Progress, layout: Layout, now: datetime
) -> dict[str, Any]:
    """The whole status."""
    before = snapshot.rollout.status
    fresh = _numbers_are_due(before, progress, now)
    status = ModelRolloutStatus(
        observed_generation=snapshot.rollout.metadata.generation,
        phase=_phase(snapshot, state, progress),
        url=snapshot.url,
        stable=state.stable,
        candidate=state.candidate,
        weight=state.weight if state.candidate else None,
        candidate_since=timestamp(state.candidate_since) if state.candidate_since else None,
        attempts=state.attempts or None,
        step=StepStatus(
            index=state.position.index, name=state.position.name, started_at=timestamp(state.position.started_at)
        )
        if state.position
        else None,
        plan=_plan(snapshot, state),
        versions=_versions(snapshot, state, layout, fresh),
        checks=(progress.checks if fresh else before.checks) or None,
        experiments=state.experiments or None,
        analysis=list(state.runs.values()) or None,
        measured_at=timestamp(now) if fresh and progress.checks else before.measured_at if progress.checks else None,
        rejected=list(state.rejected.values()) or None,
        history=state.history or None,
        handled=_handled(state),
        comparisons=state.comparisons or None,
        prediction_log=report_log(snapshot, state),
        paused=state.paused,
        promote_full=state.promote_full,
        undo=state.undo,
        orders=state.orders or None,
        candidacy=state.candidacy,
        hooks=list(state.hooks.values()) or None,
    )
    conditions = Conditions(snapshot.obj, now)
    _state_ready(conditions, snapshot, state, choice, now)
    _state_progressing(conditions, snapshot, state, choice, progress)
    _state_stalled(conditions, snapshot, state, choice, progress)
    statistics.state_statistics(conditions, snapshot, state)
    state_log(conditions, snapshot)
    state_baseline(conditions, snapshot, state)
    _state_analysis(conditions, snapshot, state)
    admission.state_access(conditions, snapshot, now)
    retrying.state_retry(conditions, snapshot, state, layout)
    return {**status.wire(), **admission.report_consumers(snapshot, now), "conditions": conditions.list()}


def _handled(state: State) -> HandledAnnotations | None:
    if (state.promote_seen, state.retry_seen, state.order_seen) == (None, None, None):
        return None
    return HandledAnnotations(promote=state.promote_seen, retry=state.retry_seen, order=state.order_seen)


def _numbers_are_due(before: ModelRolloutStatus, progress: Progress, now: datetime) -> bool:
    if [(each.name, each.verdict) for each in before.checks or ()] != [(e.name, e.verdict) for e in progress.checks]:
        return True
    written = parse_time(before.measured_at) if before.measured_at else None
    return written is None or written > now or now - written >= NUMBERS_EVERY


def _phase(snapshot: Snapshot, state: State, progress: Progress) -> Any:
    steps = snapshot.steps
    if state.candidate is None:
        if state.stable is None:
            return "Waiting"
        return "RollingBack" if _is_rolling_back(state) else "Healthy"
    if state.paused is not None or progress.hooks.halted:
        return "Paused"
    if state.position is None:
        return "Starting"
    if progress.failing or progress.held:
        return "Paused"
    if state.position.index >= len(steps):
        return "Promoting"
    step = steps[state.position.index]
    if step.pause is not None:
        return "Paused"
    watches = step.analyze is not None or step.mirror is not None or step.experiment is not None
    return "Analyzing" if watches else "Progressing"


def _plan(snapshot: Snapshot, state: State) -> list[PlannedStep]:
    """The steps as they are taken, for people and programs that draw them."""
    reached = state.position.index if state.position is not None else -1
    return [
        PlannedStep(
            name=step.name,
            does=told(step),
            state="Done" if index < reached else "Running" if index == reached else "Waiting",
        )
        for index, step in enumerate(snapshot.steps)
    ]


def _is_rolling_back(state: State) -> bool:
    return any(
        each.role == "Retiring" and each.name in state.rejected and not each.drained_at
        for each in state.members.values()
    )


# ---- versions --------------------------------------------------------------------------------------------------------
_ORDER = {"Stable": 0, "Candidate": 1, "Arm": 2, "Previous": 3, "Retiring": 4}


def _versions(snapshot: Snapshot, state: State, layout: Layout, fresh: bool) -> list[ServedVersion] | None:
    shares = _observed(snapshot, state) if fresh else _observed_before(snapshot)
    members = sorted(state.members.values(), key=lambda each: (_ORDER[each.role], each.name))
    shown = [_version(snapshot, member, layout, shares.get(member.name)) for member in members[:_VERSIONS_SHOWN]]
    return shown or None


def _version(snapshot: Snapshot, member: Member, layout: Layout, observed: str | None) -> ServedVersion:
    server = snapshot.servers.get(member.service)
    route = snapshot.route
    accepted = member.accepted_weight
    if route is None:
        accepted = None
    elif route.acceptance.seen:
        accepted = route.weights.get(member.service, 0)
    return ServedVersion(
        name=member.name,
        digest=member.digest,
        service=member.service,
        role=member.role,
        ready=server is not None and server.ready,
        desired_weight=dict(layout.weights).get(member.service, 0),
        accepted_weight=accepted,
        observed_percent=observed,
        keep_until=timestamp(member.keep_until) if member.keep_until else None,
        drained_at=timestamp(member.drained_at) if member.drained_at else None,
    )


def _observed(snapshot: Snapshot, state: State) -> dict[str, str]:
    """Shares of requests in the longest window that is watched."""
    lengths = [window for _, window in snapshot.reading.windows]
    served = [each for each in state.members.values() if each.role in ("Stable", "Candidate", "Arm")]
    if state.candidate is None or not lengths or state.position is None:
        return {}

    def requests(member: Member) -> int:
        cluster = snapshot.cluster_of(member.service)
        stats = snapshot.reading.windows.get((cluster, max(lengths)), checks.NOTHING)
        # A request counts where it was sent first.
        return max(0, stats.requests - stats.repeated)

    shares = checks.observed_percent({each.name: requests(each) for each in served})
    return {name: str(share) for name, share in shares.items()}


def _observed_before(snapshot: Snapshot) -> dict[str, str]:
    versions = snapshot.rollout.status.versions or ()
    return {each.name: each.observed_percent for each in versions if each.observed_percent is not None}


# ---- conditions ------------------------------------------------------------------------------------------------------
def _state_ready(conditions: Conditions, snapshot: Snapshot, state: State, choice: Choice, now: datetime) -> None:
    server = snapshot.server_of(state.stable)
    route = snapshot.route
    if state.stable is None:
        reason, message = _why_nothing_serves(snapshot, state, choice)
        conditions.false("Ready", reason, message)
    elif not may_route(snapshot):
        conditions.false("Ready", Reason.PathTaken, _conflict(snapshot))
    elif not admission.is_open(snapshot, now):
        conditions.false("Ready", *admission.why_closed(snapshot))
    elif server is None or not server.alive:
        trouble = (server.readiness.trouble if server else None) or snapshot.obstacle
        message = trouble.message if trouble else f"No server of version {state.stable} is ready."
        conditions.false("Ready", trouble.reason if trouble else Reason.ServersNotReady, message)
    elif route is None or route.deleting or (not route.acceptance.seen and route.acceptance.reason == "Pending"):
        message = route.acceptance.message if route else "The route is being made."
        # Weights that were accepted before stay in force until the gateway has taken in the new ones.
        conditions.set("Ready", _ready_before(snapshot), Reason.Progressing, message)
    elif not route.acceptance.accepted and not _only_candidate_lacks_servers(route.acceptance.reason, server.alive):
        message = f"The gateway does not accept the route: {route.acceptance.reason}: {route.acceptance.message}"
        conditions.false("Ready", Reason.RouteNotAccepted, message)
    else:
        conditions.true("Ready", *_serving(state))


def _only_candidate_lacks_servers(reason: str, stable_alive: bool) -> bool:
    return reason == "EndpointsNotFound" and stable_alive


def _ready_before(snapshot: Snapshot) -> Any:
    found = [each.status for each in snapshot.rollout.status.conditions or () if each.type == "Ready"]
    return found[0] if found else "False"


def _serving(state: State) -> tuple[str, str]:
    if state.candidate is not None and state.weight:
        arms = experiments.shared_with(state)
        rest = 100 - state.weight - sum(arms.values())
        others = "".join(
            f", version {name} {weight} %" for name, weight in {state.candidate: state.weight, **arms}.items()
        )
        return Reason.Progressing, f"Version {state.stable} takes {rest} %{others}."
    message = f"Version {state.stable} takes all requests."
    last = state.history[0] if state.history else None
    if last is not None and last.outcome == "RolledBack" and last.name in state.rejected:
        rejection = state.rejected[last.name]
        return Reason.RolledBack, f"{message} Version {last.name} was rejected: {rejection.message}"
    if last is not None and last.reason == Reason.Undone and last.from_ in state.undone():
        return Reason.Undone, f"{message} Version {last.from_} was undone by {last.by}."
    return Reason.Healthy, message


def _why_nothing_serves(snapshot: Snapshot, state: State, choice: Choice) -> tuple[str, str]:
    if snapshot.obstacle is not None:
        return snapshot.obstacle.reason, snapshot.obstacle.message
    if not may_route(snapshot):
        return Reason.PathTaken, _conflict(snapshot)
    trouble = _trouble_of_candidate(snapshot, state)
    if trouble is not None:
        return trouble.reason, trouble.message
    if state.candidate is not None:
        return Reason.Starting, f"The servers of version {state.candidate} start."
    return choice.reason or Reason.WaitingForVersion, choice.message or "There is no version to serve."


def _conflict(snapshot: Snapshot) -> str:
    return rivals.sentence(snapshot.rollout.spec.routing, snapshot.conflict or "")


def _trouble_of_candidate(snapshot: Snapshot, state: State) -> Trouble | None:
    server = snapshot.server_of(state.candidate) if state.candidate else None
    if server is None:
        return None
    attempt = waiting.attempt_of(snapshot.rollout.status)
    excuse = snapshot.excuse if state.candidate == snapshot.rollout.status.candidate else None
    found = waiting.told(excuse, snapshot.lived.lasted.get(waiting.excused(attempt), 0.0))
    return found or server.readiness.trouble


def _trouble_of_stable(snapshot: Snapshot, state: State) -> Trouble | None:
    """What keeps servers from starting beside those that answer, as after a change of `spec.serving`."""
    server = snapshot.server_of(state.stable) if state.stable else None
    found = server.readiness.trouble if server is not None and server.alive else None
    if found is None:
        return None
    return Trouble(found.reason, f"Version {state.stable} serves, but not with all its servers: {found.message}")


def _state_progressing(
    conditions: Conditions, snapshot: Snapshot, state: State, choice: Choice, progress: Progress
) -> None:
    """As for Deployments: True also when a rollout is complete; False when it cannot go on."""
    if progress.failing:
        conditions.false("Progressing", Reason.ChecksFailed, " ".join(progress.failing))
    elif progress.held and state.candidate is not None:
        conditions.false("Progressing", *progress.held)
    elif state.paused is not None:
        # As for Deployments that are paused.
        message = f"{state.paused.by} paused version {state.candidate} at {state.weight} %: resume it, or abort it."
        conditions.unknown("Progressing", Reason.Paused, message)
    elif state.candidate is not None and progress.hooks.halted:
        conditions.false("Progressing", progress.hooks.halted[0].reason, _halted(progress))
    elif (
        state.candidate is not None
        and progress.hooks.waiting_for
        and progress.waiting_for == progress.hooks.waiting_for
    ):
        message = f"Version {state.candidate}, {state.weight} %: waits for {progress.waiting_for}."
        conditions.true("Progressing", Reason.WaitingForHook, message)
    elif state.candidate is not None:
        if progress.no_room is not None:
            conditions.true("Progressing", progress.no_room.reason, progress.no_room.message)
        elif state.position is None:
            conditions.true("Progressing", Reason.Starting, f"The servers of version {state.candidate} start.")
        else:
            reason = Reason.Analyzing if _phase(snapshot, state, progress) == "Analyzing" else Reason.Progressing
            message = (
                f"Version {state.candidate}, step {state.position.name}, {state.weight} %: waits for {_calm(progress)}."
            )
            conditions.true("Progressing", reason, message)
    elif state.stable is not None and choice.version is None and choice.reason:
        conditions.false("Progressing", choice.reason, choice.message)
    elif state.stable is not None:
        conditions.true("Progressing", Reason.Healthy, f"Version {state.stable} is what is wanted.")


def _calm(progress: Progress) -> str:
    """What is waited for, without numbers that change each second."""
    if progress.comparing:
        return "the comparison of its answers with the stable version's"
    undecided = [each.name for each in progress.checks if each.verdict == "Inconclusive"]
    if undecided:
        return f"requests: check {undecided[0]} has too few for a verdict"
    return (
        progress.waiting_for.partition(": ")[0] if progress.waiting_for.startswith("check ") else progress.waiting_for
    )


def _halted(progress: Progress) -> str:
    return " ".join(each.message for each in progress.hooks.halted)


def _state_stalled(
    conditions: Conditions, snapshot: Snapshot, state: State, choice: Choice, progress: Progress
) -> None:
    """Stated only when a person must act."""
    trouble = _trouble_of_candidate(snapshot, state) or _trouble_of_stable(snapshot, state)
    if snapshot.conflict is not None:
        conditions.true("Stalled", Reason.PathTaken, _conflict(snapshot))
    elif snapshot.obstacle is not None:
        conditions.true("Stalled", snapshot.obstacle.reason, snapshot.obstacle.message)
    elif progress.failing:
        conditions.true("Stalled", *_failing(snapshot, state, progress))
    elif progress.held:
        conditions.true("Stalled", *progress.held)
    elif state.candidate is not None and progress.hooks.halted:
        message = f"Version {state.candidate} is held at {state.weight} %. {_halted(progress)}"
        conditions.true("Stalled", progress.hooks.halted[0].reason, message)
    elif trouble is not None:
        conditions.true("Stalled", trouble.reason, trouble.message)
    elif choice.version is None and choice.reason and snapshot.rollout.spec.version.policy == "Pinned":
        conditions.true("Stalled", choice.reason, choice.message)


def _failing(snapshot: Snapshot, state: State, progress: Progress) -> tuple[str, str]:
    if state.candidate is None:
        sentence = f"{' '.join(progress.failing)} It keeps all requests: {_no_way_back(snapshot, state)}"
        return Reason.AnalysisFailed, sentence
    message = f"Version {state.candidate} is held at {state.weight} %. {_held(snapshot, state)}"
    return Reason.ChecksFailed, message


def _no_way_back(snapshot: Snapshot, state: State) -> str:
    before = analysis.previous(state)
    if not snapshot.rollout.spec.rollback.automatic:
        return f"spec.rollback.automatic is false. Pin {before or 'another version'} to go back."
    return f"the version before{f', {before},' if before else ''} has no ready server. Pin another version."


def _held(snapshot: Snapshot, state: State) -> str:
    if snapshot.rollout.spec.rollback.automatic:
        return f"Its checks fail, but version {state.stable} has no ready server to go back to."
    return f"Its checks fail and spec.rollback.automatic is false: pin {state.stable} to end it, or correct the cause."


def _state_analysis(conditions: Conditions, snapshot: Snapshot, state: State) -> None:
    """Stated with templates: whether they can be used, before any version needs them."""
    used = list(analysis.uses(snapshot))
    if not used:
        return
    problem = analysis.problem(snapshot, state)
    if problem:
        conditions.false("AnalysisReady", Reason.AnalysisInvalid, problem)
    else:
        conditions.true("AnalysisReady", Reason.Valid, f"Templates are used for {len(used)} purposes.")
