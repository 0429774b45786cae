"""Whole runs: `slipway-job train`, then `slipway-job judge`, on flights of four months, with features in Feast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from kfp import components
from sklearn.metrics import roc_auc_score

from slipway.adapters.kfp.document import Settings, document, load
from slipway.api.meta import parse_duration
from slipway.api.modelversion import InputField
from slipway.contracts.digests import digest_bytes, digest_json
from slipway.contracts.jobs import FeatureRequest, ModelManifest, ProduceResult, RegisterResult, TrainingRequest
from slipway.contracts.training import Arguments
from slipway_pipelines import compiled
from slipway_pipelines.data.parts import read_manifest
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.features.pointintime import training_frame
from slipway_pipelines.training import evaluation
from slipway_pipelines.training.frames import conform
from slipway_pipelines.training.results import Evaluation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GOALS: dict[str, Any] = {
    "requirements": {
        "optimize": {"type": "Metric", "metric": {"name": "rocAuc", "minimumImprovement": "0.001"}},
        "satisfy": [
            {"name": "fast", "metric": "latencyP99Milliseconds", "max": "60000"},
            {"name": "fast-model", "metric": "latencyP50Milliseconds", "measuredAt": "Model", "max": "60000"},
            {"name": "small", "metric": "memoryMebibytes", "max": "4096"},
            {"name": "sure", "metric": "coverage", "confidence": "0.6", "min": "0.999"},
            {
                "name": "calibrated",
                "metric": "expectedCalibrationError",
                "max": "0.000001",
                "deferred": {"until": "2026-12-01", "why": "After the launch"},
            },
        ],
        "referenceResults": [{"name": "human", "metric": "rocAuc", "value": "0.8", "source": "Dispatchers"}],
        "ship": {"policy": "NeutralLaunch"},
    },
    "tests": {
        "scenarios": [
            {"name": "wind", "where": "origin = 'JFK' AND wind_speed > 15", "metric": "recall", "min": "0"},
            {"name": "storm", "where": "wind_speed > 1000", "metric": "recall", "min": "0.6"},
        ],
        "slices": [{"name": "very-late", "where": "arr_delay > 60", "metric": "accuracy", "maxDropPercent": 1}],
    },
}


@dataclass(frozen=True)
class Run:
    """A finished run."""

    request: TrainingRequest
    produced: ProduceResult
    registered: RegisterResult


def finish(world: Any, feast: dict[str, str], uid: str, **changes: Any) -> Run:
    """Both halves of a run with features."""
    request = world.request(uid, featureSets=[world.feature_set()], **{**GOALS, **changes})
    return Run(request, world.train(request), world.judge(request, **feast))


@pytest.fixture(scope="module")
def feast(world: Any, postgres: Any) -> dict[str, str]:
    """A Feast with the features of the example, applied by the features Job."""
    import psycopg

    with psycopg.connect(
        host="127.0.0.1", port=postgres.port, user=postgres.user, password=postgres.password, dbname="postgres"
    ) as connection:
        connection.autocommit = True
        connection.execute("CREATE DATABASE training")
    environment: dict[str, str] = postgres.environment("training")
    features = world.feature_set()
    request = FeatureRequest.model_validate(
        {
            "store": {"endpoint": world.store.endpoint, "bucket": world.store.bucket},
            "prefix": "jobs/flights/features/",
            "namespace": "flights",
            "featureSet": features["name"],
            "inputDigest": features["definitionDigest"],
            **{name: features[name] for name in ("feastProject", "entities", "views", "datasets", "definitionDigest")},
        }
    )
    job = world.job("features", request, name="features", **environment)
    assert job.code == 0, job.output
    assert job.result
    assert "refusal" not in job.result
    return environment


@pytest.fixture(scope="module")
def first(world: Any, feast: dict[str, str]) -> Run:
    """A run."""
    return finish(world, feast, "first")


def verdicts(result: RegisterResult) -> dict[str, str]:
    """Words by gate."""
    return {verdict.name: verdict.verdict for verdict in result.verdicts}


def test_every_gate_has_its_verdict(first: Run) -> None:
    assert verdicts(first.registered) == {
        "optimize": "Passed",
        "requirement/fast": "Passed",
        "requirement/fast-model": "Passed",
        "requirement/small": "Passed",
        "requirement/sure": "Failed",
        "requirement/calibrated": "Deferred",
        "scenario/wind": "Passed",
        "scenario/storm": "Inconclusive",
        "slice/very-late": "Failed",
    }
    assert not first.registered.passed


def test_the_score_is_what_the_stored_model_has_on_the_test_split(
    world: Any, first: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "code"))
    request, registered = first.request, first.registered
    manifest = read_manifest(world.store, request.dataset_manifest, request.dataset_digest)
    table = training_frame(
        world.store, manifest, request.feature_sets, request.inputs, parse_duration("2h"), split="test"
    )
    frame = table.to_pandas().fillna({"late_share_7d": 0.2, "flights_7d": 0, "visib": 10.0})
    world.store.download(f"{registered.artifact}/model.joblib", tmp_path / "model.joblib")
    answers = joblib.load(tmp_path / "model.joblib").predict_proba(conform(frame, registered.inputs))[:, 1]
    truth = frame["arr_delayed"].to_numpy().astype(bool)
    assert float(registered.score or "") == pytest.approx(roc_auc_score(truth, answers), abs=1e-6)
    stored = Evaluation.model_validate_json(world.store.get_bytes(registered.evaluation))
    sure = float((np.maximum(answers, 1 - answers) >= 0.6).mean())
    assert stored.coverage["sure"] == pytest.approx(sure)
    wind = (frame["origin"] == "JFK") & (frame["wind_speed"] > 15)
    assert stored.scenarios[0].rows == int(wind.sum())


def test_the_stored_version_verifies(world: Any, first: Run) -> None:
    registered = first.registered
    data = world.store.get_bytes(registered.manifest, registered.manifest_digest)
    manifest = ModelManifest.model_validate_json(data)
    assert manifest.digests == registered.digests
    assert manifest.model_digest == digest_json([file.wire() for file in manifest.files])
    assert registered.artifact == f"models/flights/flight-delays/{manifest.model_digest[7:17]}"
    assert manifest.baseline is not None
    assert manifest.baseline.size < 1 << 20
    for file in (*manifest.files, manifest.baseline):
        assert digest_bytes(world.store.get_bytes(f"{registered.artifact}/{file.path}")) == file.digest
    assert [field.name for field in manifest.inputs] == [
        *first.request.inputs,
        *("late_share_7d", "flights_7d", "wind_speed", "visib"),
    ]


def test_the_run_has_one_manifest_of_what_it_made(world: Any, first: Run) -> None:
    manifest = world.store.get_json("runs/flights/first/manifest.json")
    assert set(manifest["outputs"]) == {"training_set", "validation_set", "claims", "baseline_metrics", "model"}
    for name, item in manifest["outputs"].items():
        assert item["uri"] == f"s3://{world.store.bucket}/runs/flights/first/produce/{name}"
        assert digest_bytes(world.store.get_bytes(item["key"])) == item["digest"]
        assert first.produced.outputs[name] == f"{item['key']}@{item['digest']}"
    simple = world.store.get_json(manifest["outputs"]["baseline_metrics"]["key"])
    assert simple["majority_rocAuc"] == 0.5
    assert simple["logistic_rocAuc"] > 0.5


def test_baselines_and_quoted_results_stand_beside_it(first: Run) -> None:
    assert [baseline.name for baseline in first.registered.baselines] == ["logistic", "majority", "human"]
    measured = {metric.name for metric in first.registered.metrics}
    assert {"rocAuc", "brierScore", "latencyP99Milliseconds", "memoryMebibytes"} <= measured


def test_progress_has_gone_to_registration(world: Any, first: Run) -> None:
    progress = world.store.get_json(f"jobs/flights/{first.request.run_uid}-judge/progress.json")
    assert (progress["stage"], progress["percent"]) == ("Registration", 95)


def test_no_column_that_is_sensitive_leaves_the_dataset(world: Any, first: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    world.store.download("runs/flights/first/produce/training_set", tmp_path / "set")
    columns = pq.read_schema(tmp_path / "set").names
    assert columns == [*(field.name for field in first.registered.inputs), "arr_delayed"]


ASK_FEAST = """
import json, sys
from slipway_pipelines.features.feaststore import FeastDatabase, open_store
service = open_store(FeastDatabase.from_environment(), sys.argv[1]).get_feature_service(sys.argv[2])
print(json.dumps({view.name: [f.name for f in view.features] for view in service.feature_view_projections}))
"""


def test_feast_has_a_service_with_the_versions_features(first: Run, feast: dict[str, str]) -> None:
    record = first.registered.feature_service
    assert record
    assert record.name == f"flight_delays_{Path(first.registered.artifact or '').name}"
    assert record.entities == ["carrier", "origin"]
    # Feast leaves connections and files open: it gets a process of its own.
    command = [sys.executable, "-c", ASK_FEAST, record.project, record.name]
    done = subprocess.run(command, env={**os.environ, **feast}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "flight_features__carrier_history": ["late_share_7d", "flights_7d"],
        "flight_features__origin_weather": ["wind_speed", "visib"],
    }


def test_a_second_run_of_the_same_gives_the_same_version(world: Any, first: Run, feast: dict[str, str]) -> None:
    before = world.store.get_bytes(first.registered.manifest)
    second = finish(world, feast, "second")
    assert second.registered.digests == first.registered.digests
    assert second.registered.artifact == first.registered.artifact
    assert second.registered.score == first.registered.score
    assert second.registered.manifest_digest == first.registered.manifest_digest
    assert world.store.get_bytes(first.registered.manifest) == before, "a version is a record"
    models = {run.produced.outputs["model"].partition("@")[2] for run in (first, second)}
    assert len(models) == 1, "the bytes of the model are the same"


WHOLE = """
import json, sys
from pathlib import Path
from slipway_pipelines.training import local
given = json.loads(Path(sys.argv[1]).read_text())
made = local.run(given["spec"], given["parameters"], {}, Path(sys.argv[2]).resolve(), lambda stage, percent: None)
print("OUTPUTS " + json.dumps({name: [str(item.path), item.metadata] for name, item in made.items()}))
"""
"""Runs a whole pipeline by KFP's local runner, all tasks in one process's container."""


def test_the_document_for_kubeflow_pipelines_gives_the_same_version(
    world: Any, first: Run, feast: dict[str, str], tmp_path: Path
) -> None:
    """What the other engine submits, run whole and as it is by KFP's own runner."""
    settings = Settings(first.request.image, "flight-delays", first.request.store, "s3", "feast")
    made = document(load(compiled.training_ir()), first.request.pipeline_digest, settings)
    (tmp_path / "documents.yaml").write_text(made.text())
    assert components.load_component_from_file(str(tmp_path / "documents.yaml")).name == "slipway-training"
    request = first.request.model_copy(update={"run_uid": "whole", "prefix": "runs/flights/whole/"})
    key = "jobs/flights/whole/result.json"
    given = {"spec": made.spec, "parameters": Arguments.of(request, result=key).pipeline_parameters()}
    (tmp_path / "given.json").write_text(json.dumps(given))
    environment = {**world.environment(), **feast}
    command = [sys.executable, "-c", WHOLE, str(tmp_path / "given.json"), str(tmp_path / "root")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("OUTPUTS "))
    outputs = json.loads(line.removeprefix("OUTPUTS "))
    result = RegisterResult.model_validate_json(Path(outputs["result"][0]).read_bytes())
    assert result == RegisterResult.model_validate(world.store.get_json(key)), "the operator reads the same"
    assert result.digests == first.registered.digests
    assert result.score == first.registered.score
    named = {each.name: each.value for each in first.registered.metrics}
    for name in ("rocAuc", "logLoss", "accuracy"):
        assert {each.name: each.value for each in result.metrics}[name] == named[name], name


