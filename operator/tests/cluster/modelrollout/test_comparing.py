"""Comparisons of logged answers on a real API server: a Job for a step's copies, its result, and what follows."""

from __future__ import annotations

from typing import Any

import pytest
from cluster.modelrollout.director import PROJECT, Director, Eventually, made, rejected, rollout, serves
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.artifacts import Location
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.mailbox import Mailbox
from slipway.contracts.jobs import Contract
from slipway.contracts.predictions import CompareRequest, CompareResult, Deltas
from slipway.controllers.modelrollout import ModelRolloutController, comparing
from slipway.controllers.modelrollout.errands import Office
from slipway.controllers.shared.work import Runner
from slipway.runtime.resources import INFERENCE_SERVICE, JOB, MODEL_PROJECT, PLATFORM, Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHECK = {"name": "decisions", "source": "PredictionLog", "metric": "decisionChangePercent", "max": "2"}
SURE = {"name": "sure", "source": "PredictionLog", "metric": "coveragePercent", "min": "85"}
SERVING = {"abstain": {"below": "0.7", "fallback": "Baseline"}}
STEPS: list[Object] = [
    {"name": "copies", "mirror": {"percent": 100, "for": "2s"}},
    {"name": "everyone", "setWeight": 100},
]


class Bucket:
    """An artifact store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    async def put(self, _: Location, key: str, data: bytes) -> None:
        self.objects[key] = data

    async def get_json(self, _: Location, key: str, __: type[Contract]) -> Any:
        return self.objects.get(key)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(comparing, "LAG", comparing.LAG / 25)
    return Bucket()


@pytest.fixture
def controller(bucket: Bucket, statistics: GatewayStatistics) -> ModelRolloutController:
    return ModelRolloutController(statistics, office=Office(Mailbox(bucket), Runner("runner:1")))  # type: ignore[arg-type]


async def prepare(director: Director) -> None:
    """A project, credentials for the log, and a rollout that copies."""
    project = {
        "task": {"statement": "Late?", "target": "late"},
        "requirements": {"optimize": {"metric": {"name": "rocAuc"}}},
        "tests": {"slices": [{"name": "evenings", "where": "hour >= 18", "metric": "accuracy"}]},
    }
    metadata = {"name": PROJECT, "namespace": director.namespace}
    await director.client.create(MODEL_PROJECT, made(MODEL_PROJECT, metadata, project))
    secret = {"namespace": "slipway-system", "name": "s3-predictions"}
    await director.client.merge(
        PLATFORM.key("default"), {"spec": {"artifacts": {"s3": {"predictionLogSecretRef": secret}}}}
    )
    wanted = rollout(director.namespace, steps=STEPS, checks=[CHECK, SURE], predictionLog={}, serving=SERVING)
    await director.client.create(director.key.type, wanted)


async def compared(director: Director) -> Object | None:
    """The Job of a comparison that nobody has ended."""
    jobs = await director.client.list(JOB, director.namespace)
    return next((job for job in jobs if not (job.get("status") or {}).get("conditions")), None)


async def end(director: Director, bucket: Bucket, job: Object, changed: str) -> CompareRequest:
    """What the Job and the Job controller do."""
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[0] == "compare"
    request = CompareRequest.model_validate_json(bucket.objects[arguments[2]])
    counts = {"pairs": 500, "stable_rows": 500, "candidate_rows": 500}
    shares = {"decision_change_percent": changed, "candidate_coverage_percent": "91", "stable_coverage_percent": "90"}
    overall = Deltas.model_validate({**counts, **shares})
    bucket.objects[f"{arguments[6]}result.json"] = CompareResult(overall=overall, page=f"{arguments[6]}report.html")
    began = job["metadata"]["creationTimestamp"]
    conditions = [
        {"type": kind, "status": "True", "reason": "Done", "lastTransitionTime": began, "lastProbeTime": began}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"startTime": began, "completionTime": began, "succeeded": 1, "conditions": conditions}
    await director.client.merge(JOB.key_of(job), {"status": status}, "status")
    return request


async def test_a_version_that_decides_alike_is_promoted_and_servers_log(
    director: Director,
    start_operator: Any,
    controller: ModelRolloutController,
    bucket: Bucket,
    eventually: Eventually,
) -> None:
    await prepare(director)
    first = await director.add_version(1)
    await start_operator([controller])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    service = await director.client.get(INFERENCE_SERVICE.key("delays-0000000001", director.namespace))
    names = {each["name"] for each in service["spec"]["predictor"]["model"]["env"]}
    assert {"SLIPWAY_PREDICTION_LOG_PREFIX", "SLIPWAY_PREDICTION_LOG_S3_SECRET_KEY"} <= names
    assert {"SLIPWAY_ABSTAIN_BELOW", "SLIPWAY_ABSTAIN_FALLBACK"} <= names
    second = await director.add_version(2)
    job = await eventually(lambda: compared(director), seconds=90, pause=0.2)
    request = await end(director, bucket, job, "1.5")
    assert (request.stable, request.candidate) == (first, second)
    assert [each.name for each in request.slices] == ["evenings"]
    await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
    status = await director.status()
    assert status["predictionLog"]["location"] == f"s3://slipway/predictions/{director.namespace}/delays/"
    (found,) = status["comparisons"]
    assert (found["pairs"], found["decisionChangePercent"], found["step"]) == (500, "1.5", "copies")
    assert (found["coveragePercent"], found["stableCoveragePercent"]) == ("91", "90")
    assert found["report"].startswith("s3://slipway/jobs/")
    assert found["finishedAt"] >= found["until"]
    assert len(await director.client.list(JOB, director.namespace)) == 1


async def test_a_version_that_decides_otherwise_is_rejected_and_no_user_meets_it(
    director: Director,
    start_operator: Any,
    controller: ModelRolloutController,
    bucket: Bucket,
    eventually: Eventually,
) -> None:
    await prepare(director)
    first = await director.add_version(1)
    await start_operator([controller])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=20)
    with sending(client) as answers:
        second = await director.add_version(2)
        job = await eventually(lambda: compared(director), seconds=90, pause=0.2)
        await end(director, bucket, job, "2.5")
        await eventually(lambda: rejected(director, second), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.of(second) == 0
    assert answers.of(first) > 20
    (rejection,) = (await director.status())["rejected"]
    assert "The share of changed decisions is 2.5 % over 500 pairs, above the maximum of 2." in rejection["message"]
