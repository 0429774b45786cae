"""Declared consumers: what is written for Envoy Gateway, when the route is open, and what is said about it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from unit.modelrollout.world import NAME, NAMESPACE, World

from slipway.adapters import access
from slipway.adapters import gateway as gw
from slipway.adapters.access import Guarded, Issuer, Limit, Standing
from slipway.adapters.secrets import SecretData
from slipway.adapters.usage import ConsumerUsage, Usage, parse
from slipway.api.modelrollout import Routing
from slipway.api.platform import GatewayParentRef
from slipway.contracts.callers import carried
from slipway.controllers.modelrollout import Doors
from slipway.runtime.controller import Apply, Delete
from slipway.runtime.errors import Unavailable
from slipway.runtime.resources import (
    BACKEND_TRAFFIC_POLICY,
    HTTP_ROUTE,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    SECURITY_POLICY,
    Object,
    ResourceType,
)

PARENT = GatewayParentRef(namespace="slipway-system", name="models")
ROUTED = gw.Routed(NAMESPACE, NAME, "flight-delays", PARENT, Routing(path="/delays"))
GUARDED = Guarded(NAMESPACE, NAME, "flight-delays")
ISSUER = Issuer("https://kubernetes.default.svc", '{"keys":[]}')
SITE: Object = {
    "name": "site",
    "apiKey": {"secretRefs": [{"name": "site-key"}]},
    "purpose": "Warns of delays.",
    "contact": "site@example.com",
}
CREWS: Object = {
    "name": "crews",
    "serviceAccountRef": {"namespace": "crews", "name": "planner"},
    "purpose": "Plans crews.",
    "contact": "#crews",
}
KEY, NEW_KEY = "k" * 20, "n" * 20


# ---- manifests -------------------------------------------------------------------------------------------------------
def test_a_guarded_route_takes_callers_with_a_key_to_a_rule_of_their_own() -> None:
    route = access.guard(gw.weighted_route(ROUTED, [("a", 95), ("b", 5)]), "Both")
    plain, keys = route["spec"]["rules"]
    assert (keys["name"], plain["name"]) == ("model-keys", "model")
    assert keys["matches"][0]["headers"] == [{"type": "RegularExpression", "name": "x-api-key", "value": ".+"}]
    assert "headers" not in plain["matches"][0]
    assert keys["backendRefs"] == plain["backendRefs"], "the same clusters, so the same statistics"
    assert all("filters" not in each for rule in (keys, plain) for each in rule["backendRefs"])
    assert access.key_rules(route) == [(NAME, "model-keys")]
    assert gw.weights_of(route) == {"a": 95, "b": 5}


def test_no_model_server_gets_a_token() -> None:
    route = access.guard(gw.weighted_route(ROUTED, [("a", 100)]), "Both")
    for rule, foreign in zip(route["spec"]["rules"], ("x-slipway-consumer", "x-slipway-subject"), strict=True):
        modifiers = [each for each in rule["filters"] if each["type"] == "RequestHeaderModifier"]
        assert [each["requestHeaderModifier"]["remove"] for each in modifiers] == [["authorization", foreign]]


def test_a_modifier_of_headers_that_is_there_is_kept() -> None:
    route = gw.weighted_route(ROUTED, [("a", 100)])
    mine = {"set": [{"name": "x-a", "value": "1"}], "remove": ["x-b"]}
    route["spec"]["rules"][0]["filters"].append({"type": "RequestHeaderModifier", "requestHeaderModifier": mine})
    (rule,) = access.guard(route, "Tokens")["spec"]["rules"]
    (modifier,) = [each for each in rule["filters"] if each["type"] == "RequestHeaderModifier"]
    assert modifier["requestHeaderModifier"] == {**mine, "remove": ["x-b", "authorization", "x-slipway-consumer"]}


@pytest.mark.parametrize(
    ("credentials", "headers"),
    [
        ("Both", ["x-slipway-subject", "x-slipway-consumer"]),
        ("Keys", ["x-slipway-consumer"]),
        ("Tokens", ["x-slipway-subject"]),
    ],
)
def test_a_transformer_is_told_who_called_in_place_of_the_credential(credentials: Any, headers: list[str]) -> None:
    route = access.guard(gw.weighted_route(ROUTED, [("a", 100)]), credentials, passed_on=True)
    changed = [rule["filters"][-1]["requestHeaderModifier"] for rule in route["spec"]["rules"]]
    told = [{"name": "authorization", "value": f"SlipwayConsumer %REQ({header})%"} for header in headers]
    assert [each["set"] for each in changed] == [[each] for each in told]
    assert all("authorization" not in each["remove"] for each in changed), "what is set is written over"
    foreign = {"x-slipway-subject", "x-slipway-consumer"}
    assert [set(each["remove"]) for each in changed] == [foreign - {header} for header in headers]


def test_nobody_is_named_to_explainers_nor_where_nobody_is_admitted() -> None:
    explained = replace(ROUTED, transformed=True, explained=True)
    aside = gw.Aside("b", headers=(("x-preview", "Exact", "yes"),))
    route = access.guard(gw.weighted_route(explained, [("a", 100)], aside=aside), "Both", passed_on=True)
    named = {
        rule["name"]: any(each.get("requestHeaderModifier", {}).get("set") for each in rule["filters"])
        for rule in route["spec"]["rules"]
    }
    assert {name for name, is_told in named.items() if is_told} == {"model", "model-keys", "headers", "headers-keys"}
    closed = access.guard(gw.weighted_route(explained, [("a", 100)]), "Neither", passed_on=True)
    assert all("set" not in rule["filters"][-1]["requestHeaderModifier"] for rule in closed["spec"]["rules"])


def test_only_rollouts_with_a_transformer_name_callers_a_second_time() -> None:
    for transformer in (None, {"image": "registry.example.com/prepare:{version}"}):
        world = Guards([SITE], serving={"transformer": transformer} if transformer else {})
        world.serve_first()
        routes = world.stores.list(HTTP_ROUTE, NAMESPACE)
        assert len(routes) == 2, "the pin route too"
        texts = [str(each["spec"]).count("SlipwayConsumer %REQ(x-slipway-consumer)%") for each in routes]
        assert texts == ([1, 1] if transformer else [0, 0])


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        ("SlipwayConsumer site.0", "site.0"),
        ("SlipwayConsumer ", None),
        ("SlipwayConsumer", None),
        ("Bearer site.0", None),
        ("", None),
        (None, None),
    ],
)
def test_a_caller_is_read_from_the_gateways_own_scheme_only(header: str | None, caller: str | None) -> None:
    assert carried(header) == caller


def test_a_closed_route_asks_every_caller_for_what_nobody_knows() -> None:
    route = access.guard(gw.weighted_route(ROUTED, [("a", 100)]), "Both", closed="secret")
    for rule in route["spec"]["rules"]:
        assert {"type": "Exact", "name": "x-slipway-closed", "value": "secret"} in rule["matches"][0]["headers"]
    assert access.closed_by(route) == "secret"
    assert gw.weights_of(route) == {"a": 100}, "weights are remembered in a closed route too"
    assert access.closed_by(gw.weighted_route(ROUTED, [("a", 100)])) == ""


def test_a_pin_route_is_guarded_and_still_pins() -> None:
    pin = access.guard(gw.pin_route(ROUTED, "delays-1", "sesame"), "Both")
    assert gw.token_of(pin) == "sesame"
    assert [len(rule["matches"][0]["headers"]) for rule in pin["spec"]["rules"]] == [1, 2]


@pytest.mark.parametrize(
    ("credentials", "issuer", "expected"),
    [
        ("Both", ISSUER, {"jwt", "authorization"}),
        ("Tokens", ISSUER, {"jwt", "authorization"}),
        ("Both", None, {"apiKeyAuth"}),
        ("Tokens", None, {"authorization"}),
        ("Keys", ISSUER, {"apiKeyAuth"}),
        ("Neither", None, {"authorization"}),
    ],
)
def test_the_policy_of_all_routes(credentials: Any, issuer: Issuer | None, expected: set[str]) -> None:
    spec = access.policy(GUARDED, credentials, issuer, ["system:serviceaccount:crews:planner"])["spec"]
    assert set(spec) - {"targetSelectors", "mergeType"} == expected
    assert spec["targetSelectors"][0]["matchLabels"] == {"slipway.dev/modelrollout": NAME}
    assert spec.get("authorization", {"defaultAction": "Deny"})["defaultAction"] == "Deny"


def test_a_token_must_be_meant_for_the_rollout_and_come_in_a_header() -> None:
    spec = access.policy(GUARDED, "Both", ISSUER, ["system:serviceaccount:crews:planner"])["spec"]
    (provider,) = spec["jwt"]["providers"]
    assert provider["audiences"] == ["slipway.dev/flights/delays"]
    assert provider["issuer"] == ISSUER.url
    assert set(provider["extractFrom"]) == {"headers"}
    assert provider["claimToHeaders"] == [{"header": "x-slipway-subject", "claim": "sub"}]
    assert "optional" not in spec["jwt"]
    assert "failOpen" not in spec["jwt"]
    (rule,) = spec["authorization"]["rules"]
    (claim,) = rule["principal"]["jwt"]["claims"]
    assert claim == {"name": "sub", "valueType": "String", "values": ["system:serviceaccount:crews:planner"]}


def test_keys_are_taken_from_one_header_and_taken_out() -> None:
    spec = access.keys_policy(GUARDED, [(NAME, "model-keys")])["spec"]
    assert spec["apiKeyAuth"] == {
        "credentialRefs": [{"group": "", "kind": "Secret", "name": "delays-slipway-keys"}],
        "extractFrom": [{"headers": ["x-api-key"]}],
        "forwardClientIDHeader": "x-slipway-consumer",
        "sanitize": True,
    }
    assert spec["targetRefs"][0]["sectionName"] == "model-keys"


def test_limits_merge_into_the_gateways_policy_so_that_clusters_keep_their_names() -> None:
    spec = access.limits(GUARDED, [Limit("x-slipway-consumer", access.key_pattern("site"), 5, "Second")])["spec"]
    assert spec["mergeType"] == "StrategicMerge"
    (rule,) = spec["rateLimit"]["local"]["rules"]
    assert rule["limit"] == {"requests": 5, "unit": "Second"}
    (header,) = rule["clientSelectors"][0]["headers"]
    assert header == {"type": "RegularExpression", "name": "x-slipway-consumer", "value": r"^site\.[0-9]+$"}
    assert set(spec) == {"targetSelectors", "mergeType", "rateLimit"}, "anything else splits the clusters"


def test_only_proxies_and_the_operator_reach_model_servers() -> None:
    spec = access.network_policy(GUARDED, PARENT, ["envoy"], "slipway-system")["spec"]
    assert spec["podSelector"] == {"matchLabels": {"slipway.dev/model": NAME}}
    proxies, operator = spec["ingress"][0]["from"]
    assert proxies["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "envoy"}
    assert proxies["podSelector"]["matchLabels"]["gateway.envoyproxy.io/owning-gateway-name"] == "models"
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "slipway-operator"}


# ---- what the gateway says -------------------------------------------------------------------------------------------
def stated(status: str, generation: int = 1, reason: str = "", **reference: str) -> Object:
    condition = {
        "type": "Accepted",
        "status": status,
        "observedGeneration": generation,
        "reason": reason,
        "message": "m",
    }
    ancestor = {"namespace": "slipway-system", "name": "models", **reference}
    return {"ancestorRef": ancestor, "conditions": [condition]}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], Standing("Pending")),
        ([stated("True", 2)], Standing("Accepted", True)),
        ([stated("True", 1)], Standing("Accepted", False)),
        ([stated("True", 2, name="others")], Standing("Pending")),
        ([stated("True", 2), stated("False", 2, sectionName="http")], Standing("Refused", True, "m")),
        ([stated("False", 2, reason="Conflicted")], Standing("Refused", True, "m")),
        ([stated("False", 2, reason="TargetNotFound")], Standing("Pending", True, "m")),
    ],
)
def test_what_the_gateway_says_about_a_policy(entries: list[Object], expected: Standing) -> None:
    policy = {"metadata": {"namespace": NAMESPACE, "generation": 2}, "status": {"ancestors": entries}}
    assert access.standing(policy, PARENT) == expected


# ---- a rollout in a played world -------------------------------------------------------------------------------------
class PlayedSecrets:
    """Secrets by name; `read` is what the real one does."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {"site-key": {"apiKey": KEY}}

    def bind(self, client: object) -> None:
        pass

    async def read(self, _namespace: str, name: str) -> SecretData | None:
        return SecretData("1", self.values[name]) if name in self.values else None