def forge(world: Any, source: str, uid: str, name: str, content: bytes) -> None:
    """A run's manifest whose output `name` has other content, digest and all, as user code could write it."""
    manifest = world.store.get_json(f"runs/flights/{source}/manifest.json")
    key = f"runs/flights/{uid}/produce/{name}"
    digest = world.store.put_bytes(key, content)
    manifest["outputs"][name] |= {"key": key, "digest": digest, "size": len(content)}
    world.store.put_json(f"runs/flights/{uid}/manifest.json", manifest)


def test_a_changed_file_of_a_run_is_refused(world: Any, first: Run) -> None:
    manifest = world.store.get_json("runs/flights/first/manifest.json")
    manifest["outputs"]["model"]["key"] = "runs/flights/changed/produce/model"
    world.store.put_bytes("runs/flights/changed/produce/model", b"another")
    world.store.put_json("runs/flights/changed/manifest.json", manifest)
    request = first.request.model_copy(update={"run_uid": "changed", "prefix": "runs/flights/changed/"})
    job = world.job("judge", request)
    assert job.code == 0, job.output
    assert job.result
    assert job.result["refusal"]["reason"] == "DigestMismatch"
    assert "runs/flights/changed/produce/model has digest" in job.result["refusal"]["message"]


def test_claims_that_are_not_true_are_refused(world: Any, first: Run) -> None:
    claims = world.store.get_json("runs/flights/first/produce/claims")
    claims["trainingSet"] = digest_bytes(b"other rows")
    forge(world, "first", "liar", "claims", json.dumps(claims).encode())
    request = first.request.model_copy(update={"run_uid": "liar", "prefix": "runs/flights/liar/"})
    job = world.job("judge", request)
    assert job.code == 0, job.output
    assert job.result
    assert job.result["refusal"]["reason"] == "DigestMismatch"
    assert "The training set that the run trained on has digest" in job.result["refusal"]["message"]


