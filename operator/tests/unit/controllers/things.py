"""Objects and answers of Jobs that tests are made of."""

from __future__ import annotations

import base64
import json
from typing import Any

from unit.controllers.world import NS, World

from slipway.api.common import MetricValue
from slipway.api.datasetversion import Violation
from slipway.api.modelversion import Digests, InputField, Verdict
from slipway.contracts.digests import digest_json, short
from slipway.contracts.jobs import (
    DeleteDataResult,
    FeatureResult,
    FeatureTeardownResult,
    IngestResult,
    ProduceResult,
    RegisterResult,
)
from slipway.runtime.resources import (
    DATASET,
    FEATURE_SET,
    GATEWAY,
    MODEL_PROJECT,
    NAMESPACE,
    PLATFORM,
    SECRET,
    Object,
)

PROJECT = "flight-delays"
SYSTEM = "slipway-system"


def secret(name: str, **values: str) -> Object:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name, "namespace": SYSTEM}, "data": data}


def platform(**spec: Any) -> Object:
    return {
        "metadata": {"name": "default"},
        "spec": {
            "artifacts": {
                "s3": {
                    "endpoint": "http://s3.local:8333",
                    "bucket": "slipway",
                    "secretRef": {"namespace": SYSTEM, "name": "s3"},
                }
            },
            "features": {"postgres": {"secretRef": {"namespace": SYSTEM, "name": "feast"}}},
            "gateway": {"parentRef": {"namespace": SYSTEM, "name": "models"}},
            **spec,
        },
    }


def project(**spec: Any) -> Object:
    return {
        "metadata": {"name": PROJECT, "namespace": NS},
        "spec": {
            "task": {"statement": "Will it be late?", "target": "late"},
            "requirements": {"optimize": {"type": "Metric", "metric": {"name": "rocAuc"}}},
            "training": {
                "datasetRef": {"name": "flights"},
                "featureSetRefs": [{"name": "history"}],
                "inputs": ["carrier"],
                "code": {"image": {"name": "runner:1", "entrypoint": "flights.train:train"}},
                "parameters": {"depth": 3},
            },
            **spec,
        },
    }


def dataset(name: str = "flights", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": NS},
        "spec": {
            "projectRef": {"name": PROJECT},
            "source": {"type": "S3", "s3": {"prefix": f"raw/{name}/"}},
            "key": ["id"],
            "columns": [{"name": "id", "type": "Integer"}, {"name": "carrier", "type": "String"}],
            **spec,
        },
    }


def feature_set(name: str = "history", of: str = "flights", **spec: Any) -> Object:
    view = {
        "name": f"{name}_view",
        "entities": ["carrier"],
        "source": {"type": "Aggregate", "aggregate": {"datasetRef": {"name": of}, "window": "168h"}},
        "features": [{"name": "late_share", "expression": "avg(late)"}],
    }
    return {
        "metadata": {"name": name, "namespace": NS},
        "spec": {
            "projectRef": {"name": PROJECT},
            "entities": [{"name": "carrier"}],
            "views": [view],
            **spec,
        },
    }


def pool(**spec: Any) -> Object:
    return {"metadata": {"name": "gpu"}, "spec": {"resource": "nvidia.com/gpu", **spec}}


def namespace(**labels: str) -> Object:
    return {"metadata": {"name": NS, "labels": labels}}


def foundation(world: World) -> None:
    """What administrators set up."""
    world.put(NAMESPACE, namespace(ml="yes"))
    world.put(SECRET, secret("s3", accessKey="key", secretKey="word"))
    world.put(SECRET, secret("feast", host="pg", port="5432", database="feast", username="u", password="p"))
    programmed = {"type": "Programmed", "status": "True", "reason": "Programmed", "message": ""}
    gateway = {"metadata": {"name": "models", "namespace": SYSTEM}, "spec": {"listeners": [{"name": "http"}]}}
    world.put(GATEWAY, {**gateway, "status": {"conditions": [programmed]}})
    world.put(PLATFORM, platform())


def everything(world: World) -> None:
    """A whole project."""
    foundation(world)
    world.put(MODEL_PROJECT, project())
    world.put(DATASET, dataset())
    world.put(FEATURE_SET, feature_set())


