"""Gateway API: a rollout's weighted route, the pin routes of its versions, and what the gateway says about them.

The weighted route has no filter on a backend reference and a pin route stands beside it for every version, so that
Envoy Gateway (with `mergeBackends`) keeps one Envoy cluster a version, under one name, from before the version's first
request until after its last one. Without that, clusters come and go with the list of references: requests are lost.

Requests with certain headers have a rule of their own in the weighted route, behind the general one: Gateway API
prefers the rule with more headers wherever it stands, and the general rule keeps its number. By that number Envoy
Gateway names the cluster of a mirror, which is never merged: copies are counted under a name of their own.

A pin route matches one header with a random value of 128 bits, made for this route and kept nowhere else: a client that
may not read HTTPRoutes of the namespace cannot pin itself to a version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipway.adapters.envoy_stats import cluster_name
from slipway.adapters.kserve import PORT, PROJECT_LABEL, entry_of, explainer_of, inference_service_of
from slipway.adapters.runtimes import GRPC, GRPC_PATH, PREDICT_PATHS
from slipway.api.modelrollout import ModelRollout, Routing
from slipway.api.platform import GatewayParentRef
from slipway.api.rollout_steps import HeaderMatch
from slipway.runtime.conditions import find
from slipway.runtime.resources import GROUP, Object, label_value

PIN_HEADER: Final = "x-slipway-pin"
REJECTED_ANNOTATION: Final = f"{GROUP}/rejected"
"""Names of rejected versions, on the weighted route: they outlive a lost status."""
MEMORY_ANNOTATION: Final = f"{GROUP}/orders"
"""What people ordered and still holds, on the weighted route: it outlives a lost status too."""
SESSION_ANNOTATION: Final = f"{GROUP}/session"
"""The candidate whose clients are kept and the seed of their cookies, on the weighted route."""
ENVOY_GATEWAY: Final = "gateway.envoyproxy.io/"
"""What names of Envoy Gateway's controllers begin with; an installation may have several."""
REQUEST_TIMEOUT: Final = "30s"
MODEL_ROUTE_RULE: Final = "model"
HEADER_ROUTE_RULE: Final = "headers"
EXPLAIN_RULE: Final = "explain"
EXPLAIN_HEADER_RULE: Final = "explain-headers"

Headers = tuple[tuple[str, str, str], ...]
"""Headers that a request must have, each as name, type of match and value, in Gateway API's words."""


@dataclass(frozen=True)
class Routed:
    """What every route of a rollout has in common.

    :param protocol: that clients speak
    :param transformed: whether requests enter a version by its transformer
    :param explained: whether versions have explainers
    """

    namespace: str
    rollout: str
    project: str
    parent: GatewayParentRef
    routing: Routing
    protocol: str = "v1"
    transformed: bool = False
    explained: bool = False

    def entry(self, service: str) -> str:
        """Name of the Service by which requests enter a version."""
        return entry_of(service, transformed=self.transformed)

    @property
    def server_path(self) -> str:
        """What the path prefix of clients becomes for servers: gRPC's is a part of its protocol."""
        return GRPC_PATH if self.protocol == GRPC else "/"

    @property
    def explain_path(self) -> str:
        """Where servers take requests for explanations."""
        return f"/v1/models/{self.rollout}:explain"


def routed_of(rollout: ModelRollout, parent: GatewayParentRef) -> Routed:
    """The routes of a rollout at a Gateway."""
    spec, meta = rollout.spec, rollout.metadata
    return Routed(
        namespace=str(meta.namespace),
        rollout=meta.name,
        project=spec.project_ref.name,
        parent=parent,
        routing=spec.routing,
        protocol=spec.serving.protocol,
        transformed=spec.serving.transformer is not None,
        explained=spec.serving.explainer is not None,
    )


@dataclass(frozen=True)
class Aside:
    """What a version gets beside its weight.

    :param service: its InferenceService
    :param copied: percent of all requests whose copies it gets
    :param headers: requests with these go to it
    """

    service: str
    copied: int = 0
    headers: Headers = ()


@dataclass(frozen=True)
class Acceptance:
    """What the gateway says about the newest form of a route.

    :param seen: the gateway has taken in the newest generation, so that its weights are in force
    :param accepted: seen, references resolved, servers there: weights may be raised
    :param reason: why not: the gateway's word
    :param message: why not: a sentence
    """

    seen: bool = False
    accepted: bool = False
    reason: str = ""
    message: str = ""