def test_code_that_raises_ends_with_exit_code_3_and_its_line(world: Any) -> None:
    job = world.job("train", world.request("fails", entrypoint="team.models:fails"))
    assert job.code == 3, job.output
    assert job.result
    assert job.result["refusal"]["reason"] == "TrainingCodeFailed"
    assert "raised KeyError at team/models.py, line" in job.result["refusal"]["message"]
    assert not world.store.exists("runs/flights/fails/manifest.json")


def test_a_condition_that_cannot_be_evaluated_is_refused_before_training(world: Any) -> None:
    tests = {"slices": [{"name": "s", "where": "orign = 'JFK'", "metric": "rocAuc"}]}
    job = world.job("train", world.request("typo", tests=tests))
    assert job.code == 0, job.output
    assert job.result
    assert job.result["refusal"]["reason"] == "InvalidExpression"
    assert "tests.slices[s].where is `orign = 'JFK'`" in job.result["refusal"]["message"]
    assert "team.models" not in job.output.partition("slipway-refusal")[0].rpartition("Executing task")[2]


@pytest.fixture(scope="module")
def thief(world: Any, first: Run, feast: dict[str, str]) -> Run:
    """A run in what a pod allows, while `first` serves, of a model that looks for credentials when it is unpickled."""
    if os.geteuid() != 0:
        pytest.skip("only root can make the file system of a pod")
    stable = {
        "name": "flight-delays-stable",
        "score": first.registered.score,
        "model": first.registered.artifact,
        "manifestDigest": first.registered.manifest_digest,
    }
    changes = {"entrypoint": "team.models:thief", "seed": 8, "stable": stable, **GOALS}
    request = world.request("thief", featureSets=[world.feature_set()], **changes)
    return Run(request, world.train(request, pod=True), world.judge(request, pod=True, **feast))


