"""The example's own commands: its loader, and the steady client that counts every answer."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minio import Minio

from slipway_cluster.cluster import Cluster
from slipway_demo.install import EXAMPLE, ROOT

RUNNER_PYTHON = ROOT / ".venv-runner" / "bin" / "python"
BOUND_SECONDS = 2400
"""A client ends by itself after this long, whatever becomes of the demo."""


def upload(cluster: Cluster, months: str, *, prefix: str = "raw/", poison: bool = False) -> None:
    """Puts months of flights (`2-4`) where the Dataset finds them; again is nothing. RuntimeError when it cannot."""
    keys = cluster.s3_credentials()
    command = [str(RUNNER_PYTHON), "-m", "flights.data", "upload", "--months", months, "--endpoint", cluster.s3_url]
    command += ["--prefix", prefix]
    done = subprocess.run(
        [*command, *(["--poison"] if poison else [])],
        cwd=EXAMPLE,
        env={**os.environ, "SLIPWAY_S3_ACCESS_KEY": keys.access_key, "SLIPWAY_S3_SECRET_KEY": keys.secret_key},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise RuntimeError(f"The loader exited {done.returncode} and said: {said[-1]}")


def flights(month: int, count: int) -> str:
    """Flights of a month as instances of a request, one JSON object a line."""
    command = [str(RUNNER_PYTHON), "-m", "flights.data", "instances", "--months", str(month), "--count", str(count)]
    return subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=120, check=True).stdout


def remove(cluster: Cluster, prefix: str, bucket: str = "slipway") -> None:
    """Removes all objects below a prefix; a bucket that is not there has none."""
    keys = cluster.s3_credentials()
    store = Minio(
        endpoint=urlsplit(cluster.s3_url).netloc,
        access_key=keys.access_key,
        secret_key=keys.secret_key,
        secure=False,
        region="us-east-1",
    )
    if store.bucket_exists(bucket_name=bucket):
        for item in store.list_objects(bucket_name=bucket, prefix=prefix, recursive=True):
            if item.object_name:
                store.remove_object(bucket_name=bucket, object_name=item.object_name)


@dataclass
class Counts:
    """What clients have counted, added up."""

    sent: int = 0
    ok: int = 0
    version_errors: int = 0
    lost: int = 0
    versions: dict[str, dict[str, int]] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    p50: float = 0.0
    p99: float = 0.0
    last_request_id: str = ""

    def add(self, summary: dict[str, Any]) -> Counts:
        """Adds one client's counters; latencies are those of the client that sent most."""
        if summary.get("sent", 0) > self.sent:
            quantiles = summary.get("latencyMilliseconds", {})
            self.p50, self.p99 = quantiles.get("p50", 0.0), quantiles.get("p99", 0.0)
        self.sent += summary.get("sent", 0)
        self.ok += summary.get("ok", 0)
        self.version_errors += summary.get("versionErrors", 0)
        self.lost += summary.get("lost", 0)
        for version, kinds in summary.get("versions", {}).items():
            mine = self.versions.setdefault(version, {})
            for kind, number in kinds.items():
                mine[kind] = mine.get(kind, 0) + number
        for why, number in summary.get("losses", {}).items():
            self.losses[why] = self.losses.get(why, 0) + number
        self.last_request_id = summary.get("lastRequestId") or self.last_request_id
        return self


class SteadyClient:
    """Sends real flights at a constant rate until it is stopped; `counters` is what it has counted so far.

    With `instances`, a file with one JSON object a line, it sends those instead of flights.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        rate: float,
        host: str | None = None,
        newcomer: str | None = None,
        instances: Path | None = None,
    ) -> None:
        arguments = ["--url", url, "--model", model, "--rate", str(rate), "--seconds", str(BOUND_SECONDS), "--live"]
        if host:
            arguments += ["--host", host]
        if instances:
            arguments += ["--instances", str(instances)]
        if newcomer:
            arguments += ["--newcomer", newcomer, "--newcomer-after", "0", "--newcomer-percent", "25"]
        self.counters: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [str(RUNNER_PYTHON), "-m", "flights.client", *arguments],
            cwd=EXAMPLE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="client", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("{"):
                self.counters = json.loads(line)

    def stop(self, timeout: float = 20) -> dict[str, Any]:
        """Ends it; returns its summary, in which every request that was sent has its answer."""
        assert self._process.stdout is not None
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError("The steady client did not stop when it was asked to.") from None
        self._reader.join(timeout)
        with self._process:  # closes its pipes
            self.counters = json.loads(self._process.stdout.read())
        return self.counters
