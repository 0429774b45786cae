"""The comparison of two versions' answers: against numbers worked out by hand, by laws, and in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
from slipway_server.abstaining import Abstention
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
    below: float = 0.5,
) -> Logged:
    """A logged request of equal instances, of which the server answered those with the confidence `below`."""
    rows = len(probabilities)
    record = RequestRecord(id=name, version="v", at=at.isoformat(timespec="milliseconds"), milliseconds=5)
    columns = {"carrier": [carrier] * rows, "hour": [hour] * rows, "queue": [queue] * rows}
    decisions = [Abstention(below).alone(each) for each in probabilities]
    return Logged(record, Answer(columns, {"queue": ["hit"] * rows}, list(probabilities), decisions), False, 1)


def put(store: ObjectStore, version: str, *requests: Logged, redact: tuple[str, ...] = ()) -> None:
    """Store requests as a model server does, an object an hour."""
    for hour in sorted({each.hour for each in requests}):
        batch = [each for each in requests if each.hour == hour]
        number = abs(hash((version, hour, len(requests), batch[0].record.id)))
        store.put_bytes(f"predictions/flights/delays/{version}/{hour}{number}.parquet", Encoder(FIELDS, redact)(batch))


def compare(store: ObjectStore, slices: list[ComparedSlice] | None = None) -> CompareResult:
    """Run the Job."""
    request = compare_request(store, slices)
    return run_compare(request, store, ProgressWriter(store, request.prefix))


def compare_request(store: ObjectStore, slices: list[ComparedSlice] | None = None) -> CompareRequest:
    """What the Job is asked."""
    return CompareRequest(
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


def test_coverage_is_what_the_model_answered_and_an_abstention_is_another_decision(store: ObjectStore) -> None:
    """Of the stable version's four answers three are under 0.7; of the candidate's, one."""
    put(store, "v1", *(answered(n, p, below=0.7) for n, p in (("a", 0.6), ("b", 0.5), ("c", 0.4), ("d", 0.9))))
    put(store, "v2", *(answered(n, p, below=0.7) for n, p in (("a", 0.6), ("b", 0.8), ("c", 0.2), ("d", 0.9))))
    overall = compare(store).overall
    assert overall is not None
    assert (overall.stable_coverage_percent, overall.candidate_coverage_percent) == ("25", "75")
    assert (overall.pairs, overall.agreement_percent, overall.decision_change_percent) == (4, "50", "50")
    assert overall.worst_delta == "0.3"  # of the models, whoever answered


def test_answers_of_servers_that_did_not_say_who_answered_are_the_models(store: ObjectStore) -> None:
    put(store, "v1", answered("a", 0.2), answered("b", 0.6, below=0.7))
    one = Encoder(FIELDS, ())([answered("c", 0.2), answered("d", 0.6)])
    earlier = pq.read_table(BytesIO(one)).drop_columns(["source", "baseline_probability"])
    pq.write_table(earlier, sink := BytesIO())
    store.put_bytes(f"predictions/flights/delays/v1/{answered('c', 0.2).hour}earlier.parquet", sink.getvalue())
    store.put_bytes(f"predictions/flights/delays/v2/{answered('c', 0.2).hour}earlier.parquet", sink.getvalue())
    overall = compare(store).overall
    assert overall is not None
    assert (overall.stable_rows, overall.stable_coverage_percent) == (4, "75")
    assert (overall.candidate_rows, overall.candidate_coverage_percent) == (2, "100")


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
        tables.mark(connection, sides, [])
        pairs = Counter(connection.execute("SELECT request_id, instance FROM pairs").fetchall())
        assert pairs == Counter(expected)
        for side, other in (("stable", "candidate"), ("candidate", "stable")):
            alone = connection.execute(
                f"SELECT request_id, instance FROM {side} ANTI JOIN {other} USING (request_id, instance) WHERE inside"
            ).fetchall()
            assert Counter(alone) == Counter(inside[side] - set(first[other]))


# ---- size ------------------------------------------------------------------------------------------------------------
LIMIT = 512
"""MiB of the container that is played."""
IN_A_CONTAINER = f"""
import json, resource, sys
from slipway.contracts.predictions import CompareRequest
from slipway_pipelines.predictions import compare
from slipway_pipelines.sql.engine import Limits
from slipway_pipelines.store import ObjectStore, ProgressWriter

compare.container_limits = lambda: Limits(threads=2, memory={LIMIT} << 20)
request, store = CompareRequest.model_validate_json(sys.argv[1]), ObjectStore.from_environment()
found = compare.run_compare(request, store, ProgressWriter(store, request.prefix))
print(json.dumps([found.wire(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10]))
"""


def put_many(store: ObjectStore, version: str, number: int, probabilities: Any) -> None:
    """Store an object of many requests with forty inputs, in the form that a server writes."""
    rows = len(probabilities)
    schema = pq.read_schema(BytesIO(Encoder(FIELDS, ())([answered("a", 0.2)])))
    random = np.random.default_rng(number)
    carriers = pa.array(random.choice(["UA", "AA", "DL"], rows))
    more = {f"input_{each}": pa.array(random.uniform(0, 1, rows)) for each in range(37)}
    inputs = {"carrier": carriers, "hour": pa.array(np.arange(rows) % 24), "queue": pa.array(probabilities), **more}
    columns = {
        "request_id": pa.array([f"{number:08x}-{row:024x}" for row in range(rows)]),
        "instance": pa.array(np.zeros(rows, np.int32)),
        "time": pa.array([SINCE + timedelta(minutes=1)] * rows, schema.field("time").type),
        "version": pa.array([version] * rows),
        "mirrored": pa.array([False] * rows),
        "latency_ms": pa.array(random.uniform(1, 20, rows)),
        "label": pa.array(probabilities >= 0.5),
        "source": pa.array(["model"] * rows),
        "probability": pa.array(probabilities),
        "baseline_probability": pa.nulls(rows, pa.float64()),
        "inputs": pa.StructArray.from_arrays(list(inputs.values()), names=list(inputs)),
    }
    assert [name for name in schema.names if name != "origins"] == list(columns)
    pq.write_table(pa.table(columns), sink := BytesIO(), compression="zstd")
    store.put_bytes(f"predictions/flights/delays/{version}/date=2026-11-23/hour=08/{number}.parquet", sink.getvalue())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundreds_of_thousands_of_rows_fit_into_a_small_container(store: ObjectStore) -> None:
    """300,000 rows of each version with forty inputs: no process outgrows a container of half a GiB."""
    random = np.random.default_rng(7)
    rows, objects_a_side = 300_000, 30
    for number in range(objects_a_side):
        probabilities = random.uniform(0, 1, rows // objects_a_side)
        put_many(store, "v1", number, probabilities)
        put_many(store, "v2", number, np.clip(probabilities + 0.01, 0, 1))
    environment = {
        "SLIPWAY_S3_ENDPOINT": store.endpoint,
        "SLIPWAY_S3_BUCKET": store.bucket,
        "SLIPWAY_S3_ACCESS_KEY": "test",
        "SLIPWAY_S3_SECRET_KEY": "test-secret",
    }
    request = compare_request(store, SLICES[:1])
    command = [sys.executable, "-c", IN_A_CONTAINER, request.model_dump_json(by_alias=True)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, peak = json.loads(done.stdout.splitlines()[-1])
    result = CompareResult.model_validate(found)
    assert result.overall is not None
    assert (result.overall.pairs, result.overall.worst_delta) == (rows, "0.01")
    assert len(result.inputs) == 40
    assert peak < LIMIT, f"{peak} MiB"
