"""A transformer and an explainer with the model server: one version, which begins, is measured and ends as one."""

from __future__ import annotations

from typing import Any

import pytest
from unit.modelrollout.test_adapters import MODEL, PARENT, deployment
from unit.modelrollout.test_capacity import CHECK, S1, S2, V1, V2, steps
from unit.modelrollout.world import NAME, NAMESPACE, World

from slipway.adapters import access, kserve
from slipway.adapters import gateway as gw
from slipway.adapters.access import Guarded
from slipway.api.modelrollout import Routing
from slipway.runtime.resources import ENDPOINT_SLICE, HTTP_ROUTE, INFERENCE_SERVICE, Object

TRANSFORMER = {"image": "registry.example.com/prepare:{version}", "replicas": {"min": 1, "max": 1}}
EXPLAINER = {"image": "registry.example.com/explain:{digest}"}
ROUTED = gw.Routed("flights", "delays", "flight-delays", PARENT, Routing(path="/d"), transformed=True, explained=True)


# ---- what KServe is told ---------------------------------------------------------------------------------------------
def parts(**serving: Any) -> Object:
    return dict(kserve.inference_service(deployment(serving), MODEL)["spec"])


def test_a_version_has_the_transformer_that_fits_it() -> None:
    env = [{"name": "WORDS", "value": "s3://words/{digest}"}]
    spec = parts(transformer={**TRANSFORMER, "args": ["--words={version}"], "env": env, "resources": {}})
    (container,) = spec["transformer"]["containers"]
    assert container["image"] == "registry.example.com/prepare:flight-delays-9f2c1a4b7e"
    assert container["args"] == ["--words=flight-delays-9f2c1a4b7e", "--model_name=delays"]
    assert container["env"] == [{"name": "WORDS", "value": "s3://words/9f2c1a4b7e"}]
    assert "explainer" not in spec


def test_every_part_is_as_restricted_as_the_model_server() -> None:
    spec = parts(transformer=TRANSFORMER, explainer=EXPLAINER)
    for kind in ("transformer", "explainer"):
        part = spec[kind]
        assert part["automountServiceAccountToken"] is False
        assert part["securityContext"] == spec["predictor"]["securityContext"]
        assert part["containers"][0]["securityContext"] == spec["predictor"]["model"]["securityContext"]
        assert part["containers"][0]["lifecycle"] == spec["predictor"]["model"]["lifecycle"]


