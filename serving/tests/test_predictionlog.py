"""The prediction log without a server: the queue and its bounds, stores that fail, samples, and the Parquet schema."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.modelversion import InputField
from slipway_server import predictionlog
from slipway_server.abstaining import Decision
from slipway_server.metrics import PREDICTIONS_DROPPED
from slipway_server.predictionfile import Encoder
from slipway_server.predictionlog import Logged, PredictionLog, in_sample, is_mirrored
from slipway_server.requestlog import Answer, RequestRecord

FIELDS = [
    InputField(name="carrier", type="String", source="Request"),
    InputField(name="hour", type="Integer", source="Request"),
    InputField(name="rainy", type="Boolean", source="Request"),
    InputField(name="departure", type="Timestamp", source="Request"),
    InputField(name="late_share_7d", type="Double", source="FeatureStore", default=0.25),
]
PREFIX = "predictions/flights/delays/delays-v1/"


def record(
    name: str, rows: int = 1, *, carrier: str = "UA", at: str = "2026-11-23T08:59:59.500+00:00"
) -> RequestRecord:
    """A request of equal instances that was answered."""
    columns: dict[str, list[Any]] = {
        "carrier": [carrier] * rows,
        "hour": [None] + [7] * (rows - 1),
        "rainy": [True] * rows,
        "departure": [datetime(2026, 11, 23, 12)] * rows,
        "late_share_7d": [float("nan")] + [0.25] * (rows - 1),
    }
    made = RequestRecord(id=name, version="delays-v1", at=at, status=200, milliseconds=12.5, instances=rows)
    probabilities = [0.5] + [0.25] * (rows - 1)
    origins = {"late_share_7d": ["hit"] + ["default"] * (rows - 1)}
    made.answer = Answer(columns, origins, probabilities, [Decision.of_model(each) for each in probabilities])
    return made


class Store:
    """Keeps objects; while `broken`, it does what a store may do that is away."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken: Callable[[], None] | None = None
        self.tried = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        """Write one object."""
        self.tried.set()
        if self.broken is not None:
            self.broken()
        self.objects[key] = data

    def rows(self) -> list[dict[str, Any]]:
        """All rows."""
        return [row for data in list(self.objects.values()) for row in pq.read_table(BytesIO(data)).to_pylist()]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PredictionLog]]:
    """Makes logs; they are closed in the end."""
    monkeypatch.setattr(predictionlog, "_PAUSE_FIRST_SECONDS", 0.05)
    made: list[PredictionLog] = []

    def make(*, percent: int = 100, flush_seconds: float = 0.02, redact: frozenset[str] = frozenset()) -> PredictionLog:
        log = PredictionLog(
            PREFIX,
            FIELDS,
            sample_percent=percent,
            flush_seconds=flush_seconds,
            opened=lambda: (store, Encoder(FIELDS, redact)),
        )
        log.open()
        made.append(log)
        return log

    yield make
    store.broken = None
    for log in made:
        log.close(5)


def dropped(reason: str) -> float:
    """Rows that were dropped so far."""
    return float(PREDICTIONS_DROPPED.labels(reason)._value.get())


