"""Envoy Gateway's policies for a rollout with declared consumers, and the form that its routes take then.

Envoy's filters for API keys and for tokens each turn away whoever does not have theirs, so they cannot stand on one
route. Where both are declared, a caller that sends an API key takes a rule of its own:

    rule `model-keys`   header x-api-key is there     policy ROLLOUT-access-keys, on the rule
    rule `model`        everybody else                policy ROLLOUT-access, on every route of the rollout

The second policy selects routes by the rollout's label, so that no route of it can be forgotten: pin routes too.

The filter for keys writes the key's name into `x-slipway-consumer`, the one for tokens the ServiceAccount into
`x-slipway-subject`, over whatever the caller sent. (Not into one header: Envoy's filter for tokens comes second and
first of all takes its own headers out of every request.) Each rule takes out the header that the other one trusts, and
the credential: neither a key nor a token reaches a model server. Where a transformer stands before the model server,
the caller's name takes the credential's place (`slipway.contracts.callers`).

Policies merge into those that an administrator put on the Gateway, rather than replace them. For the traffic policy
that is also what keeps one Envoy cluster a Service: without `mergeType`, Envoy Gateway gives every route its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from slipway.adapters.gateway import EXPLAIN_HEADER_RULE, EXPLAIN_RULE, MODEL_ROUTE_RULE
from slipway.adapters.kserve import MODEL_LABEL, PROJECT_LABEL
from slipway.api.platform import GatewayParentRef
from slipway.contracts.callers import CARRIER_HEADER, CLIENT_HEADER, SCHEME, SUBJECT_HEADER
from slipway.runtime.conditions import find
from slipway.runtime.resources import MODEL_ROLLOUT, Object, label_value, owner_label

KEY_HEADER: Final = "x-api-key"
CLOSED_HEADER: Final = "x-slipway-closed"
KEYS_RULE: Final = "keys"
"""What follows a rule's name in the name of the rule for callers with a key."""
PROVIDER: Final = "kubernetes"
PROXY_LABELS: Final = ("gateway.envoyproxy.io/owning-gateway-name", "gateway.envoyproxy.io/owning-gateway-namespace")
OPERATOR_LABELS: Final = {"app.kubernetes.io/name": "slipway-operator"}

_GATEWAY_API = "gateway.networking.k8s.io"
_POLICY_API = "gateway.envoyproxy.io/v1alpha1"
_SUBJECT = "system:serviceaccount:"
_EXPLAINING = frozenset({EXPLAIN_RULE, EXPLAIN_HEADER_RULE})
"""An explainer asks the model many times for one request: these would all count for the caller."""


Credentials = Literal["Keys", "Tokens", "Both", "Neither"]
"""What callers may prove who they are with."""


@dataclass(frozen=True)
class Issuer:
    """Who signs the tokens of the cluster's ServiceAccounts.

    :param url: the issuer in the tokens
    :param keys: its public keys, a JSON Web Key Set as text
    """

    url: str
    keys: str


@dataclass(frozen=True)
class Limit:
    """At most so many requests of one caller in a period.

    :param header: which header names it
    :param identity: what the header says, as a regular expression
    """

    header: str
    identity: str
    requests: int
    unit: str


@dataclass(frozen=True)
class Guarded:
    """What every policy of a rollout has in common."""

    namespace: str
    rollout: str
    project: str


@dataclass(frozen=True)
class Standing:
    """What the gateway says about a policy.

    :param word: Accepted; Refused; Pending: it has not said anything about it, in whatever form
    :param newest: whether that is said of the policy's newest form
    """

    word: Literal["Accepted", "Refused", "Pending"] = "Pending"
    newest: bool = False
    message: str = ""


# ---- names and identities --------------------------------------------------------------------------------------------
def policy_name(rollout: str) -> str:
    """The policy of every route of a rollout; also the name of its NetworkPolicy."""
    return f"{rollout}-access"


def keys_policy_name(rollout: str) -> str:
    """The policy of the rules for callers with a key."""
    return f"{rollout}-access-keys"


