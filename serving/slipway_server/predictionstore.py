"""The S3 store of the prediction log. Importing this module imports the `minio` client."""

from __future__ import annotations

from io import BytesIO
from urllib.parse import urlsplit

import urllib3
from minio import Minio

from slipway_server.settings import PredictionLogSettings

_CONNECT_SECONDS, _READ_SECONDS = 2, 5


class S3:
    """Puts objects. Raises whatever the client raises, after seconds at most; the caller tries again."""

    def __init__(self, settings: PredictionLogSettings) -> None:
        parts = urlsplit(settings.endpoint)
        self._bucket = settings.bucket
        self._client = Minio(
            endpoint=parts.netloc,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=parts.scheme == "https",
            region=settings.region,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS), maxsize=1, retries=False
            ),
        )

    def put(self, key: str, data: bytes) -> None:
        """Write one object."""
        self._client.put_object(
            self._bucket, key, BytesIO(data), len(data), content_type="application/vnd.apache.parquet"
        )