def until(condition: Callable[[], bool]) -> None:
    """Wait for the log's thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- queue -----------------------------------------------------------------------------------------------------------
def test_rows_are_written_without_anybody_asking(opened: Callable[..., PredictionLog], store: Store) -> None:
    log = opened()
    one = record("a", 3)
    log.offer(one, [(b"host", b"models.example.com-shadow:80")])
    until(lambda: len(store.rows()) == 3)
    rows = store.rows()
    assert [(row["request_id"], row["instance"], row["mirrored"], row["label"]) for row in rows] == [
        ("a", 0, True, True),
        ("a", 1, True, False),
        ("a", 2, True, False),
    ]
    assert one.answer is None  # nobody else keeps what was in the request
    [key] = store.objects
    assert key.startswith(f"{PREFIX}date=2026-11-23/hour=08/")
    assert key.endswith(".parquet")


def test_an_object_has_one_hour(opened: Callable[..., PredictionLog], store: Store) -> None:
    log = opened(flush_seconds=0.3)
    log.offer(record("a"), ())
    log.offer(record("b", at="2026-11-23T09:00:00.000+00:00"), ())
    log.offer(record("c"), ())
    until(lambda: len(store.rows()) == 3)
    folders = {key.rsplit("/", 1)[0]: pq.read_table(BytesIO(data)).num_rows for key, data in store.objects.items()}
    assert folders == {f"{PREFIX}date=2026-11-23/hour=08": 2, f"{PREFIX}date=2026-11-23/hour=09": 1}


def test_a_full_batch_does_not_wait_for_its_time(opened: Callable[..., PredictionLog], store: Store) -> None:
    log = opened(flush_seconds=600)
    log.offer(record("a", predictionlog.BATCH_ROWS), ())
    until(lambda: bool(store.objects))


def test_a_full_queue_drops_and_counts_and_takes_again(opened: Callable[..., PredictionLog], store: Store) -> None:
    def away() -> None:
        raise ConnectionError("nobody there")

    store.broken = away
    log = opened()
    before = dropped("full")
    requests, rows = 30, 1000
    started = time.perf_counter()
    for number in range(requests):
        log.offer(record(f"r{number}", rows), ())
    assert time.perf_counter() - started < 5  # building these records takes most of it; waiting would take longer
    lost = dropped("full") - before
    assert lost == requests * rows - predictionlog.MAX_ROWS
    until(store.tried.is_set)
    store.broken = None
    until(lambda: len(store.rows()) == predictionlog.MAX_ROWS)
    log.offer(record("later"), ())
    until(lambda: any(row["request_id"] == "later" for row in store.rows()))
    assert dropped("full") - before == lost


def test_large_values_are_bounded_by_their_bytes(opened: Callable[..., PredictionLog], store: Store) -> None:
    store.broken = lambda: time.sleep(0.05)
    log = opened(flush_seconds=600)
    before = dropped("full")
    for number in range(5):
        log.offer(record(f"r{number}", 1, carrier="x" * (predictionlog.MAX_BYTES // 3)), ())
    assert dropped("full") - before == 3


def test_a_slow_store_delays_nobody(opened: Callable[..., PredictionLog], store: Store) -> None:
    release = threading.Event()
    store.broken = lambda: release.wait(20) and None
    log = opened()
    log.offer(record("a"), ())
    until(store.tried.is_set)
    started = time.perf_counter()
    for number in range(100):
        log.offer(record(f"r{number}"), ())
    assert time.perf_counter() - started < 1
    release.set()
    until(lambda: len(store.rows()) == 101)


# ---- the end ---------------------------------------------------------------------------------------------------------
def test_the_end_writes_what_waits(opened: Callable[..., PredictionLog], store: Store) -> None:
    log = opened(flush_seconds=600)
    log.offer(record("a"), ())
    log.close(10)
    assert [row["request_id"] for row in store.rows()] == ["a"]


def test_the_end_is_bounded_and_counts_what_is_lost(opened: Callable[..., PredictionLog], store: Store) -> None:
    store.broken = lambda: time.sleep(2)
    log = opened()
    log.offer(record("a"), ())
    log.offer(record("b"), ())
    until(store.tried.is_set)
    log.offer(record("c"), ())
    before, started = dropped("store"), time.monotonic()
    log.close(0.3)
    assert time.monotonic() - started < 1.5
    assert dropped("store") - before == 3


def test_an_encoder_that_fails_loses_its_batch_only(store: Store) -> None:
    def encode(batch: Any) -> bytes:
        if batch[0].record.id == "bad":
            raise ValueError("no")
        return Encoder(FIELDS, ())(batch)

    log = PredictionLog(PREFIX, FIELDS, sample_percent=100, flush_seconds=0.02, opened=lambda: (store, encode))
    before = dropped("error")
    log.open()
    log.offer(record("bad"), ())
    until(lambda: dropped("error") - before == 1)
    log.offer(record("good"), ())
    log.close(10)
    assert [row["request_id"] for row in store.rows()] == ["good"]


# ---- sample ----------------------------------------------------------------------------------------------------------
@given(st.text(min_size=1), st.integers(1, 100), st.integers(1, 100))
def test_a_larger_sample_has_all_of_a_smaller_one(request_id: str, one: int, other: int) -> None:
    """So two versions with different shares still pair as many requests as the smaller share has."""
    small, large = sorted((one, other))
    assert in_sample(request_id, large) or not in_sample(request_id, small)


def test_samples_have_the_size_that_was_asked_for() -> None:
    kept = sum(in_sample(f"{number:032x}", 20) for number in range(20_000))
    assert 3700 < kept < 4300


def test_both_sides_keep_the_same_requests(opened: Callable[..., PredictionLog], store: Store) -> None:
    names = [f"request-{number}" for number in range(200)]
    sides = []
    for headers in ([], [(b"host", b"models.example.com-shadow")]):
        store.objects.clear()
        log = opened(percent=30)
        for name in names:
            log.offer(record(name), headers)
        log.close(10)
        sides.append({row["request_id"] for row in store.rows()})
    assert sides[0] == sides[1]
    assert 0 < len(sides[0]) < len(names)


OUTSIDE, INSIDE = (b"x-envoy-external-address", b"203.0.113.7"), (b"x-envoy-internal", b"true")


@pytest.mark.parametrize(
    ("headers", "mirrored"),
    [
        ([(b"host", b"models.example.com-shadow")], True),
        ([(b"host", b"models.example.com-shadow:8080"), OUTSIDE], True),
        ([(b"host", b"models.example.com:8080"), OUTSIDE], False),
        ([(b"host", b"my-shadow.example.com"), OUTSIDE], False),
        ([(b"host", b"models.example.com"), OUTSIDE, INSIDE], True),
        ([(b"host", b"models.example.com"), INSIDE], None),
        ([(b"host", b"models.example.com")], None),
        ([], None),
    ],
)
def test_copies_are_known_by_what_envoy_says(headers: list[tuple[bytes, bytes]], mirrored: bool | None) -> None:
    """The operator's tests see a real Envoy say this."""
    assert is_mirrored(headers) is mirrored


