"""From the state to objects: what to apply and what to delete, in the order that loses no request.

Added:   InferenceService → (ready) pin route → (known to the gateway) reference with weight 0 → weight.
Removed: reference → (gone from the gateway, DRAIN) pin route → (SETTLE) InferenceService.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.adapters import gateway as gw
from slipway.adapters import kserve
from slipway.adapters.kserve import Deployment
from slipway.controllers.modelrollout import experiments, posture
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.hooks import awaits_confirmation
from slipway.controllers.modelrollout.reach import SETTLE, is_reachable, may_join
from slipway.controllers.modelrollout.state import Member, State
from slipway.runtime.controller import Action, Apply, Delete
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE

DRAIN = timedelta(seconds=10)
"""How long requests that are under way may take before a version's pin route goes."""

Weights = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Layout:
    """What should be there."""

    weights: Weights
    actions: tuple[Action, ...]


def lay_out(snapshot: Snapshot, state: State, now: datetime) -> Layout:
    """The actions of this pass. Times of draining are noted in `state`."""
    weights = weights_of(snapshot, state, now)
    actions = [*_route(snapshot, state, weights, now)]
    for member in state.members.values():
        if member.role != "Retiring":
            actions += _serve(snapshot, state, member)
    for member in state.members.values():
        if member.role == "Retiring":
            actions += _retire(snapshot, member, weights, now)
        else:
            member.drained_at = None
    return Layout(weights, tuple(actions))


def weights_of(snapshot: Snapshot, state: State, now: datetime) -> Weights:
    """References of the weighted route in their order: the stable version, the candidate, the arms of an experiment.

    They sum up to 100.
    """
    stable = state.members.get(state.stable or "")
    if stable is None:
        return ()
    candidate = state.members.get(state.candidate or "")
    if candidate is None or not _may_be_attached(snapshot, state, candidate, now):
        return ((stable.service, 100),)
    shares = experiments.shares(state)
    arms = tuple((service, share) for service, share in shares.items() if share or may_join(snapshot, service, now))
    rest = 100 - state.weight - sum(shares.values())
    return ((stable.service, rest), (candidate.service, state.weight), *arms)


def _may_be_attached(snapshot: Snapshot, state: State, candidate: Member, now: datetime) -> bool:
    return bool(state.position is not None and state.weight) or may_join(snapshot, candidate.service, now)


def may_route(snapshot: Snapshot) -> bool:
    """Whether routes may be written: with an older rollout at the same URL, only if ours is there already."""
    return snapshot.conflict is None or (snapshot.route is not None and snapshot.route.serves)


def _routed(snapshot: Snapshot) -> gw.Routed | None:
    if snapshot.parent is None or not may_route(snapshot):
        return None
    return gw.routed_of(snapshot.rollout, snapshot.parent)


def _aside(snapshot: Snapshot, state: State, weights: Weights, now: datetime) -> gw.Aside | None:
    """What the candidate gets beside its weight: begun only when it is ready, kept as long as it answers."""
    candidate = state.members.get(state.candidate or "")
    if candidate is None or candidate.service not in dict(weights):
        return None
    server, live = snapshot.servers.get(candidate.service), snapshot.route.aside if snapshot.route else None
    if server is None or not server.alive:
        return None
    steps = snapshot.steps
    wanted = gw.Aside(candidate.service, posture.copied_percent(steps, state), posture.headers(steps, state))
    may_begin = server.ready and is_reachable(snapshot, candidate.service, now)
    if not may_begin:
        kept = live if live is not None and live.service == candidate.service else gw.Aside(candidate.service)
        same = wanted.headers == kept.headers
        wanted = gw.Aside(candidate.service, min(wanted.copied, kept.copied), wanted.headers if same else ())
    return wanted if wanted.copied or wanted.headers else None


def _route(snapshot: Snapshot, state: State, weights: Weights, now: datetime) -> Iterator[Action]:
    routed = _routed(snapshot)
    if weights and routed is not None:
        aside = _aside(snapshot, state, weights, now)
        yield Apply(gw.weighted_route(routed, weights, tuple(state.rejected), aside, state.memory().text()))