class PlayedCluster:
    """The API server's issuer and types."""

    def __init__(self) -> None:
        self.issues: Issuer | None = ISSUER
        self.served = True

    async def issuer(self, _source: object) -> Issuer | None:
        return self.issues

    async def serves(self, _source: object, _type: ResourceType) -> bool:
        return self.served


class PlayedUsage:
    """Totals by caller."""

    def __init__(self) -> None:
        self.totals: dict[str, Usage] = {}
        self.servers: tuple[str, ...] = ()
        self.known: dict[str, Usage] = {}

    def read(self, _owner: str, servers: tuple[str, ...], known: Mapping[str, Usage]) -> Mapping[str, Usage]:
        self.servers = servers
        self.known = self.known or dict(known)
        return {**self.known, **self.totals}

    def forget(self, _owner: str) -> None:
        self.totals = {}


class Guards(World):
    """A world whose gateway may enforce policies, and in which Secrets are stored."""

    def __init__(self, consumers: list[Object], **spec: Any) -> None:
        self.secrets, self.cluster, self.usage = PlayedSecrets(), PlayedCluster(), PlayedUsage()
        self.enforcing = True
        self.refusal, self.limits_refusal = "", ""
        super().__init__({"consumers": consumers, **spec})
        self.doors = Doors("slipway-system", self.secrets, self.cluster, self.usage)  # type: ignore[arg-type]
        self.controller = self.new_controller()

    def execute(self, action: object) -> None:
        kinds = {each.kind: each for each in (SECURITY_POLICY, BACKEND_TRAFFIC_POLICY, NETWORK_POLICY)}
        if isinstance(action, Apply) and action.manifest["kind"] in kinds:
            self._put(kinds[action.manifest["kind"]], dict(action.manifest))
        elif isinstance(action, Apply) and action.manifest["kind"] == "Secret":
            self.secrets.values[action.manifest["metadata"]["name"]] = {
                name: b64decode(value).decode() for name, value in action.manifest["data"].items()
            }
        else:
            super().execute(action)

    def _put(self, type_: ResourceType, manifest: Object) -> None:
        live = self.get(type_, manifest["metadata"]["name"])
        meta = {**(live["metadata"] if live else {}), **manifest["metadata"]}
        meta["labels"] = {**meta["labels"], "slipway.dev/modelrollout": NAME}
        wanted = {**(live or {}), **manifest, "metadata": meta}
        if live is None or wanted != live:
            self.put(type_, wanted)

    def let_gateway_work(self) -> None:
        super().let_gateway_work()
        if not self.enforcing or not self.stores.list(HTTP_ROUTE, NAMESPACE):
            return
        for policy in self.stores.list(SECURITY_POLICY, NAMESPACE):
            self._state(
                SECURITY_POLICY, policy, self.refusal or ("" if self._finds_targets(policy) else "TargetNotFound")
            )
        for policy in self.stores.list(BACKEND_TRAFFIC_POLICY, NAMESPACE):
            self._state(BACKEND_TRAFFIC_POLICY, policy, self.limits_refusal)

    def _state(self, type_: ResourceType, policy: Object, refusal: str) -> None:
        entry = stated("False" if refusal else "True", policy["metadata"]["generation"], refusal)
        if (policy.get("status") or {}).get("ancestors") != [entry]:
            self.put(type_, {**policy, "status": {"ancestors": [entry]}})

    def _finds_targets(self, policy: Object) -> bool:
        rules = {
            (route["metadata"]["name"], rule["name"])
            for route in self.stores.list(HTTP_ROUTE, NAMESPACE)
            for rule in route["spec"]["rules"]
        }
        return {(each["name"], each["sectionName"]) for each in policy["spec"].get("targetRefs", ())} <= rules

    @property
    def closed(self) -> bool:
        route = self.get(HTTP_ROUTE, NAME)
        return route is not None and bool(access.closed_by(route))

    def names(self, type_: ResourceType) -> list[str]:
        return [each["metadata"]["name"] for each in self.stores.list(type_, NAMESPACE)]


