"""A failed answer is asked for once more, of the other version: a patch of the gateway's own Envoy configuration.

Envoy can choose another of a rule's weighted clusters for a retry (`refresh_cluster_on_retry`, since 1.39). No stable
API of Envoy Gateway says so, but an EnvoyPatchPolicy can, where an administrator has enabled those. It stands in the
namespace of the Gateway that it changes, and names the rules of one rollout.

A try that is followed by another one is in no counter of answers; `slipway.adapters.envoy_stats` finds it among the
other version's retries, so that a candidate's errors stay its errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from slipway.adapters.access import Standing
from slipway.api.platform import GatewayParentRef
from slipway.runtime.conditions import find
from slipway.runtime.resources import Object

CODES: Final = (500, 502, 503, 504)
TRY_TIMEOUT: Final = "15s"
"""How long a try may take: half of a request's time, so that there is as much left for the other version."""
BODY_LIMIT: Final = 2**20
"""Bytes of a request that the gateway keeps in order to send it again; a longer one is sent once."""
POLICY: Final[Mapping[str, Any]] = {
    "retry_on": "connect-failure,reset,retriable-status-codes",
    "retriable_status_codes": list(CODES),
    "num_retries": 1,
    "per_try_timeout": TRY_TIMEOUT,
    "refresh_cluster_on_retry": True,
}
"""Envoy's retry policy of a rule."""
_TABLES: Final = ("HTTP", "HTTPS")


def policy_name(namespace: str, rollout: str) -> str:
    """Name of the patch in the Gateway's namespace, which all rollouts share."""
    digest = sha256(f"{namespace}/{rollout}".encode()).hexdigest()[:10]
    return f"slipway-retry-{namespace}-{rollout}"[:200].rstrip("-.") + f"-{digest}"


def listeners_of(gateway: Mapping[str, Any], parent: GatewayParentRef) -> tuple[str, ...]:
    """Listeners after which Envoy Gateway names the routing tables that a rollout's routes are in.

    Listeners for plain HTTP on one port share the table of the first of them.
    """
    listeners = [each for each in gateway.get("spec", {}).get("listeners") or () if each["protocol"] in _TABLES]
    first = {each["port"]: str(each["name"]) for each in reversed(listeners) if each["protocol"] == "HTTP"}
    mine = [each for each in listeners if parent.section_name in (None, each["name"])]
    return tuple(dict.fromkeys(first[each["port"]] if each["protocol"] == "HTTP" else each["name"] for each in mine))


def policy(
    namespace: str, rollout: str, parent: GatewayParentRef, listeners: Sequence[str], route: Mapping[str, Any]
) -> Object:
    """The patch of the rules that have another version to ask.

    :param listeners: of the Gateway, see `listeners_of`
    :param route: the weighted route, as it is written
    """
    numbers = [number for number, rule in enumerate(route["spec"]["rules"]) if len(rule["backendRefs"]) > 1]
    patches = [
        {
            "type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": f"{parent.namespace}/{parent.name}/{listener}",
            "operation": operation,
        }
        for listener in listeners
        for number in numbers
        for operation in _operations(namespace, rollout, number)
    ]
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyPatchPolicy",
        "metadata": {"name": policy_name(namespace, rollout), "namespace": parent.namespace},
        "spec": {
            "type": "JSONPatch",
            "targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": parent.name},
            "jsonPatches": patches,
        },
    }


def _operations(namespace: str, rollout: str, rule: int) -> tuple[Object, Object]:
    # Envoy Gateway names a route by namespace, name, rule, match and host name; all host names are meant.
    prefix = re.escape(f"httproute/{namespace}/{rollout}/rule/{rule}/match/").replace("/", r"\/")
    routes = f"..routes[?(@.name =~ /^{prefix}/)]"
    return (
        {"op": "add", "jsonPath": f"{routes}.route", "path": "retry_policy", "value": dict(POLICY)},
        {"op": "add", "jsonPath": routes, "path": "request_body_buffer_limit", "value": BODY_LIMIT},
    )


def standing(found: Mapping[str, Any], parent: GatewayParentRef) -> Standing:
    """Whether the gateway has taken the patch in."""
    generation = found["metadata"].get("generation", 0)
    conditions: Sequence[Mapping[str, Any]] = [
        condition
        for entry in (found.get("status") or {}).get("ancestors") or ()
        if entry["ancestorRef"]["name"] == parent.name
        for kind in ("Accepted", "Programmed")
        if (condition := find(entry.get("conditions") or (), kind)) is not None
    ]
    newest = bool(conditions) and all(each.get("observedGeneration", 0) >= generation for each in conditions)
    for each in conditions:
        if each["status"] != "True":
            return Standing("Refused", newest, str(each.get("message", "")))
    return Standing("Accepted", newest) if len(conditions) > 1 else Standing()
