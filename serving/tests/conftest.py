"""Fixtures: a real PostgreSQL with Feast's tables, real models, and the server as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.api.modelversion import Digests, FeatureServiceRecord, InputField
from slipway.contracts.digests import canonical_json, digest_bytes, digest_json
from slipway.contracts.jobs import ManifestFile, ModelManifest

MODEL = "flight-delays"
ANY_DIGEST = "sha256:" + "0" * 64
INPUTS = [
    InputField(name="carrier", type="String", source="Request"),
    InputField(name="hour", type="Integer", source="Request"),
    InputField(name="distance", type="Double", source="Request"),
    InputField(name="late_share_7d", type="Double", source="FeatureStore", default=0.25),
    InputField(name="queue", type="Double", source="FeatureStore"),
]


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ---- PostgreSQL and Feast --------------------------------------------------------------------------------------------
@dataclass
class Postgres:
    """A PostgreSQL cluster of this test session."""

    folder: Path
    port: int
    as_user: list[str]
    """Command prefix: PostgreSQL refuses to run as root."""

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the model server for this database."""
        return {
            "SLIPWAY_FEAST_HOST": "127.0.0.1",
            "SLIPWAY_FEAST_PORT": str(self.port),
            "SLIPWAY_FEAST_DATABASE": "postgres",
            "SLIPWAY_FEAST_USERNAME": "feast",
        }

    @property
    def pids(self) -> list[int]:
        """The postmaster and its children, the postmaster first."""
        parent = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While every process of the cluster is stopped: connections stay open and nobody answers."""
        pids = self.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def control(self, *command: str) -> None:
        """Run pg_ctl."""
        binary = str(postgres_binaries() / "pg_ctl")
        subprocess.run(
            [*self.as_user, binary, "-D", str(self.folder / "data"), "-w", *command],
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Start the cluster."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.control("-o", options, "-l", str(self.folder / "log"), "start")


def postgres_binaries() -> Path:
    """Folder of initdb and pg_ctl, which Debian keeps out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.fail("PostgreSQL is not installed: install the package postgresql.")
    return found[-1].parent if found else Path(on_path or "").parent


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL cluster in a temporary folder, run by an unprivileged user."""
    root = os.geteuid() == 0
    folder = Path("/tmp") / f"slipway-serving-{os.getpid()}" if root else tmp_path_factory.mktemp("postgres")
    folder.mkdir(exist_ok=True)
    if root:
        shutil.chown(folder, "postgres")
    cluster = Postgres(folder, free_port(), ["setpriv", "--reuid=postgres", "--clear-groups"] if root else [])
    initdb = [
        str(postgres_binaries() / "initdb"),
        "-D",
        str(folder / "data"),
        "-U",
        "feast",
        "-A",
        "trust",
        "--no-sync",
    ]
    subprocess.run([*cluster.as_user, *initdb], check=True, timeout=60, stdout=subprocess.DEVNULL)
    cluster.start()
    yield cluster
    cluster.control("-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def materialize(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Apply feature views and services, and put values into the online store."""
    folder = tmp_path_factory.mktemp("features")

    def apply(late_share: float, *services: str) -> None:
        script = Path(__file__).parent / "apply_features.py"
        command = [sys.executable, "-O", str(script), str(folder), str(late_share), *services]
        done = subprocess.run(
            command, env=os.environ | postgres.environment, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stderr

    return apply


@pytest.fixture(scope="session")
def features(postgres: Postgres, materialize: Callable[..., None]) -> Postgres:
    """The cluster with the feature service `flights-1` and its values."""
    materialize(0.75, "flights-1")
    return postgres


# ---- models ----------------------------------------------------------------------------------------------------------
def write_manifest(
    folder: Path, inputs: list[InputField] = INPUTS, service: str = "flights-1", **changes: Any
) -> ModelManifest:
    """Describe `model.joblib` in the folder as the registration of a model does."""
    data = (folder / "model.joblib").read_bytes()
    files = [ManifestFile(path="model.joblib", digest=digest_bytes(data), size=len(data))]
    digests = {name: ANY_DIGEST for name in Digests.model_fields if name != "image"}
    manifest = ModelManifest(
        files=files,
        model_digest=digest_json([file.wire() for file in files]),
        digests=Digests(**digests, image="runner"),
        inputs=inputs,
        feature_service=FeatureServiceRecord(project="flights", name=service, entities=["carrier", "gate"]),
        target="late",
        namespace="flights",
        project=MODEL,
        run="flight-delays-1",
        dataset_version="flights-1",
        created_at="2026-01-01T00:00:00Z",
    ).model_copy(update=changes)
    (folder / "manifest.json").write_bytes(canonical_json(manifest.wire()))
    return manifest


def train(folder: Path, *, unknown: str) -> Path:
    """A real classifier: `unknown` says what its encoder does with carriers that training never saw.

    Its probability for distances beyond 1e150 overflows to NaN, as Gaussian likelihoods do.
    """
    import joblib
    import numpy as np
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(7)
    rows = 2000
    data = pd.DataFrame(
        {
            "carrier": random.choice(["UA", "AA", "DL"], rows),
            "hour": random.integers(5, 23, rows),
            "distance": random.uniform(100, 2500, rows),
            "late_share_7d": random.uniform(0, 1, rows),
            "queue": random.uniform(0, 20, rows),
        }
    )
    late = random.uniform(0, 1, rows) < 0.8 * data.late_share_7d
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown=unknown, sparse_output=False), ["carrier"]),
        (SimpleImputer(), ["hour", "distance", "late_share_7d", "queue"]),
    )
    folder.mkdir()
    joblib.dump(make_pipeline(encode, GaussianNB()).fit(data, late), folder / "model.joblib")
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that refuses carriers it never saw."""
    return train(tmp_path_factory.mktemp("models") / "strict", unknown="error")


@pytest.fixture(scope="session")
def register() -> Callable[..., ModelManifest]:
    """`write_manifest`, for tests that change a model's folder."""
    return write_manifest


