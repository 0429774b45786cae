"""Point-in-time joins, against truths written independently."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import DatasetManifest, TrainingFeatureSet
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.features.definitions import Names, define
from slipway_pipelines.features.pointintime import training_frame
from slipway_pipelines.features.values import ViewInput, compute_view
from slipway_pipelines.sql.engine import Limits
from slipway_pipelines.store import ObjectStore

LEAD = timedelta(hours=2)
SAMPLE = 300

TRUTH = """
    SELECT
        s.flight_id,
        (
            SELECT avg((h.arr_delay >= 15)::INTEGER) FROM history AS h
            WHERE h.carrier = s.carrier AND h.known <= s.tick AND h.known > s.tick - INTERVAL 168 HOUR
        ) AS late_share_7d,
        CASE WHEN EXISTS (SELECT 1 FROM history AS h WHERE h.carrier = s.carrier AND h.known <= s.tick) THEN (
            SELECT count(*) FROM history AS h
            WHERE h.carrier = s.carrier AND h.known <= s.tick AND h.known > s.tick - INTERVAL 168 HOUR
        ) END AS flights_7d,
        (
            SELECT w.wind_speed FROM weather AS w
            WHERE w.origin = s.origin AND w.time_hour <= s.asked AND w.time_hour >= s.asked - INTERVAL 6 HOUR
            ORDER BY w.time_hour DESC LIMIT 1
        ) AS wind_speed
    FROM sampled AS s ORDER BY s.flight_id
