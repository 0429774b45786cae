"""Registration: the model's folder in the artifact store, its feature service in Feast, and what is recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from slipway.api.modelversion import FeatureServiceRecord
from slipway.contracts.digests import digest_bytes, short
from slipway.contracts.jobs import ModelManifest, RegisterResult
from slipway.contracts.training import Arguments
from slipway_pipelines.store import MissingObjectError, ObjectStore, format_time, require_digest
from slipway_pipelines.training import registration
from slipway_pipelines.training.registration import VersionInputs
from slipway_pipelines.training.results import Evaluation


def publish(
    store: ObjectStore, arguments: Arguments, made_from: VersionInputs, model: Path, baseline: Path, evaluation: Path
) -> RegisterResult:
    """Writes `model.joblib`, `baseline.joblib`, `definition.json`, `evaluation.json` and, last, `manifest.json`.

    A version that is registered already keeps its manifest and evaluation: it is a record. RefusalError DigestMismatch
    when the model or the baseline is not the one that was evaluated, or the folder holds another one.
    """
    measured = Evaluation.model_validate_json(evaluation.read_bytes())
    definition = registration.definition(arguments, made_from)
    listed = registration.files(model, definition)
    digest = registration.version_digest(listed)
    evaluated = next(file.digest for file in listed if file.path == registration.MODEL)
    require_digest("The model that is registered", evaluated, measured.model)
    simple = registration.listed_file(registration.BASELINE, baseline)
    require_digest("The baseline that is registered", simple.digest, measured.baseline)
    folder = f"{arguments.run.model_prefix}{short(digest)}"
    existing = _find(store, f"{folder}/{registration.MANIFEST}")
    if existing is None:
        service = _feature_service(arguments, digest)
        manifest = registration.manifest(arguments, made_from, listed, service, format_time(datetime.now(UTC)), simple)
        store.upload(model, f"{folder}/{registration.MODEL}")
        store.upload(baseline, f"{folder}/{registration.BASELINE}")
        store.put_bytes(f"{folder}/{registration.DEFINITION}", definition, "application/json")
        store.put_bytes(f"{folder}/{registration.EVALUATION}", evaluation.read_bytes(), "application/json")
        manifest_digest = store.put_json(f"{folder}/{registration.MANIFEST}", manifest.wire())
    else:
        manifest = ModelManifest.model_validate_json(existing)
        manifest_digest = digest_bytes(existing)
        require_digest(f"The version in {folder}", manifest.model_digest, digest)
    return RegisterResult(
        digests=manifest.digests,
        artifact=folder,
        manifest=f"{folder}/{registration.MANIFEST}",
        manifest_digest=manifest_digest,
        evaluation=f"{folder}/{registration.EVALUATION}",
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        feature_service=manifest.feature_service,
        metrics=measured.metric_values(),
        score=measured.score,
        baselines=measured.baseline_results(arguments.goals),
        baseline_digest=manifest.baseline.digest if manifest.baseline else None,
        verdicts=measured.verdicts,
        passed=measured.passed,
    )


def _find(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get_bytes(key)
    except MissingObjectError:
        return None


def _feature_service(arguments: Arguments, digest: str) -> FeatureServiceRecord | None:
    """Declares which features the version reads; None for a version without FeatureSets."""
    if not arguments.data.feature_sets:
        return None
    from slipway_pipelines.training.service import apply_feature_service

    name = registration.version_name(arguments.run.project, digest)
    return apply_feature_service(name, arguments.data.feature_sets)