# ---- servers ---------------------------------------------------------------------------------------------------------
@dataclass
class Server:
    """A running model server."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=30)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def predict(self, *instances: dict[str, Any], **headers: str) -> httpx.Response:
        """A v1 request."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/v1/models/{MODEL}:predict", json={"instances": list(instances)}, headers=names)

    def ready(self) -> bool:
        """What a readiness probe would say."""
        try:
            return self.client.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def wait(self, condition: Callable[[], bool], seconds: float = 100) -> None:
        """Wait until the condition holds; fails with the server's output."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The server did not get there (exit {self.process.poll()}):\n{self.output.read_text()}")
            time.sleep(0.1)

    def lines(self) -> list[dict[str, Any]]:
        """The server's log."""
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]

    def lookups(self) -> dict[str, float]:
        """slipway_feature_lookups_total by result."""
        prefix = 'slipway_feature_lookups_total{result="'
        lines = [line for line in self.client.get("/metrics").text.splitlines() if line.startswith(prefix)]
        return {line[len(prefix) :].split('"')[0]: float(line.split()[-1]) for line in lines}


def command(folder: Path, port: int) -> list[str]:
    """The command line that KServe runs."""
    flags = ["--model_dir", str(folder), "--model_name", MODEL, "--http_port", str(port), "--enable_grpc=false"]
    return [sys.executable, "-m", "slipway_server", *flags]


@contextlib.contextmanager
def serving(folder: Path, output: Path, **environment: str) -> Iterator[Server]:
    """A server process that is ready; killed in the end."""
    port = free_port()
    fixed = {"SLIPWAY_DRAIN_SECONDS": "0", "SLIPWAY_MODEL_VERSION": "flight-delays-v1"}
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command(folder, port), env=os.environ | fixed | environment, stdout=sink, stderr=subprocess.STDOUT
        )
    server = Server(process, port, output)
    try:
        server.wait(server.ready)
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a feature store."""
    digest = digest_bytes((model_folder / "manifest.json").read_bytes())
    output = tmp_path_factory.mktemp("server") / "log"
    with serving(model_folder, output, SLIPWAY_MANIFEST_DIGEST=digest, SLIPWAY_REQUESTS_KEPT="200") as running:
        yield running


@pytest.fixture(scope="session")
def free() -> int:
    """A port that nobody listens on."""
    return free_port()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """`serving`, for tests with settings of their own."""
    return serving
