"""Point-in-time joins, against truths written independently."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from slipway_pipelines.features.pointintime import training_frame

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
    rows = {row["flight_id"]: row for row in frame.to_pylist() if row["flight_id"] in set(ids)}
    assert len(truth) == len(rows)
    for flight_id, late_share, count, wind in truth:
        row = rows[flight_id]
        assert row["late_share_7d"] == pytest.approx(late_share, abs=1e-12), flight_id
        assert (row["flights_7d"], row["wind_speed"]) == (count, wind), flight_id
    assert sum(late_share is None for _, late_share, _, _ in truth) >= 10, "the sample has no rows without history"
