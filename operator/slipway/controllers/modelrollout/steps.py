"""The candidate's way: servers, pin route, a reference with weight 0, the steps, the promotion, or an end.

Two rules stand above the steps. A weight is raised only if the candidate's servers are ready and the gateway has
accepted what it was told before. And a weight never falls while a version is a candidate: it becomes zero, and the
candidacy or the attempt is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway.adapters import gateway as gw
from slipway.adapters.kserve import Trouble
from slipway.api.meta import parse_duration
from slipway.api.modelrollout import CheckStatus, HistoryEntry, Rejection
from slipway.api.reasons import Reason
from slipway.api.rollout_control import UndoStatus
from slipway.api.rollout_steps import Step, Stop
from slipway.controllers.modelrollout import (
    analysis,
    capacity,
    checks,
    comparing,
    experiments,
    outputs,
    posture,
    waiting,
)
from slipway.controllers.modelrollout.facts import Server, Snapshot
from slipway.controllers.modelrollout.hooks import Hooks
from slipway.controllers.modelrollout.reach import is_reachable
from slipway.controllers.modelrollout.state import PROMOTION, Position, State
from slipway.runtime.conditions import Note, timestamp
from slipway.runtime.controller import Action

ATTEMPTS = 3
"""How often a candidate's servers may fail after they were ready until it is rejected."""


@dataclass
class Progress:
    """What one pass found out about the candidate.

    :param hooks: what hooks said and are to be asked
    :param checks: verdicts, as the spec orders them
    :param failing: sentences about what failed and does not roll back (`automatic: false`, or no stable servers to go
        back to)
    :param held: why the candidate waits for a person though no step says so
    :param waiting_for: what the candidate waits for
    :param no_room: why it has no servers yet, where there is no room for them
    :param actions: measurements that begin or are not needed any more
    :param comparing: of all checks, only such on the prediction log are not decided
    """

    hooks: Hooks
    checks: list[CheckStatus] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    held: tuple[str, str] | None = None
    waiting_for: str = ""
    no_room: Trouble | None = None
    actions: list[Action] = field(default_factory=list)
    comparing: bool = False


def advance(snapshot: Snapshot, state: State, promoted: bool, now: datetime) -> Progress:
    """Move the candidate as far as the facts allow. `promoted`: a person ends the present pause."""
    progress = Progress(Hooks(snapshot, state, now))
    promoted = promoted and not analysis.accept(state)
    _catch_up_stable(snapshot, state, now)
    _move(snapshot, state, progress, promoted, now)
    _obey_hooks(snapshot, state, progress, now)
    _watch_promoted(snapshot, state, progress, now)
    progress.actions += analysis.superfluous_jobs(snapshot, state)
    experiments.settle(snapshot, state, now)
    return progress


def _move(snapshot: Snapshot, state: State, progress: Progress, promoted: bool, now: datetime) -> None:
    if state.candidate is None:
        return
    server = snapshot.server_of(state.candidate)
    progress.hooks.watch()
    _obey_hooks(snapshot, state, progress, now)
    if state.candidate is None:
        return
    if state.position is None:
        _start(snapshot, state, server, progress, now)
    elif server is None or not server.alive:
        _lost_servers(snapshot, state, server, now)
        progress.waiting_for = "its servers"
    else:
        _judge(snapshot, state, progress, now)
        _catch_up(snapshot, state, now)
        experiments.watch(snapshot, state, now)
        held = progress.failing or progress.held is not None or progress.hooks.halted
        if state.candidate is not None and not held and not _is_held(state, progress):
            _walk(snapshot, state, server, progress, promoted, now)


_UNNOTED = "The operator ended when it had rejected the version, before it noted why; its Events and log may say."


def _catch_up(snapshot: Snapshot, state: State, now: datetime) -> None:
    """A look that ended before its status was written may have rejected the candidate: the route remembers that."""
    if _left(snapshot, state, state.candidate):
        reject(snapshot, state, Reason.RolledBack, _UNNOTED, now)


def _catch_up_stable(snapshot: Snapshot, state: State, now: datetime) -> None:
    """The same for a version that had just been promoted, when everybody had gone back to the one before."""
    failed, route = state.stable, snapshot.route
    if failed is None or route is None or not _left(snapshot, state, failed):
        return
    heirs = [each for each in state.members.values() if each.role == "Previous" and each.service in route.weights]
    if heirs:
        heirs[0].role, heirs[0].keep_until = "Stable", None
        state.stable = heirs[0].name
        _reject(snapshot, state, failed, Reason.RolledBack, _UNNOTED, now)


