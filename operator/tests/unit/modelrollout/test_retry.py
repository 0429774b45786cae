"""`rollback.retryOnStable`: when the gateway is patched, with what, and what is said where that cannot be."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from unit.modelrollout.test_access import PARENT, ROUTED, SITE, Guards, stated
from unit.modelrollout.world import NAME, NAMESPACE

from slipway.adapters import access, retry
from slipway.adapters import gateway as gw
from slipway.adapters.envoy_stats import Reading
from slipway.adapters.kserve import predictor_of
from slipway.contracts.sessions import Session
from slipway.controllers.modelrollout.retry_facts import RetryFacts
from slipway.controllers.modelrollout.sessions import keep
from slipway.runtime.controller import Apply, Delete
from slipway.runtime.errors import Forbidden
from slipway.runtime.resources import ENVOY_PATCH_POLICY, HTTP_ROUTE, MODEL_ROLLOUT, Key, Object

# ---- the patch -------------------------------------------------------------------------------------------------------
SESSION = Session("a" * 32, "delays", 3600, "/delays")


def routes_of(credentials: Any) -> Object:
    """Two versions, rules for their clients, and callers with keys or without."""
    route = gw.weighted_route(ROUTED, [("a", 95), ("b", 5)], aside=gw.Aside("b", headers=(("x-team", "Exact", "1"),)))
    general = route["spec"]["rules"][0]
    route["spec"]["rules"] += [
        keep("session-stable", general, SESSION, "v1", "a"),
        keep("session-candidate", general, SESSION, "v2", "b", "a"),
    ]
    return access.guard(route, credentials)


@pytest.mark.parametrize(("credentials", "rules"), [("Keys", [0, 3]), ("Both", [0, 1, 6, 7])])
def test_the_rules_that_have_another_version_to_ask_are_patched_whatever_their_host_names(
    credentials: Any, rules: list[int]
) -> None:
    manifest = retry.policy(NAMESPACE, NAME, PARENT, ("http", "tls"), routes_of(credentials))
    assert manifest["metadata"]["namespace"] == "slipway-system"
    patches = manifest["spec"]["jsonPatches"]
    for table in ("http", "tls"):
        mine = [each["operation"] for each in patches if each["name"] == f"slipway-system/models/{table}"]
        assert [each["path"] for each in mine] == ["retry_policy", "request_body_buffer_limit"] * len(rules)
        assert [each["value"] for each in mine[:2]] == [retry.POLICY, retry.BODY_LIMIT]
        for rule, operation in zip(rules, mine[::2], strict=True):
            path = re.fullmatch(r"\.\.routes\[\?\(@\.name =~ /(.*)/\)\]\.route", operation["jsonPath"])
            assert path is not None
            for host in ("*", "m_example_com"):
                assert re.match(path.group(1), f"httproute/flights/delays/rule/{rule}/match/0/{host}")
            for other in ("delays-pin-1/rule/0", f"delays/rule/{rule}0", f"delays2/rule/{rule}"):
                assert not re.match(path.group(1), f"httproute/flights/{other}/match/0/*")


def test_patches_of_all_rollouts_have_names_of_their_own() -> None:
    pairs = [("a-b", "c"), ("a", "b-c"), ("a", "b.c"), ("n" * 63, "r" * 253), ("n" * 63, "r" * 252)]
    names = {retry.policy_name(*pair) for pair in pairs}
    assert len(names) == len(pairs)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])", each) for each in names)


HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
SECOND = {"name": "second", "port": 80, "protocol": "HTTP", "hostname": "a.example.com"}
OTHER = {"name": "other", "port": 8080, "protocol": "HTTP"}
TLS = {"name": "tls", "port": 443, "protocol": "HTTPS"}
TCP = {"name": "tcp", "port": 9, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("listeners", "section", "tables"),
    [
        ([HTTP], None, ("http",)),
        ([HTTP, SECOND, TLS, OTHER, TCP], None, ("http", "tls", "other")),
        ([HTTP, SECOND, TLS], "second", ("http",)),
        ([HTTP, TLS], "tls", ("tls",)),
        ([TCP], None, ()),
        ([], None, ()),
    ],
    ids=["one", "all", "one port, one table", "by name", "no table", "no listener"],
)
def test_the_routing_tables_of_a_gateway(listeners: list[Object], section: str | None, tables: tuple[str, ...]) -> None:
    parent = PARENT.model_copy(update={"section_name": section})
    assert retry.listeners_of({"spec": {"listeners": listeners}}, parent) == tables


def both(accepted: str, programmed: str | None) -> Object:
    entry = stated(accepted, 2)
    if programmed:
        entry["conditions"].append({**entry["conditions"][0], "type": "Programmed", "status": programmed})
    return {"metadata": {"generation": 2}, "status": {"ancestors": [entry]}}


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (both("True", "True"), "Accepted"),
        (both("True", None), "Pending"),
        (both("True", "False"), "Refused"),
        (both("False", None), "Refused"),
        ({"metadata": {"generation": 2}}, "Pending"),
    ],
)
def test_what_the_gateway_says_about_the_patch(found: Object, word: str) -> None:
    assert retry.standing(found, PARENT).word == word


# ---- a rollout -------------------------------------------------------------------------------------------------------
class Patched(Guards):
    """A world in which the gateway can be patched."""

    def __init__(self, consumers: list[Object], **spec: Any) -> None:
        self.patch: Object | None = None
        self.verdict: tuple[str, str | None] = ("True", "True")
        self.allowed = True
        super().__init__(consumers, rollback={"retryOnStable": True}, **spec)
        self._io.live = self._live  # type: ignore[method-assign]
        counted = self.gateway.read
        self.gateway.read = lambda owner, interest: self._hide(counted(owner, interest))  # type: ignore[method-assign]
        self.order: list[str] = []

    def _hide(self, reading: Reading) -> Reading:
        """As Envoy counts while it is patched: a failure of one cluster is an answer of the other, and no more."""
        if self.patch is None:
            return reading
        hidden = {}
        for (cluster, length), stats in reading.windows.items():
            others = [each for (name, at), each in reading.windows.items() if name != cluster and at == length]
            repeated = sum(each.failed for each in others)
            own = stats.requests - stats.failed + repeated
            hidden[cluster, length] = replace(stats, requests=own, failed=0, repeated=repeated)
        return replace(reading, windows=hidden)

    async def _live(self, key: Key) -> Object | None:
        assert key == ENVOY_PATCH_POLICY.key(retry.policy_name(NAMESPACE, NAME), "slipway-system")
        if not self.allowed:
            raise Forbidden(403, "Forbidden", "no")
        return self.patch

    def execute(self, action: object) -> None:
        self.order += [action.manifest["kind"]] if isinstance(action, Apply) else []
        if isinstance(action, Apply) and action.manifest["kind"] == "EnvoyPatchPolicy":
            assert not action.owned, "it stands in another namespace"
            meta = {**action.manifest["metadata"], "uid": "patch", "generation": 2}
            self.patch = {**action.manifest, "metadata": meta, "status": both(*self.verdict)["status"]}
        elif isinstance(action, Delete) and action.key.type == ENVOY_PATCH_POLICY:
            assert action.uid == "patch"
            self.patch = None
        else:
            super().execute(action)


@pytest.mark.slow
def test_the_gateway_is_patched_while_requests_are_split() -> None:
    world = Patched([])
    world.serve_first()
    assert world.patch is None
    assert world.condition("RetryOnStable") is None
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(2)
    assert world.patch is not None
    assert (world.condition("RetryOnStable") or ("",))[0] == "True"
    assert "EnvoyPatchPolicy" not in world.order[: world.order.index("HTTPRoute")]
    assert world.order[world.order.index("EnvoyPatchPolicy") + 1] == "HTTPRoute", "before the weights, in one pass"
    world.run_until("Healthy")
    world.run(3)
    assert world.patch is None
    assert world.condition("RetryOnStable") is None


def test_a_failing_candidate_is_rolled_back_all_the_same() -> None:
    world = Patched([])
    world.serve_first()
    second = world.add_version(2, failing=60)
    world.run_until("Healthy")
    world.run(3)
    rejected = [(each.name, each.reason) for each in world.status.rejected or ()]
    assert rejected == [(second, "ChecksFailed")]
    assert world.patch is None


def test_a_kept_client_of_the_candidate_has_the_stable_version_to_fall_back_on() -> None:
    sticky = {"path": "/delays", "stickiness": {"cookie": "delays", "for": "1h"}}
    world = Patched([], routing=sticky)
    first = world.serve_first()
    second = world.add_version(2)
    world.run_until("Analyzing")
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    weights = {
        rule["name"]: [(each["name"], each["weight"]) for each in rule["backendRefs"]]
        for rule in route["spec"]["rules"]
    }
    one, other = (predictor_of(world.service(each)) for each in (first, second))
    assert weights["session-stable"] == [(one, 1)]
    assert weights["session-candidate"] == [(other, 999_999), (one, 1)]
    world.allowed = False
    world.run(2)
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    assert [len(each["backendRefs"]) for each in route["spec"]["rules"]] == [2, 1, 1], "nobody would be asked instead"


@pytest.mark.parametrize(
    ("obstacle", "says"),
    [
        ("not served", "does not serve EnvoyPatchPolicy"),
        ("not allowed", "rbac.envoyPatchPolicies=true"),
        ("disabled", "The gateway does not repeat failed requests: m"),
    ],
)
def test_where_it_cannot_be_the_rollout_goes_on_and_says_so(obstacle: str, says: str) -> None:
    world = Patched([])
    world.cluster.served = obstacle != "not served"
    world.allowed = obstacle != "not allowed"
    if obstacle == "disabled":
        world.verdict = ("False", None)
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(2)
    word, reason, message = world.condition("RetryOnStable") or ("", "", "")
    assert (word, reason) == ("False", "RetryUnsupported")
    assert says in message
    world.run_until("Healthy")


def test_nothing_is_left_of_a_rollout_that_is_deleted() -> None:
    world = Patched([])
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(2)
    assert world.patch is not None
    obj = world.rollout
    world.put(MODEL_ROLLOUT, {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": world.now.isoformat()}})
    world.run(30)
    assert world.patch is None


def test_rollouts_that_do_not_want_it_ask_nothing() -> None:
    world = Guards([SITE])
    world.serve_first()  # its client is None: a question would fail
    assert world.observe().retry == RetryFacts()
