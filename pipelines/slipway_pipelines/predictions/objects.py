"""Objects of the prediction log: which ones a time needs, and their bytes on disk.

Keys are `PREFIX date=YYYY-MM-DD/hour=HH/UUID.parquet`; an object has rows of one hour only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from slipway.api.reasons import Reason
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import ObjectStore, StoredObject

MAX_OBJECTS = 20_000
MAX_BYTES = 1 << 30
"""Of one version: compressed Parquet, so many times more in memory; DuckDB spills to disk beyond its limit."""
_DOWNLOADS = 8


def hours(since: datetime, until: datetime) -> Iterator[str]:
    """Folders of the hours of `[since, until)`, in UTC."""
    hour = since.replace(minute=0, second=0, microsecond=0)
    while hour < until:
        yield f"date={hour:%Y-%m-%d}/hour={hour:%H}/"
        hour += timedelta(hours=1)


def find(store: ObjectStore, prefix: str, since: datetime, until: datetime) -> list[StoredObject]:
    """Objects with rows of a time. RefusalError when they are too many."""
    found: list[StoredObject] = []
    size = 0
    for hour in hours(since, until):
        for item in store.list(f"{prefix}{hour}"):
            found.append(item)
            size += item.size
            if len(found) > MAX_OBJECTS or size > MAX_BYTES:
                raise RefusalError(
                    Reason.SourceTooLarge,
                    f"{prefix} has more than {MAX_OBJECTS} objects or {MAX_BYTES >> 20} MiB of predictions between "
                    f"{since:%Y-%m-%d %H:%M} and {until:%Y-%m-%d %H:%M}: lower predictionLog.samplePercent, or make "
                    "the step shorter.",
                )
    return found


def fetch(store: ObjectStore, objects: Sequence[StoredObject], folder: Path) -> list[Path]:
    """Download objects side by side."""
    paths = [folder / f"{number}.parquet" for number in range(len(objects))]
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        list(pool.map(lambda item, path: store.download(item.key, path), objects, paths))
    return paths
