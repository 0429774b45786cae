"""A version's files, manifest and name: what stands below `models/NAMESPACE/PROJECT/DIGEST10/`.

The version's digest covers `model.joblib` and `definition.json`, which holds everything that the model was made from.
So the same data, code, parameters, seed, image and configuration give the same name, and a changed requirement, other
data or another default of a feature give another one, even where the bytes of the model are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slipway.api.modelversion import Digests, FeatureServiceRecord, InputField, OutputField
from slipway.contracts.digests import canonical_json, digest_bytes, digest_json, short
from slipway.contracts.jobs import Contract, ManifestFile, ModelManifest
from slipway.contracts.training import Arguments
from slipway_pipelines.store import digest_file

MODEL, DEFINITION, MANIFEST, EVALUATION = "model.joblib", "definition.json", "manifest.json", "evaluation.json"
BASELINE = "baseline.joblib"
"""What answers where the model is too unsure, if a rollout wants it so. It follows from the version's definition, so it
is no part of its digest."""
OUTPUTS = {
    "BinaryClassification": (
        OutputField(name="label", type="Boolean"),
        OutputField(name="probability", type="Double"),
    )
}
"""Fields of each answer, by the type of the task."""
NO_STABLE = "why-not.txt"
"""File that stands in a model's place and says why the model is not there."""


class VersionInputs(Contract):
    """Digests of what the version is made from, as the judge computed them itself, and the model's inputs."""

    training_set: str
    validation_set: str
    test_set: str
    feature_pipeline: str
    code: str
    parameters: str
    configuration: str
    pipeline: str
    image: str
    inputs: list[InputField]


class Definition(Contract):
    """`definition.json`: what makes two versions the same. No time, no name of a run."""

    namespace: str
    project: str
    dataset_version: str
    target: str
    made_from: VersionInputs


def definition(arguments: Arguments, made_from: VersionInputs) -> bytes:
    """The bytes of `definition.json`."""
    return canonical_json(
        Definition(
            namespace=arguments.run.namespace,
            project=arguments.run.project,
            dataset_version=arguments.data.dataset_version,
            target=arguments.data.task.target,
            made_from=made_from,
        ).wire()
    )


def files(model: Path, definition_bytes: bytes) -> list[ManifestFile]:
    """The files of a version, which its digest covers."""
    return [
        ManifestFile(path=DEFINITION, digest=digest_bytes(definition_bytes), size=len(definition_bytes)),
        listed_file(MODEL, model),
    ]


def listed_file(name: str, path: Path) -> ManifestFile:
    """A file as the manifest lists it."""
    return ManifestFile(path=name, digest=digest_file(path), size=path.stat().st_size)


def version_digest(listed: Sequence[ManifestFile]) -> str:
    """The digest that names the version."""
    return digest_json([file.wire() for file in listed])


def version_name(project: str, digest: str) -> str:
    """Name of the ModelVersion."""
    return f"{project}-{short(digest)}"


def digests(made_from: VersionInputs, model_digest: str) -> Digests:
    """The digests that stand in the ModelVersion."""
    return Digests(
        model=model_digest,
        parameters=made_from.parameters,
        configuration=made_from.configuration,
        feature_pipeline=made_from.feature_pipeline,
        training_set=made_from.training_set,
        validation_set=made_from.validation_set,
        test_set=made_from.test_set,
        code=made_from.code,
        pipeline=made_from.pipeline,
        image=made_from.image,
    )


def manifest(
    arguments: Arguments,
    made_from: VersionInputs,
    listed: list[ManifestFile],
    feature_service: FeatureServiceRecord | None,
    created_at: str,
    baseline: ManifestFile | None = None,
) -> ModelManifest:
    """`manifest.json`: what a server verifies before it loads anything."""
    digest = version_digest(listed)
    return ModelManifest(
        files=listed,
        model_digest=digest,
        digests=digests(made_from, digest),
        inputs=made_from.inputs,
        outputs=list(OUTPUTS[arguments.data.task.type]),
        feature_service=feature_service,
        baseline=baseline,
        target=arguments.data.task.target,
        namespace=arguments.run.namespace,
        project=arguments.run.project,
        run=arguments.run.run,
        dataset_version=arguments.data.dataset_version,
        created_at=created_at,
    )
