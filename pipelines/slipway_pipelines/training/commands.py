"""Commands `train` and `judge` of `slipway-job`: the two halves of the pipeline, each with its own credentials."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.api.meta import Scalar
from slipway.api.reasons import Reason
from slipway.contracts import pipelines
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import Contract, ProduceResult, RegisterResult, TrainingRequest
from slipway.contracts.stages import JUDGE, PRODUCE
from slipway.contracts.training import Arguments
from slipway_pipelines.errors import OutageError, RefusalError
from slipway_pipelines.store import MissingObjectError, ObjectStore, ProgressWriter
from slipway_pipelines.training import local

MANIFEST = "manifest.json"


class StoredArtifact(Contract):
    """An output of the pipeline in the artifact store."""

    uri: str
    key: str
    digest: str
    size: int
    type: str


class RunManifest(Contract):
    """`runs/NAMESPACE/UID/manifest.json`: every output of the run's first half, by name, with its digest."""

    pipeline: str
    run: str
    outputs: dict[str, StoredArtifact]


def run_train(request: TrainingRequest, store: ObjectStore, progress: ProgressWriter) -> ProduceResult:
    """Runs `produce`: features, baselines, and the team's code. UserCodeError when that raises."""
    ir, more = _pipeline(request, store)
    spec = local.half(ir, PRODUCE)
    parameters = {**Arguments.of(request).pipeline_parameters(), **more}
    with tempfile.TemporaryDirectory(prefix="slipway-run-") as folder:
        outputs = local.run(spec, parameters, {}, Path(folder).resolve(), progress)
        types = _output_types(spec)
        stored = {
            name: _upload(store, f"{request.prefix}{PRODUCE}/{name}", _content(outputs[name]), types[name])
            for name in sorted(outputs)
        }
    manifest = RunManifest(pipeline=request.pipeline_digest, run=request.run, outputs=stored)
    store.put_json(f"{request.prefix}{MANIFEST}", manifest.wire())
    return ProduceResult(outputs={name: f"{item.key}@{item.digest}" for name, item in stored.items()})


def run_judge(request: TrainingRequest, store: ObjectStore, progress: ProgressWriter) -> RegisterResult:
    """Runs `judge` on what `produce` stored: verifies, evaluates, registers.

    RefusalError DigestMismatch when anything is not what was recorded.
    """
    spec = local.half(local.verified_ir(request.pipeline_digest, request.own_pipeline), JUDGE)
    manifest = _read_manifest(store, request)
    with tempfile.TemporaryDirectory(prefix="slipway-run-") as folder:
        given = _download(store, manifest, local.input_types(spec), Path(folder).resolve() / "given")
        root = Path(folder).resolve() / "made"
        outputs = local.run(spec, Arguments.of(request).pipeline_parameters(), given, root, progress)
        return RegisterResult.model_validate_json(outputs["result"].path.read_bytes())


def _pipeline(request: TrainingRequest, store: ObjectStore) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """The pipeline of the run, with the team's own in it if it has one; and what that takes beside our parameters.

    RefusalError InvalidPipeline when KFP's own tools cannot read it.
    """
    ir = local.verified_ir(request.pipeline_digest, request.own_pipeline)
    if request.own_pipeline is None:
        return ir, {}
    data = store.get_bytes(request.own_pipeline.key, request.own_pipeline.digest)
    try:
        own = pipelines.parse(data)
        composed = pipelines.compose(ir, own, request.parameters)
        local.require_readable(composed)
    except pipelines.UnfitError as error:
        raise RefusalError(Reason.InvalidPipeline, f"spec.pipeline: {error}") from None
    return composed, pipelines.arguments(own, request.parameters, request.seed)


def _output_types(spec: Mapping[str, Any]) -> dict[str, str]:
    declared = spec["root"]["outputDefinitions"]["artifacts"]
    return {name: item["artifactType"]["schemaTitle"] for name, item in declared.items()}


def _content(artifact: local.OutputArtifact) -> Path:
    """The artifact's file; metrics, which have only metadata, become a JSON file."""
    if not artifact.path.exists():
        artifact.path.parent.mkdir(parents=True, exist_ok=True)
        artifact.path.write_bytes(canonical_json(artifact.metadata))
    return artifact.path


def _upload(store: ObjectStore, key: str, path: Path, kind: str) -> StoredArtifact:
    return StoredArtifact(
        uri=store.uri(key), key=key, digest=store.upload(path, key), size=path.stat().st_size, type=kind
    )


def _read_manifest(store: ObjectStore, request: TrainingRequest) -> RunManifest:
    key = f"{request.prefix}{MANIFEST}"
    try:
        manifest = RunManifest.model_validate(store.get_json(key))
    except MissingObjectError:
        raise OutageError(f"{key} is not there (yet): the run's first half has to finish before it is judged") from None
    except ValueError as error:
        raise RefusalError(
            Reason.DigestMismatch, f"{key} is no manifest of a run ({error}): something else wrote it; train again."
        ) from None
    if manifest.pipeline != request.pipeline_digest:
        raise RefusalError(
            Reason.DigestMismatch,
            f"{key} is of pipeline {manifest.pipeline}, and the run is of {request.pipeline_digest}: train again.",
        )
    return manifest


def _download(
    store: ObjectStore, manifest: RunManifest, types: Mapping[str, str], folder: Path
) -> dict[str, local.InputArtifact]:
    given = {}
    for name, kind in types.items():
        item = manifest.outputs.get(name)
        if item is None:
            raise RefusalError(Reason.DigestMismatch, f"The run's manifest lacks {name}: train again.")
        store.download(item.key, folder / name, digest=item.digest)
        given[name] = local.InputArtifact(folder / name, kind)
    return given