"""
"""One row at a time, from the raw files: what was known two hours before departure, at the last full hour."""


@pytest.fixture(scope="module")
def frame(world: Any) -> pa.Table:
    """All labelled flights with their features."""
    return training_frame(world.store, world.manifest, [world.feature_set()], ["carrier", "origin", "distance"], LEAD)


def test_frame_agrees_with_a_plain_sql_truth(frame: pa.Table, flights: Any) -> None:
    ids = random.Random(7).sample(frame["flight_id"].to_pylist(), SAMPLE) + frame["flight_id"].to_pylist()[:30]
    connection = duckdb.connect()
    connection.register("ids", pa.table({"flight_id": sorted(set(ids))}))
    connection.execute(
        f"""
        CREATE TABLE history AS
        SELECT *, sched_arr_time + to_minutes(arr_delay::BIGINT) AS known
        FROM read_parquet({[str(path) for path in flights.months]});
        CREATE TABLE weather AS FROM read_parquet('{flights.weather}');
        CREATE TABLE sampled AS
        SELECT h.*, sched_dep_time - INTERVAL 2 HOUR AS asked, date_trunc('hour', asked) AS tick
        FROM history AS h SEMI JOIN ids USING (flight_id);
        """
    )
    truth = connection.execute(TRUTH).fetchall()
    sampled = frame.filter(pa.compute.is_in(frame["flight_id"], pa.array(sorted(set(ids)))))
    rows = {row["flight_id"]: row for row in sampled.to_pylist()}
    assert len(truth) == len(rows)
    for flight_id, late_share, count, wind in truth:
        row = rows[flight_id]
        assert row["late_share_7d"] == pytest.approx(late_share, abs=1e-12), flight_id
        assert (row["flights_7d"], row["wind_speed"]) == (count, wind), flight_id
    assert sum(late_share is None for _, late_share, _, _ in truth) >= 10, "the sample has no rows without history"


@pytest.mark.slow
def test_same_arguments_give_the_same_table(world: Any, frame: pa.Table) -> None:
    for limits in (Limits(1, 1 << 30), Limits(4, 4 << 30)):
        again = training_frame(
            world.store,
            world.manifest,
            [world.feature_set()],
            ["carrier", "origin", "distance"],
            LEAD,
            split="test",
            limits=limits,
        )
        assert again.equals(frame.filter(pa.compute.equal(frame["split"], "test")).combine_chunks())


def test_columns(frame: pa.Table) -> None:
    assert frame.column_names == [
        *("flight_id", "event_time", "split", "carrier", "origin", "distance"),
        *("late_share_7d", "flights_7d", "wind_speed", "visib", "arr_delayed"),
    ]
    assert frame["arr_delayed"].null_count == 0
    assert set(frame["split"].to_pylist()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label": None}, "has no labels, so nothing can be trained on it"),
        ({"splits": []}, "has no splits, so nothing can be trained on it"),
        ({"columns": []}, "entity carrier is no column of dataset flights"),
    ],
)
def test_dataset_that_does_not_fit(world: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusalError, match=sentence):
        training_frame(world.store, world.manifest.model_copy(update=change), [world.feature_set()], [], LEAD)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_frame_agrees_with_feast(world: Any, frame: pa.Table, tmp_path: Path) -> None:
    """The values that the feature store gets, joined by Feast's own join, which pairs every row with every value."""
    from feast import FeatureStore, RepoConfig

    feature_set = world.feature_set()
    names = Names("flights", "flights", feature_set.name)
    for view in feature_set.views:
        manifest, files = world.parts(view, tmp_path)
        compute_view(view, feature_set.entities, ViewInput(manifest, files), tmp_path / f"{view.name}", memory=1 << 30)
    definitions = define(names, feature_set.entities, feature_set.views, lambda view: str(tmp_path / view))
    store = FeatureStore(
        config=RepoConfig(
            project="flights",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    store.apply(definitions.objects())
    positions = [*range(0, 200, 40), *random.Random(7).sample(range(200, frame.num_rows), 15)]
    sample = frame.take(positions).to_pandas().set_index("flight_id", drop=False)
    asked = sample[["flight_id", "carrier", "origin"]].assign(event_timestamp=sample["event_time"] - LEAD)
    features = ["late_share_7d", "flights_7d", "wind_speed", "visib"]
    references = [f"{view.name}:{field.name}" for view in definitions.views for field in view.features]
    answer = store.get_historical_features(asked, references).to_df().set_index("flight_id")
    expected = sample.loc[answer.index, features].astype(float)
    assert answer[features].astype(float).equals(expected)
    # Feast drops a row when every value of its entity is newer than the prediction, or too old; a frame keeps it.
    dropped = sample.loc[sample.index.difference(answer.index), features]
    assert len(answer) + len(dropped) == 20
    assert len(answer) >= 15
    assert dropped[["flights_7d", "wind_speed"]].isna().any(axis=1).all()


# ---- any rows --------------------------------------------------------------------------------------------------------
START = datetime(2013, 1, 1)
DIGEST = "sha256:" + "1" * 64


@dataclass(frozen=True)
class Row:
    """A row: who, when (minutes), after how many minutes its outcome is known (None: never), its outcome."""

    who: str
    at: int
    after: int | None
    late: bool

    @property
    def event(self) -> datetime:
        return START + timedelta(minutes=self.at)

    @property
    def known(self) -> datetime | None:
        return None if self.after is None else self.event + timedelta(minutes=self.after)


@dataclass(frozen=True)
class Settings:
    """Lengths of a view and a task, in minutes."""

    window: int
    every: int
    ttl: int
    lead: int


rows_of = st.lists(
    st.builds(Row, st.sampled_from("ab"), st.integers(0, 600), st.none() | st.integers(0, 300), st.booleans()),
    min_size=1,
    max_size=25,
)
settings_of = st.builds(
    Settings, st.integers(1, 300), st.sampled_from([1, 7, 60]), st.integers(0, 400), st.integers(0, 120)
)
COLUMNS = [{"name": "id", "type": "Integer"}, {"name": "who", "type": "String"}]


def features_of(store: ObjectStore, folder: Path, rows: list[Row], lengths: Settings) -> dict[int, tuple[Any, Any]]:
    """Features by number of row."""
    part = pa.table(
        {
            "id": pa.array(range(len(rows)), pa.int64()),
            "who": pa.array([row.who for row in rows], pa.string()),
            "late": pa.array([row.late for row in rows], pa.bool_()),
            "event_time": pa.array([row.event for row in rows], pa.timestamp("us")),
            "available_at": pa.array([row.known for row in rows], pa.timestamp("us")),
        }
    )
    pq.write_table(part, folder / "part.parquet")
    data = (folder / "part.parquet").read_bytes()
    key = f"datasets/ns/d/parts/{digest_bytes(data)[7:]}.parquet"
    store.put_bytes(key, data)
    source = {"key": "raw/d", "etag": "e", "size": 1}
    manifest = DatasetManifest.model_validate(
        {
            "namespace": "ns",
            "dataset": "d",
            "columns": COLUMNS,
            "key": ["id"],
            "label": "late",
            "hasTime": True,
            "parts": [{"key": key, "digest": digest_bytes(data), "rows": len(rows), "source": source}],
            "splits": [{"name": "train", "rows": 1, "start": "2012-01-01T00:00:00Z", "end": "2014-01-01T00:00:00Z"}],
        }
    )
    store.put_json("datasets/ns/d/manifest.json", manifest.wire())
    aggregate = {"datasetRef": {"name": "d"}, "window": f"{lengths.window}m", "every": f"{lengths.every}m"}
    view = {
        "name": "v",
        "entities": ["who"],
        "source": {"type": "Aggregate", "aggregate": aggregate},
        "ttl": f"{lengths.ttl}m",
        "features": [
            {"name": "share", "expression": "avg(late)"},
            {"name": "n", "type": "Integer", "expression": "count(*)"},
        ],
    }
    feature_set = TrainingFeatureSet.model_validate(
        {
            "name": "f",
            "definitionDigest": DIGEST,
            "feastProject": "p",
            "entities": [{"name": "who"}],
            "views": [view],
            "datasets": [{"dataset": "d", "version": "d-1", "manifest": "datasets/ns/d/manifest.json"}],
        }
    )
    lead = timedelta(minutes=lengths.lead)
    table = training_frame(store, manifest, [feature_set], [], lead, limits=Limits(1, 256 << 20))
    return {row["id"]: (row["share"], row["n"]) for row in table.to_pylist()}


def truth(rows: list[Row], row: Row, lengths: Settings) -> tuple[float | None, int | None]:
    """What was known of `row.who` at the last grid point before the prediction, by the definition."""
    every, window, ttl = (timedelta(minutes=m) for m in (lengths.every, lengths.window, lengths.ttl))
    asked = row.event - timedelta(minutes=lengths.lead)
    epoch = datetime(1970, 1, 1)
    newest = max((other.known for other in rows if other.known), default=None)
    if newest is None:
        return None, None
    tick = min(asked - (asked - epoch) % every, newest + (epoch - newest) % every)
    past = [other for other in rows if other.who == row.who and other.known and other.known <= tick]
    if not past or asked - tick > ttl:
        return None, None
    inside = [other.late for other in past if other.known and other.known > tick - window]
    return (sum(inside) / len(inside) if inside else None), len(inside)


several = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@several
@given(rows_of, settings_of)
def test_features_follow_their_definition(
    module_store: ObjectStore, tmp_path: Path, rows: list[Row], lengths: Settings
) -> None:
    found = features_of(module_store, tmp_path, rows, lengths)
    for number, row in enumerate(rows):
        share, count = truth(rows, row, lengths)
        assert found[number] == (pytest.approx(share), count)


@several
@given(rows_of, settings_of, st.data())
def test_no_row_knows_what_had_not_happened(
    module_store: ObjectStore, tmp_path: Path, rows: list[Row], lengths: Settings, data: st.DataObject
) -> None:
    """What becomes known after a prediction changes no feature of it: turn it around, delay it, forget it."""
    number = data.draw(st.integers(0, len(rows) - 1))
    rows[number] = replace(rows[number], after=rows[number].after or 0)
    asked = rows[number].event - timedelta(minutes=lengths.lead)

    def changed(index: int, row: Row) -> Row:
        if row.known is None or row.known <= asked:
            return row
        other = replace(row, late=not row.late)
        if index == number:
            return other
        later = data.draw(st.none() | st.integers(row.after or 0, 1000))
        return replace(other, after=later)

    before = features_of(module_store, tmp_path, rows, lengths)
    after = features_of(module_store, tmp_path, [changed(i, row) for i, row in enumerate(rows)], lengths)
    assert after[number] == before[number]