def _serve(snapshot: Snapshot, state: State, member: Member) -> Iterator[Action]:
    version = snapshot.versions.get(member.name)
    waits = member.role == "Candidate" and (
        posture.no_room(snapshot, state) is not None or awaits_confirmation(snapshot, state)
    )
    waits = waits or member.name in experiments.no_room(snapshot, state)
    if version is not None and snapshot.obstacle is None and not waits:
        spec = snapshot.rollout.spec
        size = experiments.size(snapshot, state, member.name) or posture.size(snapshot, state, member.name)
        project, logged = spec.project_ref.name, snapshot.predictions
        deployment = Deployment(snapshot.namespace, snapshot.name, project, spec.serving, snapshot.pool, size, logged)
        yield Apply(kserve.inference_service(deployment, version.model))
    routed, pin = _routed(snapshot), snapshot.pins.get(member.service)
    server = snapshot.servers.get(member.service)
    comes = member.role in ("Candidate", "Arm")
    if routed is not None and (pin is not None or not comes or (server is not None and server.ready)):
        token = pin.token if pin is not None and pin.token else _token(snapshot, member.service)
        yield Apply(gw.pin_route(routed, member.service, token))


def _token(snapshot: Snapshot, service: str) -> str:
    """One value a pin route, also where one pass makes several."""
    return hashlib.sha256(f"{snapshot.token}/{service}".encode()).hexdigest()[:32]


def _retire(snapshot: Snapshot, member: Member, weights: Weights, now: datetime) -> Iterator[Action]:
    if not _is_detached(snapshot, member.service, weights):
        member.drained_at = None
        return
    if member.drained_at is None or member.drained_at > now:
        member.drained_at = now
    pin, server = snapshot.pins.get(member.service), snapshot.servers.get(member.service)
    if pin is not None and now >= member.drained_at + DRAIN:
        yield Delete(HTTP_ROUTE.key(gw.pin_of(member.service, snapshot.name), snapshot.namespace), pin.uid)
    if server is not None and pin is None and now >= member.drained_at + DRAIN + SETTLE:
        yield Delete(INFERENCE_SERVICE.key(server.name, snapshot.namespace), server.uid)


def _is_detached(snapshot: Snapshot, service: str, weights: Weights) -> bool:
    """Whether the gateway sends no request to a version any more, and will not."""
    if service in dict(weights):
        return False
    route = snapshot.route
    return route is None or (service not in route.references and route.acceptance.seen)


def next_removal(state: State, now: datetime) -> float | None:
    """Seconds until a retiring version's next object may go, or a previous version's time is over."""
    times = [
        member.drained_at + delay
        for member in state.members.values()
        if member.drained_at is not None
        for delay in (DRAIN, DRAIN + SETTLE)
    ]
    times += [member.keep_until for member in state.members.values() if member.keep_until is not None]
    ahead = [(time - now).total_seconds() for time in times if time > now]
    return min(ahead) if ahead else None


# ---- the end ---------------------------------------------------------------------------------------------------------
def tear_down(snapshot: Snapshot, since: datetime, now: datetime) -> tuple[tuple[Action, ...], bool]:
    """Remove everything of a rollout that is being deleted; whether nothing is left.

    The weighted route goes first, so that clients are told that there is no such path, instead of errors of servers
    that are on their way out.
    """
    settled = now >= since + SETTLE or now < since
    namespace, route = snapshot.namespace, snapshot.route
    first = [Delete(HTTP_ROUTE.key(snapshot.name, namespace), route.uid)] if route is not None else []
    pins = [
        Delete(HTTP_ROUTE.key(gw.pin_of(each, snapshot.name), namespace), p.uid) for each, p in snapshot.pins.items()
    ]
    servers = [Delete(INFERENCE_SERVICE.key(each.name, namespace), each.uid) for each in snapshot.servers.values()]
    actions = (*first, *pins, *servers) if settled else tuple(first)
    return actions, not (first or pins or servers)
