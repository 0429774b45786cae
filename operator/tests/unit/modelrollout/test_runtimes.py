"""What stock runtimes of KServe are told, so that they serve a version under the rollout's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.modelrollout.test_adapters import MODEL, PARENT, deployment

from slipway.adapters import gateway as gw
from slipway.adapters import kserve
from slipway.adapters.envoy_stats import parse
from slipway.api.modelrollout import ModelRollout, Routing
from slipway.lint.linter import lint

PAGES = Path(__file__).parents[4] / "docs" / "rollouts"


def served(runtime: str, protocol: str = "v1", **model_format: Any) -> dict[str, Any]:
    serving = {"runtime": runtime, "protocol": protocol, "modelFormat": model_format}
    return dict(kserve.inference_service(deployment(serving), MODEL)["spec"]["predictor"]["model"])


# ---- the model's name ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("runtime", "model_format", "args", "environment"),
    [
        ("kserve-sklearnserver", {"name": "sklearn"}, ["--model_name=delays"], []),
        ("kserve-xgbserver", {"name": "xgboost", "args": ["--nthread=4"]}, ["--nthread=4", "--model_name=delays"], []),
        ("team-server", {"name": "team"}, ["--model_name=delays"], []),
        ("kserve-mlserver", {"name": "mlflow"}, None, [{"name": "MLSERVER_MODEL_NAME", "value": "delays"}]),
        ("kserve-tritonserver", {"name": "triton"}, None, []),
        ("team-triton", {"name": "triton", "modelName": "Artifact"}, None, []),
        ("kserve-mlserver", {"name": "sklearn", "modelName": "Argument"}, ["--model_name=delays"], []),
        (
            "kserve-sklearnserver",
            {"name": "sklearn", "env": [{"name": "PREDICT_PROBA", "value": "true"}]},
            ["--model_name=delays"],
            [{"name": "PREDICT_PROBA", "value": "true"}],
        ),
    ],
)
def test_every_version_is_told_the_rollouts_name(
    runtime: str, model_format: dict[str, Any], args: list[str] | None, environment: list[dict[str, str]]
) -> None:
    model = served(runtime, **model_format)
    assert model.get("args") == args
    assert model["env"] == environment


def test_a_stock_server_gets_nothing_that_only_slipways_server_knows() -> None:
    model = served("kserve-xgbserver", "v2", name="xgboost", version="2")
    assert model["modelFormat"] == {"name": "xgboost", "version": "2"}
    assert (model["runtime"], model["protocolVersion"]) == ("kserve-xgbserver", "v2")
    assert "SLIPWAY" not in str(model)
    assert "slipway-feast" not in str(model)


def test_slipways_own_server_is_told_no_format_and_no_argument() -> None:
    model = kserve.inference_service(deployment(), MODEL)["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "slipway-joblib"}
    assert not {"protocolVersion", "args"} & model.keys()
    chosen = kserve.inference_service(deployment({"protocol": "v2"}), MODEL)["spec"]["predictor"]["model"]
    assert chosen["protocolVersion"] == "v2"


@pytest.mark.parametrize(
    ("uri", "where"),
    [
        (None, MODEL.artifact),
        ("s3://exports/{version}/model", "s3://exports/flight-delays-9f2c1a4b7e/model"),
        ("pvc://models/{digest}", "pvc://models/9f2c1a4b7e"),
    ],
)
def test_a_version_has_its_artifact_or_an_export_of_its_own(uri: str | None, where: str) -> None:
    assert served("kserve-xgbserver", name="xgboost", **({"storageUri": uri} if uri else {}))["storageUri"] == where


def test_grpc_is_asked_for_at_a_port_of_its_own() -> None:
    for runtime, port in (("kserve-tritonserver", 9000), ("kserve-torchserve", 7070), ("team-server", 8081)):
        assert served(runtime, "grpc-v2", name="m")["ports"][0]["containerPort"] == port
    assert served("team-server", "grpc-v2", name="m", grpcPort=9001)["ports"] == [
        {"name": "h2c", "containerPort": 9001, "protocol": "TCP"}
    ]


@pytest.mark.parametrize("name", ["grpc_ModelInfer_{}", "grpc_{}"])
def test_calls_are_counted_by_grpcs_codes(name: str) -> None:
    codes = {"0": 5, "2": 1, "3": 7, "13": 2, "14": 4}
    lines = [f'envoy_cluster_{name.format(code)}{{envoy_cluster_name="c"}} {n}' for code, n in codes.items()]
    lines += [
        'envoy_cluster_grpc_ModelInfer_total{envoy_cluster_name="c"} 19',
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="c"} 19',
    ]
    found = parse("\n".join(lines))
    # The caller's mistakes (3) are not the server's.
    assert (found.grpc["c"].answered, found.grpc["c"].failed) == (19, 7)
    assert (found.counters["c"].answered, found.counters["c"].failed) == (19, 0)


# ---- the URL ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("protocol", "url"),
    [
        ("v1", "http://m.example.com/d/v1/models/delays:predict"),
        ("v2", "http://m.example.com/d/v2/models/delays/infer"),
        ("grpc-v2", "grpc://m.example.com"),
    ],
)
def test_the_url_is_that_of_the_protocol_and_has_the_rollouts_name(protocol: str, url: str) -> None:
    rollout = ModelRollout.model_validate(
        {
            "metadata": {"name": "delays", "namespace": "flights"},
            "spec": {
                "projectRef": {"name": "flight-delays"},
                "routing": {"path": "/d", "hostnames": ["m.example.com"]},
                "serving": {"protocol": protocol},
                "strategy": {"blueGreen": {}},
            },
        }
    )
    assert gw.url(gw.routed_of(rollout, PARENT), None) == url
    cluster = "http2" if protocol == "grpc-v2" else "http"
    assert gw.cluster_of(rollout, "delays-a") == f"service/flights/delays-a-predictor/80/{cluster}"


def test_a_path_of_grpc_stays_as_it_is() -> None:
    routing = Routing(path="/inference.GRPCInferenceService", hostnames=["m.example.com"])
    route = gw.weighted_route(
        gw.Routed("flights", "delays", "flight-delays", PARENT, routing, protocol="grpc-v2"), [("delays-a", 100)]
    )
    (rule,) = route["spec"]["rules"]
    rewritten = rule["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"]
    assert rewritten == rule["matches"][0]["path"]["value"] == "/inference.GRPCInferenceService"


# ---- the pages -------------------------------------------------------------------------------------------------------
def examples(page: str) -> list[str]:
    """Complete manifests on a page."""
    return re.findall(r"```yaml\n(apiVersion: slipway\.dev.*?)```", (PAGES / page).read_text(), re.DOTALL)


EXAMPLES = [*examples("runtimes.md"), *examples("transformers.md")]


@pytest.mark.parametrize("text", EXAMPLES, ids=[yaml.safe_load(each)["metadata"]["name"] for each in EXAMPLES])
def test_the_examples_of_the_page_are_what_slipway_lint_takes(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text(text)
    report = lint([file])
    # The project of an example is not in the file.
    assert [each.message for each in report.findings if each.code != "reference"] == []
    assert report.objects == 1


def test_the_page_has_an_example_for_each_runtime() -> None:
    servings = [yaml.safe_load(each)["spec"]["serving"] for each in examples("runtimes.md")]
    formats = {each["modelFormat"]["name"] for each in servings}
    assert formats >= {"sklearn", "xgboost", "lightgbm", "triton", "huggingface"}
