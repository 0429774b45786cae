"""Reading a dataset version: its manifest and parts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from slipway.api.reasons import Reason
from slipway.contracts.digests import digest_json
from slipway.contracts.jobs import DatasetManifest, DatasetPart
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import ObjectStore, digest_file, require_digest


def read_manifest(store: ObjectStore, key: str, digest: str | None = None) -> DatasetManifest:
    """A manifest; RefusalError when it has another digest than the one given."""
    data = store.get_json(key)
    if digest is not None:
        require_digest(key, digest_json(data), digest)
    try:
        return DatasetManifest.model_validate(data)
    except ValidationError as error:
        raise RefusalError(
            Reason.InternalError, f"{key} is no manifest of this release: {error.errors()[0]['msg']}; ingest again."
        ) from None


def fetch_parts(store: ObjectStore, parts: Sequence[DatasetPart], paths: Sequence[Path], threads: int) -> None:
    """Downloads the parts that are not on disk yet, side by side. RefusalError when one is not what was recorded."""

    def fetch(part: DatasetPart, path: Path) -> None:
        if not path.exists():
            store.download(part.key, path, digest=part.digest)
        else:
            require_digest(str(path), digest_file(path), part.digest)

    with ThreadPoolExecutor(max(2, threads)) as pool:
        list(pool.map(fetch, parts, paths))
