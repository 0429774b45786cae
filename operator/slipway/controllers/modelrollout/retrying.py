"""`rollback.retryOnStable`: clients do not see a failing candidate, where the gateway can do that. Pure."""

from __future__ import annotations

from dataclasses import replace

from slipway.adapters import retry
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.layout import Layout
from slipway.controllers.modelrollout.retry_facts import CONDITION
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Action, Apply, Delete
from slipway.runtime.resources import ENVOY_PATCH_POLICY, HTTP_ROUTE, Object


def repeat(snapshot: Snapshot, state: State, layout: Layout) -> Layout:
    """The layout with the patch, while requests are split; without it, when they are not."""
    if snapshot.parent is None or snapshot.retry.obstacle:
        return layout
    if snapshot.other_gateway:
        return replace(layout, actions=(*layout.actions, *remove(snapshot)))
    route = next((each for each in map(_weighted_route, layout.actions) if each and _is(snapshot, each)), None)
    if wanted(snapshot, state) and route is not None and snapshot.retry.listener:
        manifest = retry.policy(snapshot.namespace, snapshot.name, snapshot.parent, snapshot.retry.listener, route)
        return replace(layout, actions=(*layout.actions, Apply(manifest, owned=False)))
    return replace(layout, actions=(*layout.actions, *remove(snapshot)))


def wanted(snapshot: Snapshot, state: State) -> bool:
    """Whether there is another version to ask, and a person wants it asked."""
    return snapshot.rollout.spec.rollback.retry_on_stable and state.stable is not None and 0 < state.weight < 100


def remove(snapshot: Snapshot) -> tuple[Action, ...]:
    """Take the patch away, if it is there: it stands in another namespace, so nothing else would."""
    if not snapshot.retry.uid or snapshot.parent is None:
        return ()
    name = retry.policy_name(snapshot.namespace, snapshot.name)
    return (Delete(ENVOY_PATCH_POLICY.key(name, snapshot.parent.namespace), snapshot.retry.uid),)


def _weighted_route(action: Action) -> Object | None:
    is_route = isinstance(action, Apply) and action.manifest.get("kind") == HTTP_ROUTE.kind
    return dict(action.manifest) if is_route and isinstance(action, Apply) else None


def _is(snapshot: Snapshot, route: Object) -> bool:
    return bool(route["metadata"]["name"] == snapshot.name)


def state_retry(conditions: Conditions, snapshot: Snapshot, state: State) -> None:
    """`RetryOnStable`, while it is wanted and requests are split, and while something of it is left."""
    facts = snapshot.retry
    if not wanted(snapshot, state):
        if facts.uid:
            conditions.false(CONDITION, Reason.NotNeeded, "Requests go to one version: there is none to ask instead.")
        return
    if facts.obstacle:
        conditions.false(CONDITION, Reason.RetryUnsupported, facts.obstacle)
    elif snapshot.other_gateway:
        message = f"Failed requests can be repeated by Envoy Gateway only: {snapshot.other_gateway}."
        conditions.false(CONDITION, Reason.RetryUnsupported, message)
    elif facts.standing.word == "Accepted":
        conditions.true(
            CONDITION, Reason.PoliciesAccepted, "A failed answer is asked for once more, of the other version."
        )
    elif facts.standing.word == "Refused":
        message = f"The gateway does not repeat failed requests: {facts.standing.message}"
        conditions.false(CONDITION, Reason.RetryUnsupported, message)
    else:
        conditions.false(
            CONDITION, Reason.PolicyPending, "The gateway has not taken in yet that failed requests are repeated."
        )