@pytest.mark.parametrize(
    ("serving", "scaler", "told"),
    [
        ({}, "none", False),
        ({"transformer": {**TRANSFORMER, "replicas": {"min": 1, "max": 3}}}, "hpa", False),
        (
            {
                "replicas": {"min": 1, "max": 3},
                "autoscaling": {"scaler": "KEDA", "metrics": [{"type": "CPU", "utilization": 60}]},
            },
            "keda",
            True,
        ),
    ],
)
def test_one_scaler_serves_all_parts(serving: dict[str, Any], scaler: str, told: bool) -> None:
    manifest = kserve.inference_service(deployment({"transformer": TRANSFORMER, **serving}), MODEL)
    assert manifest["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == scaler
    assert ("autoScaling" in manifest["spec"]["transformer"]) == told


# ---- routes ----------------------------------------------------------------------------------------------------------
def backends(rule: Object) -> dict[str, int]:
    return {each["name"]: each["weight"] for each in rule["backendRefs"]}


def test_requests_enter_by_the_transformer_and_explanations_follow_the_same_weights() -> None:
    aside = gw.Aside("delays-b", headers=(("x-preview", "Exact", "yes"),))
    route = gw.weighted_route(ROUTED, [("delays-a", 75), ("delays-b", 25)], aside=aside)
    model, explain, named, explain_named = route["spec"]["rules"]
    assert backends(model) == {"delays-a-transformer": 75, "delays-b-transformer": 25}
    assert backends(explain) == {"delays-a-explainer": 75, "delays-b-explainer": 25}
    assert backends(named) == {"delays-b-transformer": 1}
    assert backends(explain_named) == {"delays-b-explainer": 1}
    assert explain["matches"] == [{"path": {"type": "Exact", "value": "/d/v1/models/delays:explain"}}]
    rewrite = explain["filters"][0]["urlRewrite"]["path"]
    assert rewrite == {"type": "ReplaceFullPath", "replaceFullPath": "/v1/models/delays:explain"}
    assert len({each["name"] for each in route["spec"]["rules"]}) == 4
    assert gw.weights_of(route) == {"delays-a": 75, "delays-b": 25}
    assert gw.references_of(route) == {"delays-a", "delays-b"}
    assert gw.aside_of(route) == aside
    assert gw.serves(route, ROUTED.routing)


def test_copies_go_to_the_transformer() -> None:
    route = gw.weighted_route(ROUTED, [("delays-a", 100)], aside=gw.Aside("delays-b", copied=10))
    mirror = route["spec"]["rules"][0]["filters"][1]["requestMirror"]["backendRef"]
    assert mirror["name"] == "delays-b-transformer"


def test_a_pin_route_keeps_both_clusters() -> None:
    pin = gw.pin_route(ROUTED, "delays-b", "token")
    assert [backends(each) for each in pin["spec"]["rules"]] == [{"delays-b-transformer": 1}, {"delays-b-explainer": 1}]
    for rule in pin["spec"]["rules"]:
        (header,) = rule["matches"][0]["headers"]
        assert header["value"] == "token"
    assert gw.token_of(pin) == "token"


def test_rules_for_callers_with_a_key_cover_explanations() -> None:
    guarded = access.guard(gw.weighted_route(ROUTED, [("delays-a", 100)]), "Both")
    names = [each["name"] for each in guarded["spec"]["rules"]]
    assert names == ["model", "model-keys", "explain", "explain-keys"]


@pytest.mark.parametrize("among_themselves", [True, False])
def test_the_network_lets_parts_of_a_version_reach_each_other(among_themselves: bool) -> None:
    guarded = Guarded("flights", "delays", "flight-delays")
    policy = access.network_policy(guarded, PARENT, ["envoy"], "slipway-system", among_themselves=among_themselves)
    own = {"podSelector": {"matchLabels": {"slipway.dev/model": "delays"}}}
    assert (own in policy["spec"]["ingress"][0]["from"]) == among_themselves


# ---- a rollout -------------------------------------------------------------------------------------------------------
def pair(**serving: Any) -> World:
    spec = {"serving": {"transformer": TRANSFORMER, **serving}, "steps": steps(25, 100), "checks": [CHECK]}
    return World(spec)


@pytest.mark.slow
def test_a_pair_takes_over_as_one() -> None:
    world = pair()
    world.serve_first()
    world.add_version(2)
    for _ in range(200):
        world.step()
        for service, weight in world.gateway.in_force.items():
            assert not weight or world.endpoints(f"{service}-transformer")
    assert world.status.stable == V2
    assert world.status.rejected is None


@pytest.mark.slow
def test_a_version_without_its_transformer_gets_no_request() -> None:
    world = pair()
    world.serve_first()
    world.untransformed.add(S2)
    world.add_version(2)
    for _ in range(120):
        world.step()
        assert S2 not in world.gateway.in_force
    world.untransformed.clear()
    world.run(120)
    assert world.status.stable == V2


@pytest.mark.slow
def test_what_the_transformer_answers_is_what_is_checked() -> None:
    world = pair()
    world.serve_first()
    world.add_version(2)
    for _ in range(200):
        world.step()
        if world.gateway.in_force.get(S2):
            world.untransformed.add(S2)  # its model server goes on answering
    assert {name: weight for name, weight in world.gateway.in_force.items() if weight} == {S1: 100}
    assert world.status.stable == V1


@pytest.mark.slow
def test_every_version_keeps_all_of_its_parts() -> None:
    world = pair(explainer=EXPLAINER)
    world.serve_first()
    world.add_version(2)
    world.run(200)
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    assert backends(route["spec"]["rules"][1]) == {f"{S2}-explainer": 100}
    services = world.stores.list(INFERENCE_SERVICE, NAMESPACE)
    assert all({"transformer", "explainer"} <= each["spec"].keys() for each in services)
    assert world.stores.list(ENDPOINT_SLICE, NAMESPACE)
