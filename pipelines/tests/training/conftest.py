"""Runs of the training pipeline on real flights, started as a Job starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import IngestRequest, ProduceResult, RegisterResult, Request, TrainingRequest
from slipway_pipelines import compiled
from slipway_pipelines.data.ingest import run_ingest
from slipway_pipelines.store import ObjectStore, ProgressWriter

ACCESS_KEY, SECRET_KEY = "test", "test-secret"
CODE = Path(__file__).parent / "code"
ZEROS = "sha256:" + "0" * 64
POD_SCRIPT = """
if [ -n "$HIDDEN" ]; then
    mount --bind "$PYTHON_BASE" /mnt
    mount -t tmpfs -o mode=755 tmpfs "$HIDDEN"
    mkdir -p "$PYTHON_BASE"
    mount --move /mnt "$PYTHON_BASE"
fi
mount -o remount,ro,bind /
mount -t tmpfs -o mode=1777 tmpfs /tmp
unset HIDDEN PYTHON_BASE
exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
POD = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", POD_SCRIPT, "pod"]
"""Runs a command as a pod of a Job does; needs root. A Python below root's home is made visible to others there."""


def pod_environment() -> dict[str, str]:
    """What POD_SCRIPT reads, and a pod's HOME."""
    home, base = Path.home(), Path(sys.base_prefix).resolve()
    return {"HOME": "/tmp", "HIDDEN": str(home) if home in base.parents else "", "PYTHON_BASE": str(base)}


COLUMNS: dict[str, list[dict[str, Any]]] = {
    "flights": [
        {"name": "flight_id", "type": "String"},
        {"name": "carrier", "type": "String"},
        {"name": "origin", "type": "String"},
        {"name": "dest", "type": "String"},
        {"name": "flight", "type": "Integer"},
        {"name": "distance", "type": "Double"},
        {"name": "tailnum", "type": "String", "nullable": True, "sensitive": True},
        {"name": "sched_dep_time", "type": "Timestamp"},
        {"name": "sched_arr_time", "type": "Timestamp"},
        {"name": "arr_delay", "type": "Double", "nullable": True},
    ],
    "weather": [
        {"name": "origin", "type": "String"},
        {"name": "time_hour", "type": "Timestamp"},
        {"name": "wind_speed", "type": "Double", "nullable": True},
        {"name": "visib", "type": "Double", "nullable": True},
    ],
}
FLIGHTS: dict[str, Any] = {
    "key": ["flight_id"],
    "columns": COLUMNS["flights"],
    "time": {"event": "sched_dep_time", "availableAt": "sched_arr_time + INTERVAL (arr_delay) MINUTE"},
    "labels": {
        "column": "arr_delayed",
        "type": "FromOutcomes",
        "fromOutcomes": {"expression": "arr_delay >= 15"},
        "guide": {"uri": "s3://slipway/flights/labels.md", "version": "3"},
    },
    "splits": {"type": "Time", "time": {"trainPercent": 80, "validationPercent": 10, "testPercent": 10}},
}
WEATHER: dict[str, Any] = {
    "key": ["origin", "time_hour"],
    "columns": COLUMNS["weather"],
    "time": {"event": "time_hour"},
}
VIEWS: list[dict[str, Any]] = [
    {
        "name": "carrier_history",
        "entities": ["carrier"],
        "source": {
            "type": "Aggregate",
            "aggregate": {"datasetRef": {"name": "flights"}, "window": "168h", "every": "1h"},
        },
        "ttl": "336h",
        "features": [
            {"name": "late_share_7d", "type": "Double", "expression": "avg(arr_delayed)", "default": 0.2},
            {"name": "flights_7d", "type": "Integer", "expression": "count(*)", "default": 0},
        ],
    },
    {
        "name": "origin_weather",
        "entities": ["origin"],
        "source": {"type": "Dataset", "dataset": {"datasetRef": {"name": "weather"}}},
        "ttl": "6h",
        "features": [
            {"name": "wind_speed", "type": "Double"},
            {"name": "visib", "type": "Double", "default": 10.0},
        ],
    },
]


@dataclass(frozen=True)
class Version:
    """A dataset version: key of its manifest, and its digest."""

    manifest: str
    digest: str


def ingest(store: ObjectStore, dataset: str, paths: list[Path], spec: dict[str, Any]) -> Version:
    """Makes a dataset version, as the operator has it made."""
    for path in paths:
        store.upload(path, f"raw/{dataset}/{path.name}")
    objects = [{"key": o.key, "etag": o.etag, "size": o.size} for o in store.list(f"raw/{dataset}/")]
    request = IngestRequest.model_validate(
        {
            "store": {"endpoint": store.endpoint, "bucket": store.bucket},
            "prefix": f"jobs/flights/{dataset}/",
            "namespace": "flights",
            "dataset": dataset,
            "sourceDigest": ZEROS,
            "format": "Parquet",
            "objects": objects,
            **spec,
        }
    )
    result = run_ingest(request, store, ProgressWriter(store, request.prefix))
    assert result.manifest, result.violations
    assert result.digest
    return Version(result.manifest, result.digest)


