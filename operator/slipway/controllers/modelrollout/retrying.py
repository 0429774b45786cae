"""`rollback.retryOnStable`: clients do not see a failing candidate, where the gateway can do that. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

from slipway.adapters import retry
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.layout import Layout
from slipway.controllers.modelrollout.retry_facts import CONDITION, SILENT
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Action, Apply, Delete
from slipway.runtime.resources import ENVOY_PATCH_POLICY, HTTP_ROUTE


def repeat(snapshot: Snapshot, state: State, layout: Layout) -> Layout:
    """The layout with the patch, while requests are split; without it, when they are not.

    The patch comes before the weights and goes after them, so that no split request is without it.
    """
    if snapshot.parent is None or snapshot.retry.obstacle:
        return layout
    if snapshot.other_gateway:
        return replace(layout, actions=(*layout.actions, *remove(snapshot)))
    route = next((dict(each.manifest) for each in layout.actions if _is_weighted_route(each, snapshot.name)), None)
    if wanted(snapshot, state, layout) and route is not None and snapshot.retry.listeners:
        manifest = retry.policy(snapshot.namespace, snapshot.name, snapshot.parent, snapshot.retry.listeners, route)
        return replace(layout, actions=(Apply(manifest, owned=False), *layout.actions))
    return replace(layout, actions=(*layout.actions, *remove(snapshot)))


def wanted(snapshot: Snapshot, state: State, layout: Layout) -> bool:
    """Whether there is another version to ask, and a person wants it asked.

    Envoy has none to choose where only one version has a weight; among more than two it could choose another that
    fails, and its counters would not tell whose failure it was.
    """
    split = sum(1 for _, weight in layout.weights if weight) == 2
    return snapshot.rollout.spec.rollback.retry_on_stable and state.stable is not None and split


def remove(snapshot: Snapshot) -> tuple[Action, ...]:
    """Take the patch away, if it is there: it stands in another namespace, so nothing else would."""
    if not snapshot.retry.uid or snapshot.parent is None:
        return ()
    name = retry.policy_name(snapshot.namespace, snapshot.name)
    return (Delete(ENVOY_PATCH_POLICY.key(name, snapshot.parent.namespace), snapshot.retry.uid),)


def _is_weighted_route(action: Action, name: str) -> TypeGuard[Apply]:
    if not isinstance(action, Apply) or action.manifest.get("kind") != HTTP_ROUTE.kind:
        return False
    return bool(action.manifest["metadata"]["name"] == name)


def state_retry(conditions: Conditions, snapshot: Snapshot, state: State, layout: Layout) -> None:
    """`RetryOnStable`, while it is wanted and requests are split, and while something of it is left."""
    facts = snapshot.retry
    if not wanted(snapshot, state, layout):
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
            CONDITION, Reason.PatchAccepted, "A failed answer is asked for once more, of the other version."
        )
    elif facts.standing.word == "Refused":
        message = f"The gateway does not repeat failed requests: {facts.standing.message}"
        conditions.false(CONDITION, Reason.RetryUnsupported, message)
    else:
        conditions.false(CONDITION, Reason.PatchPending, SILENT)