def limits_name(rollout: str) -> str:
    """The policy with rate limits."""
    return f"{rollout}-limits"


def keys_secret_name(rollout: str) -> str:
    """The Secret from which the gateway takes the keys of all consumers."""
    return f"{rollout}-slipway-keys"


def audience(namespace: str, rollout: str) -> str:
    """What tokens must be meant for: one that was sent to a model cannot be used anywhere else."""
    return f"slipway.dev/{namespace}/{rollout}"


def client_id(consumer: str, index: int) -> str:
    """How the gateway calls one of a consumer's keys; every key needs a name of its own."""
    return f"{consumer}.{index}"


def subject(namespace: str, name: str) -> str:
    """How tokens call a ServiceAccount."""
    return f"{_SUBJECT}{namespace}:{name}"


def key_pattern(consumer: str) -> str:
    """All keys of one consumer, as a regular expression."""
    return rf"^{re.escape(consumer)}\.[0-9]+$"


def subject_pattern(namespace: str, name: str) -> str:
    """One ServiceAccount, as a regular expression."""
    return f"^{re.escape(subject(namespace, name))}$"


# ---- policies --------------------------------------------------------------------------------------------------------
def keys_secret(guarded: Guarded, data: Mapping[str, str]) -> Object:
    """Keys by client id; `data` is encoded as the API stores it."""
    return {**_object(guarded, "v1", "Secret", keys_secret_name(guarded.rollout)), "type": "Opaque", "data": dict(data)}


def policy(guarded: Guarded, credentials: Credentials, issuer: Issuer | None, subjects: Sequence[str]) -> Object:
    """The policy of every route: tokens where ServiceAccounts may call, else keys, else nobody.

    :param issuer: None while it is not known: then no token is believed
    :param subjects: ServiceAccounts that may call
    """
    spec: Object = {"targetSelectors": [_every_route(guarded)], "mergeType": "StrategicMerge"}
    if credentials in ("Tokens", "Both") and issuer is not None and subjects:
        spec["jwt"] = {"providers": [_provider(guarded, issuer)]}
        allowed = {"name": "sub", "valueType": "String", "values": sorted(subjects)}
        rule = {
            "name": "declared",
            "action": "Allow",
            "principal": {"jwt": {"provider": PROVIDER, "claims": [allowed]}},
        }
        spec["authorization"] = {"defaultAction": "Deny", "rules": [rule]}
    elif credentials in ("Keys", "Both"):
        spec["apiKeyAuth"] = _api_keys(guarded)
    else:
        spec["authorization"] = {"defaultAction": "Deny"}
    return {**_object(guarded, _POLICY_API, "SecurityPolicy", policy_name(guarded.rollout)), "spec": spec}


def keys_policy(guarded: Guarded, rules: Sequence[tuple[str, str]]) -> Object:
    """The policy of rules for callers with a key.

    :param rules: names of routes and of their rules
    """
    targets = [
        {"group": _GATEWAY_API, "kind": "HTTPRoute", "name": route, "sectionName": rule} for route, rule in rules
    ]
    spec = {"targetRefs": targets, "mergeType": "StrategicMerge", "apiKeyAuth": _api_keys(guarded)}
    return {**_object(guarded, _POLICY_API, "SecurityPolicy", keys_policy_name(guarded.rollout)), "spec": spec}


def limits(guarded: Guarded, rules: Sequence[Limit]) -> Object:
    """The policy with a bucket a consumer, at each proxy."""
    spec = {
        "targetSelectors": [_every_route(guarded)],
        "mergeType": "StrategicMerge",
        "rateLimit": {"local": {"rules": [_limit(each) for each in rules]}},
    }
    return {**_object(guarded, _POLICY_API, "BackendTrafficPolicy", limits_name(guarded.rollout)), "spec": spec}


