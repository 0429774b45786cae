"""Removing old predictions: whole days, nothing newer, nothing of others, so many at most."""

from __future__ import annotations

import pytest

from slipway.contracts.jobs import Store
from slipway.contracts.predictions import SweepRequest, SweepResult
from slipway_pipelines.predictions import sweep
from slipway_pipelines.store import ObjectStore, ProgressWriter

FOLDER = "predictions/flights/delays/"
OLD = [
    f"{FOLDER}{version}/date=2026-10-{day}/hour=08/{n}.parquet"
    for version in ("v1", "v2")
    for day in (23, 24)
    for n in (1, 2)
]
KEPT = [
    f"{FOLDER}v1/date=2026-10-25/hour=00/1.parquet",
    f"{FOLDER}v1/date=2026-11-01/hour=00/1.parquet",
    "predictions/flights/delays-2/v1/date=2026-01-01/hour=00/1.parquet",
    "predictions/others/delays/v1/date=2026-01-01/hour=00/1.parquet",
]


def run(store: ObjectStore) -> SweepResult:
    """Run the Job for a retention that ends with the 24th."""
    request = SweepRequest(
        store=Store(endpoint=store.endpoint, bucket=store.bucket),
        prefix="jobs/flights/sweep/",
        folder=FOLDER,
        before="2026-10-25",
    )
    return sweep.run_sweep(request, store, ProgressWriter(store, request.prefix))


@pytest.fixture
def filled(store: ObjectStore) -> ObjectStore:
    for key in OLD + KEPT:
        store.put_bytes(key, b"1")
    return store


def test_days_before_the_retention_go_and_nothing_else(filled: ObjectStore) -> None:
    assert run(filled) == SweepResult(objects=len(OLD))
    assert {item.key for item in filled.list("predictions/")} == set(KEPT)
    assert run(filled) == SweepResult()


def test_one_run_is_bounded_and_the_next_goes_on(filled: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MAX_OBJECTS", 3)
    first = run(filled)
    assert (first.objects, first.left) == (4, 4)  # whole days, so the last one may go over the bound
    assert {item.key for item in filled.list(FOLDER)} >= {key for key in OLD if "10-24" in key}  # the oldest went first
    assert run(filled).left == 0
    assert {item.key for item in filled.list("predictions/")} == set(KEPT)
