"""The artifact store: one bucket of any S3, through the `minio` client.

Objects that are named by their digest never change, so writing one again is no error and reading one can be checked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import Progress
from slipway_pipelines.errors import OutageError, RefusalError

log = logging.getLogger("slipway.job")

CHUNK = 1 << 20
MISSING = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})
RETRY = urllib3.Retry(total=6, backoff_factor=0.4, backoff_max=10, status_forcelist=(500, 502, 503, 504))
"""About twenty seconds of patience, for a restart; a longer outage ends the Job, and Kubernetes tries again."""


class MissingObjectError(OutageError):
    """There is no object of that key (yet)."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the artifact store has no object {key}")
        self.key = key


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing; `size` in bytes, `etag` without quotes."""

    key: str
    etag: str
    size: int


class ObjectStore:
    """Objects of one bucket by key. Every method raises OutageError when the store does not answer."""

    def __init__(self, endpoint: str, bucket: str, region: str, access_key: str, secret_key: str) -> None:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise RefusalError(
                Reason.InvalidSpec,
                f"The artifact store's endpoint {endpoint!r} is not a URL such as http://seaweedfs.storage:8333: "
                "correct spec.artifacts.s3.endpoint of the Platform.",
            )
        self.endpoint = f"{parts.scheme}://{parts.netloc}"
        self.bucket = bucket
        self.region = region
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=60), maxsize=16, retries=RETRY, cert_reqs="CERT_REQUIRED"
        )
        self._client = Minio(
            parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=parts.scheme == "https",
            region=region,
            http_client=pool,
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> ObjectStore:
        """The store that `SLIPWAY_S3_*` names. OutageError when one of the variables is missing."""
        names = ("ENDPOINT", "BUCKET", "ACCESS_KEY", "SECRET_KEY")
        missing = [f"SLIPWAY_S3_{name}" for name in names if not environ.get(f"SLIPWAY_S3_{name}")]
        if missing:
            raise OutageError(f"the environment lacks {', '.join(missing)}, so the artifact store is not known")
        endpoint, bucket, access_key, secret_key = (environ[f"SLIPWAY_S3_{name}"] for name in names)
        return cls(endpoint, bucket, environ.get("SLIPWAY_S3_REGION") or "us-east-1", access_key, secret_key)

    def uri(self, key: str) -> str:
        """The `s3://` URI of a key."""
        return f"s3://{self.bucket}/{key}"

    def get_bytes(self, key: str, digest: str | None = None) -> bytes:
        """Content of an object. MissingObjectError; RefusalError when it has another digest than the one given."""
        with self._errors(key):
            response = self._client.get_object(self.bucket, key)
            try:
                data: bytes = response.read()
            finally:
                response.close()
                response.release_conn()
        if digest is not None:
            require_digest(key, digest_bytes(data), digest)
        return data

    def get_json(self, key: str, digest: str | None = None) -> Any:
        """A parsed JSON object."""
        return json.loads(self.get_bytes(key, digest))

    def find_json(self, key: str) -> Any | None:
        """A parsed JSON object, or None where there is none."""
        try:
            return self.get_json(key)
        except MissingObjectError:
            return None

    def put_bytes(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> str:
        """Writes an object; gives its digest."""
        with self._errors(key):
            self._client.put_object(self.bucket, key, BytesIO(data), len(data), content_type=content_type)
        return digest_bytes(data)

    def put_json(self, key: str, value: Any) -> str:
        """Writes a value as canonical JSON; gives its digest."""
        return self.put_bytes(key, canonical_json(value), "application/json")

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            with self._errors(key):
                self._client.stat_object(self.bucket, key)
        except MissingObjectError:
            return False
        return True

    def upload(self, path: Path, key: str) -> str:
        """Writes a file as an object; gives its digest."""
        with self._errors(key):
            self._client.fput_object(self.bucket, key, str(path))
        return digest_file(path)

    def download(self, key: str, path: Path, digest: str | None = None, etag: str | None = None) -> str:
        """Writes an object to a file; gives its digest.

        MissingObjectError; RefusalError when the object has another digest, or another etag, than the one given.
        """
        hasher = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors(key):
            response = self._client.get_object(self.bucket, key)
            try:
                found = response.headers.get("ETag", "").strip('"')
                if etag is not None and found != etag:
                    raise RefusalError(
                        Reason.SourceChanged,
                        f"Object {key} was written again while it was read; the next look at the source starts over.",
                    )
                with path.open("wb") as file:
                    for chunk in response.stream(CHUNK):
                        hasher.update(chunk)
                        file.write(chunk)
            finally:
                response.close()
                response.release_conn()
        actual = f"sha256:{hasher.hexdigest()}"
        if digest is not None:
            require_digest(key, actual, digest)
        return actual

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Objects below a prefix, by key."""
        with self._errors(prefix):
            for item in self._client.list_objects(self.bucket, prefix=prefix, recursive=True):
                if not item.is_dir:
                    yield StoredObject(item.object_name or "", (item.etag or "").strip('"'), item.size or 0)

    def delete_prefix(self, prefix: str) -> int:
        """Deletes every object below a prefix; gives how many there were."""
        if not prefix.endswith("/") or prefix.count("/") < 2:
            raise ValueError(f"{prefix!r} is too wide to delete: it must name a folder of a namespace, ending in /")
        keys = [item.key for item in self.list(prefix)]
        with self._errors(prefix):
            failed = list(self._client.remove_objects(self.bucket, (DeleteObject(key) for key in keys)))
        if failed:
            raise OutageError(
                f"{len(failed)} of {len(keys)} objects below {prefix} were not deleted: {failed[0].message}"
            )
        return len(keys)

    def ensure_bucket(self) -> None:
        """Makes the bucket where it is missing."""
        with self._errors(self.bucket):
            if not self._client.bucket_exists(self.bucket):
                self._client.make_bucket(self.bucket, location=self.region)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turns the client's errors into this project's."""
        try:
            yield
        except S3Error as error:
            if error.code in MISSING:
                raise MissingObjectError(key) from None
            raise OutageError(f"the artifact store refuses {key}: {error.code}, {error.message}") from None
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise OutageError(f"the artifact store {self.endpoint} does not answer for {key}: {error}") from None


class ProgressWriter:
    """Writes `progress.json` below a prefix, at most once a second within one stage, and one log line a stage."""

    def __init__(self, store: ObjectStore, prefix: str, interval: float = 1.0) -> None:
        self._store = store
        self._key = f"{prefix}progress.json"
        self._interval = interval
        self._stage = ""
        self._written = float("-inf")

    def __call__(self, stage: str, percent: int) -> None:
        """Says how far the Job is. An outage of the store is not worth ending the Job for, and is only logged."""
        now = time.monotonic()
        if stage == self._stage and now - self._written < self._interval:
            return
        if stage != self._stage:
            log.info("%s (%d %%)", stage, percent)
        self._stage, self._written = stage, now
        progress = Progress(stage=stage, percent=max(0, min(100, percent)), at=format_time(datetime.now(UTC)))
        try:
            self._store.put_json(self._key, progress.wire())
        except OutageError as error:
            log.warning("progress is not written: %s", error)


def require_digest(what: str, actual: str, expected: str) -> None:
    """RefusalError when the two digests differ."""
    if actual != expected:
        raise RefusalError(
            Reason.DigestMismatch,
            f"{what} has digest {actual} where {expected} was recorded: it was changed or is damaged; "
            "restore it, or make a new version.",
        )


def digest_file(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC, with microseconds only where there are any. A naive time is UTC."""
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return utc.isoformat().replace("+00:00", "Z")