def test_a_new_route_is_closed_until_the_gateway_has_accepted_the_policies() -> None:
    world = Guards([SITE, CREWS])
    world.enforcing = False
    world.add_version(1)
    world.run(60)
    assert world.closed
    assert world.condition("AccessEnforced") == (
        "False",
        "PolicyPending",
        "The gateway has not accepted SecurityPolicy delays-access yet. Nobody is served until it does.",
    )
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[:2] == ("False", "PolicyPending")
    world.enforcing = True
    world.run(10)
    assert not world.closed
    assert world.condition("AccessEnforced") == (
        "True",
        "PoliciesAccepted",
        "The gateway turns undeclared callers away.",
    )
    assert (world.condition("Ready") or ("",))[0] == "True"


def test_every_kind_of_policy_is_there_and_goes_with_the_consumers() -> None:
    world = Guards([{**SITE, "rateLimit": {"requests": 5, "per": "Second"}}, CREWS])
    world.serve_first()
    assert world.names(SECURITY_POLICY) == ["delays-access", "delays-access-keys"]
    assert world.names(BACKEND_TRAFFIC_POLICY) == ["delays-limits"]
    assert world.names(NETWORK_POLICY) == ["delays-access"]
    assert world.secrets.values["delays-slipway-keys"] == {"site.0": KEY}
    pins = [each for each in world.stores.list(HTTP_ROUTE, NAMESPACE) if each["metadata"]["name"] != NAME]
    assert all(access.key_rules(each) for each in pins), "a pin route asks for credentials too"
    keys = world.get(SECURITY_POLICY, "delays-access-keys")
    assert keys is not None
    assert len(keys["spec"]["targetRefs"]) == 1 + len(pins)
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": []}})
    world.run(3)
    for type_ in (SECURITY_POLICY, BACKEND_TRAFFIC_POLICY, NETWORK_POLICY):
        assert world.names(type_) == []
    assert world.condition("AccessEnforced") is None
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    assert [each["name"] for each in route["spec"]["rules"]] == ["model"]


