"""A step in which several versions answer users side by side. Pure.

Its arms come and go as a candidate does: servers, pin route, a reference without weight, the share; back to the stable
version, drained, removed. They exist only while the step is the present one: `settle` sends home whoever is left,
whatever ended the step. An arm that fails gives its share to the stable version, and the experiment goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from slipway.adapters.kserve import Trouble
from slipway.adapters.pools import pool_units
from slipway.api.meta import parse_duration, parse_time
from slipway.api.modelrollout import ModelRolloutStatus, Rejection, Replicas
from slipway.api.reasons import Reason
from slipway.api.rollout_experiment import Experiment, ExperimentStatus, ExperimentVersion
from slipway.api.rollout_steps import Step
from slipway.controllers.modelrollout import capacity, checks
from slipway.controllers.modelrollout.experiment_arms import choose, why_not
from slipway.controllers.modelrollout.experiment_report import STABLE, conclude, listed, timed, with_counts
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.reach import is_reachable
from slipway.controllers.modelrollout.state import Member, State, join
from slipway.runtime.conditions import Note, timestamp

CANDIDATE = "candidate"
COUNT_EVERY = timedelta(seconds=10)
"""Numbers are not written more often: each write is a request to the API server."""
KEPT = 4
"""Experiments that are remembered."""
_MOST = 99
"""Percent that all but the stable version can have together."""


# ---- what goes on ----------------------------------------------------------------------------------------------------
def under_way(state: State) -> ExperimentStatus | None:
    """The experiment that is not over."""
    first = state.experiments[0] if state.experiments else None
    return first if first is not None and first.phase in ("Starting", "Running") else None


def counted_since(status: ModelRolloutStatus) -> str | None:
    """Since when everything is counted, because an experiment runs."""
    first = status.experiments[0] if status.experiments else None
    return first.started_at if first is not None and first.phase == "Running" else None


def _of_step(state: State, step: str) -> ExperimentStatus | None:
    """What there is of a step's experiment in this attempt of the candidate; it is made once."""
    attempt = timestamp(state.candidate_since) if state.candidate_since else None
    wanted = (step, state.candidate, attempt)
    return next((each for each in state.experiments if (each.step, each.candidate, each.attempt) == wanted), None)


def is_over(state: State, step: Step) -> bool:
    """Whether a step's experiment has ended."""
    run = _of_step(state, step.name)
    return run is not None and run.phase in ("Completed", "Aborted")


def _put(state: State, run: ExperimentStatus, **changes: object) -> ExperimentStatus:
    """Note a new form of the experiment that is under way."""
    state.experiments[0] = run.model_copy(update=changes)
    return state.experiments[0]


def _change(state: State, arm: str, /, **changes: object) -> None:
    run = state.experiments[0]
    versions = [each.model_copy(update=changes) if each.name == arm else each for each in run.versions]
    _put(state, run, versions=versions)


def _arms(run: ExperimentStatus | None, *states: str) -> list[tuple[ExperimentVersion, str]]:
    """Arms in these states, with their versions."""
    found = run.versions if run is not None else []
    return [
        (each, each.version)
        for each in found
        if each.name not in (STABLE, CANDIDATE) and each.state in states and each.version is not None
    ]


# ---- for the layout --------------------------------------------------------------------------------------------------
def shares(state: State) -> dict[str, int]:
    """InferenceServices of arms, and percents of requests."""
    return {member.service: arm.percent if arm.state == "Running" else 0 for arm, member in _members(state)}


def shared_with(state: State) -> dict[str, int]:
    """Versions of arms that have a share, and percents of requests."""
    return {member.name: arm.percent for arm, member in _members(state) if arm.state == "Running"}


def sharing(state: State) -> dict[str, str]:
    """Versions of arms that have a share, by the name of the arm."""
    return {arm.name: member.name for arm, member in _members(state) if arm.state == "Running"}


def _members(state: State) -> list[tuple[ExperimentVersion, Member]]:
    arms = _arms(under_way(state), "Starting", "Running")
    return [(arm, state.members[version]) for arm, version in arms if state.role_of(version) == "Arm"]


def size(snapshot: Snapshot, state: State, version: str) -> Replicas | None:
    """How many servers an arm has: its share of `serving.replicas`. None for a version that is no arm."""
    arm = next((arm for arm, member in _members(state) if member.name == version), None)
    full = snapshot.rollout.spec.serving.replicas
    if arm is None:
        return None
    return Replicas(min=_part(full.min, arm.percent), max=_part(full.max, arm.percent))


