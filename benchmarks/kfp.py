"""Many training runs on Kubeflow Pipelines at once: submitted, tracked and recorded, against the contract server.

What is real: the operator as its own process, kube-apiserver and etcd, the S3 store, HTTP. Kubeflow Pipelines is the
contract server of the tests: it speaks by the published models, makes real Workflow objects, and takes each of them a
task further every second. Nothing is trained: what is measured is what running it costs the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from kfpcontract.backend import Backend
from kfpcontract.database import Settings
from kfpcontract.machinery import Ending, Execution, Machinery
from kfpcontract.server import ContractServer
from kfpcontract.workflows import WORKFLOW_CRD, ClusterWorkflows

from benchmarks import programs
from benchmarks.apiserver import AUDIT_DELAY, ApiServer, api_server
from benchmarks.contenders.slipway import Slipway, made
from benchmarks.process import Controller, machine
from benchmarks.stage import following
from benchmarks.store import ACCESS_KEY, BUCKET, SECRET_KEY, Store, store
from slipway.api.modelversion import Digests, InputField, Verdict
from slipway.contracts.digests import digest_json, short
from slipway.contracts.jobs import RegisterResult
from slipway.runtime.resources import (
    CONFIG_MAP,
    DATASET_VERSION,
    MODEL_PROJECT,
    PLATFORM,
    SECRET,
    TRAINING_RUN,
    Object,
)

NAMESPACES = 10
STEP_SECONDS = 1.0
IDLE_SECONDS = 10.0
_SYSTEM = "slipway-system"
_PROJECT = "flight-delays"
_VERSION = "flights-0123456789"
_PATIENCE = 1800.0
_POLL = 0.5

Say = Callable[[str], None]


class HeldWorkflows(ClusterWorkflows):
    """Workflows of the API server that are also remembered: nobody else writes them, and there are many."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server.client)
        self._held: dict[tuple[str, str], Object] = {}

    async def create(self, manifest: Object) -> Object:
        found = await super().create(manifest)
        self._held[found["metadata"]["namespace"], found["metadata"]["name"]] = found
        return found

    async def get(self, namespace: str, name: str) -> Object | None:
        return self._held.get((namespace, name))

    async def list(self) -> list[Object]:
        return list(self._held.values())

    async def merge(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        found = await super().merge(namespace, name, patch)
        if found is not None:
            self._held[namespace, name] = found
        return found

    async def delete(self, namespace: str, name: str) -> bool:
        self._held.pop((namespace, name), None)
        return await super().delete(namespace, name)


@dataclass
class Progress:
    """What the watch told of all TrainingRuns."""

    submitted: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def seen(self, _event: str, obj: Object) -> None:
        """Take an event in."""
        name, status = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}", obj.get("status") or {}
        if (status.get("pipelineRun") or {}).get("id"):
            self.submitted.setdefault(name, time.monotonic())
        if status.get("phase") in ("Succeeded", "Failed"):
            self.ended.setdefault(name, time.monotonic())
        if status.get("phase") == "Failed" and name not in self.failed:
            self.failed.append(name)


@dataclass
class Scene:
    """A run of the benchmark on its way."""

    server: ApiServer
    kfp: ContractServer
    machinery: Machinery
    store: Store
    operator: Controller
    progress: Progress


async def measure(count: int, say: Say) -> dict[str, Any]:
    """Run the benchmark.

    :param count: training runs

    Returns: machine; seconds until all were submitted and until all had ended; requests to the endpoint and to the API
    server for each run; memory in MiB at rest, at its peak; processor seconds.
    """
    before = machine()
    async with _scene() as scene:
        await asyncio.sleep(IDLE_SECONDS)
        rest, used = scene.operator.peak_mebibytes(), scene.operator.cpu_seconds()
        scene.kfp.calls.clear()
        mark, begin = scene.server.mark(), time.monotonic()
        for number in range(count):
            await scene.server.client.create(TRAINING_RUN, training_run(f"bench-{number % NAMESPACES}", f"r{number}"))
        created = time.monotonic() - begin
        say(f"{count} TrainingRuns created in {created:.1f} s")
        await _until(scene, count, say)
        await asyncio.sleep(AUDIT_DELAY)
        requests = scene.server.requests(Slipway.name, mark)
        progress, asked = scene.progress, Counter(each.operation for each in scene.kfp.calls)
        runs = scene.machinery.backend.database.runs
        return {
            "machine": {**before, "loadAfter": machine()["load"]},
            "runs": count,
            "namespaces": NAMESPACES,
            "stepSeconds": STEP_SECONDS,
            "atEndpoint": len(runs),
            "failed": len(progress.failed),
            "seconds": {
                "created": round(created, 1),
                "submitted": round(max(progress.submitted.values()) - begin, 1),
                "ended": round(max(progress.ended.values()) - begin, 1),
            },
            "endpointRequestsEach": round(asked.total() / count, 2),
            "endpointRequests": dict(asked.most_common()),
            "apiWritesEach": round(requests.writes / count, 2),
            "apiReadsEach": round(requests.reads / count, 2),
            "apiRequests": requests.by,
            "restMebibytes": round(rest, 1),
            "peakMebibytes": round(scene.operator.peak_mebibytes(), 1),
            "cpuSeconds": round(scene.operator.cpu_seconds() - used, 1),
        }


