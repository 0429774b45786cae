"""The prediction log of a real server in a real S3, with an identity that may only write below its prefix."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import urllib3
from minio import Minio
from minio.error import S3Error

if TYPE_CHECKING:
    from conftest import Postgres, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


BUCKET = "slipway"
PREFIX = "predictions/flights/flight-delays/flight-delays-v1/"
ROLLOUT = "predictions/flights/flight-delays/"
READER = [
    {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/{ROLLOUT}*"]},
    {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{BUCKET}"],
        "Condition": {"StringLike": {"s3:prefix": [f"{ROLLOUT}*"]}},
    },
]
"""What a declared reader of a rollout's predictions may, as `docs/rollouts/prediction-log.md` has it."""
FLIGHT: dict[str, Any] = {"carrier": "UA", "hour": 7, "distance": 1400.0, "gate": 1}
ALL = {**FLIGHT, "late_share_7d": 0.9, "queue": 3.0}
Serve = Callable[..., AbstractContextManager["Server"]]


@dataclass
class S3:
    """A SeaweedFS with an administrator and a writer of predictions."""

    port: int

    def client(self, user: str) -> Minio:
        """A client with a user's keys that does not wait long."""
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=2, read=5), retries=False)
        # With the region given, no right to ask for the bucket's place is needed.
        return Minio(
            f"127.0.0.1:{self.port}", user, f"{user}-secret", secure=False, region="us-east-1", http_client=pool
        )

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a server that logs here."""
        name = "SLIPWAY_PREDICTION_LOG"
        return {
            f"{name}_PREFIX": PREFIX,
            f"{name}_FLUSH_SECONDS": "0.2",
            f"{name}_S3_ENDPOINT": f"http://127.0.0.1:{self.port}",
            f"{name}_S3_BUCKET": BUCKET,
            f"{name}_S3_ACCESS_KEY": "writer",
            f"{name}_S3_SECRET_KEY": "writer-secret",
        }

    def rows(self) -> list[dict[str, Any]]:
        """All rows below the prefix."""
        admin = self.client("admin")
        keys = [str(each.object_name) for each in admin.list_objects(BUCKET, PREFIX, recursive=True)]
        found: list[dict[str, Any]] = []
        for key in keys:
            with admin.get_object(BUCKET, key) as response:
                found += pq.read_table(BytesIO(response.read())).to_pylist()
        return found

    def of(self, request_id: str) -> list[dict[str, Any]]:
        """Rows of a request, once they are there."""
        deadline = time.monotonic() + 30
        while not (found := [row for row in self.rows() if row["request_id"] == request_id]):
            assert time.monotonic() < deadline, f"{request_id} was not logged"
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    ports = [free_port() for _ in range(8)]
    # The action `Write:slipway/predictions/*` would let the writer delete too; a policy can allow `PutObject` alone.
    allowed = {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/predictions/*"]}
    policies = [
        {"name": name, "content": json.dumps({"Version": "2012-10-17", "Statement": statements})}
        for name, statements in (("predictions", [allowed]), ("reader", READER))
    ]
    rights = {
        "admin": {"actions": ["Admin", "Read", "Write", "List"]},
        "writer": {"policyNames": ["predictions"]},
        "reader": {"policyNames": ["reader"]},
    }
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}], **rights[name]}
        for name in rights
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities, "policies": policies}))
    (folder / "data").mkdir()
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    flags = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]
    command = [
        str(Path(sys.executable).with_name("weed")),
        *("server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3"),
        *(f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=100", "-master.volumeSizeLimitMB=64"),
        *(f"-{flag}={port}" for flag, port in zip(flags, ports, strict=False)),
    ]
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=folder)
    one = S3(ports[6])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                one.client("admin").make_bucket(BUCKET)
                one.client("admin").put_object(BUCKET, "probe", BytesIO(b"1"), 1)
                break
            except Exception:
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.2)
        yield one
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def server(
    serve: Serve, s3: S3, features: Postgres, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    settings = {**s3.environment, "SLIPWAY_PREDICTION_LOG_REDACT": "distance", "SLIPWAY_FEATURES_TIMEOUT_MS": "400"}
    with serve(model_folder, tmp_path_factory.mktemp("logging") / "log", **features.environment, **settings) as running:
        yield running


def test_what_the_model_saw_and_said_is_stored(server: Server, s3: S3) -> None:
    answer = server.predict(FLIGHT, {**ALL, "hour": None}, x_request_id="seen", host="models.example.com-shadow")
    assert answer.status_code == 200, answer.text
    first, second = s3.of("seen")
    said = [(each["label"], each["probability"]) for each in answer.json()["predictions"]]
    assert [(row["label"], row["probability"]) for row in (first, second)] == said
    assert (first["instance"], first["version"], first["mirrored"]) == (0, "flight-delays-v1", True)
    assert first["latency_ms"] > 0
    inputs = {"carrier": "UA", "hour": 7, "distance": None, "late_share_7d": 0.75, "queue": 10.0}
    assert first["inputs"] == inputs  # filled from the store; the redacted one left out
    assert first["origins"] == {"late_share_7d": "hit", "queue": "hit"}
    assert (second["inputs"]["hour"], second["inputs"]["late_share_7d"]) == (None, 0.9)
    assert second["origins"] == {"late_share_7d": "request", "queue": "request"}


def test_failed_requests_are_no_predictions(server: Server, s3: S3) -> None:
    assert server.predict({**ALL, "carrier": "never seen"}, x_request_id="failed").status_code == 500
    assert server.predict({"carrier": "UA"}, x_request_id="refused").status_code == 400
    assert server.predict(ALL, x_request_id="after").status_code == 200
    assert len(s3.of("after")) == 1
    assert not {"failed", "refused"} & {row["request_id"] for row in s3.rows()}


def test_the_writer_may_only_write_below_its_prefix(s3: S3) -> None:
    writer = s3.client("writer")
    writer.put_object(BUCKET, f"{PREFIX}probe", BytesIO(b"1"), 1)
    attempts: list[Callable[[], object]] = [
        lambda: writer.put_object(BUCKET, "models/flights/model.joblib", BytesIO(b"1"), 1),
        lambda: writer.get_object(BUCKET, f"{PREFIX}probe"),
        lambda: writer.get_object(BUCKET, "probe"),
        lambda: list(writer.list_objects(BUCKET, "predictions/")),
        lambda: writer.remove_object(BUCKET, "probe"),
        lambda: writer.make_bucket("another"),
        lambda: writer.remove_object(BUCKET, f"{PREFIX}probe"),
    ]
    for attempt in attempts:
        with pytest.raises(S3Error, match="Denied"):
            attempt()
    s3.client("admin").remove_object(BUCKET, f"{PREFIX}probe")


def test_a_reader_may_only_read_its_rollouts_predictions(s3: S3) -> None:
    admin, reader = s3.client("admin"), s3.client("reader")
    others = "predictions/flights/another-rollout/v1/probe"
    for key in (f"{PREFIX}probe", others):
        admin.put_object(BUCKET, key, BytesIO(b"1"), 1)
    with reader.get_object(BUCKET, f"{PREFIX}probe") as response:
        assert response.read() == b"1"
    assert f"{PREFIX}probe" in [each.object_name for each in reader.list_objects(BUCKET, PREFIX)]
    attempts: list[Callable[[], object]] = [
        lambda: reader.get_object(BUCKET, others),
        lambda: reader.get_object(BUCKET, "probe"),
        lambda: list(reader.list_objects(BUCKET, "predictions/flights/another-rollout/")),
        lambda: list(reader.list_objects(BUCKET, "models/")),
        lambda: reader.put_object(BUCKET, f"{PREFIX}mine", BytesIO(b"1"), 1),
        lambda: reader.remove_object(BUCKET, f"{PREFIX}probe"),
    ]
    for attempt in attempts:
        with pytest.raises(S3Error, match="Denied"):
            attempt()
    for key in (f"{PREFIX}probe", others):
        admin.remove_object(BUCKET, key)


def test_the_last_answers_are_stored_when_the_server_ends(
    serve: Serve, s3: S3, model_folder: Path, tmp_path: Path
) -> None:
    settings = {**s3.environment, "SLIPWAY_PREDICTION_LOG_FLUSH_SECONDS": "600", "SLIPWAY_DRAIN_QUIET_SECONDS": "0.2"}
    with serve(model_folder, tmp_path / "log", **settings) as running:
        assert running.predict(ALL, x_request_id="last").status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
    assert len(s3.of("last")) == 1


def test_a_store_that_is_away_neither_delays_nor_fails_an_answer(
    serve: Serve, s3: S3, model_folder: Path, tmp_path: Path
) -> None:
    nobody = {"SLIPWAY_PREDICTION_LOG_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    settings = {**s3.environment, **nobody, "SLIPWAY_DRAIN_QUIET_SECONDS": "0.2"}
    with serve(model_folder, tmp_path / "log", **settings) as running:
        assert all(running.predict(ALL).status_code == 200 for _ in range(50))
        metric = "slipway_prediction_log_failed_puts_total "
        running.wait(
            lambda: any(
                line.startswith(metric) and float(line.split()[-1]) > 0
                for line in running.client.get("/metrics").text.splitlines()
            )
        )
        assert running.predict(ALL).status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        told = [line["message"] for line in running.lines() if line["logger"] == "slipway.predictions"]
        assert len([text for text in told if "does not take predictions" in text]) == 1
        assert any("rows that the store did not take" in text for text in told)


def test_without_credentials_the_server_serves_and_says_so(
    serve: Serve, s3: S3, model_folder: Path, tmp_path: Path
) -> None:
    settings = {name: value for name, value in s3.environment.items() if not name.endswith("KEY")}
    with serve(model_folder, tmp_path / "log", **settings) as running:
        assert running.predict(ALL).status_code == 200
        assert any("predictions are not logged" in line["message"] for line in running.lines())
