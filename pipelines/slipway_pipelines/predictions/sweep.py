"""`sweep-predictions`: removes days of predictions that are older than their retention, so many objects at most."""

from __future__ import annotations

import re
from collections import Counter

from slipway.contracts.predictions import SweepRequest, SweepResult
from slipway_pipelines.store import ObjectStore, ProgressWriter

MAX_OBJECTS = 200_000
"""One run removes so many at most; the next day's goes on."""
_DAY = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


def run_sweep(request: SweepRequest, store: ObjectStore, progress: ProgressWriter) -> SweepResult:
    """Removes whole days, the oldest first."""
    progress("look for old predictions", 0)
    days: Counter[str] = Counter()
    for item in store.list(request.folder):
        day = _DAY.search(item.key[len(request.folder) - 1 :])
        if day is not None and day[1] < request.before:
            days[item.key[: len(request.folder) - 1 + day.end()]] += 1
    removed = 0
    ordered = sorted(days, key=lambda folder: folder[-11:])
    for number, folder in enumerate(ordered):
        if removed >= MAX_OBJECTS:
            return SweepResult(objects=removed, left=sum(days[each] for each in ordered[number:]))
        progress(f"remove {folder}", 100 * number // len(ordered))
        removed += store.delete_prefix(folder)
    return SweepResult(objects=removed)
