"""Rollouts behind a gateway that is not Envoy Gateway: what routes alone can do works, and what they cannot is said."""

from __future__ import annotations

from typing import Any

import pytest
from unit.modelrollout.test_access import CREWS, Guards
from unit.modelrollout.test_retry import Patched
from unit.modelrollout.world import CHECKS, World

from slipway.adapters import gateway as gw
from slipway.adapters.envoy_stats import Interest, Reading
from slipway.adapters.measurements import Answer
from slipway.api.platform import GatewayParentRef
from slipway.runtime.resources import HTTP_ROUTE, Object

OTHER = "example.com/other-gateway"
PARENT = GatewayParentRef(namespace="slipway-system", name="models")
STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "watch", "pause": {"for": "20s"}},
    {"name": "everyone", "setWeight": 100},
]


def behind(world: World, controller: str = OTHER) -> World:
    """The world behind another gateway: it takes routes as all do, and has no Envoy that counts."""
    envoy = world.let_gateway_work

    def let_gateway_work() -> None:
        envoy()
        for obj in world.stores.list(HTTP_ROUTE):
            for entry in (obj.get("status") or {}).get("parents", ()):
                entry["controllerName"] = controller

    def read(owner: str, interest: Interest) -> Reading:  # noqa: ARG001 - a protocol's
        return Reading()

    world.let_gateway_work = let_gateway_work  # type: ignore[method-assign]
    world.gateway.read = read  # type: ignore[method-assign]
    return world


def test_weights_need_nothing_but_routes() -> None:
    world = behind(World({"steps": STEPS, "checks": []}))
    world.serve_first()
    second = world.add_version(2)
    seen = []
    for _ in range(80):
        world.step()
        seen.append(world.gateway.in_force.get(world.service(second), 0))
    assert list(dict.fromkeys(seen)) == [0, 30, 100]
    assert world.status.stable == second
    assert world.condition("StatisticsAvailable") is None, "nothing is measured there, so nothing is missing"


def test_copies_need_nothing_but_routes() -> None:
    steps = [{"name": "shadow", "mirror": {"percent": 50, "for": "10s"}}, STEPS[-1]]
    world = behind(World({"steps": steps, "checks": []}))
    world.serve_first()
    second = world.add_version(2)
    copied = set()
    for _ in range(60):
        world.step()
        copied.add(world.gateway.aside.copied if world.gateway.aside else 0)
    assert copied == {0, 50}
    assert world.status.stable == second


@pytest.mark.slow
def test_a_check_at_the_gateway_is_told_at_once_and_is_never_a_success() -> None:
    world = behind(World({"steps": [STEPS[0], {"name": "judge", "analyze": {"for": "5s"}}], "checks": CHECKS[:1]}))
    world.serve_first()
    word, reason, message = world.condition("StatisticsAvailable") or ("", "", "")
    assert (word, reason) == ("False", "NoStatistics")
    assert "Gateway slipway-system/models is run by example.com/other-gateway" in message
    assert "check success, source Gateway, stays Inconclusive" in message
    assert "an AnalysisTemplate whose provider is prometheus" in message
    world.add_version(2)
    world.run(120)
    assert world.status.step is not None
    assert world.status.step.name == "judge"
    assert [each.verdict for each in world.status.checks or ()] == ["Inconclusive"]


def test_prometheus_judges_instead() -> None:
    world = behind(World({"steps": STEPS, "checks": [], "analysis": {"templates": [{"name": "errors"}]}}))
    prometheus = {"address": "http://prometheus:9090", "query": "x"}
    metric = {"name": "errors", "interval": "2s", "provider": {"prometheus": prometheus}}
    world.add_template("errors", {**metric, "successCondition": "result < 0.01"})
    world.probes.values["errors"] = [Answer(0.0), Answer(0.5)]
    first = world.serve_first()
    second = world.add_version(2)
    world.run(60)
    assert [(each.name, each.reason) for each in world.status.rejected or ()] == [(second, "AnalysisFailed")]
    assert world.gateway.in_force == {world.service(first): 100}


@pytest.mark.parametrize(
    "controller", ["gateway.envoyproxy.io/gatewayclass-controller", "gateway.envoyproxy.io/team-a"]
)
def test_envoy_gateway_may_have_several_controllers(controller: str) -> None:
    world = behind(World(), controller)
    world.serve_first()
    assert world.condition("StatisticsAvailable") is None
    assert world.observe().other_gateway == ""


def test_consumers_cannot_be_enforced_there_and_nobody_is_let_in_on_trust() -> None:
    world = Guards([CREWS])
    world.enforcing = False  # nobody else reads Envoy Gateway's policies
    behind(world)
    world.add_version(1)
    world.run(60)
    word, reason, message = world.condition("AccessEnforced") or ("", "", "")
    assert (word, reason) == ("False", "EnforcementUnsupported")
    assert "Declared consumers need Envoy Gateway: Gateway slipway-system/models is run by" in message
    assert (world.condition("Ready") or ("",))[0] == "False"


def test_failed_requests_are_not_repeated_there() -> None:
    world = Patched([])
    behind(world)
    world.serve_first()
    world.add_version(2)
    world.run(40)
    assert world.patch is None
    word, reason, message = world.condition("RetryOnStable") or ("", "", "")
    assert (word, reason) == ("False", "RetryUnsupported")
    assert message.endswith("Gateway slipway-system/models is run by example.com/other-gateway.")


def route_with(*conditions: Any) -> Object:
    stated = [
        {"type": kind, "status": word, "reason": reason, "observedGeneration": 2} for kind, word, reason in conditions
    ]
    parent = {"namespace": "slipway-system", "name": "models"}
    entry = {"parentRef": parent, "controllerName": OTHER, "conditions": stated}
    return {"metadata": {"generation": 2, "namespace": "flights"}, "spec": {}, "status": {"parents": [entry]}}


def test_a_route_of_which_the_gateway_takes_a_part_is_not_accepted() -> None:
    good = [("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs")]
    assert gw.acceptance(route_with(*good), PARENT).accepted
    partly = gw.acceptance(route_with(*good, ("PartiallyInvalid", "True", "UnsupportedValue")), PARENT)
    assert (partly.seen, partly.accepted, partly.reason) == (False, False, "UnsupportedValue")
    assert gw.controller_of(route_with(*good), PARENT) == OTHER
