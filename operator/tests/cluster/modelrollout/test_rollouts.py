"""Rollouts on a real API server with the CRDs of KServe and Gateway API, and real requests through a real Envoy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from cluster.modelrollout.stage import PARENT, Stage, SteadyClient, sending, staged
from kubernetes.aio.client import ApiClient, ApiException, ApisApi, CustomObjectsApi

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.gateway import PIN_HEADER, token_of, weights_of
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.errors import AlreadyExists, Invalid
from slipway.runtime.resources import (
    EVENT,
    GATEWAY,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    NAMESPACE,
    PLATFORM,
    POD,
    SERVICE_ACCOUNT,
    Object,
)
from slipway_cluster import gobuild

pytestmark = pytest.mark.timeout(300)

REPOSITORY = Path(__file__).parents[4]
PROJECT = "flight-delays"
NAME = "delays"
Eventually = Callable[..., Awaitable[Any]]

STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "watch", "analyze": {"for": "3s"}},
    {"name": "everyone", "setWeight": 100},
]
CHECKS: list[Object] = [
    {"name": "success", "metric": "successPercent", "min": "95", "minimumRequests": 20, "window": "10s"}
]


@cache
def crd_manifests() -> tuple[Object, ...]:
    """Slipway's CRDs, and those of KServe and Gateway API from the pinned modules: two megabytes, so read once."""
    kserve = gobuild.module_folder("kserve", "github.com/kserve/kserve") / "charts" / "kserve-crd" / "templates"
    gateway = gobuild.module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    files = [
        *sorted((REPOSITORY / "crds").glob("*.yaml")),
        kserve / "serving.kserve.io_inferenceservices.yaml",
        gateway / "gateway.networking.k8s.io_httproutes.yaml",
        gateway / "gateway.networking.k8s.io_gateways.yaml",
    ]
    return tuple(yaml.load(file.read_text(), yaml.CSafeLoader) for file in files)


@pytest_asyncio.fixture
async def crds(install_crds: Any, connection: Connection, eventually: Eventually) -> None:
    """The CRDs, installed once for each API server."""
    api = await connection.api()
    try:
        if not await discovered(api, crd_manifests()):
            await install_crds(*crd_manifests())
            await eventually(lambda: discovered(api, crd_manifests()), seconds=90, pause=0.5)
    finally:
        await api.close()


async def discovered(api: ApiClient, manifests: Sequence[Object]) -> bool:
    """Whether discovery names the kinds: it lags behind the CRDs, and kopf looks there only when a CRD changes."""
    groups = {group.name for group in (await ApisApi(api).get_api_versions()).groups}
    for manifest in manifests:
        spec = manifest["spec"]
        if spec["group"] not in groups:
            return False
        version = spec["versions"][0]["name"]
        try:
            found = await CustomObjectsApi(api).get_api_resources(spec["group"], version)
        except ApiException:
            return False
        if spec["names"]["plural"] not in {each.name for each in found.resources}:
            return False
    return True


