"""The artifact store: any S3, spoken to by the `minio` client in threads, with a bound on every wait.

The credentials are the Platform's, read live; a client is kept for each version of the Secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from pydantic import BaseModel

from slipway.adapters.secrets import Secrets
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import SourceObject, Store
from slipway.runtime.errors import Unavailable
from slipway.runtime.threads import in_thread

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

CONNECT_SECONDS = 3.0
READ_SECONDS = 15.0
WAIT_SECONDS = 60.0
"""For one operation in all, the wait for a thread included."""
MAX_LISTED = 20_000
"""Objects that a listing returns at most: what one request may carry."""
DELETE_BATCH = 1000
MAX_JSON = 16 * 2**20
"""Bytes of a JSON document that the operator reads at most: Jobs write them."""

_REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


@dataclass(frozen=True)
class Location:
    """A bucket, and the Secret that opens it."""

    endpoint: str
    bucket: str
    region: str
    secret_namespace: str
    secret_name: str

    @classmethod
    def of(cls, platform: Platform) -> Location:
        """Where a Platform keeps its artifacts."""
        s3 = platform.spec.artifacts.s3
        return cls(s3.endpoint, s3.bucket, s3.region, s3.secret_ref.namespace, s3.secret_ref.name)

    @property
    def store(self) -> Store:
        """The part that requests carry."""
        return Store(endpoint=self.endpoint, bucket=self.bucket, region=self.region)

    def uri(self, key: str) -> str:
        """The `s3://` URI of a key."""
        return f"s3://{self.bucket}/{key}"


def key_of(uri: str) -> str:
    """The key in an `s3://BUCKET/KEY` URI."""
    return urlsplit(uri).path.removeprefix("/")


class Artifacts:
    """Reads and writes a bucket. Every method may raise Unavailable with a sentence for people.

    :param secrets: bound by whoever observes, before anything is asked of the store
    """

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self._clients: dict[Location, tuple[str, Minio]] = {}

    async def put(self, location: Location, key: str, data: bytes) -> None:
        """Write one object."""
        await self._run(location, lambda s3: s3.put_object(location.bucket, key, BytesIO(data), len(data)))

    async def put_json(self, location: Location, key: str, model: BaseModel) -> None:
        """Write a model as canonical JSON."""
        await self.put(location, key, canonical_json(model.model_dump(mode="json", by_alias=True, exclude_none=True)))

    async def get(self, location: Location, key: str) -> bytes | None:
        """One object of at most 16 MiB; None when there is none."""

        def read(s3: Minio) -> bytes | None:
            try:
                response = s3.get_object(location.bucket, key)
            except S3Error as error:
                if error.code in ("NoSuchKey", "NoSuchBucket"):
                    return None
                raise
            try:
                data: bytes = response.read(MAX_JSON + 1)
            finally:
                response.close()
                response.release_conn()
            if len(data) > MAX_JSON:
                raise ValueError(f"s3://{location.bucket}/{key} is larger than {MAX_JSON} bytes")
            return data

        return await self._run(location, read)

    async def get_json(self, location: Location, key: str, model: type[M]) -> M | None:
        """A model from JSON; None when there is no such object.

        :raises pydantic.ValidationError: it is there and has another form
        """
        data = await self.get(location, key)
        return None if data is None else model.model_validate_json(data)

    async def list(self, location: Location, prefix: str, limit: int = MAX_LISTED) -> list[SourceObject]:
        """At most `limit` objects below a prefix, by key; folder marks are left out."""

        def read(s3: Minio) -> list[SourceObject]:
            found = s3.list_objects(location.bucket, prefix=prefix, recursive=True)
            chosen = (each for each in found if not each.is_dir and not str(each.object_name).endswith("/"))
            return [
                SourceObject(key=str(each.object_name), etag=str(each.etag or "").strip('"'), size=int(each.size or 0))
                for each in islice(chosen, limit)
            ]

        return await self._run(location, read)

    async def bucket(self, location: Location) -> Literal["Ready", "Missing"]:
        """Whether the bucket is there. :raises Unavailable: the store does not answer or refuses the credentials"""
        exists = await self._run(location, lambda s3: s3.bucket_exists(location.bucket))
        return "Ready" if exists else "Missing"

    async def make_bucket(self, location: Location) -> None:
        """Make the bucket; one that exists already is fine."""

        def make(s3: Minio) -> None:
            try:
                s3.make_bucket(location.bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

        await self._run(location, make)

    async def delete(self, location: Location, prefixes: Sequence[str], limit: int = DELETE_BATCH) -> None:
        """Delete at most `limit` objects below each prefix; call again until a listing is empty."""

        def remove(s3: Minio) -> None:
            for prefix in prefixes:
                found = islice(s3.list_objects(location.bucket, prefix=prefix, recursive=True), limit)
                doomed = [DeleteObject(str(each.object_name)) for each in found]
                for failure in s3.remove_objects(location.bucket, doomed):
                    raise Unavailable(
                        f"s3://{location.bucket}/{failure.name} cannot be deleted: {failure.message}.",
                        reason=Reason.PlatformUnavailable,
                    )

        await self._run(location, remove)

    async def _run(self, location: Location, work: Callable[[Minio], T]) -> T:
        s3 = await self._client(location)
        return await in_thread(
            lambda: self._explained(location, lambda: work(s3)), timeout=WAIT_SECONDS, what="the artifact store"
        )

    def _explained(self, location: Location, work: Callable[[], T]) -> T:
        try:
            return work()
        except S3Error as error:
            if error.code in _REFUSED:
                self.secrets.forget(location.secret_namespace, location.secret_name)
                raise unavailable(
                    f"{location.endpoint} refuses the credentials for bucket {location.bucket} ({error.code}): correct "
                    f"accessKey and secretKey of Secret {location.secret_namespace}/{location.secret_name}."
                ) from error
            if error.code == "NoSuchBucket":
                raise unavailable(f"Bucket {location.bucket} does not exist at {location.endpoint}.") from error
            raise unavailable(f"{location.endpoint} answered {error.code}: {error.message}.") from error
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
            raise unavailable(f"{location.endpoint} does not answer: {_short(error)}.") from error

    async def _client(self, location: Location) -> Minio:
        where = f"Secret {location.secret_namespace}/{location.secret_name}"
        secret = await self.secrets.read(location.secret_namespace, location.secret_name)
        if secret is None:
            raise unavailable(f"{where} does not exist: create it with accessKey and secretKey of the artifact store.")
        if missing := secret.missing("accessKey", "secretKey"):
            raise unavailable(f"{where} has no {' and no '.join(missing)}: add it.")
        known = self._clients.get(location)
        if known is None or known[0] != secret.resource_version:
            known = (
                secret.resource_version,
                _connect(location, secret.values["accessKey"], secret.values["secretKey"]),
            )
            self._clients[location] = known
        return known[1]


def unavailable(message: str) -> Unavailable:
    """The error for a store that does not do its part."""
    return Unavailable(message, reason=Reason.PlatformUnavailable)


def _connect(location: Location, access_key: str, secret_key: str) -> Minio:
    parts = urlsplit(location.endpoint)
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    pool: Any = urllib3.PoolManager(timeout=timeout, maxsize=8, retries=urllib3.Retry(total=1, backoff_factor=0.2))
    return Minio(
        endpoint=parts.netloc,
        access_key=access_key,
        secret_key=secret_key,
        secure=parts.scheme == "https",
        region=location.region,
        http_client=pool,
    )


def _short(error: BaseException) -> str:
    """The innermost cause, which says more than urllib3's wrapping, without the connection's representation."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _short(reason)
    text = error.args[-1] if error.args and isinstance(error.args[-1], str) else str(error)
    return text.split(": ", 1)[-1].rstrip(".") if text.startswith("<") else text.rstrip(".") or type(error).__name__
