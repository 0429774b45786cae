"""A failed answer is asked for once more, of the other version: a patch of the gateway's own Envoy configuration.

Envoy can choose another of a rule's weighted clusters for a retry (`refresh_cluster_on_retry`, since 1.39). No stable
API of Envoy Gateway says so, but an EnvoyPatchPolicy can, where an administrator has enabled those. It stands in the
namespace of the Gateway that it changes, and names the rules of one rollout.

A try that is followed by another one counts as `retry.upstream_rq_5xx` of its cluster, and not as `upstream_rq_5xx`:
`slipway.adapters.envoy_stats` adds both up, so that a candidate's errors stay its errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipway.adapters.access import KEYS_RULE, Standing
from slipway.adapters.gateway import MODEL_ROUTE_RULE
from slipway.api.platform import GatewayParentRef
from slipway.runtime.conditions import find
from slipway.runtime.resources import Object, label_value

CODES: Final = (500, 502, 503, 504)
_RULES = (MODEL_ROUTE_RULE, f"{MODEL_ROUTE_RULE}-{KEYS_RULE}")


def policy_name(namespace: str, rollout: str) -> str:
    """Name of the patch in the Gateway's namespace, which all rollouts share."""
    return label_value(f"slipway-retry-{namespace}-{rollout}")


def policy(namespace: str, rollout: str, parent: GatewayParentRef, listener: str, route: Mapping[str, Any]) -> Object:
    """The patch of the rules that split requests.

    :param listener: of the Gateway, at which clients arrive
    :param route: the weighted route, as it is written
    """
    numbers = [
        number for number, rule in enumerate(route["spec"]["rules"]) if rule.get("name", MODEL_ROUTE_RULE) in _RULES
    ]
    patches = [_patch(namespace, rollout, parent, listener, number) for number in numbers]
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


def _patch(namespace: str, rollout: str, parent: GatewayParentRef, listener: str, rule: int) -> Object:
    # Envoy Gateway names a route by namespace, name, rule, match and host name; all host names are meant.
    prefix = re.escape(f"httproute/{namespace}/{rollout}/rule/{rule}/match/").replace("/", r"\/")
    value = {
        "retry_on": "connect-failure,reset,retriable-status-codes",
        "retriable_status_codes": list(CODES),
        "num_retries": 1,
        "refresh_cluster_on_retry": True,
    }
    return {
        "type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": f"{parent.namespace}/{parent.name}/{listener}",
        "operation": {
            "op": "add",
            "jsonPath": f"..routes[?(@.name =~ /^{prefix}/)].route",
            "path": "retry_policy",
            "value": value,
        },
    }


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