def _left(snapshot: Snapshot, state: State, name: str | None) -> bool:
    """Whether the route calls a version rejected, and sends nothing to it."""
    route, member = snapshot.route, state.members.get(name or "")
    return (
        route is not None
        and member is not None
        and member.name in route.rejected
        and member.service not in route.weights
    )


def _is_held(state: State, progress: Progress) -> bool:
    """Whether a person holds the candidate where it is."""
    if state.paused is None:
        return False
    progress.waiting_for = f"a person to let it go on: {state.paused.by} paused it at {state.paused.since}"
    return True


# ---- start -----------------------------------------------------------------------------------------------------------
def _start(snapshot: Snapshot, state: State, server: Server | None, progress: Progress, now: datetime) -> None:
    if not progress.hooks.confirmed():
        progress.waiting_for = progress.hooks.waiting_for
        return
    progress.no_room = posture.no_room(snapshot, state)
    if progress.no_room is not None:
        progress.waiting_for = "room for its servers"
        state.candidate_since = now  # no fault of the version
    elif server is None or not server.ready:
        progress.waiting_for = "its servers"
        _enforce_deadline(snapshot, state, server, now)
    elif not is_reachable(snapshot, server.name, now):
        progress.waiting_for = "the gateway to know its servers"
    elif _is_held(state, progress):
        return
    elif state.stable is None:
        _promote(snapshot, state, now)
    elif not _is_attached(snapshot, server.name):
        progress.waiting_for = "the gateway to accept its reference"
    elif sentence := outputs.unacknowledged(snapshot, state, state.candidate):
        progress.waiting_for = f"a person: annotate the rollout {outputs.ACCEPT}: {state.candidate}"
        progress.held = (Reason.OutputsIncompatible, sentence)
    elif not progress.hooks.prepared():
        progress.waiting_for = progress.hooks.waiting_for
    elif not progress.hooks.halted:
        steps = snapshot.steps
        _enter(steps, state, len(steps) if state.promote_full else 0, now)
        _walk(snapshot, state, server, progress, False, now)


def _is_attached(snapshot: Snapshot, service: str) -> bool:
    route = snapshot.route
    return route is not None and service in route.weights and route.acceptance.accepted


def _is_late(snapshot: Snapshot, state: State) -> bool:
    """Whether servers have been missing for longer than they may; an outage, or a clock that steps, does not count."""
    position = state.position
    begun = (position.index, timestamp(position.started_at)) if position is not None else None
    missing = snapshot.lived.lasted.get(waiting.lacking(waiting.attempt(state.candidate, state.attempts, begun)), 0.0)
    return missing > parse_duration(snapshot.rollout.spec.progress_deadline).total_seconds()


def _enforce_deadline(snapshot: Snapshot, state: State, server: Server | None, now: datetime) -> None:
    deadline = snapshot.rollout.spec.progress_deadline
    if not _is_late(snapshot, state):
        return
    trouble = server.readiness.trouble if server else None
    reason = trouble.reason if trouble else Reason.ProgressDeadlineExceeded
    detail = trouble.message if trouble else "Look at its pods, or raise spec.progressDeadline for slow starts."
    reject(snapshot, state, reason, f"Its servers were not ready within {deadline}. {detail}", now)


# ---- ends ------------------------------------------------------------------------------------------------------------
def reject(snapshot: Snapshot, state: State, reason: str, message: str, now: datetime, by: str | None = None) -> None:
    """The candidate failed, or `by` gave it up: no request from now on, and never again unless a person says so."""
    if state.candidate is not None:
        _reject(snapshot, state, state.candidate, reason, message, now, by)
        state.end_candidacy()


def _reject(
    snapshot: Snapshot, state: State, name: str, reason: str, message: str, now: datetime, by: str | None = None
) -> None:
    version = snapshot.versions.get(name)
    digest = version.model.digest if version else state.members[name].digest
    at = timestamp(now)
    rejection = Rejection(name=name, digest=digest, reason=reason, message=message[:1024], at=at)
    state.reject(rejection, frozenset(snapshot.versions))
    state.record(HistoryEntry(name=name, outcome="RolledBack", at=at, from_=state.stable, by=by, reason=reason))
    state.release(name)
    back = f" All requests go to {state.stable}." if state.stable else ""
    state.notes.append(Note("Warning", Reason.RolledBack, f"Version {name} is rejected: {message}{back}"))