def _part(count: int, percent: int) -> int:
    return max(1, -(-count * percent // 100))


def no_room(snapshot: Snapshot, state: State) -> dict[str, Trouble]:
    """Versions of arms whose servers cannot be made now, because the pool has no room for them, and why."""
    serving, held = snapshot.rollout.spec.serving, snapshot.pool_held
    found: dict[str, Trouble] = {}
    for _, member in _members(state):
        wanted = size(snapshot, state, member.name)
        if wanted is None or member.service in snapshot.servers:
            continue
        trouble = capacity.over_quota(snapshot.pool, held, serving, wanted.max, member.name, may_share=False)
        if trouble is not None:
            found[member.name] = trouble
        elif snapshot.pool is not None:
            held += wanted.max * pool_units(serving.resources, snapshot.pool.spec.resource)
    return found


# ---- begin -----------------------------------------------------------------------------------------------------------
def _begin(snapshot: Snapshot, state: State, step: str, experiment: Experiment, now: datetime) -> ExperimentStatus:
    if under_way(state) is not None:
        _abort(snapshot, state, now)
    weight = max(experiment.candidate_percent, state.weight)
    rest = 100 - weight - sum(each.percent for each in experiment.arms)
    versions = [
        ExperimentVersion(name=STABLE, version=state.stable, percent=max(0, rest), state="Running"),
        ExperimentVersion(name=CANDIDATE, version=state.candidate, percent=weight, state="Running"),
    ]
    chosen = choose(snapshot, state, experiment)
    versions += [
        ExperimentVersion(name=arm.name, version=chosen[arm.name], percent=arm.percent, state="Starting")
        for arm in experiment.arms
    ]
    run = ExperimentStatus(
        step=step,
        candidate=str(state.candidate),
        attempt=timestamp(state.candidate_since) if state.candidate_since else None,
        phase="Starting",
        begun_at=timestamp(now),
        versions=versions,
    )
    state.experiments = [run, *state.experiments][:KEPT]
    for arm in experiment.arms:
        problem = why_not(snapshot, state, chosen[arm.name])
        version = chosen[arm.name]
        if version is None or problem:
            _leave(state, arm.name, problem)
        else:
            _join(snapshot, state, version)
    return state.experiments[0]


def _join(snapshot: Snapshot, state: State, name: str) -> None:
    member = state.members.get(name)
    if member is None or member.role != "Previous":
        join(snapshot, state, name, "Arm")
    else:
        state.members[name] = replace(member, role="Arm")  # when it would go stays known


# ---- on the way ------------------------------------------------------------------------------------------------------
def proceed(
    snapshot: Snapshot, state: State, step: Step, candidate_has_share: Callable[[], bool], now: datetime
) -> str:
    """Take the experiment of a step as far as the facts allow; what it waits for.

    The candidate gets its share first, then all arms get theirs at once.

    :param candidate_has_share: raises the candidate's weight, and tells whether the gateway has accepted it
    """
    if step.experiment is None:
        return ""
    run = _of_step(state, step.name) or _begin(snapshot, state, step.name, step.experiment, now)
    if run.phase == "Starting" and not _arms(run, "Running"):
        coming = [arm.name for arm, version in _arms(run, "Starting") if not _has_come(snapshot, state, version, now)]
        if coming:
            return f"arms {listed(coming)} to be ready" if len(coming) > 1 else f"arm {coming[0]} to be ready"
        if not candidate_has_share():
            return ""
        if _share(state):
            return "the gateway to accept the shares"
    if run.phase == "Starting":
        if not _is_in_force(snapshot, state):
            return "the gateway to accept the shares"
        _start(state, step.experiment, now)
    elif run.phase == "Running" and _elapsed(snapshot, run, now) >= parse_duration(step.experiment.for_):
        _finish(snapshot, state, step.experiment, now)
    return f"{step.experiment.for_} of the experiment to pass"


def _has_come(snapshot: Snapshot, state: State, version: str, now: datetime) -> bool:
    """Whether an arm has its servers, and the gateway knows them."""
    member, route = state.members.get(version), snapshot.route
    if member is None or route is None or not _has_servers(snapshot, state, version):
        return False
    attached = member.service in route.weights and route.acceptance.accepted
    return attached and is_reachable(snapshot, member.service, now)


def _has_servers(snapshot: Snapshot, state: State, version: str) -> bool:
    server, wanted = snapshot.server_of(version), size(snapshot, state, version)
    return server is not None and server.ready and wanted is not None and server.readiness.endpoints >= wanted.min


def _share(state: State) -> bool:
    """Give every arm its share, as far as there is room; whether any got one."""
    run = state.experiments[0]
    left = _MOST - state.weight
    for arm, _ in _arms(run, "Starting"):
        if arm.percent > left:
            _leave(state, arm.name, f"Its {arm.percent} % find no room beside {state.weight} % of the candidate.")
        else:
            left -= arm.percent
            _change(state, arm.name, state="Running")
    return bool(_arms(state.experiments[0], "Running"))


def _is_in_force(snapshot: Snapshot, state: State) -> bool:
    route, candidate = snapshot.route, state.members.get(state.candidate or "")
    if route is None or candidate is None or not route.acceptance.accepted:
        return False
    wanted = {candidate.service: state.weight, **shares(state)}
    return all(route.weights.get(service) == weight for service, weight in wanted.items())


def _start(state: State, experiment: Experiment, now: datetime) -> None:
    run = state.experiments[0]
    given = {CANDIDATE: state.weight, **{arm.name: arm.percent for arm, _ in _arms(run, "Running")}}
    given[STABLE] = 100 - sum(given.values())
    versions = [each.model_copy(update={"percent": given.get(each.name, each.percent)}) for each in run.versions]
    run = _put(state, run, phase="Running", started_at=timestamp(now), versions=versions)
    told = listed([f"{each.name} ({each.version}) {each.percent} %" for each in versions if each.name in given])
    message = f"Experiment {run.step} runs for {experiment.for_}: {told}."
    state.notes.append(Note("Normal", Reason.ExperimentStarted, message))


def _elapsed(snapshot: Snapshot, run: ExperimentStatus, now: datetime) -> timedelta:
    began = parse_time(run.started_at or run.begun_at)
    return snapshot.lived.passed(began, now)


# ---- who leaves ------------------------------------------------------------------------------------------------------
def watch(snapshot: Snapshot, state: State, now: datetime) -> None:
    """Count, and let arms go that cannot or must not answer; also while the rollout is held."""
    run = under_way(state)
    if run is None:
        return
    arms = _arms(run, "Starting", "Running")
    gone = {arm.name: _why_gone(snapshot, state, arm, version, now) for arm, version in arms}
    failed = {
        arm.name: _failures(snapshot, state, arm, version)
        for arm, version in arms
        if run.phase == "Running" and not gone[arm.name]
    }
    _count(snapshot, state, now, at_once=any([*gone.values(), *failed.values()]))
    for arm, version in arms:
        if failed.get(arm.name):
            _reject(snapshot, state, version, failed[arm.name], now)
        if problem := gone[arm.name] or failed.get(arm.name):
            _leave(state, arm.name, problem)


def _why_gone(snapshot: Snapshot, state: State, arm: ExperimentVersion, version: str, now: datetime) -> str:
    """Why an arm cannot go on, its checks apart; empty when it can."""
    step, server = _present(snapshot, state), snapshot.server_of(version)
    if version not in snapshot.versions:
        return "Its record was deleted."
    if version in state.rejected:
        return f"It is rejected: {state.rejected[version].message}"
    if step is not None and step.experiment and arm.name not in {each.name for each in step.experiment.arms}:
        return "It was taken out of the step."
    if arm.state == "Running":
        alive = server is not None and server.alive
        return "" if alive else "None of its servers is ready any more: look at its pods."
    return _too_late(snapshot, state, version, now)


def _too_late(snapshot: Snapshot, state: State, version: str, now: datetime) -> str:
    """Why an arm is not waited for any longer. It waits for room in a pool no longer than for servers."""
    deadline, run = snapshot.rollout.spec.progress_deadline, state.experiments[0]
    late = _elapsed(snapshot, run, now) > parse_duration(deadline)
    if not late or snapshot.obstacle is not None or _has_servers(snapshot, state, version):
        return ""
    server = snapshot.server_of(version)
    trouble = server.readiness.trouble if server is not None else no_room(snapshot, state).get(version)
    detail = trouble.message if trouble else "Look at its pods, or raise spec.progressDeadline for slow starts."
    return f"Its servers were not ready within {deadline}. {detail}"


def _failures(snapshot: Snapshot, state: State, arm: ExperimentVersion, version: str) -> str:
    """Which checks of the spec an arm fails, where that sends requests back to the stable version."""
    stable, failed = snapshot.server_of(state.stable), []
    if not snapshot.rollout.spec.rollback.automatic or stable is None or not stable.alive:
        return ""
    for check in snapshot.rollout.spec.checks:
        if check.source == "Gateway" and checks.applies(check, arm.percent):
            window, windows = checks.window_of(check), snapshot.reading.windows
            own = windows.get((_cluster(snapshot, state, version), window), checks.NOTHING)
            other = windows.get((_cluster(snapshot, state, state.stable), window), checks.NOTHING)
            said = checks.judge(check, own, other, arm.percent)
            failed += [f"Check {check.name} failed: {said.message}"] if said.verdict == "Failed" else []
    return " ".join(failed)


def _reject(snapshot: Snapshot, state: State, version: str, message: str, now: datetime) -> None:
    """What failed on users here is not selected by itself either."""
    digest, at = snapshot.versions[version].model.digest, timestamp(now)
    rejection = Rejection(name=version, digest=digest, reason=Reason.ChecksFailed, message=message[:1024], at=at)
    state.reject(rejection, frozenset(snapshot.versions))
    state.release(version)


def _leave(state: State, name: str, message: str) -> None:
    run = state.experiments[0]
    arm = next(each for each in run.versions if each.name == name)
    _change(state, name, state="Left", message=message[:1024])
    if arm.version is not None:
        state.dismiss(arm.version)
    who = f"{name} ({arm.version})" if arm.version else name
    back = " Its requests go to the stable version." if arm.state == "Running" else ""
    state.notes.append(Note("Warning", Reason.ArmLeft, f"Experiment {run.step} goes on without {who}: {message}{back}"))


# ---- what is counted -------------------------------------------------------------------------------------------------
def _cluster(snapshot: Snapshot, state: State, version: str | None) -> str:
    member = state.members.get(version or "")
    return snapshot.cluster_of(member.service) if member else ""


def _count(snapshot: Snapshot, state: State, now: datetime, *, at_once: bool = False) -> None:
    """Take in what was counted. Another operator begins at zero: what was counted before is kept apart."""
    run, tally = state.experiments[0], snapshot.reading.tally
    if run.phase != "Running" or not tally.watcher:
        return
    anew = run.counted_by != tally.watcher
    due = run.counted_at is None or not timedelta() <= now - parse_time(run.counted_at) < COUNT_EVERY
    if not (anew or due or at_once):
        return
    versions = [
        each
        if each.state == "Left"
        else with_counts(each, tally.counts.get(_cluster(snapshot, state, each.version)), anew)
        for each in run.versions
    ]
    _put(state, run, versions=versions, counted_at=timestamp(now), counted_by=tally.watcher)


# ---- the end ---------------------------------------------------------------------------------------------------------
def _finish(snapshot: Snapshot, state: State, experiment: Experiment, now: datetime) -> None:
    _count(snapshot, state, now, at_once=True)
    run = state.experiments[0]
    found = conclude(run, experiment)
    _put(
        state,
        run,
        phase="Completed",
        ended_at=timestamp(now),
        versions=found.versions,
        winner=found.winner,
        message=found.message[:1024],
    )
    message = f"Experiment {run.step} is over after {experiment.for_}: {found.message}"
    state.notes.append(Note("Normal", Reason.ExperimentEnded, message))


def settle(snapshot: Snapshot, state: State, now: datetime) -> None:
    """End an experiment whose step is not the present one any more, and send home arms that nothing needs."""
    run, step = under_way(state), _present(snapshot, state)
    if run is not None and (step is None or step.experiment is None or _of_step(state, step.name) is not run):
        _abort(snapshot, state, now)
    kept = {member.name for _, member in _members(state)}
    for name in set(state.members) - kept:
        state.dismiss(name)


def _abort(snapshot: Snapshot, state: State, now: datetime) -> None:
    _count(snapshot, state, now, at_once=True)
    run = state.experiments[0]
    message = f"It ended early: {_why_ended(state, run)}"
    versions = [timed(each) for each in run.versions]
    _put(state, run, phase="Aborted", ended_at=timestamp(now), versions=versions, message=message)
    for name in list(state.members):
        state.dismiss(name)
    state.notes.append(Note("Normal", Reason.ExperimentEnded, f"Experiment {run.step}: {message}"))


def _why_ended(state: State, run: ExperimentStatus) -> str:
    if state.candidate != run.candidate:
        return f"version {run.candidate} is no candidate any more."
    if state.position is None:
        return f"version {run.candidate} lost its servers."
    if state.promote_full is not None:
        return f"version {run.candidate} takes no further steps."
    return "the steps were changed."


def _present(snapshot: Snapshot, state: State) -> Step | None:
    position, steps = state.position, snapshot.steps
    return steps[position.index] if position is not None and 0 <= position.index < len(steps) else None