async def _until(scene: Scene, count: int, say: Say) -> None:
    deadline, told = time.monotonic() + _PATIENCE, time.monotonic()
    while len(scene.progress.ended) < count:
        scene.operator.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(scene.progress.ended)} of {count} training runs have ended")
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"submitted {len(scene.progress.submitted)}, ended {len(scene.progress.ended)} of {count}")
        await asyncio.sleep(_POLL)


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    progress = Progress()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="slipway-bench-logs-")))
        bucket = stack.enter_context(store())
        server = await stack.enter_async_context(api_server([Slipway.name]))
        await server.install([*programs.own_crds(), WORKFLOW_CRD])
        backend = Backend(HeldWorkflows(server), lambda: datetime.now(UTC), Settings(multi_user=True))
        machinery = Machinery(backend, work=lambda execution, ending: _work(bucket, execution, ending))
        kfp = ContractServer(backend)
        await stack.enter_async_context(kfp.serving())
        await _prepare(server, bucket, kfp.url)
        operator = Controller(Slipway().command(server.kubeconfig(Slipway.name), ()), folder / "operator.log")
        stack.callback(operator.kill)
        await stack.enter_async_context(following(server, {TRAINING_RUN: progress.seen}))
        moving = asyncio.create_task(_move(machinery))
        stack.push_async_callback(_stopped, moving)
        yield Scene(server, kfp, machinery, bucket, operator, progress)


async def _move(machinery: Machinery) -> None:
    while True:
        begin = time.monotonic()
        await machinery.step()
        await asyncio.sleep(max(0.05, STEP_SECONDS - (time.monotonic() - begin)))


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _work(bucket: Store, execution: Execution, ending: Ending) -> Ending:
    """What the judging tasks leave."""
    asked: dict[str, Any] = {}
    for text in execution.arguments.values():
        asked |= json.loads(text)
    model = digest_json([asked["run"], asked["parameters"]])
    folder = f"{asked['modelPrefix']}{short(model)}"
    other = "sha256:" + "2" * 64
    kinds = ("parameters", "configuration", "feature_pipeline", "training_set", "validation_set", "test_set", "code")
    digests = Digests(model=model, pipeline=asked["pipelineDigest"], image="runner", **dict.fromkeys(kinds, other))
    result = RegisterResult(
        digests=digests,
        artifact=folder,
        manifest=f"{folder}/manifest.json",
        manifest_digest=other,
        evaluation=f"{folder}/evaluation.json",
        inputs=[InputField(name="carrier", type="String", source="Request")],
        score="0.7",
        verdicts=[Verdict(name="optimize", verdict="Passed", message="rocAuc is 0.7, at least 0.6.")],
        passed=True,
    )
    await bucket.write(asked["result"], json.dumps(result.wire()).encode())
    return ending


async def _prepare(server: ApiServer, bucket: Store, url: str) -> None:
    """Platform, and projects with data in namespaces of their own."""
    await server.namespace(_SYSTEM)
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    feast = {"host": "pg", "port": "5432", "database": "d", "username": "u", "password": "p"}
    await server.client.create(SECRET, _secret("stores", {**keys, **feast}))
    reference = {"namespace": _SYSTEM, "name": "stores"}
    platform = {
        "artifacts": {"s3": {"endpoint": f"http://{bucket.address}", "bucket": BUCKET, "secretRef": reference}},
        "features": {"postgres": {"secretRef": reference}},
        "gateway": {"parentRef": {"namespace": _SYSTEM, "name": "models"}},
        "pipelines": {"engine": "KubeflowPipelines", "kubeflowPipelines": {"endpoint": url}},
    }
    await server.client.create(PLATFORM, made(PLATFORM, {"name": "default"}, platform))
    for number in range(NAMESPACES):
        namespace = f"bench-{number}"
        await server.namespace(namespace)
        await server.client.create(CONFIG_MAP, _launcher(namespace, bucket.address))
        project = {
            "task": {"statement": "Will it be late?", "target": "late"},
            "requirements": {"optimize": {"type": "Metric", "metric": {"name": "rocAuc"}}},
        }
        meta = {"name": _PROJECT, "namespace": namespace}
        await server.client.create(MODEL_PROJECT, made(MODEL_PROJECT, meta, project))
        await server.client.create(DATASET_VERSION, _data(namespace))


def training_run(namespace: str, name: str) -> Object:
    """A TrainingRun of a namespace's project."""
    spec = {
        "projectRef": {"name": _PROJECT},
        "datasetVersionRef": {"name": _VERSION},
        "inputs": ["carrier"],
        "code": {"image": {"name": "runner:1", "entrypoint": "flights.train:train"}},
        "parameters": {"name": name},
    }
    return made(TRAINING_RUN, {"name": name, "namespace": namespace}, spec)


def _secret(name: str, values: Mapping[str, str]) -> Object:
    return {**made(SECRET, {"name": name, "namespace": _SYSTEM}), "stringData": dict(values)}


def _launcher(namespace: str, address: str) -> Object:
    secret = {"secretName": f"{_PROJECT}-slipway-s3", "accessKeyKey": "accessKey", "secretKeyKey": "secretKey"}
    default = {"endpoint": address, "disableSSL": True, "credentials": {"fromEnv": False, "secretRef": secret}}
    head = made(CONFIG_MAP, {"name": "kfp-launcher", "namespace": namespace})
    return {**head, "data": {"providers": yaml.safe_dump({"s3": {"default": default}})}}


def _data(namespace: str) -> Object:
    folder = f"s3://{BUCKET}/datasets/{namespace}/flights/versions/0123456789"
    spec = {
        "projectRef": {"name": _PROJECT},
        "datasetRef": {"name": "flights"},
        "digest": "sha256:" + "d" * 64,
        "sourceDigest": "sha256:" + "d" * 64,
        "verdict": "Passed",
        "rows": 100,
        "partitions": 1,
        "manifest": f"{folder}/manifest.json",
        "report": f"{folder}/report.json",
    }
    return made(DATASET_VERSION, {"name": _VERSION, "namespace": namespace}, spec)