def network_policy(
    guarded: Guarded,
    parent: GatewayParentRef,
    proxy_namespaces: Sequence[str],
    operator_namespace: str,
    *,
    among_themselves: bool = False,
) -> Object:
    """Only the gateway's proxies and the operator reach the model servers.

    :param among_themselves: whether transformers and explainers, which have the same label, reach them too
    """
    proxies = dict(zip(PROXY_LABELS, (parent.name, parent.namespace), strict=True))
    sources = [_peer(namespace, proxies) for namespace in sorted(set(proxy_namespaces))]
    own = [{"podSelector": {"matchLabels": {MODEL_LABEL: guarded.rollout}}}] if among_themselves else []
    spec = {
        "podSelector": {"matchLabels": {MODEL_LABEL: guarded.rollout}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [*sources, *own, _peer(operator_namespace, OPERATOR_LABELS)]}],
    }
    return {**_object(guarded, "networking.k8s.io/v1", "NetworkPolicy", policy_name(guarded.rollout)), "spec": spec}


def _peer(namespace: str, labels: Mapping[str, str]) -> Object:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _object(guarded: Guarded, api_version: str, kind: str, name: str) -> Object:
    labels = {PROJECT_LABEL: label_value(guarded.project)}
    meta = {"name": name, "namespace": guarded.namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta}


def _every_route(guarded: Guarded) -> Object:
    owner = {owner_label(MODEL_ROLLOUT.kind): label_value(guarded.rollout)}
    return {"group": _GATEWAY_API, "kind": "HTTPRoute", "matchLabels": owner}


def _api_keys(guarded: Guarded) -> Object:
    return {
        "credentialRefs": [{"group": "", "kind": "Secret", "name": keys_secret_name(guarded.rollout)}],
        "extractFrom": [{"headers": [KEY_HEADER]}],
        "forwardClientIDHeader": CLIENT_HEADER,
        "sanitize": True,
    }


def _provider(guarded: Guarded, issuer: Issuer) -> Object:
    return {
        "name": PROVIDER,
        "issuer": issuer.url,
        "audiences": [audience(guarded.namespace, guarded.rollout)],
        # Read by the operator: the API server answers it to authenticated callers only, which no proxy is.
        "localJWKS": {"type": "Inline", "inline": issuer.keys},
        "claimToHeaders": [{"header": SUBJECT_HEADER, "claim": "sub"}],
        # Not from the URL, which is Envoy's other default: URLs are logged.
        "extractFrom": {"headers": [{"name": "Authorization", "valuePrefix": "Bearer "}]},
    }


def _limit(limit: Limit) -> Object:
    header = {"type": "RegularExpression", "name": limit.header, "value": limit.identity}
    return {"clientSelectors": [{"headers": [header]}], "limit": {"requests": limit.requests, "unit": limit.unit}}


# ---- routes ----------------------------------------------------------------------------------------------------------
def guard(route: Object, credentials: Credentials, *, closed: str = "", passed_on: bool = False) -> Object:
    """A route in the form that the policies need.

    :param credentials: Both: callers with a key take rules of their own
    :param closed: a value that nobody knows: every rule asks for it, so that nobody is served; empty: open
    :param passed_on: whether a transformer is to tell the model server who called
    """
    trusted = {"Keys": CLIENT_HEADER, "Neither": ""}.get(credentials, SUBJECT_HEADER)
    rules: list[Object] = []
    for rule in route["spec"]["rules"]:
        asking = _closed(rule, closed)
        # The general rule keeps its number, by which the gateway names clusters of copies; Gateway API prefers the rule
        # that asks for more headers wherever it stands.
        rules.append(_trusting(asking, trusted, passed_on))
        if credentials == "Both":
            rules.append(_trusting(_for_keys(asking), CLIENT_HEADER, passed_on))
    return {**route, "spec": {**route["spec"], "rules": rules}}


def key_rules(route: Object) -> list[tuple[str, str]]:
    """Rules of a guarded route for callers with a key, as names of route and rule."""
    name = str(route["metadata"]["name"])
    return [(name, rule["name"]) for rule in route["spec"]["rules"] if rule["name"].endswith(f"-{KEYS_RULE}")]