def test_a_steady_state_writes_nothing() -> None:
    world = Guards([SITE, CREWS])
    world.serve_first()
    world.run(60)
    before = world.writes
    world.run(60)
    assert world.writes == before


def test_a_first_service_account_turns_no_caller_with_a_key_away() -> None:
    world = Guards([SITE])
    world.serve_first()
    assert world.names(SECURITY_POLICY) == ["delays-access"]
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": [SITE, CREWS]}})
    for _ in range(10):
        world.step()
        general = world.get(SECURITY_POLICY, "delays-access") or {}
        apart = world.get(SECURITY_POLICY, "delays-access-keys")
        assert "apiKeyAuth" in general["spec"] or (
            apart is not None and access.standing(apart, PARENT).word == "Accepted"
        )
    assert "jwt" in (world.get(SECURITY_POLICY, "delays-access") or {})["spec"]
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": [SITE]}})
    world.run(5)
    assert world.names(SECURITY_POLICY) == ["delays-access", "delays-access-keys"], "rules for keys stay"
    assert "apiKeyAuth" in (world.get(SECURITY_POLICY, "delays-access") or {})["spec"]


def test_old_and_new_key_are_valid_together_and_then_the_new_one_alone() -> None:
    world = Guards([SITE])
    world.serve_first()
    world.secrets.values["site-key-2"] = {"apiKey": NEW_KEY}
    both = {"secretRefs": [{"name": "site-key"}, {"name": "site-key-2"}]}
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": [{**SITE, "apiKey": both}]}})
    world.run(2)
    assert world.secrets.values["delays-slipway-keys"] == {"site.0": KEY, "site.1": NEW_KEY}
    assert not world.closed
    only = {"secretRefs": [{"name": "site-key-2"}]}
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": [{**SITE, "apiKey": only}]}})
    world.run(2)
    assert world.secrets.values["delays-slipway-keys"] == {"site.0": NEW_KEY}
    assert not world.closed


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "there is no such Secret"),
        ("", "is missing or empty"),
        ("short", "fewer than 16 characters"),
        ("ä" * 20, "no header can carry"),
        (f"{KEY}\n", "another entry has already"),
    ],
)
def test_a_credential_that_cannot_be_used_is_told_and_keeps_out_one_consumer_only(value: str | None, says: str) -> None:
    other = {**SITE, "name": "app", "apiKey": {"secretRefs": [{"name": "app-key"}]}}
    world = Guards([SITE, other])
    if value is not None:
        world.secrets.values["app-key"] = {"apiKey": value}
    world.serve_first()
    assert world.secrets.values["delays-slipway-keys"] == {"site.0": KEY}
    word, reason, message = world.condition("ConsumersAdmitted") or ("", "", "")
    assert (word, reason) == ("False", "CredentialUnusable")
    assert says in message
    assert "Consumer app" in message
    assert KEY not in message


