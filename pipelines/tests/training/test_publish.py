"""Registration: what is written, what is refused, what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import ModelManifest, TrainingRequest
from slipway.contracts.training import Arguments, configuration_digest
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import ObjectStore
from slipway_pipelines.training.publish import publish
from slipway_pipelines.training.registration import VersionInputs
from slipway_pipelines.training.results import Evaluation

MODEL, BASELINE = b"the model's bytes", b"the baseline's bytes"


def made_from(arguments: Arguments) -> VersionInputs:
    """Digests of nothing in particular."""
    some = digest_bytes(b"")
    return VersionInputs.model_validate(
        {
            **dict.fromkeys(("trainingSet", "validationSet", "testSet", "featurePipeline", "code", "pipeline"), some),
            "parameters": arguments.code.parameters_digest(),
            "configuration": configuration_digest(arguments.data, arguments.goals),
            "image": arguments.code.image,
            "inputs": [{"name": "carrier", "type": "String", "source": "Request"}],
        }
    )


def evaluation(model: bytes) -> Evaluation:
    """An evaluation of a model."""
    nothing: dict[str, Any] = {
        name: [] for name in ("costs", "scenarios", "slices", "calibration", "rocCurve", "verdicts")
    }
    return Evaluation.model_validate(
        {
            "model": digest_bytes(model),
            "baseline": digest_bytes(BASELINE),
            "rows": {"test": 1},
            "score": "0.7",
            "passed": True,
            "metrics": {"rocAuc": 0.7, "recall": None},
            "validationMetrics": {},
            "baselines": {},
            "coverage": {},
            **nothing,
        }
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A model, its baseline and its evaluation."""
    (tmp_path / "model").write_bytes(MODEL)
    (tmp_path / "baseline").write_bytes(BASELINE)
    (tmp_path / "evaluation").write_bytes(canonical_json(evaluation(MODEL).wire()))
    return tmp_path / "model", tmp_path / "baseline", tmp_path / "evaluation"


def test_a_registration_that_was_cut_short_is_completed(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path]
) -> None:
    arguments = Arguments.of(training_request)
    first = publish(store, arguments, made_from(arguments), *files)
    store.delete_prefix(f"{first.artifact}/")
    store.put_bytes(f"{first.artifact}/model.joblib", b"half of")
    again = publish(store, arguments, made_from(arguments), *files)
    assert again.artifact == first.artifact
    assert store.get_bytes(f"{again.artifact}/model.joblib") == MODEL
    manifest = ModelManifest.model_validate_json(store.get_bytes(again.manifest or "", again.manifest_digest))
    assert manifest.baseline is not None
    for file in (*manifest.files, manifest.baseline):
        store.get_bytes(f"{again.artifact}/{file.path}", file.digest)


def test_the_configuration_is_part_of_the_version(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path]
) -> None:
    arguments = Arguments.of(training_request)
    names = {publish(store, arguments, made_from(arguments), *files).artifact}
    changed = {
        "requirements": {"optimize": {"type": "Metric", "metric": {"name": "recall"}}},
        "seed": 8,
        "datasetVersion": "flights-9876543210",
    }
    for field, value in changed.items():
        request = TrainingRequest.model_validate({**training_request.wire(), field: value})
        other = Arguments.of(request)
        names.add(publish(store, other, made_from(other), *files).artifact)
    assert len(names) == 1 + len(changed)


@pytest.mark.parametrize("field", ["today", "run", "runUid", "prefix"])
def test_what_does_not_make_a_version(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path], field: str
) -> None:
    arguments = Arguments.of(training_request)
    first = publish(store, arguments, made_from(arguments), *files)
    request = TrainingRequest.model_validate({**training_request.wire(), field: "2027-01-01"})
    other = Arguments.of(request)
    second = publish(store, other, made_from(other), *files)
    assert (second.artifact, second.manifest_digest) == (first.artifact, first.manifest_digest)


def test_only_the_model_that_was_evaluated_is_registered(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path]
) -> None:
    arguments = Arguments.of(training_request)
    files[0].write_bytes(b"another model")
    with pytest.raises(RefusalError, match="The model that is registered has digest"):
        publish(store, arguments, made_from(arguments), *files)
    assert not list(store.list("models/"))


def test_only_the_baseline_that_was_evaluated_is_registered(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path]
) -> None:
    arguments = Arguments.of(training_request)
    files[1].write_bytes(b"another baseline")
    with pytest.raises(RefusalError, match="The baseline that is registered has digest"):
        publish(store, arguments, made_from(arguments), *files)
    assert not list(store.list("models/"))


def test_another_version_in_the_same_folder_is_refused(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path]
) -> None:
    arguments = Arguments.of(training_request)
    first = publish(store, arguments, made_from(arguments), *files)
    manifest = store.get_json(first.manifest or "")
    store.put_json(first.manifest or "", {**manifest, "modelDigest": digest_bytes(b"x")})
    with pytest.raises(RefusalError, match=f"The version in {first.artifact} has digest"):
        publish(store, arguments, made_from(arguments), *files)


def test_undefined_metrics_are_left_out(
    store: ObjectStore, training_request: TrainingRequest, files: tuple[Path, Path, Path]
) -> None:
    arguments = Arguments.of(training_request)
    result = publish(store, arguments, made_from(arguments), *files)
    assert [(metric.name, metric.value) for metric in result.metrics] == [("rocAuc", "0.7")]
    assert result.feature_service is None