def _for_keys(rule: Object) -> Object:
    header = {"type": "RegularExpression", "name": KEY_HEADER, "value": ".+"}
    return {**rule, "name": f"{rule.get('name', MODEL_ROUTE_RULE)}-{KEYS_RULE}", "matches": _with(rule, header)}


def _closed(rule: Object, value: str) -> Object:
    if not value:
        return rule
    return {**rule, "matches": _with(rule, {"type": "Exact", "name": CLOSED_HEADER, "value": value})}


def _with(rule: Object, header: Object) -> list[Object]:
    return [{**match, "headers": [*(match.get("headers") or ()), header]} for match in rule["matches"]]


def _trusting(rule: Object, header: str, passed_on: bool) -> Object:
    """The rule that takes the credential out of requests, and headers that name a caller, but for a trusted one.

    :param header: which one the rule's policy writes; empty: none
    """
    if header and passed_on and rule["name"].removesuffix(f"-{KEYS_RULE}") not in _EXPLAINING:
        # The gateway fills in the other header's value. It is written over whatever the caller sent.
        name = {"name": CARRIER_HEADER, "value": f"{SCHEME} %REQ({header})%"}
        changed: Object = {"set": [name], "remove": []}
    else:
        changed = {"set": [], "remove": [CARRIER_HEADER]}
    changed["remove"] += [each for each in (CLIENT_HEADER, SUBJECT_HEADER) if each != header]
    return _changing(rule, changed)


def _changing(rule: Object, changed: Object) -> Object:
    """The rule that also sets and removes headers of requests; it has one modifier of headers at most."""
    filters = rule.get("filters") or []
    others = [each for each in filters if each["type"] != "RequestHeaderModifier"]
    modifier: Object = next((each["requestHeaderModifier"] for each in filters if each not in others), {})
    merged = {**modifier, **{how: [*(modifier.get(how) or ()), *each] for how, each in changed.items() if each}}
    return {**rule, "filters": [*others, {"type": "RequestHeaderModifier", "requestHeaderModifier": merged}]}


def closed_by(route: Mapping[str, Any]) -> str:
    """The value that a closed route asks for; empty for an open one."""
    for rule in route["spec"].get("rules") or ():
        for match in rule.get("matches") or ():
            for header in match.get("headers") or ():
                if header["name"].lower() == CLOSED_HEADER:
                    return str(header["value"])
    return ""


# ---- what the gateway says -------------------------------------------------------------------------------------------
_WAITING = frozenset({"TargetNotFound"})
"""Reasons of a refusal that go away once the gateway has seen the newest route."""


def standing(policy: Mapping[str, Any], parent: GatewayParentRef) -> Standing:
    """What the gateway says about a policy. Every entry of our Gateway counts: a merged policy has one a listener."""
    generation = policy["metadata"].get("generation", 0)
    stated = [
        condition
        for entry in (policy.get("status") or {}).get("ancestors") or ()
        if _is_ours(entry["ancestorRef"], parent, policy["metadata"].get("namespace", ""))
        and (condition := find(entry.get("conditions") or (), "Accepted")) is not None
    ]
    newest = bool(stated) and all(each.get("observedGeneration", 0) >= generation for each in stated)
    refusals = [each for each in stated if each["status"] != "True"]
    if any(each.get("reason") not in _WAITING for each in refusals):
        return Standing("Refused", newest, str(refusals[0].get("message", "")))
    if refusals or not stated:
        return Standing("Pending", newest, str(refusals[0].get("message", "")) if refusals else "")
    return Standing("Accepted", newest)


def _is_ours(reference: Mapping[str, Any], parent: GatewayParentRef, namespace: str) -> bool:
    listener = reference.get("sectionName")
    return (
        reference["name"] == parent.name
        and reference.get("namespace", namespace) == parent.namespace
        and (parent.section_name is None or listener in (None, parent.section_name))
    )
