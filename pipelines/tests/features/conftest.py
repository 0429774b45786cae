"""Flights and weather, ingested; the features of the example over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.api.featureset import View
from slipway.contracts.jobs import DatasetManifest, FeatureDataset, FeatureRequest, IngestRequest, TrainingFeatureSet
from slipway_pipelines.data.ingest import run_ingest
from slipway_pipelines.data.parts import fetch_parts, read_manifest
from slipway_pipelines.features.values import source_dataset
from slipway_pipelines.store import ObjectStore, ProgressWriter

FEATURE_SET: dict[str, Any] = {
    "entities": [
        {"name": "carrier", "type": "String", "description": "Airline, by its two-letter code"},
        {"name": "origin", "type": "String"},
    ],
    "views": [
        {
            "name": "carrier_history",
            "entities": ["carrier"],
            "source": {
                "type": "Aggregate",
                "aggregate": {"datasetRef": {"name": "flights"}, "window": "168h", "every": "1h"},
            },
            "ttl": "336h",
            "features": [
                {
                    "name": "late_share_7d",
                    "type": "Double",
                    "expression": "avg(arr_delayed)",
                    "default": 0.2,
                    "owner": "dana",
                    "description": "Share of the airline's flights that were late, of those that landed in 7 days",
                },
                {"name": "flights_7d", "type": "Integer", "expression": "count(*)", "default": 0},
            ],
        },
        {
            "name": "origin_weather",
            "entities": ["origin"],
            "source": {"type": "Dataset", "dataset": {"datasetRef": {"name": "weather"}}},
            "ttl": "6h",
            "features": [
                {"name": "wind_speed", "type": "Double", "owner": "dana"},
                {"name": "visib", "type": "Double", "default": 10.0},
            ],
        },
    ],
}
DIGEST = "sha256:" + "1" * 64


def ingest(store: ObjectStore, dataset: str, paths: Sequence[Path], spec: dict[str, Any]) -> str:
    """Makes a dataset version of files; gives the key of its manifest."""
    prefix = f"raw/{dataset}/"
    for path in paths:
        store.upload(path, f"{prefix}{path.name}")
    request = IngestRequest.model_validate(
        {
            "store": {"endpoint": store.endpoint, "bucket": store.bucket},
            "prefix": f"jobs/flights/{dataset}/",
            "namespace": "flights",
            "dataset": dataset,
            "sourceDigest": DIGEST,
            "format": "Parquet",
            "objects": [{"key": o.key, "etag": o.etag, "size": o.size} for o in store.list(prefix)],
        }
        | spec
    )
    result = run_ingest(request, store, ProgressWriter(store, request.prefix))
    assert result.verdict == "Passed", result.violations
    assert result.manifest
    return result.manifest


FLIGHTS: dict[str, Any] = {
    "key": ["flight_id"],
    "columns": [
        {"name": "flight_id", "type": "String"},
        {"name": "carrier", "type": "String"},
        {"name": "origin", "type": "String"},
        {"name": "dest", "type": "String"},
        {"name": "distance", "type": "Double"},
        {"name": "tailnum", "type": "String", "nullable": True, "sensitive": True},
        {"name": "sched_dep_time", "type": "Timestamp"},
        {"name": "sched_arr_time", "type": "Timestamp"},
        {"name": "arr_delay", "type": "Double", "nullable": True},
    ],
    "time": {"event": "sched_dep_time", "availableAt": "sched_arr_time + INTERVAL (arr_delay) MINUTE"},
    "labels": {
        "column": "arr_delayed",
        "type": "FromOutcomes",
        "fromOutcomes": {"expression": "arr_delay >= 15"},
        "guide": {"uri": "s3://slipway/flights/labels.md", "version": "3"},
    },
    "splits": {"type": "Time", "time": {"trainPercent": 80, "validationPercent": 10, "testPercent": 10}},
}
WEATHER: dict[str, Any] = {
    "key": ["origin", "time_hour"],
    "columns": [
        {"name": "origin", "type": "String"},
        {"name": "time_hour", "type": "Timestamp"},
        *({"name": name, "type": "Double", "nullable": True} for name in ("temp", "wind_speed", "visib")),
    ],
    "time": {"event": "time_hour"},
}


@dataclass(frozen=True)
class World:
    """A store with the year, ingested, and the features over it."""

    store: ObjectStore
    manifest: DatasetManifest
    datasets: list[FeatureDataset]

    def feature_set(self, name: str = "flight-features") -> TrainingFeatureSet:
        """What a training run gets."""
        return TrainingFeatureSet.model_validate(
            {"name": name, "definitionDigest": DIGEST, "feastProject": "flights", "datasets": self.datasets}
            | FEATURE_SET
        )

    def request(self, **changes: Any) -> FeatureRequest:
        """What a `features` Job gets."""
        return FeatureRequest.model_validate(
            {
                "store": {"endpoint": self.store.endpoint, "bucket": self.store.bucket},
                "prefix": "jobs/flights/features/",
                "namespace": "flights",
                "featureSet": "flight-features",
                "feastProject": "flights",
                "datasets": self.datasets,
                "definitionDigest": DIGEST,
                "inputDigest": DIGEST,
            }
            | FEATURE_SET
            | changes
        )

    def parts(self, view: View, folder: Path) -> tuple[DatasetManifest, list[Path]]:
        """The manifest of the dataset that a view reads, and its parts on disk."""
        (found,) = [item for item in self.datasets if item.dataset == source_dataset(view)]
        manifest = read_manifest(self.store, found.manifest)
        paths = [folder / f"{found.dataset}-{number}.parquet" for number in range(len(manifest.parts))]
        fetch_parts(self.store, manifest.parts, paths, 2)
        return manifest, paths


def world_of(store: ObjectStore, months: Sequence[Path], weather: Path) -> World:
    """A world of some months."""
    flights_manifest = ingest(store, "flights", months, FLIGHTS)
    weather_manifest = ingest(store, "weather", [weather], WEATHER)
    datasets = [
        FeatureDataset(dataset="flights", version="flights-1", manifest=flights_manifest),
        FeatureDataset(dataset="weather", version="weather-1", manifest=weather_manifest),
    ]
    return World(store, read_manifest(store, flights_manifest), datasets)


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """Makes worlds."""
    return world_of


@pytest.fixture(scope="module")
def world(module_store: ObjectStore, flights: Any) -> World:
    """The whole year."""
    return world_of(module_store, flights.months, flights.weather)