def _stop(snapshot: Snapshot, state: State, stop: Stop, now: datetime) -> None:
    """A step ends the candidacy, which is no failure; the version is not selected again by itself."""
    name = state.candidate
    if name is None:
        return
    message = stop.message or "The last step ended its rollout."
    at = timestamp(now)
    rejection = Rejection(name=name, digest=state.members[name].digest, reason=Reason.Stopped, message=message, at=at)
    state.reject(rejection, frozenset(snapshot.versions))
    state.record(HistoryEntry(name=name, outcome="Stopped", at=at, from_=state.stable, reason=Reason.Stopped))
    state.release(name)
    state.end_candidacy()
    state.notes.append(Note("Normal", Reason.Stopped, f"Version {name} is rolled out no further: {message}"))


def _obey_hooks(snapshot: Snapshot, state: State, progress: Progress, now: datetime) -> None:
    """Reject a candidate that a hook refuses, unless its requests would have nowhere to go."""
    refused, server = progress.hooks.refused, snapshot.server_of(state.stable)
    if refused is None or state.candidate is None:
        return
    if state.weight == 0 or (server is not None and server.alive):
        reject(snapshot, state, refused.reason, refused.message, now)
    else:
        held = f"{refused.message} Version {state.stable} has no ready server to go back to."
        progress.hooks.halt(refused.reason, held)


def _lost_servers(snapshot: Snapshot, state: State, server: Server | None, now: datetime) -> None:
    """No server is left: no requests at once. A node may have gone away, so it begins anew, but not for ever.

    An InferenceService that somebody deleted is no fault of the version.
    """
    gone = server is None or server.deleting
    state.attempts += 0 if gone else 1
    if state.attempts >= ATTEMPTS:
        reject(
            snapshot, state, Reason.ServersUnstable, f"Its servers failed {ATTEMPTS} times after they were ready.", now
        )
        return
    state.weight, state.position, state.candidate_since = 0, None, now
    message = f"No server of version {state.candidate} is ready any more: it starts anew once there is one."
    state.notes.append(Note("Warning", Reason.ServersLost, message))


def _promote(snapshot: Snapshot, state: State, now: datetime) -> None:
    name, before = state.candidate, state.stable
    if name is None:
        return
    for member in list(state.members.values()):
        if member.role == "Previous":
            state.release(member.name)
    # Knative ends the servers of a revision that has no requests.
    if before is not None and (snapshot.knative is not None or capacity.is_scarce(snapshot.rollout.spec.serving)):
        state.release(before)
    elif before is not None and before in state.members:
        keep = parse_duration(snapshot.rollout.spec.rollback.keep_previous)
        state.members[before].role, state.members[before].keep_until = "Previous", now + keep
    state.members[name].role = "Stable"
    state.stable = name
    undo = state.undo if state.undo is not None and state.undo.to == name else None
    by = undo.by if undo else state.promote_full.by if state.promote_full else None
    reason = Reason.Undone if undo else None
    if undo is not None:
        _complete(snapshot, state, undo, now)
    analysis.promote(snapshot, state, name, now)
    state.end_candidacy()
    state.record(HistoryEntry(name=name, outcome="Promoted", at=timestamp(now), from_=before, by=by, reason=reason))
    state.notes.append(Note("Normal", Reason.Promoted, f"Version {name} takes all requests."))


def _complete(snapshot: Snapshot, state: State, undo: UndoStatus, now: datetime) -> None:
    """Users rely on the earlier version: only now may the other one be called rejected, for it has no requests."""
    name, message = undo.version, f"{undo.by} went back from it to {undo.to}."
    member, version = state.members.get(name), snapshot.versions.get(name)
    digest = version.model.digest if version else member.digest if member else ""
    rejection = Rejection(name=name, digest=digest, reason=Reason.Undone, message=message, at=timestamp(now))
    state.reject(rejection, frozenset(snapshot.versions))
    state.notes.append(Note("Normal", Reason.Undone, f"Version {name} is not selected again: {message}"))


