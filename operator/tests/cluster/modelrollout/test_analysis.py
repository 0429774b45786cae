"""Analysis on a real API server: templates, a real web endpoint, Jobs, restarts, and requests through a real Envoy."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cluster.modelrollout.director import (
    Director,
    Eventually,
    made,
    rejected,
    rollout,
    serves,
    stalled,
    weight_is,
)
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.measurements import Measurements
from slipway.adapters.outbound import HOSTS, Outbound
from slipway.adapters.secrets import Secrets
from slipway.controllers.analysistemplate import AnalysisTemplateController, ClusterAnalysisTemplateController
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import (
    ANALYSIS_TEMPLATE,
    CLUSTER_ANALYSIS_TEMPLATE,
    JOB,
    MODEL_ROLLOUT,
    SECRET,
    Object,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USE: Object = {"templates": [{"name": "quality"}]}
STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "wait", "pause": {"for": "5s"}},
    {"name": "everyone", "setWeight": 100},
]


class Quality:
    """A web endpoint that says how good a version is, and counts who asked by which token."""

    def __init__(self) -> None:
        self.good: dict[str, bool] = {}
        self.tokens: Counter[str] = Counter()
        self.refused = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer good":
            self.refused += 1
            return web.Response(status=401)
        self.tokens[request.headers["Idempotency-Key"]] += 1
        good = self.good.get(request.match_info["version"], True)
        return web.json_response({"data": {"agreement": 0.99 if good else 0.5}})


@pytest_asyncio.fixture
async def quality() -> AsyncIterator[Quality]:
    one = Quality()
    app = web.Application()
    app.router.add_get("/{version}", one.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


def controllers(statistics: GatewayStatistics) -> list[Any]:
    """As the operator runs them, but that loopback may be asked: the endpoint of the test is there."""
    measurements = Measurements(Secrets(), Outbound(lambda _: False))
    return [
        ModelRolloutController(statistics, measurements=measurements),
        AnalysisTemplateController(),
        ClusterAnalysisTemplateController(),
    ]


async def make_template(director: Director, quality: Quality, **more: Any) -> None:
    headers = [{"key": "Authorization", "secretKeyRef": {"name": "quality", "key": "authorization"}}]
    source = {
        "url": f"{quality.url}/{{{{args.candidate-version}}}}",
        "headers": headers,
        "jsonPath": "$.data.agreement",
    }
    metric = {"name": "agreement", "provider": {"web": source}, "successCondition": "result >= {{args.least}}", **more}
    spec = {"args": [{"name": "least", "value": "0.98"}], "metrics": [metric]}
    meta = {"name": "quality", "namespace": director.namespace}
    await director.client.create(ANALYSIS_TEMPLATE, made(ANALYSIS_TEMPLATE, meta, spec))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**meta, "annotations": {HOSTS: "127.0.0.1"}},
        "stringData": {"authorization": "Bearer good"},
    }
    await director.client.create(SECRET, secret)


async def runs(director: Director, kind: str) -> Object:
    found = [each for each in (await director.status()).get("analysis", ()) if each["kind"] == kind]
    return found[0] if found else {}


async def test_templates_say_whether_they_can_be_used(
    director: Director, start_operator: Any, statistics: GatewayStatistics, quality: Quality, eventually: Eventually
) -> None:
    await make_template(director, quality)
    metrics = [
        {"name": "m", "provider": {"job": {"image": "a"}}},
        {"name": "n", "provider": {"job": {"image": "{{args.b}}"}}},
    ]
    name = f"broken-{director.namespace}"
    await director.client.create(
        CLUSTER_ANALYSIS_TEMPLATE, made(CLUSTER_ANALYSIS_TEMPLATE, {"name": name}, {"metrics": metrics})
    )
    await start_operator(controllers(statistics))

    async def ready(key: Any) -> tuple[str, str] | None:
        obj = await director.client.get(key)
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return next(((each["status"], each["message"]) for each in conditions if each["type"] == "Ready"), None)

    good = ANALYSIS_TEMPLATE.key("quality", director.namespace)
    assert await eventually(lambda: ready(good)) == ("True", "1 metric; every condition compiles.")
    bad = CLUSTER_ANALYSIS_TEMPLATE.key(name)
    sentence = "spec.metrics[1] (n): there is no argument b: declare it in spec.args, or correct the name."
    assert await eventually(lambda: ready(bad)) == ("False", sentence)
    await director.client.delete(bad)


async def test_a_version_that_a_web_endpoint_calls_bad_is_rejected_and_a_good_one_promoted(
    director: Director, start_operator: Any, statistics: GatewayStatistics, quality: Quality, eventually: Eventually
) -> None:
    await make_template(director, quality, interval="1s", failureLimit=1)
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=STEPS, checks=[], analysis=USE))
    first = await director.add_version(1)
    await start_operator(controllers(statistics))
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        quality.good["flight-delays-0000000002"] = False
        second = await director.add_version(2)
        await eventually(lambda: rejected(director, second), seconds=90, pause=0.2)
        await eventually(lambda: weight_is(director, "delays-0000000001", 100), seconds=90, pause=0.2)
        third = await director.add_version(3)
        await eventually(lambda: serves(director, third), seconds=90, pause=0.2)
    assert answers.lost == []
    (rejection,) = (await director.status())["rejected"]
    assert rejection["reason"] == "AnalysisFailed"
    assert rejection["message"].endswith("2 measurements Failed, 1 forgiven: result >= 0.98 is not true of 0.5.")
    run = await runs(director, "Background")
    assert (run["version"], run["phase"]) == (third, "Successful")
    assert quality.refused == 0
    assert set(quality.tokens.values()) == {1}


async def test_an_operator_that_is_replaced_repeats_no_measurement(
    director: Director, start_operator: Any, statistics: GatewayStatistics, quality: Quality, eventually: Eventually
) -> None:
    await make_template(director, quality, interval="1s", count=8)
    steps = [STEPS[0], {"name": "measure", "analyze": USE}, STEPS[2]]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=steps, checks=[]))
    first = await director.add_version(1)
    operator = await start_operator(controllers(statistics))
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    second = await director.add_version(2)

    async def taken() -> int:
        metrics = (await runs(director, "Step")).get("metrics") or [{}]
        return int(metrics[0].get("successful", 0))

    async def some_are_taken() -> bool:
        return await taken() >= 3

    await eventually(some_are_taken, seconds=90, pause=0.1)
    operator.stop()
    other = GatewayStatistics()
    await start_operator(controllers(other), identity="another")
    await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
    await other.close()
    run = await runs(director, "Step")
    assert (run["phase"], run["metrics"][0]["successful"]) == ("Successful", 8)
    assert len(quality.tokens) == 8, "a measurement was lost, or made under another name"
    # One may have been under way when the first operator ended; it was asked for again under the same token.
    assert sum(quality.tokens.values()) <= 9


async def test_a_failure_after_the_promotion_goes_back_and_no_request_is_lost(
    director: Director, start_operator: Any, statistics: GatewayStatistics, quality: Quality, eventually: Eventually
) -> None:
    await make_template(director, quality, initialDelay="2s")
    analysis = {"postPromotion": USE}
    await director.client.create(
        MODEL_ROLLOUT, rollout(director.namespace, steps=[STEPS[0], STEPS[2]], checks=[], analysis=analysis)
    )
    first = await director.add_version(1)
    await start_operator(controllers(statistics))
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        quality.good["flight-delays-0000000002"] = False
        second = await director.add_version(2)
        await eventually(lambda: serves(director, second), seconds=90, pause=0.1)
        await eventually(lambda: rejected(director, second), seconds=90, pause=0.2)
        await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
        await eventually(lambda: weight_is(director, "delays-0000000001", 100), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0
    assert answers.of(second) > 0
    outcomes = [(each["name"], each["outcome"]) for each in (await director.status())["history"]]
    assert outcomes == [(second, "RolledBack"), (second, "Promoted"), (first, "Promoted")]


async def test_a_job_measures_once_and_its_exit_code_decides(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    metric = {"name": "probe", "provider": {"job": {"image": "probe:1", "args": ["{{args.candidate-service}}"]}}}
    meta = {"name": "quality", "namespace": director.namespace}
    await director.client.create(ANALYSIS_TEMPLATE, made(ANALYSIS_TEMPLATE, meta, {"metrics": [metric]}))
    await director.client.create(
        MODEL_ROLLOUT, rollout(director.namespace, steps=STEPS[::2], checks=[], analysis={"prePromotion": USE})
    )
    first = await director.add_version(1)
    await start_operator(controllers(statistics))
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    second = await director.add_version(2)

    async def job() -> Object | None:
        found = await director.client.list(JOB, director.namespace)
        assert len(found) <= 1
        return found[0] if found else None

    made_job: Object = await eventually(job, seconds=90, pause=0.2)
    assert await weight_is(director, "delays-0000000002", 30)
    container = made_job["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["args"]) == ("probe:1", ["delays-0000000002-predictor"])
    assert made_job["metadata"]["ownerReferences"][0]["kind"] == "ModelRollout"
    times = {"startTime": "2026-11-23T08:00:00Z", "completionTime": "2026-11-23T08:00:09Z"}
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T08:00:09Z"}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    live = await director.client.get(JOB.key_of(made_job))
    await director.client.replace_status(
        live, JOB, {**times, "succeeded": 1, "uncountedTerminatedPods": {}, "conditions": conditions}
    )
    await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
    assert await director.names(JOB) == [made_job["metadata"]["name"]]


async def test_a_template_that_is_missing_is_told_and_waited_for(
    director: Director, start_operator: Any, statistics: GatewayStatistics, quality: Quality, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=STEPS, checks=[], analysis=USE))
    first = await director.add_version(1)
    await start_operator(controllers(statistics))
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    second = await director.add_version(2)
    await eventually(lambda: stalled(director, "AnalysisInvalid"), seconds=90, pause=0.2)
    assert await weight_is(director, "delays-0000000002", 30)
    await make_template(director, quality, interval="1s")
    await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