def month(world: World, number: int, content: str = "") -> None:
    """Data arrives."""
    world.artifacts.objects[f"raw/flights/{number:02}.parquet"] = (content or f"month {number}").encode()


# ---- what Jobs answer: functions of the request alone, as the real ones are ------------------------------------------
def ingested(request: dict[str, Any], *, broken: str = "") -> IngestResult:
    digest = digest_json([request["objects"], request["columns"]])
    folder = f"datasets/{request['namespace']}/{request['dataset']}/versions/{short(digest)}/"
    violations = [Violation(rule="enough", severity="Block", partition=None, message=broken)] if broken else []
    return IngestResult(
        digest=digest,
        verdict="Failed" if broken else "Passed",
        rows=100 * len(request["objects"]),
        partitions=len(request["objects"]),
        manifest=None if broken else f"{folder}manifest.json",
        profile=f"{folder}profile.json",
        report=f"{folder}report.json",
        violations=violations,
    )


def manifest_of(request: dict[str, Any]) -> dict[str, Any]:
    names = {name: request[name] for name in ("namespace", "dataset", "columns", "key")}
    return {**names, "parts": []}


def torn_down(request: dict[str, Any]) -> FeatureTeardownResult:
    return FeatureTeardownResult(removed=request["objects"])


def deleted(objects: int) -> DeleteDataResult:
    return DeleteDataResult(objects=objects)


def materialized(request: dict[str, Any]) -> FeatureResult:
    return FeatureResult(
        objects=[f"view/{each['name']}" for each in request["views"]], materialized_until="2026-11-01T00:00:00Z"
    )


def produced(_: dict[str, Any]) -> ProduceResult:
    return ProduceResult(outputs={"model": "runs/model.joblib@sha256:" + "1" * 64})


def registered(request: dict[str, Any], *, passed: bool = True) -> RegisterResult:
    made_from = {
        key: request[key] for key in ("datasetDigest", "parameters", "seed", "featureSets", "requirements", "task")
    }
    model = digest_json(made_from)
    digest = "sha256:" + "2" * 64
    folder = f"{request['modelPrefix']}{short(model)}"
    gate = Verdict(name="optimize", verdict="Passed" if passed else "Failed", message="rocAuc is 0.7, at least 0.6.")
    return RegisterResult(
        digests=Digests(
            model=model,
            parameters=digest,
            configuration=digest,
            feature_pipeline=digest,
            training_set=digest,
            validation_set=digest,
            test_set=digest,
            code=digest,
            pipeline=request["pipelineDigest"],
            image="runner:1",
        ),
        artifact=folder,
        manifest=f"{folder}/manifest.json",
        manifest_digest=digest,
        evaluation=f"{folder}/evaluation.json",
        inputs=[InputField(name="carrier", type="String", source="Request")],
        metrics=[MetricValue(name="rocAuc", value="0.7")],
        score="0.7",
        verdicts=[gate],
        passed=passed,
    )


def play(world: World, job: Object) -> None:
    """Do what a Job is asked, and end it."""
    request, stage = world.request_of(job), job["metadata"]["labels"]["slipway.dev/stage"]
    if stage == "ingest":
        result = ingested(request)
        world.artifacts.objects[result.report or ""] = b"{}"
        world.artifacts.objects[result.manifest or ""] = json.dumps(manifest_of(request)).encode()
        world.end(job, result)
    elif stage == "features":
        world.end(job, materialized(request))
    elif stage == "train":
        world.end(job, produced(request))
    elif stage == "judge":
        world.end(job, registered(request))
    elif stage == "teardown":
        world.end(job, torn_down(request))
    else:
        found = [key for key in world.artifacts.objects if key.startswith(tuple(request["prefixes"]))]
        for key in found:
            del world.artifacts.objects[key]
        world.end(job, deleted(len(found)))


async def live(world: World, rounds: int = 12) -> None:
    """Let everything happen that can: reconcile, play Jobs, until nothing is left to do."""
    for _ in range(rounds):
        await world.settle()
        if not world.jobs():
            return
        for job in world.jobs():
            play(world, job)
    raise AssertionError("there is always another Job")
