"""The caller's name on its way through a transformer made with KServe's SDK to the model server's counters."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from slipway.adapters.usage import parse

if TYPE_CHECKING:
    from conftest import Server

pytestmark = pytest.mark.slow

FLIGHT: dict[str, Any] = {"carrier": "UA", "hour": 7, "distance": 1400.0, "late_share_7d": 0.9}
PREDICT = "/v1/models/flight-delays:predict"
PLANNER = "system:serviceaccount:crews:planner"


@pytest.fixture(scope="module")
def transformer(server: Server, free: int) -> Iterator[httpx.Client]:
    """A transformer of its own process before the model server."""
    program = str(Path(__file__).parent / "plain_transformer.py")
    flags = ["--model_name=flight-delays", f"--predictor_host=127.0.0.1:{server.port}", f"--http_port={free}"]
    process = subprocess.Popen([sys.executable, program, *flags])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{free}", timeout=30) as client:
            _wait(process, client)
            yield client
    finally:
        process.kill()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    deadline = time.monotonic() + 100
    while True:
        assert process.poll() is None, "the transformer ended"
        assert time.monotonic() < deadline, "the transformer does not answer"
        try:
            if client.get("/v2/health/live").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)


@pytest.mark.parametrize("caller", ["site.0", PLANNER])
def test_the_model_server_counts_the_caller_behind_a_transformer(
    server: Server, transformer: httpx.Client, caller: str
) -> None:
    before = parse(server.client.get("/metrics").text).get(caller, (0, 0))
    named = {"authorization": f"SlipwayConsumer {caller}"}
    answer = transformer.post(PREDICT, json={"instances": [FLIGHT]}, headers=named)
    assert answer.status_code == 200, answer.text
    wrong = {name: value for name, value in FLIGHT.items() if name != "distance"}
    assert transformer.post(PREDICT, json={"instances": [wrong]}, headers=named).status_code >= 400
    requests, errors = parse(server.client.get("/metrics").text)[caller]
    assert (requests - before[0], errors - before[1]) == (2, 1)
    lines = [each for each in server.lines() if each.get("consumer") == caller]
    assert [each["status"] for each in lines[-2:]] == [200, 400]


def test_a_credential_of_anybody_else_names_nobody(server: Server, transformer: httpx.Client) -> None:
    before = parse(server.client.get("/metrics").text)
    for header in ("Bearer eyJhbGciOi", "Basic c2l0ZTow", 'SlipwayConsumer a"} 1'):
        headers = {"authorization": header}
        assert transformer.post(PREDICT, json={"instances": [FLIGHT]}, headers=headers).status_code == 200
    assert parse(server.client.get("/metrics").text) == before
