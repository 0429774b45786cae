"""InferenceServices that we write, in KServe's own hands: its CRD on a real API server, its webhook's validation, its
merge with the runtimes that it ships, and the Deployments, Services and autoscalers that it would make.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.modelrollout.kservework import judged

from slipway.adapters import kserve
from slipway.api.modelrollout import Serving
from slipway.runtime.client import Client
from slipway.runtime.resources import INFERENCE_SERVICE, Object

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[4]
MODEL = kserve.Model(
    name="flight-delays-9f2c1a4b7e",
    digest="sha256:9f2c1a4b7e" + "0" * 54,
    artifact="s3://slipway/models/flights/flight-delays/9f2c1a4b7e",
    manifest_digest="sha256:" + "c" * 64,
    online_features=True,
)
OWN_RUNTIME = yaml.safe_load((REPOSITORY / "manifests" / "runtimes" / "slipway-sklearn.yaml").read_text())


def manifest(serving: dict[str, Any], namespace: str = "flights") -> Object:
    return kserve.inference_service(
        kserve.Deployment(namespace, "delays", "flight-delays", Serving.model_validate(serving)), MODEL
    )


def stock(runtime: str, format_: str, protocol: str = "v2", **more: Any) -> dict[str, Any]:
    return {"runtime": f"kserve-{runtime}", "protocol": protocol, "modelFormat": {"name": format_, **more}}


def scaled(*metrics: dict[str, Any], scaler: str = "HPA") -> dict[str, Any]:
    return {"replicas": {"min": 2, "max": 8}, "autoscaling": {"scaler": scaler, "metrics": list(metrics)}}


CPU = {"type": "CPU", "utilization": 70}
MEMORY = {"type": "Memory", "averageValue": "2Gi"}
PROMETHEUS = {
    "type": "Prometheus",
    "serverAddress": "http://prometheus.monitoring:9090",
    "query": "load{isvc='{service}'}",
    "threshold": "50",
    "authenticationRef": {"name": "prometheus"},
}
OPEN_TELEMETRY = {
    "type": "OpenTelemetry",
    "query": "vllm:waiting",
    "threshold": "4",
    "serverAddress": "http://otel:4318",
}

TRANSFORMER = {
    "image": "registry.example.com/prepare:{version}",
    "args": ["--words=1000"],
    "env": [{"name": "WORDS", "value": "s3://words/{digest}"}],
    "resources": {"requests": {"cpu": "100m"}},
}
EXPLAINER = {"image": "registry.example.com/explain:{digest}"}

EVERY = {
    "own": {},
    "sklearn": stock("sklearnserver", "sklearn", "v1", version="1", env=[{"name": "PREDICT_PROBA", "value": "true"}]),
    "xgboost": stock("xgbserver", "xgboost", storageUri="s3://exports/{version}", args=["--nthread=2"]),
    "lightgbm": stock("lgbserver", "lightgbm", version="4"),
    "triton": stock("tritonserver", "triton", version="2"),
    "huggingface": stock("huggingfaceserver", "huggingface", args=["--task=fill_mask"]),
    "mlflow": stock("mlserver", "mlflow"),
    "grpc": stock("tritonserver", "triton", "grpc-v2"),
    "pair": {"transformer": TRANSFORMER, "explainer": EXPLAINER},
    "pair-keda": {**scaled(CPU, scaler="KEDA"), "transformer": TRANSFORMER},
    "hpa": scaled(CPU, MEMORY),
    "hpa-default": {"replicas": {"min": 2, "max": 8}},
    "keda": scaled(CPU, MEMORY, PROMETHEUS, OPEN_TELEMETRY, scaler="KEDA"),
}


def container(answer: dict[str, Any], component: str = "predictor") -> dict[str, Any]:
    assert not answer.get("error"), answer
    (found,) = answer["components"][component]["deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, Any]]:
    return dict(zip(EVERY, judged([manifest(each) for each in EVERY.values()], [OWN_RUNTIME]), strict=True))


@pytest.mark.parametrize("name", ["sklearn", "xgboost", "lightgbm", "huggingface"])
def test_the_last_model_name_that_kserve_passes_is_the_rollouts(answers: dict[str, Any], name: str) -> None:
    args = container(answers[name])["args"]
    names = [each.partition("=")[2] for each in args if each.startswith("--model_name=")]
    # The runtime's own comes first; each of these servers parses arguments with argparse, which keeps the last.
    assert names == ["delays-9f2c1a4b7e", "delays"]


def test_arguments_of_a_version_stand_behind_those_of_the_runtime(answers: dict[str, Any]) -> None:
    args = container(answers["xgboost"])["args"]
    assert args.index("--nthread=1") < args.index("--nthread=2")
    assert "--model_dir=/mnt/models" in args


def test_servers_that_know_no_such_argument_get_none(answers: dict[str, Any]) -> None:
    assert "model_name" not in json.dumps(container(answers["triton"])["args"])
    found = {each["name"]: each.get("value") for each in container(answers["mlflow"])["env"]}
    assert found["MLSERVER_MODEL_NAME"] == "delays"
    assert not container(answers["mlflow"]).get("args")


def test_slipways_own_runtime_reads_the_name_from_the_label(answers: dict[str, Any]) -> None:
    assert "--model_name=delays" in container(answers["own"])["args"]


@pytest.mark.parametrize("name", EVERY)
def test_kserve_makes_a_service_that_our_routes_name(answers: dict[str, Any], name: str) -> None:
    made = answers[name]["components"]["predictor"]["service"]
    assert made["metadata"]["name"] == kserve.predictor_of("delays-9f2c1a4b7e")
    assert made["spec"]["ports"][0]["port"] == kserve.PORT


@pytest.mark.parametrize(
    "name", sorted(set(EVERY) & {"sklearn", "xgboost", "lightgbm", "triton", "huggingface", "mlflow"})
)
def test_stock_servers_are_restricted_as_our_own_and_end_after_the_gateway_knows(
    answers: dict[str, Any], name: str
) -> None:
    found = container(answers[name])
    assert found["securityContext"]["allowPrivilegeEscalation"] is False
    assert found["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert found["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert not [each for each in found.get("env") or () if each["name"].startswith("SLIPWAY_")]


def test_kserve_makes_the_hpa_that_is_meant(answers: dict[str, Any]) -> None:
    spec = answers["hpa"]["components"]["predictor"]["autoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)
    targets = {each["resource"]["name"]: each["resource"]["target"] for each in spec["metrics"]}
    assert targets == {
        "cpu": {"type": "Utilization", "averageUtilization": 70},
        "memory": {"type": "AverageValue", "averageValue": "2Gi"},
    }
    (default,) = answers["hpa-default"]["components"]["predictor"]["autoscaler"]["spec"]["metrics"]
    assert default["resource"]["target"]["averageUtilization"] == 80


def test_kserve_makes_the_scaled_object_that_is_meant(answers: dict[str, Any]) -> None:
    spec = answers["keda"]["components"]["predictor"]["autoscaler"]["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 8)
    cpu, memory, prometheus, opentelemetry = spec["triggers"]
    assert (cpu["type"], cpu["metadata"]) == ("cpu", {"value": "70"})
    assert (memory["type"], memory["metricType"], memory["metadata"]) == ("memory", "AverageValue", {"value": "2Gi"})
    assert prometheus["type"] == "prometheus"
    assert prometheus["metadata"] == {
        "serverAddress": "http://prometheus.monitoring:9090",
        "query": "load{isvc='delays-9f2c1a4b7e'}",
        "threshold": "50",
    }
    assert prometheus["authenticationRef"] == {"name": "prometheus"}
    assert "delays-9f2c1a4b7e-predictor" in opentelemetry["metadata"]["metricQuery"]


def test_kserve_tells_the_gateway_where_grpc_is_spoken(answers: dict[str, Any]) -> None:
    (port,) = answers["grpc"]["components"]["predictor"]["service"]["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["appProtocol"]) == (kserve.PORT, 9000, "kubernetes.io/h2c")
    assert container(answers["grpc"])["readinessProbe"]["tcpSocket"]["port"] == 9000


@pytest.mark.parametrize("part", ["transformer", "explainer"])
def test_kserve_starts_a_part_with_the_rollouts_name_and_its_own_model_server(
    answers: dict[str, Any], part: str
) -> None:
    args = container(answers["pair"], part)["args"]
    assert [each for each in args if each.startswith("--model_name")] == ["--model_name=delays"]
    assert args[args.index("--predictor_host") + 1] == "delays-9f2c1a4b7e-predictor.flights"
    assert args[args.index("--http_port") + 1] == "8080"


def test_kserve_makes_the_services_by_which_requests_enter(answers: dict[str, Any]) -> None:
    made = {part: each["service"] for part, each in answers["pair"]["components"].items()}
    service = "delays-9f2c1a4b7e"
    assert made["transformer"]["metadata"]["name"] == kserve.entry_of(service, transformed=True)
    assert made["explainer"]["metadata"]["name"] == kserve.explainer_of(service)
    assert all(each["spec"]["ports"][0]["port"] == kserve.PORT for each in made.values())
    assert answers["pair"]["modelName"] == "delays"


def test_pods_of_every_part_have_the_label_that_network_policies_choose_by(answers: dict[str, Any]) -> None:
    for part in answers["pair"]["components"].values():
        assert part["deployment"]["spec"]["template"]["metadata"]["labels"][kserve.MODEL_LABEL] == "delays"


def test_kserve_gives_a_transformer_a_trigger_of_its_own(answers: dict[str, Any]) -> None:
    (trigger,) = answers["pair-keda"]["components"]["transformer"]["autoscaler"]["spec"]["triggers"]
    assert (trigger["type"], trigger["metadata"]) == ("cpu", {"value": "80"})


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        (stock("tritonserver", "triton", "v1"), "does not speak v1"),
        (stock("sklearnserver", "xgboost"), "does not serve xgboost"),
        (stock("sklearnserver", "sklearn", "grpc-v2"), "does not speak grpc-v2"),
        (stock("xgbserver", "xgboost", version="1"), "does not serve xgboost"),
    ],
)
def test_what_a_runtime_does_not_serve_is_refused_by_kserve(serving: dict[str, Any], said: str) -> None:
    (answer,) = judged([manifest(serving)])
    assert said in answer["error"]


@pytest.mark.parametrize("name", EVERY)
async def test_the_api_server_takes_the_manifest_with_kserves_crd(
    crds: None,  # noqa: ARG001 - installed for their effect
    client: Client,
    namespace: str,
    name: str,
) -> None:
    wanted = manifest(EVERY[name], namespace)
    applied = await client.apply(INFERENCE_SERVICE, wanted)
    # A field that the CRD does not know would be gone.
    assert _holds(applied["spec"], wanted["spec"])


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(name in found and _holds(found[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_holds, found, wanted))
    return bool(found == wanted)