def test_where_the_types_are_not_served_nobody_is_unless_a_person_says_so() -> None:
    world = Guards([SITE])
    world.cluster.served = False
    world.add_version(1)
    world.run(40)
    assert world.closed
    assert world.names(SECURITY_POLICY) == []
    assert (world.condition("AccessEnforced") or ("", ""))[:2] == ("False", "EnforcementUnsupported")
    assert (world.condition("Ready") or ("", ""))[:2] == ("False", "EnforcementUnsupported")
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"accessControl": {"whenUnsupported": "Serve"}}})
    world.run(5)
    assert not world.closed
    word, _, message = world.condition("AccessEnforced") or ("", "", "")
    assert word == "False"
    assert "Everybody is served" in message
    assert (world.condition("Ready") or ("",))[0] == "True"


def test_an_open_route_stays_open_for_a_moment_when_consumers_are_declared() -> None:
    world = Guards([])
    world.serve_first()
    world.enforcing = False
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": [SITE]}})
    world.run(20)
    assert not world.closed
    world.run(20)
    assert world.closed


def test_a_policy_of_somebody_else_on_the_same_routes_closes_them() -> None:
    world = Guards([SITE])
    world.serve_first()
    world.refusal = "Conflicted"
    world.run(3)
    assert world.closed
    assert (world.condition("AccessEnforced") or ("", ""))[:2] == ("False", "PolicyRefused")