@pytest_asyncio.fixture
async def stage(
    crds: None,  # noqa: ARG001 - installed for their effect
    client: Client,
    namespace: str,
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    """Platform, Gateway and a proxy pod, which name the Envoy of this test."""
    async with staged(client, namespace, tmp_path) as one:
        await make_surroundings(client, one.proxy.admin)
        yield one


async def make_surroundings(client: Client, statistics_port: int) -> None:
    for name in ("slipway-system", "envoy"):
        with contextlib.suppress(AlreadyExists):
            await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    secret = {"namespace": "slipway-system", "name": "s3"}
    spec = {
        "artifacts": {"s3": {"endpoint": "http://store:8333", "bucket": "slipway", "secretRef": secret}},
        "features": {"postgres": {"secretRef": secret}},
        "gateway": {"parentRef": PARENT, "statisticsPort": statistics_port},
    }
    await client.apply(PLATFORM, made(PLATFORM, {"name": "default"}, spec))
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    await client.apply(GATEWAY, made(GATEWAY, PARENT, {"gatewayClassName": "envoy", "listeners": listeners}))
    labels = {
        "app.kubernetes.io/managed-by": "envoy-gateway",
        "gateway.envoyproxy.io/owning-gateway-name": PARENT["name"],
        "gateway.envoyproxy.io/owning-gateway-namespace": PARENT["namespace"],
    }
    container = {"name": "envoy", "image": "envoy", "securityContext": {}}
    pod = made(POD, {"name": "envoy", "namespace": "envoy", "labels": labels}, {"containers": [container]})
    pod["spec"]["serviceAccountName"] = "default"
    pod["spec"]["automountServiceAccountToken"] = False
    await make_service_account(client)
    with contextlib.suppress(AlreadyExists):
        await client.create(POD, pod)
    live = await client.get(POD.key("envoy", "envoy"))
    addresses = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    await client.replace_status(live, POD, addresses)


async def make_service_account(client: Client) -> None:
    """No controller makes the account here without which no pod is admitted."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "envoy"}}
    with contextlib.suppress(AlreadyExists):
        await client.create(SERVICE_ACCOUNT, account)


def made(type_: Any, metadata: Object, spec: Object) -> Object:
    return {"apiVersion": type_.api_version, "kind": type_.kind, "metadata": dict(metadata), "spec": spec}


def version(namespace: str, number: int, *, passed: bool = True) -> Object:
    digest = f"{number:010x}" + "a" * 54
    kinds = ("parameters", "configuration", "featurePipeline", "trainingSet", "validationSet", "testSet", "code")
    folder = f"s3://slipway/models/{namespace}/{PROJECT}/{digest[:10]}"
    spec = {
        "projectRef": {"name": PROJECT},
        "run": {"name": "run", "uid": "u"},
        "datasetVersionRef": {"name": "flights-1"},
        "digests": {
            **dict.fromkeys((*kinds, "pipeline"), f"sha256:{'b' * 64}"),
            "model": f"sha256:{digest}",
            "image": "runner",
        },
        "artifact": folder,
        "manifest": f"{folder}/manifest.json",
        "manifestDigest": f"sha256:{'c' * 64}",
        "inputs": [{"name": "carrier", "type": "String", "source": "Request"}],
        "metrics": [],
        "score": "0.8",
        "verdicts": [],
        "passed": passed,
        "evaluation": f"{folder}/evaluation.json",
    }
    return made(MODEL_VERSION, {"name": f"{PROJECT}-{digest[:10]}", "namespace": namespace}, spec)


def rollout(namespace: str, **spec: Any) -> Object:
    whole = {
        "projectRef": {"name": PROJECT},
        "routing": {"hostnames": ["models.example.com"], "path": "/delays"},
        "steps": STEPS,
        "checks": CHECKS,
        "rollback": {"keepPrevious": "1s"},
        **spec,
    }
    return made(MODEL_ROLLOUT, {"name": NAME, "namespace": namespace}, whole)


class Director:
    """Reads and changes the rollout of a test."""

    def __init__(self, client: Client, namespace: str, stage: Stage) -> None:
        self.client = client
        self.namespace = namespace
        self.stage = stage
        self.key = MODEL_ROLLOUT.key(NAME, namespace)

    async def status(self) -> Object:
        obj = await self.client.find(self.key)
        return (obj or {}).get("status") or {}

    async def stable(self) -> str:
        return str((await self.status()).get("stable", ""))

    async def add_version(self, number: int) -> str:
        """Versions have an age in whole seconds: of two made in one second, the name decides."""
        obj = await self.client.create(MODEL_VERSION, version(self.namespace, number))
        return str(obj["metadata"]["name"])

    async def weights(self) -> dict[str, int]:
        route = await self.client.find(HTTP_ROUTE.key(NAME, self.namespace))
        return weights_of(route) if route else {}

    async def names(self, type_: Any) -> list[str]:
        return [each["metadata"]["name"] for each in await self.client.list(type_, self.namespace)]

    def url(self) -> str:
        return f"http://127.0.0.1:{self.stage.proxy.listener}/delays/v1/models/{NAME}:predict"


@pytest.fixture
def director(client: Client, namespace: str, stage: Stage) -> Director:
    return Director(client, namespace, stage)


@pytest_asyncio.fixture
async def statistics() -> AsyncIterator[GatewayStatistics]:
    one = GatewayStatistics()
    yield one
    await one.close()


async def test_a_canary_is_promoted_and_no_request_is_lost(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
        # The version before goes too: its reference, its pin route, its servers.
        await eventually(lambda: only(director, "delays-0000000002"), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0
    assert answers.of(first) > 100
    assert answers.of(second) > 100
    assert await director.names(HTTP_ROUTE) == ["delays", "delays-pin-0000000002"]
    server = director.stage.servers.running["delays-0000000002"]
    assert server.paths == {f"/v1/models/{NAME}:predict"}
    history = (await director.status())["history"]
    assert [each["outcome"] for each in history] == ["Promoted", "Promoted"]


async def test_a_failing_version_is_rolled_back_and_clients_see_only_its_own_errors(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = f"{PROJECT}-0000000002"
        director.stage.servers.failing.add(second)
        await director.add_version(2)
        await eventually(lambda: rejected(director, second), seconds=90, pause=0.2)
        await eventually(lambda: only(director, "delays-0000000001"), seconds=90, pause=0.2)
    assert answers.lost == []
    assert answers.failed(first) == 0
    assert 0 < answers.failed(second) <= answers.of(second) // 2 + 1
    status = await director.status()
    assert (status["stable"], status["phase"]) == (first, "Healthy")
    assert "successPercent" not in status["rejected"][0]["message"], "a sentence, not a field"
    reasons = {each["reason"] for each in await director.client.list(EVENT, director.namespace)}
    assert {"Started", "StepStarted", "RolledBack"} <= reasons


async def test_an_operator_that_is_replaced_on_the_way_comes_to_the_same_end(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    operator = await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    client = SteadyClient(director.url(), rate=50)
    with sending(client) as answers:
        second = await director.add_version(2)
        await eventually(lambda: weight_is(director, "delays-0000000002", 30), seconds=90, pause=0.2)
        operator.stop()
        other = GatewayStatistics()
        await start_operator([ModelRolloutController(other)], identity="another")
        await eventually(lambda: serves(director, second), seconds=90, pause=0.2)
        await other.close()
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0


async def test_a_model_that_does_not_load_is_told_and_rejected(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    director.stage.servers.broken.add("delays-0000000001")
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    name = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: stalled(director, "LoadFailed"), seconds=90, pause=0.2)
    await director.client.merge(director.key, {"spec": {"progressDeadline": "1s"}})
    await eventually(lambda: rejected(director, name), seconds=90, pause=0.2)
    (rejection,) = (await director.status())["rejected"]
    assert rejection["reason"] == "LoadFailed"
    assert "the digest of model.joblib differs" in rejection["message"]


async def test_clients_cannot_pin_themselves_to_a_version(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    steps = [{"name": "wait", "pause": {"until": "Promoted"}}, {"name": "everyone", "setWeight": 100}]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, steps=steps))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    second = await director.add_version(2)
    await eventually(lambda: weight_is(director, "delays-0000000002", 0), seconds=90, pause=0.2)
    pin = await director.client.get(HTTP_ROUTE.key("delays-pin-0000000002", director.namespace))
    guesses = ["0000000002", second, "", "*", token_of(pin)[:-1], token_of(pin).upper() + "x"]
    async with aiohttp.ClientSession() as session:
        for guess in guesses:
            client = SteadyClient(director.url(), rate=1, headers={PIN_HEADER: guess, "x-slipway-version": second})
            await client.send(session)
            assert dict(client.answers.counts) == {(first, 200): 1}, guess
        known = SteadyClient(director.url(), rate=1, headers={PIN_HEADER: token_of(pin)})
        await known.send(session)
    assert dict(known.answers.counts) == {(second, 200): 1}, "the pin route is in force"


async def test_a_deleted_rollout_leaves_nothing(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics)])
    await eventually(lambda: serves(director, first), seconds=90, pause=0.2)
    await director.client.delete(director.key)

    async def gone() -> bool:
        left = [*await director.names(HTTP_ROUTE), *await director.names(INFERENCE_SERVICE)]
        return not left and await director.client.find(director.key) is None

    await eventually(gone, seconds=90, pause=0.2)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"name": "a", "setWeight": 50}], "the last setWeight must be 100"),
        (
            [{"name": "a", "setWeight": 50}, {"name": "b", "setWeight": 20}, {"name": "c", "setWeight": 100}],
            "weights must not fall",
        ),
    ],
)
@pytest.mark.usefixtures("crds")
async def test_steps_that_make_no_sense_are_refused(
    client: Client, namespace: str, steps: list[Object], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        await client.create(MODEL_ROLLOUT, rollout(namespace, steps=steps))


# ---- what is waited for ----------------------------------------------------------------------------------------------
async def serves(director: Director, name: str) -> bool:
    status = await director.status()
    ready = [each for each in status.get("conditions", ()) if each["type"] == "Ready"]
    return status.get("stable") == name and bool(ready) and ready[0]["status"] == "True"


async def stalled(director: Director, reason: str) -> bool:
    conditions = (await director.status()).get("conditions", ())
    return (reason, "True") in [(each["reason"], each["status"]) for each in conditions if each["type"] == "Stalled"]


async def rejected(director: Director, name: str) -> bool:
    return name in [each["name"] for each in (await director.status()).get("rejected", ())]


async def weight_is(director: Director, service: str, weight: int) -> bool:
    return (await director.weights()).get(service) == weight


async def only(director: Director, service: str) -> bool:
    return await director.names(INFERENCE_SERVICE) == [service]
