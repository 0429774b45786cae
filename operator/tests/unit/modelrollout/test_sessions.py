"""Sessions: the cookie that servers set, and the rules that keep clients on their version."""

from __future__ import annotations

import re

import pytest
from unit.modelrollout.world import NAME, World

from slipway.adapters.gateway import weights_of
from slipway.contracts.sessions import HEADER, Session, parse
from slipway.runtime.resources import HTTP_ROUTE, Object

STICKY = {"path": "/delays", "hostnames": ["models.example.com"], "stickiness": {"cookie": "delays", "for": "1h"}}
SESSION = Session("a" * 32, "delays", 3600, "/delays")


# ---- the contract between gateway and server -------------------------------------------------------------------------
def test_what_the_gateway_says_is_what_the_server_reads() -> None:
    assert parse(SESSION.header()) == SESSION


@pytest.mark.parametrize(
    "header", ["", "seed", "seed; name=a", "; name=a; seconds=1; path=/", "s; name=a; seconds=x; path=/"]
)
def test_anything_else_sets_no_cookie(header: str) -> None:
    assert parse(header) is None


def test_a_cookie_says_nothing_about_the_version_that_can_be_guessed() -> None:
    assert SESSION.value("v1") != SESSION.value("v2")
    assert SESSION.value("v1") != Session("b" * 32, "delays", 3600, "/delays").value("v1")
    assert "v1" not in SESSION.cookie("v1")
    assert SESSION.cookie("v1").endswith("; Max-Age=3600; Path=/delays; HttpOnly; SameSite=Lax")


# ---- rules -----------------------------------------------------------------------------------------------------------
def rules_of(world: World) -> dict[str, Object]:
    route = world.get(HTTP_ROUTE, NAME)
    return {rule["name"]: rule for rule in route["spec"]["rules"]} if route else {}


def told(rule: Object) -> str | None:
    """What servers are told about sessions by a rule."""
    (modifier,) = [each["requestHeaderModifier"] for each in rule["filters"] if each["type"] == "RequestHeaderModifier"]
    found = [each["value"] for each in modifier.get("set", ()) if each["name"] == HEADER]
    assert found or modifier["remove"] == [HEADER], "no client tells servers about sessions"
    return found[0] if found else None


def test_clients_are_kept_while_there_is_a_candidate_with_requests() -> None:
    world = World({"routing": STICKY})
    first = world.serve_first()
    assert list(rules_of(world)) == ["model"]
    assert told(rules_of(world)["model"]) is None
    second = world.add_version(2)
    world.run_until("Analyzing")
    rules = rules_of(world)
    assert list(rules) == ["model", "session-stable", "session-candidate"]
    session = parse(told(rules["model"]) or "")
    assert session is not None
    for name, version in (("session-stable", first), ("session-candidate", second)):
        (header,) = rules[name]["matches"][0]["headers"]
        assert header["name"] == "cookie"
        mine = f"{session.name}={session.value(version)}"
        for cookies in (mine, f"a=b; {mine}", f"{mine}; c=d", f"a=b; {mine}; c=d"):
            assert re.fullmatch(header["value"], cookies), cookies
        for cookies in (f"x{mine}", f"{mine}0", f"{session.name}=", "a=b"):
            assert not re.fullmatch(header["value"], cookies), cookies
        assert weights_of({"spec": {"rules": [{**rules[name], "name": "model"}]}}) == {world.service(version): 1}
        assert told(rules[name]) is None
    assert world.weights() == {world.service(first): 95, world.service(second): 5}, (
        "weights are those of the rule model"
    )
    world.run_until("Healthy")
    world.run(5)
    assert list(rules_of(world)) == ["model"], "no version is kept that is no candidate any more"


def test_the_seed_lasts_as_long_as_the_candidacy() -> None:
    world = World({"routing": STICKY})
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    before = told(rules_of(world)["model"])
    writes = world.writes
    for _ in range(5):
        world.let_kserve_work()
        world.let_gateway_work()
        world.reconcile()
    assert told(rules_of(world)["model"]) == before
    assert world.writes == writes, "a steady route is not written"
    world.run_until("Healthy")
    world.add_version(3)
    world.run_until("Analyzing")
    after = told(rules_of(world)["model"])
    assert after is not None
    assert after != before


def test_a_failing_candidate_keeps_nobody() -> None:
    world = World({"routing": STICKY})
    world.serve_first()
    world.add_version(2, failing=60)
    world.run_until("Healthy")
    world.run(2)
    assert list(rules_of(world)) == ["model"]


def test_without_stickiness_routes_are_as_before() -> None:
    world = World()
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    assert list(rules_of(world)) == ["model"]
    assert [each["type"] for each in rules_of(world)["model"]["filters"]] == ["URLRewrite"]