# ---- checks ----------------------------------------------------------------------------------------------------------
def _judge(snapshot: Snapshot, state: State, progress: Progress, now: datetime) -> None:
    tried = posture.is_tried(snapshot.steps, state)
    for check in snapshot.rollout.spec.checks:
        if tried and comparing.from_log(check):
            said = comparing.verdict(snapshot, state, _present(snapshot, state), check)
            progress.checks += [said] if said is not None else []
        elif tried and checks.applies(check, state.weight):
            window = checks.window_of(check)
            candidate = posture.measured(snapshot, state, window)
            stable = snapshot.reading.windows.get((_cluster(snapshot, state, state.stable), window), checks.NOTHING)
            progress.checks.append(checks.judge(check, candidate, stable, state.weight))
    _measure_in_background(snapshot, state, progress, now)
    failed = [f"Check {each.name} failed: {each.message}" for each in progress.checks if each.verdict == "Failed"]
    reason = Reason.ChecksFailed if failed else Reason.AnalysisFailed
    _fail(snapshot, state, progress, reason, [*failed, *analysis.failures(state)], now)
    progress.held = progress.held or analysis.hold(state)


def _fail(
    snapshot: Snapshot, state: State, progress: Progress, reason: Reason, sentences: list[str], now: datetime
) -> None:
    """Send everybody back for these failures, if there are any, and somewhere to go."""
    if not sentences:
        return
    stable_server = snapshot.server_of(state.stable)
    if snapshot.rollout.spec.rollback.automatic and stable_server is not None and stable_server.alive:
        reject(snapshot, state, reason, " ".join(sentences), now)
    else:
        progress.failing = sentences


# ---- analysis --------------------------------------------------------------------------------------------------------
def _measure_in_background(snapshot: Snapshot, state: State, progress: Progress, now: datetime) -> None:
    use = analysis.background(snapshot)
    tried = posture.is_tried(snapshot.steps, state) and not analysis.is_skipped(state)
    if use is not None and tried and _has_come_to_starting_step(snapshot, state):
        _proceed(snapshot, state, progress, use, now)


def _has_come_to_starting_step(snapshot: Snapshot, state: State) -> bool:
    spec, names = snapshot.rollout.spec.analysis, [step.name for step in snapshot.steps]
    if spec is None or state.position is None:
        return False
    return spec.starting_step not in names or state.position.index >= names.index(spec.starting_step)


def _proceed(
    snapshot: Snapshot, state: State, progress: Progress, use: analysis.Use, now: datetime, *, over: bool = False
) -> bool:
    """Go on with a run; whether the rollout may go on, as far as this run is concerned."""
    found = analysis.proceed(snapshot, state, use, now, over=over)
    progress.actions += found.actions
    if found.run is None:
        progress.held = progress.held or (Reason.AnalysisInvalid, found.problem)
        return False
    return analysis.passed(found.run)


def _has_passed(
    snapshot: Snapshot, state: State, progress: Progress, use: analysis.Use, now: datetime, *, over: bool = False
) -> bool:
    """Whether a run that the candidate waits for lets it go on; a failure rejects it."""
    if _proceed(snapshot, state, progress, use, now, over=over):
        return True
    progress.waiting_for = f"the analysis of {use.what}"
    _fail(snapshot, state, progress, Reason.AnalysisFailed, analysis.failures(state), now)
    if state.candidate is not None:
        progress.held = progress.held or analysis.hold(state)
    return False


def _watch_promoted(snapshot: Snapshot, state: State, progress: Progress, now: datetime) -> None:
    """Measure the version that was just promoted; if that fails, everybody goes back to the one before."""
    if analysis.current(state, "PostPromotion") is None:
        return
    use = analysis.after_promotion(snapshot)
    if use is not None and analysis.is_watching(state):
        _proceed(snapshot, state, progress, use, now)
    progress.held = progress.held or analysis.hold(state)
    sentences = analysis.failures(state)
    if sentences and not _go_back(snapshot, state, " ".join(sentences), now):
        progress.failing = sentences


def _go_back(snapshot: Snapshot, state: State, message: str, now: datetime) -> bool:
    """Give all requests to the previous version; whether that could be done."""
    failed, before = state.stable, analysis.previous(state)
    server = snapshot.server_of(before)
    if failed is None or before is None or server is None or not server.ready:
        return False
    if not snapshot.rollout.spec.rollback.automatic or not is_reachable(snapshot, server.name, now):
        return False
    state.members[before].role, state.members[before].keep_until = "Stable", None
    state.stable = before
    _reject(snapshot, state, failed, Reason.AnalysisFailed, message, now)
    return True


