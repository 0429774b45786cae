"""Everything real but KServe: the operator, an API server, Envoy Gateway that reads from it, and Envoy.

Model servers are processes of this test; their Services and EndpointSlices name this machine's own address, since the
API server takes no loopback address for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import yaml
from cluster.modelrollout.realgateway import Running, gateway_objects, running_on
from cluster.modelrollout.stage import Envoy, Servers, Stage, free_port

from slipway.adapters.kserve import SERVICE_LABEL, predictor_of
from slipway.runtime.client import Client
from slipway.runtime.errors import AlreadyExists, NotFound
from slipway.runtime.resources import ENDPOINT_SLICE, GATEWAY, PLATFORM, Object, ResourceType
from slipway_cluster import gobuild

_GATEWAY_API = "gateway.networking.k8s.io"
_ENVOY_GATEWAY = "gateway.envoyproxy.io"
CRD = ResourceType(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
SERVICE = ResourceType("", "v1", "Service", "services")
CLASS = ResourceType(_GATEWAY_API, "v1", "GatewayClass", "gatewayclasses", namespaced=False)
PROXY = ResourceType(_ENVOY_GATEWAY, "v1alpha1", "EnvoyProxy", "envoyproxies")
_TYPES = {each.kind: each for each in (CLASS, PROXY, GATEWAY)}


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))
        return str(one.getsockname()[0])


@cache
def gateway_crds() -> tuple[Object, ...]:
    """Envoy Gateway's CRDs, whose files have a condition around them, and those of Gateway API."""
    module = gobuild.module_folder("envoy-gateway", "github.com/envoyproxy/gateway")
    own = sorted((module / "charts" / "gateway-crds-helm" / "templates" / "generated").glob("*.yaml"))
    api = gobuild.module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    texts = [each.read_text() for each in (*own, *sorted(api.glob(f"{_GATEWAY_API}_*.yaml")))]
    plain = ["\n".join(line for line in text.splitlines() if not line.startswith("{{")) for text in texts]
    found = [yaml.load(each, yaml.CSafeLoader) for each in plain if "kind: CustomResourceDefinition" in each]
    return tuple(found)


class ServedHere(Stage):
    """Plays KServe, with Services that a gateway can use; the gateway plays itself."""

    def __init__(self, client: Client, namespace: str, unused: Envoy) -> None:
        super().__init__(client, namespace, unused, own_address())

    async def _make_endpoints(self, service: Object) -> None:
        name = service["metadata"]["name"]
        server, predictor = self.servers.running[name], predictor_of(name)
        port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": server.port}
        manifest = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": predictor, "namespace": self._namespace},
            "spec": {"ports": [port]},
        }
        with contextlib.suppress(AlreadyExists):
            await self._client.create(SERVICE, manifest)
        labels = {**service["metadata"]["labels"], SERVICE_LABEL: predictor}
        endpoints = [{"addresses": [self.servers.address], "conditions": {"ready": True}}]
        ports = [{"name": "http", "port": server.port, "protocol": "TCP"}]
        await self._client.create(ENDPOINT_SLICE, self._slice(name, labels, endpoints, ports=ports))

    async def _scale_endpoints(self, service: Object) -> None:
        """There is one server, however many are asked for."""

    async def _play_gateway(self) -> None:
        """It is real."""


@asynccontextmanager
async def real(
    client: Client, namespace: str, folder: Path, kubeconfig: Path
) -> AsyncIterator[tuple[Running, Servers]]:
    """The gateway and the model servers, until the end; Platform, Gateway and proxy pod of a stage are there."""
    port = free_port()
    for manifest in gateway_objects(port):
        await client.apply(_TYPES[manifest["kind"]], manifest)
    stage = ServedHere(client, namespace, Envoy(folder))
    task = asyncio.create_task(stage.play())
    try:
        async with running_on(folder / "gateway", kubeconfig, port) as gateway:
            told = {"spec": {"gateway": {"statisticsPort": gateway.admin_port()}}}
            await client.merge(PLATFORM.key("default"), told)
            yield gateway, stage.servers
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await stage.close()
        await _forget(client, namespace)


async def _forget(client: Client, namespace: str) -> None:
    """What other tests on the same API server are not to find."""
    for service in await client.list(SERVICE, namespace):
        await client.delete(SERVICE.key(service["metadata"]["name"], namespace))
    for manifest in gateway_crds():
        if manifest["spec"]["group"] == _ENVOY_GATEWAY:
            with contextlib.suppress(NotFound):
                await client.delete(CRD.key(manifest["metadata"]["name"]))