def cluster_of(rollout: ModelRollout, service: str) -> str:
    """The gateway's name for what a version answers."""
    serving = rollout.spec.serving
    entry = entry_of(service, transformed=serving.transformer is not None)
    protocol = "http2" if serving.protocol == GRPC else "http"
    return cluster_name(str(rollout.metadata.namespace), entry, PORT, protocol)


def pin_of(service: str, rollout: str) -> str:
    """Name of the pin route of an InferenceService: `ROLLOUT-pin-DIGEST10`."""
    return f"{rollout}-pin-{service.removeprefix(rollout + '-')}"


def weighted_route(
    routed: Routed,
    weights: Sequence[tuple[str, int]],
    rejected: Sequence[str] = (),
    aside: Aside | None = None,
    memory: str = "",
) -> Object:
    """The route that clients use.

    :param weights: InferenceServices and percents: the stable version first, then the candidate
    :param rejected: names of rejected ModelVersions, to be remembered
    :param aside: what the candidate gets beside its weight
    :param memory: further text to be remembered
    """
    match = {"path": {"type": "PathPrefix", "value": routed.routing.path}}
    manifest = _route(routed, routed.rollout, match, weights)
    rules = manifest["spec"]["rules"]
    if aside is not None and aside.copied:
        rules[0]["filters"].append(_mirror(routed, aside))
    if aside is not None and aside.headers:
        named = [{"name": name, "type": kind, "value": value} for name, kind, value in aside.headers]
        named_match = {**match, "headers": named}
        rules.append(_rule(routed, HEADER_ROUTE_RULE, named_match, [(aside.service, 1)]))
        if routed.explained:
            rules.append(_explain_rule(routed, EXPLAIN_HEADER_RULE, named_match, [(aside.service, 1)]))
    remembered = {REJECTED_ANNOTATION: " ".join(sorted(rejected)), MEMORY_ANNOTATION: memory}
    annotations = {name: text for name, text in remembered.items() if text}
    if annotations:
        manifest["metadata"]["annotations"] = annotations
    return manifest


def _mirror(routed: Routed, aside: Aside) -> Object:
    backend = {"group": "", "kind": "Service", "name": routed.entry(aside.service), "port": PORT}
    return {"type": "RequestMirror", "requestMirror": {"backendRef": backend, "percent": aside.copied}}


def headers(match: Iterable[HeaderMatch]) -> Headers:
    """Gateway API knows whole values and expressions; a prefix is an expression."""
    found = []
    for each in match:
        if each.exact is not None:
            found.append((each.name, "Exact", each.exact))
        elif each.prefix is not None:
            found.append((each.name, "RegularExpression", re.escape(each.prefix) + ".*"))
        elif each.regex is not None:
            found.append((each.name, "RegularExpression", each.regex))
    return tuple(found)


def mirror_cluster(namespace: str, rollout: str, rule: int = 0) -> str:
    """The Envoy cluster that Envoy Gateway makes for copies: named by the route, its rule, and the filter's place.

    Callers with a key may have a rule of their own, number 1, right behind the general one.
    """
    return f"httproute/{namespace}/{rollout}/rule/{rule}-mirror-1"


def pin_route(routed: Routed, service: str, token: str) -> Object:
    """The route that keeps a version's Envoy cluster alive."""
    match = {
        "path": {"type": "PathPrefix", "value": routed.routing.path},
        "headers": [{"type": "Exact", "name": PIN_HEADER, "value": token}],
    }
    return _route(routed, pin_of(service, routed.rollout), match, [(service, 1)])


def _route(routed: Routed, name: str, match: Object, weights: Sequence[tuple[str, int]]) -> Object:
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", **routed.parent.wire()}
    rules = [_rule(routed, MODEL_ROUTE_RULE, match, weights)]
    if routed.explained:
        rules.append(_explain_rule(routed, EXPLAIN_RULE, match, weights))
    spec: Object = {"parentRefs": [parent], "rules": rules}
    if routed.routing.hostnames:
        spec["hostnames"] = list(routed.routing.hostnames)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": name,
            "namespace": routed.namespace,
            "labels": {PROJECT_LABEL: label_value(routed.project)},
        },
        "spec": spec,
    }


def _rule(routed: Routed, name: str, match: Object, weights: Sequence[tuple[str, int]]) -> Object:
    references = [(routed.entry(service), weight) for service, weight in weights]
    rewritten = {"type": "ReplacePrefixMatch", "replacePrefixMatch": routed.server_path}
    return _rule_to(name, match, rewritten, references)