def test_a_model_cannot_read_credentials_when_it_is_unpickled(
    world: Any, thief: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {metric.name for metric in thief.registered.metrics}
    assert "latencyP50Milliseconds" in measured, "the model server has unpickled it, too"
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "code"))
    stored = world.store.get_bytes("runs/flights/thief/produce/model")
    monkeypatch.setenv("SLIPWAY_S3_SECRET_KEY", "secret")
    with pytest.raises(RuntimeError, match="found the credentials"):
        joblib.load(BytesIO(stored))


def test_another_model_is_another_version_and_is_compared_with_the_one_that_serves(
    world: Any, first: Run, thief: Run
) -> None:
    digests, before = thief.registered.digests, first.registered.digests
    assert digests
    assert before
    assert digests.model != before.model
    assert digests.parameters != before.parameters, "the seed is among them"
    assert digests.training_set == before.training_set
    stored = Evaluation.model_validate_json(world.store.get_bytes(thief.registered.evaluation))
    assert stored.stable
    assert stored.stable.metrics
    assert f"{stored.stable.metrics['rocAuc']:.6f}" == f"{float(first.registered.score or ''):.6f}"
    optimize = thief.registered.verdicts[0]
    assert optimize.verdict == "Failed"
    assert "worse than flight-delays-stable, which serves and has" in optimize.message
    assert "which ship.policy NeutralLaunch allows" not in optimize.message


def test_a_model_that_gives_no_probabilities_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "code"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "code"))
    from team import models  # type: ignore[import-not-found]

    fields = [InputField(name="x", type="Double", source="Request")]
    rows = {"test": pd.DataFrame({"x": np.arange(50.0)})}
    joblib.dump(models.Noise(), tmp_path / "noise")
    found = evaluation.predict(tmp_path / "noise", fields, rows, tmp_path / "a", 5)
    assert found.probabilities["test"].tolist() == [0.5] * 50
    assert len(found.latencies) == 5
    joblib.dump(models.Broken(), tmp_path / "broken")
    with pytest.raises(RefusalError, match="are no probabilities"):
        evaluation.predict(tmp_path / "broken", fields, rows, tmp_path / "b", 0)
    (tmp_path / "garbage").write_bytes(b"not a pickle")
    with pytest.raises(RefusalError, match="The stored model raised") as caught:
        evaluation.predict(tmp_path / "garbage", fields, rows, tmp_path / "c", 0)
    assert caught.value.reason == "EvaluationFailed"