# ---- Parquet ---------------------------------------------------------------------------------------------------------
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("instance", pa.int32()),
        ("time", pa.timestamp("us", "UTC")),
        ("version", pa.string()),
        ("mirrored", pa.bool_()),
        ("latency_ms", pa.float64()),
        ("label", pa.bool_()),
        ("source", pa.string()),
        ("probability", pa.float64()),
        ("baseline_probability", pa.float64()),
        (
            "inputs",
            pa.struct(
                [
                    ("carrier", pa.string()),
                    ("hour", pa.int64()),
                    ("rainy", pa.bool_()),
                    ("departure", pa.timestamp("us")),
                    ("late_share_7d", pa.float64()),
                ]
            ),
        ),
        ("origins", pa.struct([("late_share_7d", pa.string())])),
    ]
)


def logged(one: RequestRecord, *, mirrored: bool = False) -> Logged:
    """A record as the queue has it."""
    assert one.answer is not None
    return Logged(one, one.answer, mirrored, 1)


def table(*records: RequestRecord, redact: tuple[str, ...] = ()) -> pa.Table:
    """What the encoder makes of some requests."""
    return pq.read_table(BytesIO(Encoder(FIELDS, redact)([logged(each) for each in records])))


def test_the_schema_is_typed_and_missing_values_are_null() -> None:
    found = table(record("a", 2))
    assert found.schema.remove_metadata() == SCHEMA
    first, second = found.to_pylist()
    assert first == {
        "request_id": "a",
        "instance": 0,
        "time": datetime(2026, 11, 23, 8, 59, 59, 500_000, UTC),
        "version": "delays-v1",
        "mirrored": False,
        "latency_ms": 12.5,
        "label": True,
        "source": "model",
        "probability": 0.5,
        "baseline_probability": None,
        "inputs": {
            "carrier": "UA",
            "hour": None,
            "rainy": True,
            "departure": datetime(2026, 11, 23, 12),
            "late_share_7d": None,
        },
        "origins": {"late_share_7d": "hit"},
    }
    assert (second["instance"], second["inputs"]["hour"], second["origins"]) == (1, 7, {"late_share_7d": "default"})


def test_what_the_model_was_unsure_of_keeps_its_probability() -> None:
    one = record("a", 3)
    assert one.answer is not None
    told = [Decision(None, None, 0.5, "none"), Decision(True, 0.8, 0.75, "baseline"), Decision.of_model(0.25)]
    one.answer = dataclasses.replace(one.answer, decisions=told)
    found = [(r["label"], r["source"], r["probability"], r["baseline_probability"]) for r in table(one).to_pylist()]
    assert found == [(None, "none", 0.5, None), (True, "baseline", 0.25, 0.8), (False, "model", 0.25, None)]


def test_redacted_inputs_leave_no_value_and_the_same_schema() -> None:
    data = Encoder(FIELDS, ("carrier", "late_share_7d", "unknown"))([logged(record("a", 2, carrier="secret-carrier"))])
    found = pq.read_table(BytesIO(data))
    assert b"secret-carrier" not in data
    assert found.schema.remove_metadata() == SCHEMA
    assert [(row["inputs"]["carrier"], row["inputs"]["hour"]) for row in found.to_pylist()] == [(None, None), (None, 7)]
    assert found.schema.metadata[b"slipway.redacted"] == b"carrier,late_share_7d"


def test_a_value_of_another_type_is_left_out_alone() -> None:
    one = record("a", 3)
    assert one.answer is not None
    one.answer.columns["late_share_7d"][1] = "odd"  # type: ignore[index]
    assert [row["inputs"]["late_share_7d"] for row in table(one).to_pylist()] == [None, None, 0.25]


def test_a_model_without_features_has_no_origins() -> None:
    one = record("a")
    data = Encoder(FIELDS[:4], ())([logged(one)])
    assert "origins" not in pq.read_table(BytesIO(data)).column_names