def _explain_rule(routed: Routed, name: str, match: Object, weights: Sequence[tuple[str, int]]) -> Object:
    """Explanations are asked for at one whole path, which Gateway API prefers to a prefix wherever its rule stands."""
    path = {"type": "Exact", "value": routed.routing.path + routed.explain_path}
    rewritten = {"type": "ReplaceFullPath", "replaceFullPath": routed.explain_path}
    references = [(explainer_of(service), weight) for service, weight in weights]
    return _rule_to(name, {**match, "path": path}, rewritten, references)


def _rule_to(name: str, match: Object, path: Object, references: Sequence[tuple[str, int]]) -> Object:
    return {
        "name": name,
        "matches": [match],
        # Rewritten for the rule: a rewrite in a backend reference gives it a cluster of its own.
        "filters": [
            {"type": "URLRewrite", "urlRewrite": {"path": path}},
        ],
        # Predictions are not retried: a retry hides a version's errors and doubles the load of a failing one.
        "timeouts": {"request": REQUEST_TIMEOUT},
        "backendRefs": [{"name": service, "port": PORT, "weight": weight} for service, weight in references],
    }


# ---- reading ---------------------------------------------------------------------------------------------------------
def weights_of(route: Mapping[str, Any]) -> dict[str, int]:
    """Weights by InferenceService, in the order of the references; of the general rule only."""
    return {
        inference_service_of(reference["name"]): int(reference.get("weight", 1))
        for rule in _rules(route, MODEL_ROUTE_RULE)
        for reference in rule.get("backendRefs") or ()
    }


def aside_of(route: Mapping[str, Any]) -> Aside | None:
    """What a version gets beside its weight; None for nothing."""
    mirrors = [each["requestMirror"] for rule in _rules(route, MODEL_ROUTE_RULE) for each in _mirrors(rule)]
    rules = [rule for rule in _rules(route, HEADER_ROUTE_RULE) if rule.get("backendRefs") and rule.get("matches")]
    backends = [each["backendRef"]["name"] for each in mirrors] + [each["backendRefs"][0]["name"] for each in rules]
    if not backends:
        return None
    return Aside(
        service=inference_service_of(backends[0]),
        copied=int(mirrors[0].get("percent", 100)) if mirrors else 0,
        headers=tuple(
            (each["name"], each.get("type", "Exact"), each["value"])
            for each in (rules[0]["matches"][0].get("headers") or () if rules else ())
        ),
    )


def references_of(route: Mapping[str, Any]) -> frozenset[str]:
    """InferenceServices that a route names anywhere: while it does, requests may reach them."""
    rules = route["spec"].get("rules") or ()
    backends = [each["name"] for rule in rules for each in rule.get("backendRefs") or ()]
    backends += [each["requestMirror"]["backendRef"]["name"] for rule in rules for each in _mirrors(rule)]
    return frozenset(inference_service_of(each) for each in backends)


