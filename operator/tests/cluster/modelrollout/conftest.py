"""A stage for each test: CRDs of KServe and Gateway API, a Platform, a Gateway, a real Envoy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cluster.modelrollout.director import Director, made
from cluster.modelrollout.realcluster import gateway_crds, real
from cluster.modelrollout.realgateway import Running, may_run_on_api_server
from cluster.modelrollout.stage import PARENT, Servers, Stage, staged
from kubernetes.aio.client import ApiClient, ApiException, ApisApi, CustomObjectsApi

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.errors import AlreadyExists
from slipway.runtime.resources import GATEWAY, NAMESPACE, PLATFORM, POD, SERVICE_ACCOUNT, Object
from slipway_cluster import gobuild

REPOSITORY = Path(__file__).parents[4]
Eventually = Callable[..., Awaitable[Any]]


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


async def make_surroundings(client: Client, statistics_port: int, mode: str = "Standard") -> None:
    for name in ("slipway-system", "envoy"):
        with contextlib.suppress(AlreadyExists):
            await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    secret = {"namespace": "slipway-system", "name": "s3"}
    spec = {
        "artifacts": {"s3": {"endpoint": "http://store:8333", "bucket": "slipway", "secretRef": secret}},
        "features": {"postgres": {"secretRef": secret}},
        "gateway": {"parentRef": PARENT, "statisticsPort": statistics_port},
        "serving": {"mode": mode},
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


@pytest_asyncio.fixture
async def real_gateway(
    crds: None,  # noqa: ARG001 - installed for their effect
    install_crds: Any,
    client: Client,
    namespace: str,
    kubeconfig: Path,
    tmp_path: Path,
) -> AsyncIterator[tuple[Running, Servers]]:
    """Envoy Gateway that reads from the API server, its Envoy, and model servers."""
    if not may_run_on_api_server():
        pytest.skip("Envoy Gateway looks for certificates in /certs and writes to /var/lib/eg: root may make them")
    await install_crds(*gateway_crds())
    await make_surroundings(client, 1)
    async with real(client, namespace, tmp_path, kubeconfig) as one:
        yield one


@pytest.fixture
def director(client: Client, namespace: str, stage: Stage) -> Director:
    return Director(client, namespace, stage)


@pytest_asyncio.fixture
async def statistics() -> AsyncIterator[GatewayStatistics]:
    one = GatewayStatistics()
    yield one
    await one.close()
