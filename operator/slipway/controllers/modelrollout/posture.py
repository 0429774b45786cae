"""What the steps so far ask for beside the weight: copies of requests, requests with headers, a number of servers.

Nothing of it is remembered: it follows from the list of steps, the position in it and the weight, so that a restart, a
lost status and an edited list all come to what is written.
"""

from __future__ import annotations

from math import ceil

from slipway.adapters import gateway as gw
from slipway.adapters.envoy_stats import WindowStats
from slipway.adapters.kserve import Trouble
from slipway.api.modelrollout import Replicas
from slipway.api.reasons import Reason
from slipway.api.rollout_steps import SetScale, Step
from slipway.controllers.modelrollout import capacity
from slipway.controllers.modelrollout.facts import Server, Snapshot
from slipway.controllers.modelrollout.hooks import awaits_confirmation
from slipway.controllers.modelrollout.state import State

_NOTHING = WindowStats()


def _passed(steps: list[Step], state: State) -> list[Step]:
    """The steps up to the present one."""
    return steps[: state.position.index + 1] if state.position is not None else []


def _present(steps: list[Step], state: State) -> Step | None:
    position = state.position
    return steps[position.index] if position is not None and position.index < len(steps) else None


def copied_percent(steps: list[Step], state: State) -> int:
    """Percent of requests that are copied to the candidate now; never once it has requests of its own."""
    step = _present(steps, state)
    return step.mirror.percent if step is not None and step.mirror is not None and not state.weight else 0


def headers(steps: list[Step], state: State) -> gw.Headers:
    """Headers whose requests go to the candidate, whatever its weight; empty for none."""
    route = next((each.set_header_route for each in reversed(_passed(steps, state)) if each.set_header_route), None)
    return gw.headers(route.match) if route is not None else ()


def is_tried(steps: list[Step], state: State) -> bool:
    """Whether the candidate answers requests, be they users' or copies."""
    return bool(state.weight or copied_percent(steps, state) or headers(steps, state))


# ---- what is measured ------------------------------------------------------------------------------------------------
def measured(snapshot: Snapshot, state: State, window: float) -> WindowStats:
    """What the gateway counted for the candidate in a window: its answers to users, and to copies while there are."""
    windows, member = snapshot.reading.windows, state.members.get(state.candidate or "")
    if member is None:
        return _NOTHING
    own = windows.get((snapshot.cluster_of(member.service), window), _NOTHING)
    if not copied_percent(snapshot.steps, state):
        return own
    clusters = [gw.mirror_cluster(snapshot.namespace, snapshot.name, rule) for rule in (0, 1)]
    return sum((windows.get((each, window), _NOTHING) for each in clusters), own)


# ---- how many servers ------------------------------------------------------------------------------------------------
def size(snapshot: Snapshot, state: State, name: str) -> Replicas:
    """Least and greatest number of servers of a version, as far as there is room for them now."""
    full = snapshot.rollout.spec.serving.replicas
    if name == state.candidate:
        stable = snapshot.server_of(state.stable)
        room = capacity.room(snapshot.rollout.spec.serving, state, stable.readiness.endpoints if stable else 0)
        return capacity.at_most(wanted_size(snapshot, state), room)
    if name == state.stable and not awaits_confirmation(snapshot, state):  # it gives nothing up for a maybe
        return _at_least_by_weight(snapshot, state, capacity.of_stable(snapshot.rollout.spec.serving, state))
    return full


def wanted_size(snapshot: Snapshot, state: State) -> Replicas:
    """What the candidate should have: all of `serving.replicas` unless a step or the capacity scales it."""
    full = snapshot.rollout.spec.serving.replicas
    if state.stable is None:
        return full
    return capacity.of_candidate(
        snapshot.rollout.spec.serving, state, _by_steps(snapshot, state, full), _aimed_weight(snapshot.steps, state)
    )


def _by_steps(snapshot: Snapshot, state: State, full: Replicas) -> Replicas:
    steps, weight = snapshot.steps, _aimed_weight(snapshot.steps, state)
    scale = _scale(steps, state)
    if scale is None and _is_proportional(snapshot):
        scale = SetScale(match_weight=True)
    # From the step on that gives it all requests it has full size: servers come before requests.
    if scale is None or weight == 100 or state.promote_full is not None:
        return full
    return _scaled(full, scale, weight)


def _is_proportional(snapshot: Snapshot) -> bool:
    autoscaling = snapshot.rollout.spec.serving.autoscaling
    return autoscaling is not None and autoscaling.during_rollout == "Proportional"


def _at_least_by_weight(snapshot: Snapshot, state: State, size: Replicas) -> Replicas:
    """With proportional bounds the stable version needs at least the share of its weight. It may have as many as ever:
    a rollback sends it everything at once."""
    if state.candidate is None or not _is_proportional(snapshot):
        return size
    return Replicas(min=min(size.min, _share(size.min, 100 - state.weight)), max=size.max)


def no_room(snapshot: Snapshot, state: State) -> Trouble | None:
    """Why the candidate's first server cannot be made yet; None when it can, or is there."""
    if state.candidate is None or snapshot.server_of(state.candidate) is not None:
        return None
    serving, stable = snapshot.rollout.spec.serving, snapshot.server_of(state.stable)
    if capacity.room(serving, state, stable.readiness.endpoints if stable else 0) == 0:
        message = f"A server of version {state.stable} has to end before version {state.candidate} can have one."
        return Trouble(Reason.WaitingForCapacity, message)
    return capacity.over_quota(
        snapshot.pool, snapshot.pool_held, serving, wanted_size(snapshot, state).max, state.candidate
    )


def _aimed_weight(steps: list[Step], state: State) -> int:
    if state.position is not None and state.position.index >= len(steps):
        return 100
    step = _present(steps, state)
    return max(state.weight, step.weight or 0) if step is not None else state.weight


def _scale(steps: list[Step], state: State) -> SetScale | None:
    # A list that begins with a scale says how the version starts.
    passed = _passed(steps, state) or steps[:1]
    return next((each.set_scale for each in reversed(passed) if each.set_scale is not None), None)


def _scaled(full: Replicas, scale: SetScale, weight: int) -> Replicas:
    if scale.replicas is not None:
        count = min(scale.replicas, full.max)
        return Replicas(min=count, max=count)
    percent = weight if scale.match_weight else scale.percent or 100
    return Replicas(min=_share(full.min, percent), max=_share(full.max, percent))


def _share(count: int, percent: int) -> int:
    return max(1, ceil(count * percent / 100))


def lacking(snapshot: Snapshot, state: State, server: Server) -> int:
    """How many servers the candidate lacks to the size that a step asked for; 0 where no step asked for any."""
    position, steps = state.position, snapshot.steps
    # Who goes back to a version that is warm still does not wait: such a candidate has no weight and no step.
    ordered = state.promote_full is not None and state.promote_full.by is not None and state.undo is None
    going_back = position is None or (position.index >= len(steps) and not state.weight and not ordered)
    scaled = any(each.set_scale for each in _passed(steps, state)) or _is_proportional(snapshot)
    if going_back or not (scaled or capacity.is_scarce(snapshot.rollout.spec.serving)):
        return 0
    return max(0, wanted_size(snapshot, state).min - server.readiness.endpoints)
