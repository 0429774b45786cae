"""Two rollouts that want the same requests: who has them, and what the other one is told. Pure.

Whoever has a route for them keeps them, so that no edit of another rollout takes users away. While neither has one, the
older rollout is first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slipway.adapters import gateway as gw
from slipway.adapters.kserve import Trouble
from slipway.api.modelrollout import ModelRollout, Routing
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.runtime.resources import Object, is_deleting

RouteOf = Callable[[str, str], Object | None]
"""The weighted route of a rollout, by its name and namespace."""


def rival(rollout: ModelRollout, others: Iterable[Object], route_of: RouteOf) -> str | None:
    """The rollout that has the requests which this one wants, as `NAMESPACE/NAME`.

    :param others: rollouts with the same path; this one may be among them
    """

    def rank(meta: Mapping[str, Any], routing: Routing) -> tuple[bool, str, str, str]:
        route = route_of(meta["name"], meta["namespace"])
        has_it = route is not None and not is_deleting(route) and gw.serves(route, routing)
        return (not has_it, meta.get("creationTimestamp") or "", meta["namespace"], meta["name"])

    found = [
        (each["metadata"], Routing.model_validate(each["spec"]["routing"]))
        for each in others
        if not is_deleting(each) and each["metadata"].get("uid") != rollout.metadata.uid
    ]
    found = [(meta, routing) for meta, routing in found if gw.overlap(routing, rollout.spec.routing)]
    if not found:
        return None
    own = rollout.metadata
    mine: dict[str, Any] = {"name": own.name, "namespace": own.namespace, "creationTimestamp": own.creation_timestamp}
    first = min(rank(meta, routing) for meta, routing in found)
    return f"{first[2]}/{first[3]}" if first < rank(mine, rollout.spec.routing) else None


def sentence(routing: Routing, rival: str) -> str:
    """What the one who came second is told."""
    hosts = f" on {', '.join(routing.hostnames)}" if routing.hostnames else ""
    return (
        f"spec.routing.path: {routing.path}{hosts} belongs to ModelRollout {rival}, which had it first:"
        " choose another path or other host names."
    )


def obstacle(snapshot: Snapshot) -> Trouble | None:
    """Why a rollout that no request can reach makes no servers; None where it has a route or can get one."""
    if snapshot.conflict is None or snapshot.route is not None:
        return None
    return Trouble(Reason.PathTaken, sentence(snapshot.rollout.spec.routing, snapshot.conflict))