def _present(snapshot: Snapshot, state: State) -> Step | None:
    position = state.position
    return snapshot.steps[position.index] if position is not None and position.index < len(snapshot.steps) else None


def _cluster(snapshot: Snapshot, state: State, name: str | None) -> str:
    member = state.members.get(name or "")
    return snapshot.cluster_of(member.service) if member else ""


# ---- steps -----------------------------------------------------------------------------------------------------------
def _walk(snapshot: Snapshot, state: State, server: Server, progress: Progress, promoted: bool, now: datetime) -> None:
    steps = snapshot.steps
    while state.position is not None:
        position = state.position
        if state.promote_full is not None and position.index < len(steps):
            _enter(steps, state, len(steps), now)
            continue
        if position.index >= len(steps):
            if _set_weight(snapshot, state, server, 100, progress, now):
                _promote(snapshot, state, now)
            return
        step = steps[position.index]
        if not _is_done(snapshot, state, server, step, progress, promoted, now):
            return
        if step.pause is None and not progress.hooks.agree():  # a person's word that ends a pause must not be lost
            progress.waiting_for = progress.hooks.waiting_for
            return
        promoted = False
        _enter(steps, state, position.index + 1, now)
        following = steps[position.index + 1] if position.index + 1 < len(steps) else None
        if following is not None and (following.analyze is not None or following.mirror is not None):
            return  # what was counted so far belongs to the step before


def _enter(steps: list[Step], state: State, index: int, now: datetime) -> None:
    name = steps[index].name if index < len(steps) else PROMOTION
    state.position = Position(index, name, now)
    if index < len(steps):
        state.notes.append(Note("Normal", Reason.StepStarted, f"Version {state.candidate}: step {name}."))


def _is_done(
    snapshot: Snapshot, state: State, server: Server, step: Step, progress: Progress, promoted: bool, now: datetime
) -> bool:
    if step.set_weight is not None:
        return _set_weight(snapshot, state, server, max(step.set_weight, state.weight), progress, now)
    if step.pause is not None and step.pause.until is not None:
        progress.waiting_for = f"a person: annotate the rollout slipway.dev/promote: {step.name}:{state.candidate}"
        return promoted
    if step.pause is not None:
        progress.waiting_for = f"{step.pause.for_} to pass"
        return elapsed(snapshot, state, now) >= parse_duration(step.pause.for_ or "0s")
    if step.set_scale is not None:
        return _has_size(snapshot, state, server, progress, now)
    if step.stop is not None:
        _stop(snapshot, state, step.stop, now)
        return False
    if step.mirror is not None and state.weight:
        return True  # the list was edited: users have met the version, so copies can tell nothing that they do not
    if step.mirror is not None or step.set_header_route is not None:
        return _is_aside(snapshot, state, server, progress) and _analyzed(snapshot, state, step, progress, now)
    if step.webhook is not None:
        done = progress.hooks.step_done(step)
        progress.waiting_for = progress.hooks.waiting_for
        return done
    if step.experiment is not None:
        return _compared(snapshot, state, server, step, progress, now)
    return step.analyze is None or _analyzed(snapshot, state, step, progress, now)


def _compared(snapshot: Snapshot, state: State, server: Server, step: Step, progress: Progress, now: datetime) -> bool:
    """Whether the experiment of a step is over."""
    weight = max(step.weight or 0, state.weight)

    def has_share() -> bool:
        return _set_weight(snapshot, state, server, weight, progress, now)

    progress.waiting_for = experiments.proceed(snapshot, state, step, has_share, now) or progress.waiting_for
    return experiments.is_over(state, step)


def _has_size(snapshot: Snapshot, state: State, server: Server, progress: Progress, now: datetime) -> bool:
    """Whether the candidate has the servers that a step asked for; it is rejected when they do not come in time."""
    missing = posture.lacking(snapshot, state, server)
    if not missing:
        return True
    progress.waiting_for = f"{missing} more of its servers to be ready"
    _reject_if_late(snapshot, state, server, f"{missing} of its servers were missing", now)
    return False


