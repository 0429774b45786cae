"""Apply two feature views to a Feast project in PostgreSQL and materialize a few values. Run by the tests' fixtures.

Usage: python apply_features.py FOLDER LATE_SHARE_OF_UA [FEATURE_SERVICE…], with SLIPWAY_FEAST_* set.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64, String

NOW = datetime(2013, 4, 1, tzinfo=UTC)


def store() -> FeatureStore:
    """The Feast project `flights`, with Feast's own online store."""
    env = {name: os.environ[f"SLIPWAY_FEAST_{name}"] for name in ("HOST", "PORT", "DATABASE", "USERNAME")}
    url = f"postgresql+psycopg://{env['USERNAME']}@{env['HOST']}:{env['PORT']}/{env['DATABASE']}"
    return FeatureStore(
        config=RepoConfig(
            project="flights",
            provider="local",
            registry={"registry_type": "sql", "path": url},
            online_store={
                "type": "postgres",
                "host": env["HOST"],
                "port": int(env["PORT"]),
                "database": env["DATABASE"],
                "user": env["USERNAME"],
                "password": "",
                "sslmode": "disable",
            },
            entity_key_serialization_version=3,
        )
    )


def view(folder: Path, name: str, entity: Entity, key: Field, values: pd.DataFrame, features: list[str]) -> FeatureView:
    """A feature view over a Parquet file with `values`."""
    path = folder / f"{name}.parquet"
    values.assign(event_timestamp=NOW).to_parquet(path)
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(days=30),
        schema=[key, *(Field(name=feature, dtype=Float64) for feature in features)],
        source=FileSource(path=str(path), timestamp_field="event_timestamp"),
    )


def main(folder: Path, late_share: float, services: list[str]) -> None:
    """Apply and materialize."""
    carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)
    gate = Entity(name="gate", join_keys=["gate"], value_type=ValueType.INT64)
    history = pd.DataFrame({"carrier": ["UA", "AA"], "late_share_7d": [late_share, 0.2]})
    queues = pd.DataFrame({"gate": [1, 2], "queue": [10.0, None]})
    views = [
        view(folder, "carrier_history", carrier, Field(name="carrier", dtype=String), history, ["late_share_7d"]),
        view(folder, "gate_queue", gate, Field(name="gate", dtype=Int64), queues, ["queue"]),
    ]
    feast = store()
    feast.apply([carrier, gate, *views, *(FeatureService(name=name, features=[*views]) for name in services)])
    feast.materialize(NOW - timedelta(hours=1), NOW + timedelta(hours=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
