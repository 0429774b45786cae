"""From a run that may start to its request, and from its result to the record: pure."""

from __future__ import annotations

from typing import Any

from slipway.adapters import labels
from slipway.adapters.artifacts import Location, key_of
from slipway.adapters.engines.base import own_key
from slipway.api.featureset import FeatureSet
from slipway.api.meta import API_VERSION, LocalRef
from slipway.api.modelversion import ModelVersion, ModelVersionSpec, RunRecord
from slipway.api.trainingrun import TrainingRun
from slipway.contracts.digests import short
from slipway.contracts.jobs import (
    FeatureDataset,
    OwnPipelineFile,
    RegisterResult,
    StableResult,
    TrainingFeatureSet,
    TrainingRequest,
)
from slipway.contracts.pipelines import combined_digest
from slipway.controllers.featureset.definition import definition_digest
from slipway.controllers.trainingrun.observe import TrainingRunSnapshot


def training_request(snapshot: TrainingRunSnapshot, pipeline_digest: str) -> TrainingRequest:
    """The request of a run that nothing stands in the way of."""
    run, project, version = snapshot.subject.typed, snapshot.project, snapshot.dataset_version
    assert project is not None
    assert version is not None
    assert snapshot.run is not None
    spec, meta = run.spec, run.metadata
    sets = [each for each in snapshot.feature_sets.values() if each is not None]
    fetched = snapshot.own.pipeline if snapshot.own is not None else None
    own = OwnPipelineFile(key=own_key(snapshot.run), digest=fetched.digest) if fetched is not None else None
    return TrainingRequest(
        store=snapshot.run.location.store,
        prefix=snapshot.run.prefix,
        namespace=snapshot.subject.namespace,
        project=spec.project_ref.name,
        run=meta.name,
        run_uid=meta.uid,
        dataset=version.spec.dataset_ref.name,
        dataset_version=version.metadata.name,
        dataset_manifest=key_of(version.spec.manifest or ""),
        dataset_digest=version.spec.digest,
        task=project.spec.task,
        inputs=list(spec.inputs),
        feature_sets=[_feature_set(each, snapshot) for each in sets],
        entrypoint=spec.code.image.entrypoint or "",
        image=spec.code.image.name,
        parameters=dict(spec.parameters),
        seed=spec.seed,
        requirements=project.spec.requirements,
        tests=project.spec.tests,
        stable=_stable(snapshot.stable),
        today=(meta.creation_timestamp or "")[:10],
        pipeline_digest=combined_digest(pipeline_digest, own.digest) if own is not None else pipeline_digest,
        own_pipeline=own,
        model_prefix=f"models/{snapshot.subject.namespace}/{spec.project_ref.name}/",
    )


def _feature_set(feature_set: FeatureSet, snapshot: TrainingRunSnapshot) -> TrainingFeatureSet:
    sources = feature_set.status.sources or ()
    return TrainingFeatureSet(
        name=feature_set.metadata.name,
        definition_digest=definition_digest(feature_set),
        feast_project=feature_set.status.feast_project or "",
        entities=list(feature_set.spec.entities),
        views=list(feature_set.spec.views),
        datasets=[
            FeatureDataset(
                dataset=each.dataset,
                version=each.version,
                manifest=key_of(snapshot.source_versions[each.version].spec.manifest or ""),
            )
            for each in sources
        ],
    )


def _stable(version: ModelVersion | None) -> StableResult | None:
    if version is None:
        return None
    return StableResult(
        name=version.metadata.name,
        score=version.spec.score,
        model=key_of(version.spec.artifact),
        manifest_digest=version.spec.manifest_digest,
    )


def version_name(project: str, result: RegisterResult) -> str:
    """`PROJECT-DIGEST10`, the name under which the judge registered the model."""
    assert result.digests is not None
    return f"{project}-{short(result.digests.model)}"


def record(run: TrainingRun, result: RegisterResult, location: Location) -> dict[str, Any]:
    """The manifest of the ModelVersion. It has no owner: records outlive what made them."""
    spec = ModelVersionSpec.model_validate(
        {
            **result.model_dump(
                include={
                    "digests",
                    "manifest_digest",
                    "inputs",
                    "outputs",
                    "feature_service",
                    "metrics",
                    "score",
                    "baselines",
                    "baseline_digest",
                    "verdicts",
                    "passed",
                }
            ),
            "project_ref": run.spec.project_ref,
            "run": RunRecord(name=run.metadata.name, uid=run.metadata.uid),
            "dataset_version_ref": LocalRef(name=run.spec.dataset_version_ref.name),
            "artifact": location.uri(result.artifact or ""),
            "manifest": location.uri(result.manifest or ""),
            "evaluation": location.uri(result.evaluation or ""),
        }
    )
    project = run.spec.project_ref.name
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": {
            "name": version_name(project, result),
            "namespace": run.metadata.namespace,
            "labels": labels.of(project),
        },
        "spec": spec.wire(),
    }
