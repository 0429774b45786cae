"""The comparison of two versions' answers: against numbers worked out by hand, by laws, and in bounded memory."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.api.modelversion import InputField
from slipway.contracts.jobs import Store
from slipway.contracts.predictions import ComparedSlice, CompareRequest, CompareResult
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.predictions import distances, objects, tables
from slipway_pipelines.predictions.compare import run_compare
from slipway_pipelines.predictions.tables import PAD, Window
from slipway_pipelines.sql.engine import sandbox
from slipway_pipelines.store import ObjectStore, ProgressWriter
from slipway_server.predictionfile import Encoder
from slipway_server.predictionlog import Logged
from slipway_server.requestlog import Answer, RequestRecord

FIELDS = [
    InputField(name="carrier", type="String", source="Request"),
    InputField(name="hour", type="Integer", source="Request"),
    InputField(name="queue", type="Double", source="FeatureStore"),
]
SINCE = datetime(2026, 11, 23, 8, 50, tzinfo=UTC)
UNTIL = SINCE + timedelta(minutes=20)
SLICES = [ComparedSlice(name="evenings", where="hour >= 18"), ComparedSlice(name="tails", where="tailnum = 'N1'")]


def answered(
    name: str,
    *probabilities: float,
    carrier: str = "UA",
    hour: int | None = 7,
    queue: float | None = 1.0,
    at: datetime = SINCE + timedelta(minutes=1),
) -> Logged:
    """A logged request of equal instances."""
    rows = len(probabilities)
    record = RequestRecord(id=name, version="v", at=at.isoformat(timespec="milliseconds"), milliseconds=5)
    columns = {"carrier": [carrier] * rows, "hour": [hour] * rows, "queue": [queue] * rows}
    return Logged(record, Answer(columns, {"queue": ["hit"] * rows}, list(probabilities)), False, 1)


def put(store: ObjectStore, version: str, *requests: Logged, redact: tuple[str, ...] = ()) -> None:
    """Store requests as a model server does, an object an hour."""
    for hour in sorted({each.hour for each in requests}):
        batch = [each for each in requests if each.hour == hour]
        number = abs(hash((version, hour, len(requests), batch[0].record.id)))
        store.put_bytes(f"predictions/flights/delays/{version}/{hour}{number}.parquet", Encoder(FIELDS, redact)(batch))


def compare(store: ObjectStore, slices: list[ComparedSlice] | None = None) -> CompareResult:
    """Run the Job."""
    request = CompareRequest(
        store=Store(endpoint=store.endpoint, bucket=store.bucket),
        prefix="jobs/flights/compare/",
        namespace="flights",
        rollout="delays",
        stable="v1",
        candidate="v2",
        stable_prefix="predictions/flights/delays/v1/",
        candidate_prefix="predictions/flights/delays/v2/",
        since=SINCE.isoformat().replace("+00:00", "Z"),
        until=UNTIL.isoformat().replace("+00:00", "Z"),
        slices=slices or [],
    )
    return run_compare(request, store, ProgressWriter(store, request.prefix))


# ---- by hand ---------------------------------------------------------------------------------------------------------
def test_numbers_that_were_worked_out_by_hand(store: ObjectStore) -> None:
    """Pairs (stable → candidate): .2→.3, .4→.6 (changed), .9→.9, .8→.1 (changed, evening), .5→.7 (evening)."""
    put(
        store,
        "v1",
        answered("a", 0.2, 0.4),
        answered("b", 0.9, queue=2.0),
        answered("c", 0.8, hour=18),
        answered("d", 0.5, hour=20, at=UNTIL - timedelta(seconds=1)),
        answered("only-stable", 0.1),
        answered("too-early", 0.1, at=SINCE - timedelta(minutes=5)),
    )
    put(
        store,
        "v2",
        answered("a", 0.3, 0.6),
        answered("b", 0.9, queue=3.0),
        answered("c", 0.1, hour=18),
        # Its copy comes a moment later than the request, after the end and in the next hour's object.
        answered("d", 0.7, hour=20, at=UNTIL + timedelta(seconds=1)),
        answered("only-candidate", 0.6, 0.6),
        answered("too-early", 0.9, at=SINCE - timedelta(minutes=5)),
    )
    result = compare(store, SLICES)
    overall = result.overall
    assert overall is not None
    assert (overall.pairs, overall.unpaired_stable, overall.unpaired_candidate) == (5, 1, 2)
    assert (overall.stable_rows, overall.candidate_rows) == (6, 6)
    assert (overall.agreement_percent, overall.decision_change_percent) == ("60", "40")
    assert overall.mean_delta == "-0.04"  # (.1 + .2 + 0 - .7 + .2) / 5
    assert overall.mean_absolute_delta == "0.24"
    assert overall.worst_delta == "0.7"
    evenings, tails = result.slices
    assert (evenings.pairs, evenings.decision_change_percent, evenings.mean_absolute_delta) == (2, "50", "0.45")
    assert evenings.note is None
    assert tails.pairs == 0
    assert tails.note is not None
    assert "tailnum" in tails.note
    changed = {each.name: each.changed_percent for each in result.inputs}
    assert changed == {"carrier": "0", "hour": "0", "queue": "20"}


def test_the_report_is_stored_for_people_and_for_programs(store: ObjectStore) -> None:
    put(store, "v1", answered("a", 0.2), answered("b", 0.9))
    put(store, "v2", answered("a", 0.7), answered("b", 0.9))
    result = compare(store, [ComparedSlice(name="odd", where="carrier = '<script>'")])
    assert result.report is not None
    assert result.page is not None
    report = store.get_json(result.report)
    assert report["overall"]["decisionChangePercent"] == "50"
    assert report["request"]["candidate"] == "v2"
    assert sum(report["plots"]["stable"]) == sum(report["plots"]["differences"]) == 2
    shown = store.get_bytes(result.page).decode()
    assert shown.count("<svg") == 2
    assert "<script" not in shown
    assert "secret" not in json.dumps(report).lower()


def test_nothing_logged_is_no_pair_and_no_error(store: ObjectStore) -> None:
    result = compare(store, SLICES)
    assert result.overall is not None
    assert (result.overall.pairs, result.overall.decision_change_percent, result.overall.worst_delta) == (0, None, None)
    assert result.overall.population_stability is None
    put(store, "v1", answered("a", 0.2))
    one_sided = compare(store, SLICES).overall
    assert one_sided is not None
    assert (one_sided.pairs, one_sided.unpaired_stable, one_sided.stable_rows) == (0, 1, 1)


def test_an_id_that_comes_twice_counts_once(store: ObjectStore) -> None:
    put(store, "v1", answered("a", 0.2), answered("a", 0.9, at=SINCE + timedelta(minutes=2)))
    put(store, "v2", answered("a", 0.2))
    result = compare(store)
    assert result.overall is not None
    assert (result.overall.pairs, result.overall.worst_delta, result.duplicates) == (1, "0", 1)


def test_a_slice_over_values_that_are_left_out_says_so(store: ObjectStore) -> None:
    put(store, "v1", answered("a", 0.2), redact=("carrier",))
    put(store, "v2", answered("a", 0.2))
    result = compare(store, [ComparedSlice(name="united", where="carrier = 'UA'")])
    assert result.slices[0].pairs == 0
    assert result.slices[0].note is not None
    assert "carrier" in result.slices[0].note
    assert [each.name for each in result.inputs] == ["hour", "queue"]


def test_too_many_objects_are_refused_with_a_remedy(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECTS", 1)
    put(store, "v1", answered("a", 0.2), answered("b", 0.2, at=SINCE + timedelta(minutes=15)))
    with pytest.raises(RefusalError, match=r"lower predictionLog\.samplePercent"):
        compare(store)


# ---- distances -------------------------------------------------------------------------------------------------------
def test_distances_by_hand() -> None:
    stable, candidate = np.array([0.1] * 50 + [0.9] * 50), np.array([0.1] * 25 + [0.9] * 75)
    assert distances.kolmogorov_smirnov(stable, candidate) == pytest.approx(0.25)
    assert distances.stability_of_categories({"a": 50, "b": 50}, {"a": 25, "b": 75}) == pytest.approx(
        (0.5 - 25.5 / 101) * np.log(0.5 / (25.5 / 101)) + (0.5 - 75.5 / 101) * np.log(0.5 / (75.5 / 101))
    )
    assert distances.jensen_shannon(np.array([0.1]), np.array([0.9])) == pytest.approx(1)
    assert distances.jensen_shannon(stable, stable) == pytest.approx(0, abs=1e-6)


def test_equal_samples_are_stable_and_shifted_ones_are_not() -> None:
    random = np.random.default_rng(7)
    stable = random.beta(2, 5, 20_000)
    same = distances.stability(stable, random.beta(2, 5, 20_000))
    shifted = distances.stability(stable, random.beta(4, 5, 20_000))
    assert same is not None
    assert shifted is not None
    assert same < 0.01  # the usual rule: below 0.1 nothing happened, above 0.25 much did
    assert shifted > 0.25


def test_missing_values_are_a_bin_of_their_own() -> None:
    known = np.linspace(0, 1, 1000)
    found = distances.stability(known, np.where(known < 0.5, np.nan, known))
    assert found is not None
    assert found > 0.25


# ---- laws ------------------------------------------------------------------------------------------------------------
MINUTES = st.integers(-2, 22).map(lambda minutes: SINCE + timedelta(minutes=minutes))
REQUESTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 3), MINUTES, st.sampled_from([0.1, 0.4, 0.6, 0.9])), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(stable=REQUESTS, candidate=REQUESTS)
def test_the_join_loses_nothing_and_doubles_nothing(stable: Any, candidate: Any) -> None:
    """Every answer inside the time is in exactly one pair, or unpaired, or a duplicate."""
    requests = {
        "stable": [answered(f"r{name}", *[p] * rows, at=at) for name, rows, at, p in stable],
        "candidate": [answered(f"r{name}", *[p] * rows, at=at) for name, rows, at, p in candidate],
    }
    window = Window(SINCE, UNTIL)
    first: dict[str, dict[tuple[str, int], datetime]] = {}
    for side, each in requests.items():
        first[side] = {}
        for one in each:
            at = datetime.fromisoformat(one.record.at)
            for instance in range(one.rows):
                if SINCE - PAD <= at < UNTIL + PAD:
                    known = first[side].get((one.record.id, instance), at)
                    first[side][one.record.id, instance] = min(known, at)
    inside = {side: {key for key, at in rows.items() if SINCE <= at < UNTIL} for side, rows in first.items()}
    expected = inside["stable"] & set(first["candidate"])
    with tempfile.TemporaryDirectory() as made, sandbox(Path(made), threads=1, memory=1 << 28) as connection:
        sides = {}
        for side, each in requests.items():
            paths = [Path(made) / f"{side}.parquet"] if each else []
            for path in paths:
                path.write_bytes(Encoder(FIELDS, ())(each))
            sides[side] = tables.load(connection, side, paths, window)
        tables.mark(connection, sides, [], window)
        pairs = Counter(connection.execute("SELECT request_id, instance FROM pairs").fetchall())
        assert pairs == Counter(expected)
        for side, other in (("stable", "candidate"), ("candidate", "stable")):
            alone = connection.execute(
                f"SELECT request_id, instance FROM {side} ANTI JOIN {other} USING (request_id, instance) WHERE inside"
            ).fetchall()
            assert Counter(alone) == Counter(inside[side] - set(first[other]))


# ---- size ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundreds_of_thousands_of_rows_in_little_memory(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    rows, objects_a_side = 300_000, 30
    each = rows // objects_a_side
    for number in range(objects_a_side):
        probabilities = random.uniform(0, 1, each)
        for version, values in (("v1", probabilities), ("v2", np.clip(probabilities + 0.01, 0, 1))):
            requests = [answered(f"{number}-{i}", float(p), hour=i % 24) for i, p in enumerate(values)]
            key = f"predictions/flights/delays/{version}/{requests[0].hour}{number}.parquet"
            store.put_bytes(key, Encoder(FIELDS, ())(requests))
    import resource

    monkeypatch.setattr(
        "slipway_pipelines.predictions.compare.container_limits",
        lambda: __import__("slipway_pipelines.sql.engine", fromlist=["Limits"]).Limits(threads=2, memory=512 << 20),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = compare(store, SLICES[:1])
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert result.overall is not None
    assert result.overall.pairs == rows
    assert result.overall.worst_delta == "0.01"
    assert used < 1024, f"{used:.0f} MiB"
