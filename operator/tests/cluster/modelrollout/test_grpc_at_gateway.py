"""gRPC at the real Envoy Gateway: real calls with KServe's stubs, split by weights, and counted by gRPC's own codes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cluster.modelrollout.realgateway import Backends, Running, running
from cluster.modelrollout.stage import free_port

from slipway.adapters import gateway as gw
from slipway.adapters.envoy_stats import Counters, parse
from slipway.adapters.runtimes import GRPC, GRPC_PATH
from slipway.api.modelrollout import Routing
from slipway.api.platform import GatewayParentRef

RUNNER = Path(sys.prefix).with_name(".venv-runner") / "bin" / "python"
SCRIPT = Path(__file__).with_name("grpcplay.py")
HOST = "flights.models.example.com"
ROUTED = gw.Routed(
    "flights",
    "delays",
    "flight-delays",
    GatewayParentRef(namespace="slipway-system", name="models"),
    Routing(path=GRPC_PATH, hostnames=[HOST]),
    protocol=GRPC,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not RUNNER.exists(), reason="gRPC is in the runner's environment: make setup"),
]


@asynccontextmanager
async def servers(*names: str) -> AsyncIterator[Backends]:
    backends = Backends(h2c=True)
    processes = []
    try:
        for name in names:
            backends.ports[name] = free_port()
            command = (str(RUNNER), str(SCRIPT), "serve", str(backends.ports[name]), name)
            process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            processes.append(process)
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        yield backends
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def met(gateway: Running, models: list[str], *metadata: str, host: str = HOST) -> Counter[str]:
    """Who answered, or which code came, for a call each."""
    port = gateway.address.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *(str(RUNNER), str(SCRIPT), "ask", port, host, *metadata), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate("".join(f"{each}\n" for each in models).encode()), 90)
    return Counter(out.decode().split())


async def counted(gateway: Running, service: str) -> Counters:
    """What the proxy has counted for a version by gRPC codes."""
    found = parse(await gateway.statistics()).grpc
    return sum((each for name, each in found.items() if f"/{service}/" in f"{name}/"), Counters())


async def test_calls_follow_the_weights_and_are_judged_by_grpcs_codes(tmp_path: Path) -> None:
    route = gw.weighted_route(ROUTED, [("delays-1", 70), ("delays-2", 30)])
    pin = gw.pin_route(ROUTED, "delays-2", "sesame")
    async with (
        servers("delays-1", "delays-2") as backends,
        running(tmp_path, "flights", [route, pin], backends) as gateway,
    ):
        answers = await met(gateway, ["good"] * 200)
        assert set(answers) == {"delays-1", "delays-2"}
        assert 30 <= answers["delays-2"] <= 90
        assert await met(gateway, ["good"] * 5, f"{gw.PIN_HEADER}=sesame") == {"delays-2": 5}

        before = await counted(gateway, "delays-2")
        assert before.answered == answers["delays-2"] + 5
        assert before.failed == 0
        # The caller's mistakes are not the version's.
        mixed = await met(gateway, ["bad"] * 7 + ["wrong"] * 4 + ["good"], f"{gw.PIN_HEADER}=sesame")
        assert mixed == {"INTERNAL": 7, "INVALID_ARGUMENT": 4, "delays-2": 1}
        after = (await counted(gateway, "delays-2")).since(before)
        assert (after.answered, after.failed) == (12, 7)
        # By HTTP codes nothing would have failed.
        assert not sum(each.failed for each in parse(await gateway.statistics()).counters.values())

        strangers = await met(gateway, ["good"], host="other.example.com")
        assert strangers == {"UNIMPLEMENTED": 1}


async def test_a_version_without_a_server_has_failed(tmp_path: Path) -> None:
    route = gw.weighted_route(ROUTED, [("delays-1", 100)])
    async with servers("delays-1") as backends:
        backends.ports["delays-1"] = free_port()
        async with running(tmp_path, "flights", [route], backends) as gateway:
            assert await met(gateway, ["good"] * 6) == {"UNAVAILABLE": 6}
            found = await counted(gateway, "delays-1")
            assert (found.answered, found.failed) == (6, 6)
