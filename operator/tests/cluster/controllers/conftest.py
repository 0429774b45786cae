"""A real SeaweedFS on loopback, a port that stands for PostgreSQL, and somebody who plays the kubelet."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cluster.conftest import InstallCrds, remove_all
from minio import Minio
from minio.error import MinioException
from unit.controllers import things
from urllib3.exceptions import HTTPError

from slipway.contracts.jobs import Contract
from slipway.runtime.client import Client
from slipway.runtime.errors import AlreadyExists, Conflict
from slipway.runtime.resources import (
    COMPUTE_POOL,
    DATASET,
    FEATURE_SET,
    GATEWAY,
    JOB,
    MODEL_PROJECT,
    NAMESPACE,
    PLATFORM,
    SECRET,
    Object,
    ResourceType,
)
from slipway_cluster import gobuild

ACCESS_KEY, SECRET_KEY = "test", "test-secret"


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a SeaweedFS of this session."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "test", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    (folder / "data").mkdir()
    flags = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = _free_ports(len(flags) + 2)
    command = [
        str(Path(sys.executable).with_name("weed")),
        *("server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3"),
        *(f"-{flag}={port}" for flag, port in zip(flags, ports, strict=False)),
        *(f"-s3.port={ports[-2]}", f"-s3.port.grpc={ports[-1]}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=1000", "-master.volumeSizeLimitMB=64"),
    ]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)
        try:
            _wait_for_store(f"127.0.0.1:{ports[-2]}", process, log)
            yield f"http://127.0.0.1:{ports[-2]}"
        finally:
            process.kill()
            process.wait()


def _wait_for_store(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    store = Minio(endpoint=address, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((address.split(":")[0], int(address.split(":")[1])), 1):
                store.list_buckets()
            return
        except (OSError, MinioException, HTTPError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"SeaweedFS does not answer: {log.read_text()[-2000:]}") from error
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Bucket:
    """The bucket of one test, as people and Jobs use it."""

    def __init__(self, endpoint: str, name: str) -> None:
        address = endpoint.removeprefix("http://")
        self._store = Minio(endpoint=address, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)
        self.name = name

    async def exists(self) -> bool:
        return await asyncio.to_thread(self._store.bucket_exists, self.name)

    async def write(self, key: str, data: bytes) -> None:
        from io import BytesIO

        await asyncio.to_thread(self._store.put_object, self.name, key, BytesIO(data), len(data))

    async def read(self, key: str) -> bytes:
        def get() -> bytes:
            response = self._store.get_object(self.name, key)
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return await asyncio.to_thread(get)

    async def keys(self, prefix: str) -> list[str]:
        def listed() -> list[str]:
            found = self._store.list_objects(self.name, prefix=prefix, recursive=True)
            return [str(each.object_name) for each in found]

        return await asyncio.to_thread(listed)

    async def remove(self, key: str) -> None:
        await asyncio.to_thread(self._store.remove_object, self.name, key)


class Cluster:
    """What a test does to the cluster, beside the operator."""

    def __init__(self, client: Client, namespace: str, bucket: Bucket, endpoint: str, postgres: int) -> None:
        self.client = client
        self.namespace = namespace
        self.bucket = bucket
        self._endpoint = endpoint
        self._postgres = postgres

    async def apply(self, type_: ResourceType, obj: Object) -> Object:
        """What a person applies; objects of the example namespace go to the test's."""
        manifest = {"apiVersion": type_.api_version, "kind": type_.kind, **obj}
        if type_.namespaced and obj["metadata"].get("namespace") == things.NS:
            manifest["metadata"] = {**obj["metadata"], "namespace": self.namespace}
        return await self.client.apply(type_, manifest)

    async def platform(self) -> None:
        """Secrets, a programmed Gateway, and the Platform."""
        try:
            meta = {"name": things.SYSTEM}
            await self.client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        except AlreadyExists:
            pass
        await self.apply(SECRET, things.secret("s3", accessKey=ACCESS_KEY, secretKey=SECRET_KEY))
        feast = {"host": "127.0.0.1", "port": str(self._postgres), "database": "d", "username": "u", "password": "p"}
        await self.apply(SECRET, things.secret("feast", **feast))
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        spec = {"gatewayClassName": "test", "listeners": [listener]}
        await self.apply(GATEWAY, {"metadata": {"name": "models", "namespace": things.SYSTEM}, "spec": spec})
        programmed = {
            "type": "Programmed",
            "status": "True",
            "reason": "Programmed",
            "message": "",
            "lastTransitionTime": text(),
        }
        key = GATEWAY.key("models", things.SYSTEM)
        await self.client.merge(key, {"status": {"conditions": [programmed]}}, "status")
        reference = {"namespace": things.SYSTEM, "name": "s3"}
        s3 = {"endpoint": self._endpoint, "bucket": self.bucket.name, "secretRef": reference}
        await self.apply(PLATFORM, things.platform(artifacts={"s3": s3}))

    async def team(self, **dataset: Any) -> None:
        """A whole project."""
        await self.apply(MODEL_PROJECT, things.project())
        await self.apply(DATASET, things.dataset(pollInterval="1s", **dataset))
        await self.apply(FEATURE_SET, things.feature_set())

    async def get(self, type_: ResourceType, name: str) -> Object:
        return await self.client.get(type_.key(name, self.namespace if type_.namespaced else ""))

    async def all(self, type_: ResourceType) -> list[Object]:
        return await self.client.list(type_, self.namespace)

    # The kubelet

    async def jobs(self) -> list[Object]:
        """Jobs that have not ended."""
        return [job for job in await self.all(JOB) if not (job.get("status") or {}).get("conditions")]

    async def request_of(self, job: Object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.bucket.read(argument(job, "--request")))
        return found

    async def end(self, job: Object, result: Contract | None, *, failed: str = "") -> None:
        """A Job's end: its result in the store, then its status as the Job controller writes it."""
        if result is not None:
            data = json.dumps(result.wire()).encode()
            await self.bucket.write(f"{argument(job, '--prefix')}result.json", data)
        kinds = ("FailureTarget", "Failed") if failed else ("SuccessCriteriaMet", "Complete")
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": failed or "CompletionsReached",
                "message": "",
                "lastTransitionTime": text(),
                "lastProbeTime": text(),
            }
            for kind in kinds
        ]
        status: Object = {"startTime": text(), "conditions": conditions}
        status |= {"failed": 1} if failed else {"completionTime": text(), "succeeded": 1}
        await self.client.merge(JOB.key_of(job), {"status": status}, "status")

    async def play(self, job: Object) -> None:
        """Do what a Job is asked."""
        request, stage = await self.request_of(job), job["metadata"]["labels"]["slipway.dev/stage"]
        result: Contract
        if stage == "ingest":
            result = things.ingested(request)
            assert isinstance(result.report, str)
            assert isinstance(result.manifest, str)
            await self.bucket.write(result.report, b"{}")
            await self.bucket.write(result.manifest, json.dumps(things.manifest_of(request)).encode())
        elif stage == "features":
            result = things.materialized(request)
        elif stage == "train":
            result = things.produced(request)
        elif stage == "judge":
            result = things.registered(request)
        elif stage == "teardown":
            result = things.torn_down(request)
        else:
            doomed = [key for prefix in request["prefixes"] for key in await self.bucket.keys(prefix)]
            for key in doomed:
                await self.bucket.remove(key)
            result = things.deleted(len(doomed))
        await self.end(job, result)

    async def play_all(self) -> None:
        """Play Jobs for ever; cancel it to stop."""
        while True:
            for job in await self.jobs():
                try:
                    await self.play(job)
                except Conflict:
                    continue
            await asyncio.sleep(0.05)


def argument(job: Object, name: str) -> str:
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return str(arguments[arguments.index(name) + 1])


def text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="session")
def gateway_crd() -> Object:
    """The CRD of Gateways, from the pinned module; parsed once, for it is long."""
    folder = gobuild.module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    found: Object = yaml.load((folder / "gateway.networking.k8s.io_gateways.yaml").read_text(), yaml.CSafeLoader)
    return found


@pytest_asyncio.fixture
async def crds(install_crds: InstallCrds, slipway_crds: None, gateway_crd: Object) -> None:  # noqa: ARG001
    """Our CRDs, and the one of another project that a Platform needs. Pools do without KServe's."""
    await install_crds(gateway_crd)


@pytest_asyncio.fixture
async def cluster(client: Client, namespace: str, seaweed: str, crds: None) -> AsyncIterator[Cluster]:  # noqa: ARG001 - for what it installs
    """A namespace, a bucket that does not exist yet, and a port that accepts connections like PostgreSQL's."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Cluster(client, namespace, Bucket(seaweed, namespace), seaweed, port)
    finally:
        server.close()
        await server.wait_closed()
        for type_ in (PLATFORM, COMPUTE_POOL):
            await remove_all(client, type_)
