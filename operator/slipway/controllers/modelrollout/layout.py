"""From the state to objects: what to apply and what to delete, in the order that loses no request.

Added:   InferenceService → (ready) pin route → (known to the gateway) reference with weight 0 → weight.
Removed: reference → (gone from the gateway, DRAIN) pin route → (SETTLE) InferenceService.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
    routing, route = snapshot.rollout.spec.routing, snapshot.route
    if not may_route(snapshot) and route is not None:
        # The path was changed to one that is taken: users stay where they are, and whoever fails there still goes back.
        routing = routing.model_copy(update={"hostnames": list(route.hostnames), "path": route.path})
    elif not may_route(snapshot):
        return None
    if snapshot.parent is None:
        return None
    return replace(gw.routed_of(snapshot.rollout, snapshot.parent), routing=routing)


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
    if member.drained_at is None:
        member.drained_at = now
    drained = snapshot.lived.passed(member.drained_at, now)
    pin, server = snapshot.pins.get(member.service), snapshot.servers.get(member.service)
    if pin is not None and drained >= DRAIN:
        yield Delete(HTTP_ROUTE.key(gw.pin_of(member.service, snapshot.name), snapshot.namespace), pin.uid)
    if server is not None and pin is None and drained >= DRAIN + SETTLE:
        yield Delete(INFERENCE_SERVICE.key(server.name, snapshot.namespace), server.uid)


def _is_detached(snapshot: Snapshot, service: str, weights: Weights) -> bool:
    """Whether the gateway sends no request to a version any more, and will not."""
    if service in dict(weights):
        return False
    route = snapshot.route
    return route is None or (service not in route.references and route.acceptance.seen)


def next_removal(snapshot: Snapshot, state: State, now: datetime) -> float | None:
    """Seconds until a retiring version's next object may go, or a previous version's time is over."""
    lived, left = snapshot.lived, []
    for member in state.members.values():
        if member.drained_at is not None:
            drained = lived.passed(member.drained_at, now)
            left += [delay - drained for delay in (DRAIN, DRAIN + SETTLE)]
        if member.keep_until is not None:
            left.append(member.keep_until - lived.now(member.keep_until, now))
    return min((each.total_seconds() for each in left if each > timedelta()), default=None)


# ---- the end ---------------------------------------------------------------------------------------------------------
UNROUTED = "unrouted"
"""The state in which a rollout that is being deleted has no weighted route any more."""


def tear_down(snapshot: Snapshot) -> tuple[Action, ...]:
    """Remove what is left of a rollout that is being deleted; nothing when it is all gone.

    The weighted route goes first, so that clients are told that there is no such path, instead of errors of servers
    that are on their way out.
    """
    namespace, route = snapshot.namespace, snapshot.route
    if route is not None:
        return (Delete(HTTP_ROUTE.key(snapshot.name, namespace), route.uid),)
    pins = [
        Delete(HTTP_ROUTE.key(gw.pin_of(each, snapshot.name), namespace), p.uid) for each, p in snapshot.pins.items()
    ]
    servers = [Delete(INFERENCE_SERVICE.key(each.name, namespace), each.uid) for each in snapshot.servers.values()]
    settled = not pins or snapshot.lived.lasted.get(UNROUTED, 0.0) >= SETTLE.total_seconds()
    return (*pins, *servers) if settled else ()


def remains(snapshot: Snapshot) -> str:
    """What of a rollout that is being deleted is still there; empty when nothing is."""
    if snapshot.route is not None:
        return f"{'HTTPRoute' if snapshot.knative is None else 'InferenceService'} {snapshot.name}"
    names = [f"InferenceService {each}" for each in sorted(snapshot.servers)]
    names += [f"HTTPRoute {gw.pin_of(each, snapshot.name)}" for each in sorted(snapshot.pins)]
    return ", ".join(names)