def _rules(route: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rules = route["spec"].get("rules") or ()
    return [each for each in rules if each.get("name", MODEL_ROUTE_RULE) == name]


def _mirrors(rule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in rule.get("filters") or () if each["type"] == "RequestMirror"]


def token_of(pin: Mapping[str, Any]) -> str:
    """The value that a pin route matches; empty when somebody took it away."""
    for rule in pin["spec"].get("rules") or ():
        for match in rule.get("matches") or ():
            for header in match.get("headers") or ():
                if header["name"].lower() == PIN_HEADER:
                    return str(header["value"])
    return ""


def parent_of(route: Mapping[str, Any]) -> GatewayParentRef | None:
    """The Gateway that a route attaches to."""
    for reference in route["spec"].get("parentRefs") or ():
        if reference.get("namespace"):
            return GatewayParentRef.model_validate(reference)
    return None


def rejected_of(route: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of rejected ModelVersions that the weighted route remembers."""
    annotations = route["metadata"].get("annotations") or {}
    return tuple(str(annotations.get(REJECTED_ANNOTATION, "")).split())


def memory_of(route: Mapping[str, Any]) -> str:
    """The further text that the weighted route remembers; empty without any."""
    annotations = route["metadata"].get("annotations") or {}
    return str(annotations.get(MEMORY_ANNOTATION, ""))


def session_of(route: Mapping[str, Any]) -> str:
    """What the weighted route remembers of sessions, as `CANDIDATE SEED`; empty without any."""
    return str((route["metadata"].get("annotations") or {}).get(SESSION_ANNOTATION, ""))


def path_of(route: Mapping[str, Any]) -> str:
    """The path of a route's general rule; empty when somebody took it away."""
    matches = [match for rule in _rules(route, MODEL_ROUTE_RULE) for match in rule.get("matches") or ()]
    return str(((matches[0].get("path") or {}).get("value") or "") if matches else "")


def serves(route: Mapping[str, Any], routing: Routing) -> bool:
    """Whether a route has these host names and this path."""
    matches = [match for rule in route["spec"].get("rules") or () for match in rule.get("matches") or ()]
    found = [match.get("path") or {} for match in matches]
    paths = {path.get("value") for path in found if path.get("type") != "Exact"}
    return set(route["spec"].get("hostnames") or ()) == set(routing.hostnames) and paths == {routing.path}


def acceptance(route: Mapping[str, Any], parent: GatewayParentRef) -> Acceptance:
    """What the gateway says about the newest generation of a route."""
    entry = _parent_status(route, parent)
    if entry is None:
        return Acceptance(reason="Pending", message=f"Gateway {parent.namespace}/{parent.name} has not answered yet.")
    conditions = entry.get("conditions") or ()
    accepted, resolved = find(conditions, "Accepted") or {}, find(conditions, "ResolvedRefs") or {}
    # Envoy Gateway states this one only when a Service has no endpoints.
    available = find(conditions, "BackendsAvailable") or {"status": "True"}
    generation = route["metadata"].get("generation", 0)
    if min(accepted.get("observedGeneration", 0), resolved.get("observedGeneration", 0)) < generation:
        return Acceptance(reason="Pending", message="The gateway has not seen the newest weights yet.")
    seen = accepted["status"] == "True"
    partly = find(conditions, "PartiallyInvalid") or {}
    if partly.get("status") == "True":  # rules were dropped, or all of them are those of an earlier generation
        return Acceptance(reason=partly.get("reason", "Unknown"), message=partly.get("message", ""))
    for condition in (accepted, resolved, available):
        if condition["status"] != "True":
            reason, message = condition.get("reason", "Unknown"), condition.get("message", "")
            return Acceptance(seen=seen, reason=reason, message=message)
    return Acceptance(seen=True, accepted=True)


def controller_of(route: Mapping[str, Any], parent: GatewayParentRef) -> str:
    """The name of the controller that runs the Gateway, as it says on a route; empty until it does."""
    return str((_parent_status(route, parent) or {}).get("controllerName", ""))


def _parent_status(route: Mapping[str, Any], parent: GatewayParentRef) -> Mapping[str, Any] | None:
    own = route["metadata"].get("namespace")
    for entry in (route.get("status") or {}).get("parents") or ():
        reference = entry["parentRef"]
        if (
            reference["name"] == parent.name
            and reference.get("namespace", own) == parent.namespace
            and reference.get("sectionName") == parent.section_name
        ):
            return dict(entry)
    return None


def overlap(one: Routing, other: Routing) -> bool:
    """Whether two rollouts want the same requests. A more specific host name or longer path is no conflict: it wins."""
    same_hosts = set(one.hostnames) & set(other.hostnames) or (not one.hostnames and not other.hostnames)
    return one.path == other.path and bool(same_hosts)


def url(routed: Routed, gateway: Mapping[str, Any] | None) -> str | None:
    """Where clients send predictions; None while neither a host name nor the gateway's address is known."""
    listeners = (gateway or {}).get("spec", {}).get("listeners") or [{"protocol": "HTTP", "port": 80}]
    name = routed.parent.section_name
    listener = next((each for each in listeners if each.get("name") == name), listeners[0])
    addresses = ((gateway or {}).get("status") or {}).get("addresses") or ()
    hosts = [*routed.routing.hostnames, *(each["value"] for each in addresses)]
    if not hosts:
        return None
    secure = listener["protocol"] in ("HTTPS", "TLS")
    port = "" if listener["port"] == (443 if secure else 80) else f":{listener['port']}"
    if routed.protocol == GRPC:
        return f"{'grpcs' if secure else 'grpc'}://{hosts[0]}{port}"
    path = routed.routing.path + PREDICT_PATHS[routed.protocol].format(routed.rollout)
    return f"{'https' if secure else 'http'}://{hosts[0]}{port}{path}"
