"""Latency and memory of a model in the real model server: `slipway_server` on loopback, asked one row at a time.

Every request carries all inputs, so a lookup in the online store is not part of the time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.api.modelversion import InputField
from slipway_pipelines.training.isolation import last_line, peak_memory, untrusted

if TYPE_CHECKING:
    import pandas as pd

NAME = "model"
START_SECONDS = 120.0
WARM_UP = 20
REQUESTS = 300
SECONDS = 20.0


class ServerError(Exception):
    """The server did not start or did not answer; `str()` says what, to follow "could not be measured"."""


@dataclass(frozen=True)
class Served:
    """Times of single requests in milliseconds, and the server's peak resident memory in MiB."""

    latencies: list[float]
    memory: float


def measure(folder: Path, rows: pd.DataFrame, fields: Sequence[InputField], log: Path) -> Served:
    """Starts the server for the model in `folder` and asks for single rows: at most 320 requests in 20 seconds.

    `rows` are model inputs, used in turn. ServerError when it does not start in two minutes, or refuses a row.
    """
    bodies = [json.dumps({"instances": [instance]}).encode() for instance in instances(rows, fields)]
    port = _free_port()
    command = [sys.executable, "-m", "slipway_server"]
    command += ["--model_dir", str(folder), "--model_name", NAME, "--http_port", str(port)]
    with untrusted(command, log) as process:
        with _connection(process, port, log) as connection:
            latencies = _ask(connection, bodies)
        return Served(latencies, peak_memory(process.pid))


def instances(rows: pd.DataFrame, fields: Sequence[InputField]) -> Iterator[dict[str, Any]]:
    """Rows as a client would send them: JSON scalars, times as RFC 3339, null where missing."""
    kinds = {field.name: field.type for field in fields}
    for row in rows.to_dict("records"):
        yield {str(name): _scalar(value, kinds[str(name)]) for name, value in row.items()}


def _scalar(value: Any, kind: str) -> Any:
    if value is None or value != value:  # None, NaN, NaT
        return None
    if kind == "Timestamp":
        return value.isoformat() + "Z"
    if kind == "Integer":
        return int(value)
    return bool(value) if kind == "Boolean" else value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _connection(process: subprocess.Popen[bytes], port: int, log: Path) -> Iterator[http.client.HTTPConnection]:
    """A kept connection to a server that is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    end = time.monotonic() + START_SECONDS
    try:
        while True:
            if process.poll() is not None:
                raise ServerError(f"the model server ended with code {process.returncode}: {last_line(log)}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", f"/v1/models/{NAME}")
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    break
            connection.close()
            if time.monotonic() > end:
                raise ServerError(f"the model server was not ready in {START_SECONDS:.0f} s: {last_line(log)}")
            time.sleep(0.1)
        yield connection
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, bodies: list[bytes]) -> list[float]:
    times: list[float] = []
    end = time.monotonic() + SECONDS
    for number in range(WARM_UP + REQUESTS):
        body = bodies[number % len(bodies)]
        started = time.perf_counter()
        try:
            connection.request("POST", f"/v1/models/{NAME}:predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the model server did not answer request {number + 1}: {error}") from None
        if response.status != 200:
            raise ServerError(f"the model server answered {response.status}: {answer[:300].decode(errors='replace')}")
        if number >= WARM_UP:
            times.append((time.perf_counter() - started) * 1000)
        if time.monotonic() > end:
            break
    return times
