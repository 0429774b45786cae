"""Clients stay on the version that they have met, while there is a candidate with requests. Pure.

Weighted clusters know no sessions (envoy#24741) and a session of the gateway's own needs all servers in one cluster,
which takes the versions' statistics away. So two rules stand behind the general one, which a cookie makes more
specific: one sends clients of the stable version there, the other those of the candidate. With the candidacy the rules
go, and with a new one comes a new seed, so that no cookie of an earlier one matches.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256

from slipway.adapters import gateway as gw
from slipway.adapters.kserve import inference_service_of
from slipway.api.meta import parse_duration
from slipway.contracts.sessions import HEADER, Session
from slipway.controllers.modelrollout import experiments
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.layout import Layout
from slipway.controllers.modelrollout.state import State
from slipway.runtime.controller import Action, Apply
from slipway.runtime.resources import HTTP_ROUTE, Object


def stick(snapshot: Snapshot, state: State, layout: Layout) -> Layout:
    """The layout in which the weighted route keeps clients on their version."""
    if snapshot.rollout.spec.routing.stickiness is None:
        return layout
    return replace(layout, actions=tuple(_sticky(snapshot, state, each) for each in layout.actions))


def _sticky(snapshot: Snapshot, state: State, action: Action) -> Action:
    if not isinstance(action, Apply) or action.manifest.get("kind") != HTTP_ROUTE.kind:
        return action
    manifest = dict(action.manifest)
    session = session_of(snapshot, state) if manifest["metadata"]["name"] == snapshot.name else None
    rules = [told(rule, session) for rule in manifest["spec"]["rules"]]
    if session is not None and state.candidate is not None:
        notes = {**(manifest["metadata"].get("annotations") or {}), gw.SESSION_ANNOTATION: _memory(state, session)}
        manifest["metadata"] = {**manifest["metadata"], "annotations": notes}
        general = next(each for each in manifest["spec"]["rules"] if each["name"] == gw.MODEL_ROUTE_RULE)
        arms = experiments.sharing(state)
        kept = {"session-stable": state.stable, "session-candidate": state.candidate}
        kept |= {f"session-{name}": version for name, version in arms.items()}
        cannot = snapshot.retry.obstacle or snapshot.other_gateway or arms
        repeated = snapshot.rollout.spec.rollback.retry_on_stable and not cannot
        instead = state.members[str(state.stable)].service if repeated else None
        for name, version in kept.items():
            other = instead if version == state.candidate else None
            service = state.members[str(version)].service
            rules.append(told(keep(name, general, session, str(version), service, other), None))
    return replace(action, manifest={**manifest, "spec": {**manifest["spec"], "rules": rules}})


def session_of(snapshot: Snapshot, state: State) -> Session | None:
    """How clients are kept now; None while no candidate has requests beside the stable version."""
    stickiness, both = snapshot.rollout.spec.routing.stickiness, (state.stable, state.candidate)
    if stickiness is None or not 0 < state.weight < 100 or any(each not in state.members for each in both):
        return None
    candidate, _, seed = (snapshot.route.session if snapshot.route else "").partition(" ")
    if candidate != state.candidate or not seed:
        seed = sha256(f"{snapshot.token}/session".encode()).hexdigest()[:32]
    seconds = int(parse_duration(stickiness.for_).total_seconds())
    return Session(seed, stickiness.cookie, seconds, snapshot.rollout.spec.routing.path)


def _memory(state: State, session: Session) -> str:
    return f"{state.candidate} {session.seed}"


def told(rule: Object, session: Session | None) -> Object:
    """The rule that tells servers about the session, or that no client does."""
    general = session is not None and rule["name"] == gw.MODEL_ROUTE_RULE
    modifier: Object = (
        {"set": [{"name": HEADER, "value": session.header()}]} if session and general else {"remove": [HEADER]}
    )
    filters = [*rule["filters"], {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}]
    return {**rule, "filters": filters}


def keep(
    name: str, general: Object, session: Session, version: str, service: str, instead: str | None = None
) -> Object:
    """The rule that sends clients of a version there, made from the general one.

    :param instead: InferenceService that is asked when an answer of `service` failed. Envoy asks a version with a
        weight only, so it has the least that there is: one in a million.
    """
    pattern = rf"(.*;\s*)?{re.escape(session.name)}={session.value(version)}(;.*)?"
    cookie = {"type": "RegularExpression", "name": "cookie", "value": pattern}
    entries = {inference_service_of(each["name"]): each for each in general["backendRefs"]}
    return {
        **general,
        "name": name,
        "matches": [{**match, "headers": [*(match.get("headers") or ()), cookie]} for match in general["matches"]],
        "backendRefs": [
            {**entries[each], "weight": weight}
            for each, weight in (((service, 1),) if instead is None else ((service, 999_999), (instead, 1)))
        ],
    }
