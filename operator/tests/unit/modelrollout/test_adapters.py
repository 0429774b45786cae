"""What is written for KServe and for the gateway, and how their answers are read."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.adapters import gateway as gw
from slipway.adapters import kserve
from slipway.api.computepool import ComputePool
from slipway.api.modelrollout import Replicas, Routing, Serving
from slipway.api.platform import GatewayParentRef
from slipway.api.rollout_steps import SetHeaderRoute
from slipway.controllers.computepool.quota import Holding, holdings

MODEL = kserve.Model(
    name="flight-delays-9f2c1a4b7e",
    digest="sha256:9f2c1a4b7e" + "0" * 54,
    artifact="s3://slipway/models/flights/flight-delays/9f2c1a4b7e",
    manifest_digest="sha256:" + "c" * 64,
    online_features=True,
)
PARENT = GatewayParentRef(namespace="slipway-system", name="models")
ROUTED = gw.Routed("flights", "delays", "flight-delays", PARENT, Routing(path="/delays", hostnames=["m.example.com"]))


def deployment(serving: dict[str, Any] | None = None, pool: ComputePool | None = None) -> kserve.Deployment:
    return kserve.Deployment("flights", "delays", "flight-delays", Serving.model_validate(serving or {}), pool)


# ---- KServe ----------------------------------------------------------------------------------------------------------
def test_the_server_is_told_what_to_verify_and_where_features_are() -> None:
    serving = {"features": {"timeout": "80ms", "onMissing": "Fail"}}
    manifest = kserve.inference_service(deployment(serving), MODEL)
    predictor = manifest["spec"]["predictor"]
    model = predictor["model"]
    plain = {each["name"]: each["value"] for each in model["env"] if "value" in each}
    assert plain == {
        "SLIPWAY_MODEL_VERSION": MODEL.name,
        "SLIPWAY_MANIFEST_DIGEST": MODEL.manifest_digest,
        "SLIPWAY_FEATURES_TIMEOUT_MS": "80",
        "SLIPWAY_FEATURES_ON_MISSING": "Fail",
    }
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in model["env"] if "valueFrom" in each}
    assert secrets["SLIPWAY_FEAST_PASSWORD"] == {"name": "flight-delays-slipway-feast", "key": "password"}
    assert model["storageUri"] == MODEL.artifact
    assert predictor["serviceAccountName"] == "flight-delays-slipway-model"
    assert manifest["metadata"]["name"] == "delays-9f2c1a4b7e"
    assert manifest["metadata"]["labels"]["slipway.dev/model"] == "delays"
    assert manifest["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_a_model_without_online_features_gets_no_database_credentials() -> None:
    model = kserve.Model(MODEL.name, MODEL.digest, MODEL.artifact, MODEL.manifest_digest, online_features=False)
    container = kserve.inference_service(deployment(), model)["spec"]["predictor"]["model"]
    assert not [each for each in container["env"] if "valueFrom" in each]


@pytest.mark.parametrize(("replicas", "scaler"), [({}, "none"), ({"min": 2, "max": 4}, "hpa")])
def test_an_autoscaler_only_where_there_is_something_to_scale(replicas: dict[str, int], scaler: str) -> None:
    manifest = kserve.inference_service(deployment({"replicas": replicas}), MODEL)
    assert manifest["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == scaler


def test_a_version_that_is_scaled_keeps_its_scaler_and_its_place_in_the_pool() -> None:
    serving = Serving.model_validate({"replicas": {"min": 2, "max": 4}})
    small = kserve.Deployment("flights", "delays", "flight-delays", serving, gpu_pool(), Replicas(min=1, max=1))
    manifest, whole = (
        kserve.inference_service(each, MODEL)
        for each in (small, deployment({"replicas": {"min": 2, "max": 4}}, gpu_pool()))
    )
    predictor = manifest["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    assert manifest["metadata"] == whole["metadata"]


def test_a_pool_places_servers_and_gives_them_its_device() -> None:
    predictor = kserve.inference_service(deployment(pool=gpu_pool()), MODEL)["spec"]["predictor"]
    assert predictor["nodeSelector"] == {"slipway.dev/pool": "gpu"}
    assert predictor["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert predictor["model"]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}


@pytest.mark.parametrize(
    ("serving", "units"),
    [
        ({}, 1),
        ({"replicas": {"min": 1, "max": 3}}, 3),
        ({"resources": {"limits": {"nvidia.com/gpu": "2"}}, "replicas": {"min": 2, "max": 2}}, 4),
    ],
)
def test_servers_count_in_their_pool_as_many_as_there_may_be(serving: dict[str, Any], units: int) -> None:
    manifest = kserve.inference_service(deployment(serving, gpu_pool()), MODEL)
    (held,) = holdings("gpu", [manifest])
    assert held == Holding("InferenceService", "flights", manifest["metadata"]["name"], "flight-delays", units)


def gpu_pool() -> ComputePool:
    return ComputePool.model_validate(
        {
            "metadata": {"name": "gpu"},
            "spec": {
                "resource": "nvidia.com/gpu",
                "nodeSelector": {"slipway.dev/pool": "gpu"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            },
        }
    )


def test_containers_are_fit_for_the_restricted_pod_security() -> None:
    predictor = kserve.inference_service(deployment(), MODEL)["spec"]["predictor"]
    context = predictor["model"]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"] is True
    assert predictor["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def isvc(ready: str = "False", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {"metadata": {"name": "delays-9f2c1a4b7e"}, "status": {"conditions": conditions, **status}}


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


def container(name: str = "kserve-container", **state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "image": "slipway-server:1", **state}]}


def endpoints(**conditions: bool) -> dict[str, Any]:
    return {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}


@pytest.mark.parametrize(
    ("service", "slices", "ready"),
    [
        (isvc("True"), [endpoints(ready=True)], True),
        (isvc("True"), [], False),
        (isvc("True"), [endpoints(ready=False)], False),
        (isvc("True"), [endpoints(ready=True, terminating=True)], False),
        (isvc("False"), [endpoints(ready=True)], False),
        ({"metadata": {"name": "new"}}, [endpoints(ready=True)], False),
    ],
    ids=["ready", "no endpoints", "endpoint not ready", "endpoint ends", "not ready", "not seen by KServe"],
)
def test_ready_needs_kserves_word_and_real_endpoints(
    service: dict[str, Any], slices: list[dict[str, Any]], ready: bool
) -> None:
    assert kserve.readiness(service, slices, []).ready is ready


# ---- the gateway -----------------------------------------------------------------------------------------------------
def test_the_weighted_route_rewrites_for_the_rule_and_filters_no_backend() -> None:
    (rule,) = gw.weighted_route(ROUTED, [("delays-1", 95), ("delays-2", 5)])["spec"]["rules"]
    assert rule["filters"][0]["urlRewrite"]["path"] == {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
    assert rule["backendRefs"] == [
        {"name": "delays-1-predictor", "port": 80, "weight": 95},
        {"name": "delays-2-predictor", "port": 80, "weight": 5},
    ]
    assert "retry" not in rule


def test_weights_are_read_back_in_their_order() -> None:
    route = gw.weighted_route(ROUTED, [("delays-2", 25), ("delays-1", 75)], ["b", "a"])
    assert list(gw.weights_of(route).items()) == [("delays-2", 25), ("delays-1", 75)]
    assert gw.rejected_of(route) == ("a", "b")
    assert gw.parent_of(route) == PARENT
    assert gw.serves(route, ROUTED.routing)
    assert not gw.serves(route, Routing(path="/other", hostnames=["m.example.com"]))


MATCH = SetHeaderRoute.model_validate(
    {
        "match": [
            {"name": "x-preview", "exact": "yes"},
            {"name": "x-team", "prefix": "a.b*"},
            {"name": "x-user", "regex": "[a-m].*"},
        ]
    }
).match


def test_copies_are_a_filter_of_the_general_rule_and_touch_no_reference() -> None:
    plain = gw.weighted_route(ROUTED, [("delays-1", 100), ("delays-2", 0)])["spec"]["rules"][0]
    route = gw.weighted_route(ROUTED, [("delays-1", 100), ("delays-2", 0)], aside=gw.Aside("delays-2", copied=20))
    (rule,) = route["spec"]["rules"]
    rewrite, mirror = rule.pop("filters")
    assert rewrite == plain.pop("filters")[0], "the rewrite stands first: the mirror's place names its cluster"
    assert rule == plain
    assert mirror == {
        "type": "RequestMirror",
        "requestMirror": {
            "backendRef": {"group": "", "kind": "Service", "name": "delays-2-predictor", "port": 80},
            "percent": 20,
        },
    }
    assert gw.mirror_cluster("flights", "delays") == "httproute/flights/delays/rule/0-mirror-1"


def test_headers_have_a_rule_of_their_own_and_the_general_one_keeps_its_number() -> None:
    aside = gw.Aside("delays-2", headers=gw.headers(MATCH))
    route = gw.weighted_route(ROUTED, [("delays-1", 95), ("delays-2", 5)], aside=aside)
    general, special = route["spec"]["rules"]
    assert [general["name"], special["name"]] == ["model", "headers"]
    assert special["backendRefs"] == [{"name": "delays-2-predictor", "port": 80, "weight": 1}]
    assert special["filters"] == general["filters"]
    (match,) = special["matches"]
    assert match["path"] == general["matches"][0]["path"]
    assert match["headers"] == [
        {"name": "x-preview", "type": "Exact", "value": "yes"},
        {"name": "x-team", "type": "RegularExpression", "value": r"a\.b\*.*"},
        {"name": "x-user", "type": "RegularExpression", "value": "[a-m].*"},
    ]


@pytest.mark.parametrize(
    "aside",
    [
        gw.Aside("delays-2", copied=20),
        gw.Aside("delays-2", headers=gw.headers(MATCH)),
        gw.Aside("delays-2", 100, gw.headers(MATCH)),
        None,
    ],
    ids=["copies", "headers", "both", "nothing"],
)
def test_what_stands_beside_the_weights_is_read_back_and_is_no_weight(aside: gw.Aside | None) -> None:
    route = gw.weighted_route(ROUTED, [("delays-1", 100), ("delays-2", 0)], aside=aside)
    assert gw.aside_of(route) == aside
    assert gw.weights_of(route) == {"delays-1": 100, "delays-2": 0}
    assert gw.serves(route, ROUTED.routing)


def test_a_route_refers_to_a_version_as_long_as_any_rule_or_filter_does() -> None:
    for aside in (gw.Aside("delays-2", copied=20), gw.Aside("delays-2", headers=gw.headers(MATCH))):
        route = gw.weighted_route(ROUTED, [("delays-1", 100)], aside=aside)
        assert gw.references_of(route) == {"delays-1", "delays-2"}
    assert gw.references_of(gw.weighted_route(ROUTED, [("delays-1", 100)])) == {"delays-1"}


def accepted(generation: int = 3, **statuses: str) -> list[dict[str, Any]]:
    words = {"Accepted": "True", "ResolvedRefs": "True", **statuses}
    return [
        {"type": kind, "status": status, "observedGeneration": generation, "reason": "Why", "message": "because"}
        for kind, status in words.items()
    ]


SLIPWAY_GATEWAY = {"name": "models", "namespace": "slipway-system"}


def told(conditions: list[dict[str, Any]], parent: dict[str, Any] | None = None) -> dict[str, Any]:
    reference = parent or SLIPWAY_GATEWAY
    parents = [{"parentRef": reference, "conditions": conditions}]
    return {"metadata": {"generation": 3, "namespace": "flights"}, "status": {"parents": parents}}


@pytest.mark.parametrize(
    ("route", "seen", "accepts", "reason"),
    [
        (told(accepted()), True, True, ""),
        (told(accepted(generation=2)), False, False, "Pending"),
        (told(accepted(Accepted="False")), False, False, "Why"),
        (told(accepted(ResolvedRefs="False")), True, False, "Why"),
        (told(accepted(BackendsAvailable="False")), True, False, "Why"),
        (told([]), False, False, "Pending"),
        (told(accepted(), {"name": "another", "namespace": "slipway-system"}), False, False, "Pending"),
        (
            told(accepted(), {"name": "models", "namespace": "slipway-system", "sectionName": "x"}),
            False,
            False,
            "Pending",
        ),
        ({"metadata": {"generation": 1}}, False, False, "Pending"),
    ],
    ids=[
        "accepted",
        "older generation",
        "not accepted",
        "references not resolved",
        "no endpoints",
        "no conditions",
        "another gateway",
        "another listener",
        "no status",
    ],
)
def test_only_the_gateways_word_on_the_newest_generation_counts(
    route: dict[str, Any], seen: bool, accepts: bool, reason: str
) -> None:
    found = gw.acceptance(route, PARENT)
    assert (found.seen, found.accepted, found.reason) == (seen, accepts, reason)


@pytest.mark.parametrize(
    ("hosts", "other", "path", "conflict"),
    [
        (["a.example.com"], ["a.example.com", "b.example.com"], "/delays", True),
        ([], [], "/delays", True),
        (["a.example.com"], ["b.example.com"], "/delays", False),
        (["a.example.com"], [], "/delays", False),
        (["a.example.com"], ["a.example.com"], "/delays/two", False),
    ],
)
def test_rollouts_conflict_when_both_want_the_same_requests(
    hosts: list[str], other: list[str], path: str, conflict: bool
) -> None:
    one, two = Routing(path="/delays", hostnames=hosts), Routing(path=path, hostnames=other)
    assert gw.overlap(one, two) is conflict
    assert gw.overlap(two, one) is conflict


@pytest.mark.parametrize(
    ("listener", "addresses", "hosts", "url"),
    [
        ({"protocol": "HTTP", "port": 80}, ["10.0.0.5"], [], "http://10.0.0.5/delays/v1/models/delays:predict"),
        ({"protocol": "HTTPS", "port": 8443}, [], ["m.io"], "https://m.io:8443/delays/v1/models/delays:predict"),
        ({"protocol": "HTTP", "port": 80}, [], [], None),
    ],
)
def test_the_url_is_what_clients_can_use(
    listener: dict[str, Any], addresses: list[str], hosts: list[str], url: str | None
) -> None:
    routed = gw.Routed("flights", "delays", "flight-delays", PARENT, Routing(path="/delays", hostnames=hosts))
    gateway = {
        "spec": {"listeners": [{"name": "http", **listener}]},
        "status": {"addresses": [{"value": each} for each in addresses]},
    }
    assert gw.url(routed, gateway) == url
