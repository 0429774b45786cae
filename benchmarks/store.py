"""A SeaweedFS of its own, on loopback: what the operator and runs read and write."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from benchmarks.process import free_port

ACCESS_KEY, SECRET_KEY = "bench", "bench-secret"
BUCKET = "slipway"
_START_SECONDS = 60.0
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")


@dataclass
class Store:
    """The bucket. :param address: host and port"""

    address: str
    client: Minio = field(init=False)

    def __post_init__(self) -> None:
        self.client = Minio(endpoint=self.address, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)

    async def write(self, key: str, data: bytes) -> None:
        """Put one object."""
        await asyncio.to_thread(self.client.put_object, BUCKET, key, BytesIO(data), len(data))


@contextmanager
def store() -> Iterator[Store]:
    """A store with an empty bucket. :raises TimeoutError: it does not start"""
    with TemporaryDirectory(prefix="slipway-bench-store-") as name:
        folder = Path(name)
        s3, s3_grpc = free_port(), free_port()
        log = folder / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(_command(folder, s3, s3_grpc), stdout=sink, stderr=sink, cwd=folder)
        try:
            found = Store(f"127.0.0.1:{s3}")
            _wait(found, process, log)
            found.client.make_bucket(bucket_name=BUCKET)
            yield found
        finally:
            process.kill()
            process.wait()


def _command(folder: Path, s3: int, s3_grpc: int) -> list[str]:
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "bench", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")  # else seven volumes a bucket
    (folder / "data").mkdir()
    return [
        str(Path(sys.executable).with_name("weed")),
        *("server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3"),
        *(f"-{each}={free_port()}" for each in _PORTS),
        *(f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=1000", "-master.volumeSizeLimitMB=64"),
    ]


def _wait(found: Store, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            found.client.list_buckets()
            return
        except (OSError, MinioException, HTTPError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"SeaweedFS does not answer: {log.read_text(errors='replace')[-2000:]}") from error
            time.sleep(0.2)
