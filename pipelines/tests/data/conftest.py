"""Requests over the flights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.contracts.jobs import IngestRequest
from slipway_pipelines.store import ObjectStore

MakeRequest = Callable[..., IngestRequest]

FLIGHT_COLUMNS: list[dict[str, Any]] = [
    {"name": "flight_id", "type": "String"},
    {"name": "carrier", "type": "String"},
    {"name": "origin", "type": "String"},
    {"name": "dest", "type": "String"},
    {"name": "distance", "type": "Double"},
    {"name": "tailnum", "type": "String", "nullable": True, "sensitive": True},
    {"name": "sched_dep_time", "type": "Timestamp"},
    {"name": "sched_arr_time", "type": "Timestamp"},
    {"name": "arr_delay", "type": "Double", "nullable": True},
]


def make_flights_request(
    store: ObjectStore, paths: list[Path], prefix: str = "raw/flights/", **changes: Any
) -> IngestRequest:
    """A request for the flights in `paths`, put below `prefix` now."""
    for path in paths:
        store.upload(path, f"{prefix}{path.name}")
    spec: dict[str, Any] = {
        "store": {"endpoint": store.endpoint, "bucket": store.bucket},
        "prefix": "jobs/flights/ingest/",
        "namespace": "flights",
        "dataset": "flights",
        "sourceDigest": "sha256:" + "0" * 64,
        "format": "Parquet",
        "objects": [{"key": o.key, "etag": o.etag, "size": o.size} for o in store.list(prefix)],
        "key": ["flight_id"],
        "columns": FLIGHT_COLUMNS,
        "time": {"event": "sched_dep_time", "availableAt": "sched_arr_time + INTERVAL (arr_delay) MINUTE"},
        "labels": {
            "column": "arr_delayed",
            "type": "FromOutcomes",
            "fromOutcomes": {"expression": "arr_delay >= 15"},
            "guide": {"uri": "s3://slipway/flights/labels.md", "version": "3"},
        },
        "quality": [
            {"name": "enough", "expect": "count(*) > 20000"},
            {"name": "plausible", "expect": "avg(arr_delay) BETWEEN -30 AND 60"},
            {"name": "both-outcomes", "expect": "avg(arr_delayed) BETWEEN 0.05 AND 0.5", "per": "Version"},
        ],
        "splits": {"type": "Time", "time": {"trainPercent": 80, "validationPercent": 10, "testPercent": 10}},
    }
    return IngestRequest.model_validate(spec | changes)


@pytest.fixture(scope="session")
def flights_request() -> MakeRequest:
    """Makes requests."""
    return make_flights_request