def test_limits_that_the_gateway_refuses_are_told_and_nobody_is_turned_away() -> None:
    world = Guards([{**SITE, "rateLimit": {"requests": 5, "per": "Second"}}])
    world.serve_first()
    assert world.condition("RateLimitsEnforced") is None
    world.limits_refusal = "Conflicted"
    world.run(3)
    word, reason, message = world.condition("RateLimitsEnforced") or ("", "", "")
    assert (word, reason) == ("False", "PolicyRefused")
    assert message.startswith("The gateway refuses BackendTrafficPolicy delays-limits: ")
    assert not world.closed
    assert (world.condition("Ready") or ("",))[0] == "True"
    world.limits_refusal = ""
    world.run(3)
    assert world.condition("RateLimitsEnforced") is None


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 3], ids=["at once", "three seconds later"])
def test_rules_that_go_with_a_candidate_close_no_route(delay: int) -> None:
    steps = [
        {"name": "half", "setWeight": 50},
        {"name": "wait", "pause": {"for": "60s"}},
        {"name": "everyone", "setWeight": 100},
    ]
    routing = {"path": "/delays", "stickiness": {"cookie": "visit", "for": "1h"}}
    world = Guards([SITE, CREWS], routing=routing, steps=steps)
    first = world.serve_first()
    world.run(60)
    world.add_version(2)
    rules: set[str] = set()
    ended = 0
    for _ in range(400):
        before = len(_rules(world))
        world.step()
        rules |= _rules(world)
        assert not world.closed
        if len(_rules(world)) < before:  # the gateway has seen the route and not yet the policy
            policy = world.get(SECURITY_POLICY, "delays-access-keys")
            assert policy is not None
            older = stated("False", policy["metadata"]["generation"] - 1, "TargetNotFound")
            world.put(SECURITY_POLICY, {**policy, "status": {"ancestors": [older]}})
            world.enforcing, ended = False, delay
        elif ended:
            ended -= 1
        else:
            world.enforcing = True
    assert {"session-stable-keys", "session-candidate-keys"} <= rules
    assert not {"session-stable-keys", "session-candidate-keys"} & _rules(world)
    assert world.status.stable != first
    assert (world.condition("AccessEnforced") or ("",))[0] == "True"


def _rules(world: Guards) -> set[str]:
    route = world.get(HTTP_ROUTE, NAME)
    return {each["name"] for each in route["spec"]["rules"]} if route else set()