@dataclass(frozen=True)
class Job:
    """How a Job ended."""

    code: int
    output: str
    result: dict[str, Any] | None


@dataclass(frozen=True)
class World:
    """A store with the flights of January to April, and the weather."""

    store: ObjectStore
    flights: Version
    weather: Version

    def request(self, run_uid: str, **changes: Any) -> TrainingRequest:
        """A run's request; `changes` are fields in camelCase."""
        spec: dict[str, Any] = {
            "store": {"endpoint": self.store.endpoint, "bucket": self.store.bucket},
            "prefix": f"runs/flights/{run_uid}/",
            "namespace": "flights",
            "project": "flight-delays",
            "run": f"flight-delays-{run_uid}",
            "runUid": run_uid,
            "dataset": "flights",
            "datasetVersion": "flights-0123456789",
            "datasetManifest": self.flights.manifest,
            "datasetDigest": self.flights.digest,
            "task": {"statement": "Will it be late?", "target": "arr_delayed", "leadTime": "2h"},
            "inputs": ["carrier", "origin", "dest", "distance", "sched_dep_time"],
            "entrypoint": "team.models:train",
            "image": "registry.example.com/flights:1",
            "parameters": {"max_iter": 40, "learning_rate": 0.1},
            "seed": 7,
            "requirements": {"optimize": {"type": "Metric", "metric": {"name": "rocAuc"}}},
            "tests": {},
            "today": "2026-11-23",
            "pipelineDigest": digest_bytes(compiled.training_ir()),
            "modelPrefix": "models/flights/flight-delays/",
        }
        return TrainingRequest.model_validate({**spec, **changes})

    def feature_set(self) -> dict[str, Any]:
        """History and weather, over this world's datasets."""
        return {
            "name": "flight-features",
            "definitionDigest": ZEROS,
            "feastProject": "flights_flight_delays",
            "entities": [{"name": "carrier"}, {"name": "origin"}],
            "views": VIEWS,
            "datasets": [
                {"dataset": "flights", "version": "flights-0", "manifest": self.flights.manifest},
                {"dataset": "weather", "version": "weather-0", "manifest": self.weather.manifest},
            ],
        }

    def environment(self) -> dict[str, str]:
        """What processes of a run have: the store's credentials, and the team's code on PYTHONPATH."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CODE), os.environ.get("PYTHONPATH")))),
            "SLIPWAY_S3_ENDPOINT": self.store.endpoint,
            "SLIPWAY_S3_BUCKET": self.store.bucket,
            "SLIPWAY_S3_ACCESS_KEY": ACCESS_KEY,
            "SLIPWAY_S3_SECRET_KEY": SECRET_KEY,
        }

    def job(self, command: str, request: Request, name: str = "", pod: bool = False, **environment: str) -> Job:
        """Runs `slipway-job COMMAND` as the operator's Job does; the team's code is on PYTHONPATH.

        With `pod` it has what a pod allows: no root, no capabilities, a read-only file system but for an empty /tmp.
        """
        folder = f"jobs/flights/{name or getattr(request, 'run_uid', '')}-{command}/"
        data = canonical_json(request.wire())
        self.store.put_bytes(f"{folder}request.json", data)
        variables = {**self.environment(), **(pod_environment() if pod else {}), **environment}
        arguments = [command, "--request", f"{folder}request.json", "--digest", digest_bytes(data)]
        done = subprocess.run(
            [*(POD if pod else []), sys.executable, "-m", "slipway_pipelines.main", *arguments],
            env=variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Job(done.returncode, done.stdout + done.stderr, self.store.find_json(f"{folder}result.json"))

    def train(self, request: TrainingRequest, pod: bool = False) -> ProduceResult:
        """The first half, which has to succeed."""
        job = self.job("train", request, pod=pod)
        assert job.code == 0, job.output
        result = ProduceResult.model_validate(job.result)
        assert result.refusal is None, result.refusal
        return result

    def judge(self, request: TrainingRequest, pod: bool = False, **environment: str) -> RegisterResult:
        """The second half, which has to succeed."""
        job = self.job("judge", request, pod=pod, **environment)
        assert job.code == 0, job.output
        result = RegisterResult.model_validate(job.result)
        assert result.refusal is None, result.refusal
        return result


@pytest.fixture
def training_request() -> TrainingRequest:
    """A request that no store stands behind."""
    nothing = ObjectStore("http://127.0.0.1:9", "nothing", "us-east-1", "", "")
    parameters = {"max_iter": 40, "learning_rate": 0.1, "deep": True, "kind": "x", "one": 1.0}
    return World(nothing, Version("m", ZEROS), Version("w", ZEROS)).request("r", parameters=parameters)


@pytest.fixture(scope="session")
def world(s3_endpoint: str, flights: Any) -> World:
    """The flights of four months, ingested once."""
    store = ObjectStore(s3_endpoint, "training", "us-east-1", ACCESS_KEY, SECRET_KEY)
    store.ensure_bucket()
    return World(
        store,
        ingest(store, "flights", flights.months[:4], FLIGHTS),
        ingest(store, "weather", [flights.weather], WEATHER),
    )