def _reject_if_late(snapshot: Snapshot, state: State, server: Server, what: str, now: datetime) -> None:
    """Reject a candidate on its way that has lacked servers for longer than it may."""
    if not _is_late(snapshot, state):
        return
    detail = server.readiness.trouble.message if server.readiness.trouble else "Look at its pods."
    message = f"{what} for {snapshot.rollout.spec.progress_deadline}. {detail}"
    reject(snapshot, state, Reason.ProgressDeadlineExceeded, message, now)


def _is_aside(snapshot: Snapshot, state: State, server: Server, progress: Progress) -> bool:
    """Whether the gateway has accepted what the candidate gets beside its weight."""
    steps, route = snapshot.steps, snapshot.route
    live = route.aside if route is not None and route.aside is not None else gw.Aside(server.name)
    wanted = gw.Aside(server.name, posture.copied_percent(steps, state), posture.headers(steps, state))
    progress.waiting_for = "the gateway to accept the copies" if wanted.copied else "the gateway to accept the headers"
    return route is not None and route.acceptance.accepted and live == wanted


def _may_take_all(snapshot: Snapshot, state: State, progress: Progress, now: datetime) -> bool:
    """Whether what must hold before a version gets all requests does."""
    use = analysis.before_promotion(snapshot)
    return use is None or analysis.is_skipped(state) or _has_passed(snapshot, state, progress, use, now)


def _set_weight(
    snapshot: Snapshot, state: State, server: Server, weight: int, progress: Progress, now: datetime
) -> bool:
    """Raise the weight if that is safe; whether the gateway has accepted it."""
    route = snapshot.route
    in_force = route is not None and route.acceptance.accepted
    matches = route is not None and route.weights.get(server.name) == state.weight
    if state.weight < weight == 100 and not _may_take_all(snapshot, state, progress, now):
        return False
    if state.weight < weight:
        if not _has_size(snapshot, state, server, progress, now):
            return False
        if not server.ready:
            progress.waiting_for = "its servers to be ready"
            _reject_if_late(snapshot, state, server, "Its servers were not ready", now)
        elif not (in_force and matches and is_reachable(snapshot, server.name, now)):
            progress.waiting_for = "the gateway to accept what it was told before"
        elif not progress.hooks.may_raise(weight):
            progress.waiting_for = progress.hooks.waiting_for
        else:
            state.weight = weight
            progress.waiting_for = f"the gateway to accept {weight} %"
        return False
    progress.waiting_for = f"the gateway to accept {weight} %"
    return in_force and matches


def _analyzed(snapshot: Snapshot, state: State, step: Step, progress: Progress, now: datetime) -> bool:
    watched = step.analyze or step.mirror
    if watched is None:
        return True
    duration = parse_duration(watched.for_ or "0s")
    use = analysis.of_step(step)
    over = watched.for_ is not None and elapsed(snapshot, state, now) >= duration
    if use is not None and not _has_passed(snapshot, state, progress, use, now, over=over):
        return False
    if watched.for_ is None:
        return True
    progress.waiting_for = f"{watched.for_} of {'analysis' if step.analyze else 'copies'} to pass"
    if elapsed(snapshot, state, now) < duration:
        return False
    undecided = [each for each in progress.checks if each.verdict != "Success"]
    from_log = {each.name for each in snapshot.rollout.spec.checks if comparing.from_log(each)}
    progress.comparing = bool(undecided) and {each.name for each in undecided} <= from_log
    comparing.ask(snapshot, state, step, any(each.name in from_log for each in undecided), now)
    if undecided:
        progress.waiting_for = f"check {undecided[0].name}: {undecided[0].message}"
        return False
    for check in snapshot.rollout.spec.checks:
        measured = not comparing.from_log(check) and checks.applies(check, state.weight)
        if measured and posture.is_tried(snapshot.steps, state):
            stats = posture.measured(snapshot, state, checks.window_of(check))
            if not checks.covered(check, stats, duration.total_seconds()):
                progress.waiting_for = f"check {check.name}: {stats.seconds:.0f} s of its window are watched so far"
                return False
    return True


def elapsed(snapshot: Snapshot, state: State, now: datetime) -> timedelta:
    """How long the present step has lasted."""
    began = state.position.started_at if state.position is not None else now
    return snapshot.lived.passed(began, now)