@pytest.mark.slow
def test_the_route_stays_open_while_the_gateway_takes_in_a_newer_policy() -> None:
    world = Guards([SITE, CREWS])
    world.serve_first()
    world.enforcing = False
    more = {**CREWS, "name": "more", "serviceAccountRef": {"namespace": "crews", "name": "more"}}
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"consumers": [SITE, CREWS, more]}})
    world.run(120)
    assert not world.closed, "the policy that was accepted is still in force"


def test_without_an_issuer_no_service_account_is_let_in_and_keys_go_on() -> None:
    world = Guards([SITE, CREWS])
    world.cluster.issues = None
    world.serve_first()
    policy = world.get(SECURITY_POLICY, "delays-access")
    assert policy is not None
    assert "jwt" not in policy["spec"]
    assert "who signs tokens" in (world.condition("ConsumersAdmitted") or ("", "", ""))[2]
    assert not world.closed


def test_readers_of_stored_predictions_are_not_callers() -> None:
    reader = {**CREWS, "access": ["PredictionLog"]}
    world = Guards([reader])
    world.serve_first()
    policy = world.get(SECURITY_POLICY, "delays-access")
    assert policy is not None
    assert policy["spec"]["authorization"] == {"defaultAction": "Deny"}
    assert world.status.consumers is None


@pytest.mark.slow
def test_what_consumers_did_is_written_at_most_every_half_minute() -> None:
    world = Guards([SITE, CREWS])
    world.serve_first()
    seen = datetime(2026, 11, 23, 9, tzinfo=UTC)
    written = set()
    for number in range(90):
        world.usage.totals = {
            "site.0": Usage(number, 0, seen),
            "site.1": Usage(10, 1, None),
            "system:serviceaccount:crews:planner": Usage(3, 0, None),
            "stranger": Usage(7, 7, None),
        }
        world.step()
        written.add(world.status.consumers_at)
    assert len(written) <= 4
    rows = {each.name: each for each in world.status.consumers or ()}
    assert set(rows) == {"site", "crews"}
    assert rows["site"].requests >= 40
    assert rows["site"].errors == 1
    assert rows["site"].last_seen == "2026-11-23T09:00:00Z"


# ---- numbers of servers ----------------------------------------------------------------------------------------------
TEXT = """# HELP slipway_consumer_requests_total Prediction requests
slipway_consumer_requests_total{code="200",consumer="site.0"} 5.0
slipway_consumer_requests_total{code="503",consumer="site.0"} 2.0
slipway_consumer_requests_total{code="200",consumer="system:serviceaccount:crews:planner"} 1.0
slipway_request_seconds_count{status="200"} 9.0
"""


def test_a_servers_counters_are_read_by_caller() -> None:
    assert parse(TEXT) == {"site.0": (7, 2), "system:serviceaccount:crews:planner": (1, 0)}


def test_totals_go_on_over_servers_that_come_and_go() -> None:
    usage = ConsumerUsage(now=lambda: datetime(2026, 11, 23, tzinfo=UTC))
    watched = _watch(usage, {"site": Usage(100, 3)})
    usage._add(watched, "http://a", {"site.0": (40, 0)})
    assert watched.totals == {"site": Usage(100, 3)}, "what was counted before our time is in the status or lost"
    watched.rounds = 1
    usage._add(watched, "http://a", {"site.0": (45, 1)})
    usage._add(watched, "http://b", {"site.0": (2, 0)})
    assert watched.totals["site.0"].requests == 7
    usage._add(watched, "http://a", {"site.0": (3, 0)})
    assert watched.totals["site.0"].requests == 10, "a server that began anew has counted from zero"
    assert watched.totals["site.0"].errors == 1


def _watch(usage: ConsumerUsage, known: dict[str, Usage]) -> Any:
    from slipway.adapters.usage import _Watched

    watched = _Watched((), 0.0, dict(known))
    usage._watched["o"] = watched
    return watched


def test_without_consumers_nothing_outside_of_memory_is_asked() -> None:
    world = World()

    class Refusing(PlayedCluster):
        async def serves(self, _source: object, _type: ResourceType) -> bool:
            raise Unavailable("nobody asked")

    world.doors = Doors("x", None, Refusing())  # type: ignore[arg-type]
    world.controller = world.new_controller()
    world.serve_first()
    plan = world.plan()
    assert not [each for each in plan.actions if isinstance(each, Delete)]
