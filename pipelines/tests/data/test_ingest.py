"""`ingest` on a real store: a year of flights, and small datasets that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from slipway.contracts.digests import digest_json
from slipway.contracts.jobs import DatasetManifest, IngestRequest, IngestResult
from slipway_pipelines.data.ingest import run_ingest
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import ObjectStore, ProgressWriter

Make = Callable[..., IngestRequest]

GOOD = """
    SELECT 'f' || i AS id, ['UA', 'AA'][1 + i % 2] AS carrier, TIMESTAMP '2013-01-01' + to_hours(i) AS dep,
        CASE WHEN i % 10 <> 3 THEN (i % 40)::DOUBLE END AS delay, i AS number
    FROM range(100) AS r(i)
"""
"""A hundred rows of flights, ten of them cancelled."""
COLUMNS: list[dict[str, Any]] = [
    {"name": "id", "type": "String"},
    {"name": "carrier", "type": "String"},
    {"name": "dep", "type": "Timestamp"},
    {"name": "delay", "type": "Double", "nullable": True},
    {"name": "number", "type": "Integer"},
]


def ingest(store: ObjectStore, request: IngestRequest) -> IngestResult:
    """Runs the command."""
    return run_ingest(request, store, ProgressWriter(store, request.prefix))


def put(store: ObjectStore, tmp_path: Path, key: str, query: str, options: str = "FORMAT parquet") -> None:
    """Puts the rows of a query in the store."""
    path = tmp_path / "object"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' ({options})")
    store.upload(path, key)


def small(store: ObjectStore, prefix: str = "raw/", **changes: Any) -> IngestRequest:
    """A request for what is below `prefix` now."""
    spec: dict[str, Any] = {
        "store": {"endpoint": store.endpoint, "bucket": store.bucket},
        "prefix": "jobs/ns/small/",
        "namespace": "ns",
        "dataset": "small",
        "sourceDigest": "sha256:" + "0" * 64,
        "format": "Parquet",
        "objects": [{"key": o.key, "etag": o.etag, "size": o.size} for o in store.list(prefix)],
        "key": ["id"],
        "columns": COLUMNS,
        "time": {"event": "dep", "availableAt": "dep + INTERVAL (delay) MINUTE"},
        "labels": {
            "column": "late",
            "type": "FromOutcomes",
            "fromOutcomes": {"expression": "delay >= 15"},
            "guide": {"uri": "s3://b/labels.md", "version": "3"},
        },
        "splits": {"type": "Time", "time": {"trainPercent": 80, "validationPercent": 10, "testPercent": 10}},
    }
    return IngestRequest.model_validate(spec | changes)


def with_column(**changes: Any) -> list[dict[str, Any]]:
    """The columns, with one changed: `name` says which."""
    return [column | changes if column["name"] == changes["name"] else column for column in COLUMNS]


def sentences(result: IngestResult) -> list[str]:
    """The violations' messages."""
    return [item.message for item in result.violations]


def manifest_of(store: ObjectStore, result: IngestResult) -> DatasetManifest:
    """The manifest that a result names."""
    assert result.manifest
    return DatasetManifest.model_validate(store.get_json(result.manifest))


# ---- the flights -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def year(module_store: ObjectStore, flights: Any, flights_request: Make) -> tuple[IngestRequest, IngestResult]:
    """The whole year, ingested."""
    request = flights_request(module_store, flights.months)
    return request, ingest(module_store, request)


@pytest.mark.slow
def test_year_of_flights(module_store: ObjectStore, year: tuple[IngestRequest, IngestResult]) -> None:
    _, result = year
    assert (result.verdict, result.rows, result.partitions) == ("Passed", 336_776, 12)
    assert result.known_until == "2014-01-01T09:01:00Z"
    manifest = manifest_of(module_store, result)
    assert digest_json(manifest.wire()) == result.digest
    assert [split.name for split in result.splits] == ["train", "validation", "test"]
    assert sum(split.rows for split in result.splits) == 327_346
    assert result.labels is not None
    assert (result.labels.guide_version, result.labels.positives) == ("3", 80_100)
    profile = module_store.get_json(result.profile or "")
    assert profile["label"] == {"column": "arr_delayed", "labelled": 327_346, "unlabelled": 9_430, "positives": 80_100}
    assert profile["time"]["neverKnown"] == 9_430
    assert profile["columns"]["carrier"]["top"][0] == {"value": "UA", "count": 58_665}
    assert set(profile["columns"]["tailnum"]) == {"type", "count", "nulls", "sensitive"}


@pytest.mark.slow
def test_version_does_not_depend_on_order_or_time(
    module_store: ObjectStore, year: tuple[IngestRequest, IngestResult]
) -> None:
    request, result = year
    again = request.model_copy(update={"objects": list(reversed(request.objects))})
    assert module_store.delete_prefix("datasets/flights/flights/cache/") == 12
    assert ingest(module_store, again) == result


def test_unchanged_object_is_not_read_again(
    module_store: ObjectStore, year: tuple[IngestRequest, IngestResult]
) -> None:
    request, result = year
    copy = request.model_copy(update={"quality": [rule for rule in request.quality if rule.per == "Partition"]})
    objects = {item.key: module_store.get_bytes(item.key) for item in request.objects}
    module_store.delete_prefix("raw/flights/")
    try:
        assert ingest(module_store, copy).digest == result.digest
    finally:
        for key, data in objects.items():
            module_store.put_bytes(key, data)


def test_poisoned_month_fails_with_a_sentence(
    module_store: ObjectStore, year: tuple[IngestRequest, IngestResult], tmp_path: Path, flights: Any
) -> None:
    request, result = year
    poisoned = f"SELECT * REPLACE (arr_delay * 60 AS arr_delay) FROM read_parquet('{flights.months[4]}')"
    put(module_store, tmp_path, "raw/poisoned/2013-05.parquet", poisoned)
    (item,) = module_store.list("raw/poisoned/")
    objects = [o for o in request.objects if not o.key.endswith("-05.parquet")]
    source = request.objects[0].model_copy(update={"key": item.key, "etag": item.etag, "size": item.size})
    broken = ingest(module_store, request.model_copy(update={"objects": [*objects, source]}))
    assert broken.verdict == "Failed"
    assert broken.manifest is None
    assert broken.digest != result.digest
    (violation,) = broken.violations
    assert (violation.rule, violation.partition) == ("plausible", "raw/poisoned/2013-05.parquet")
    assert violation.message == (
        "Rule plausible of 2013-05.parquet: avg(arr_delay) BETWEEN -30 AND 60 is false: avg(arr_delay) is 211.291; "
        "fix the object or the rule."
    )
    report = module_store.get_json(broken.report or "")
    assert report["verdict"] == "Failed"
    assert len(report["rules"]) == 25


# ---- what is wrong with an object ------------------------------------------------------------------------------------
WRONG_OBJECTS = {
    "missing": (
        f"SELECT * EXCLUDE (carrier) FROM ({GOOD})",
        "Column carrier is missing in a.parquet; add it to the object, or remove it from spec.columns.",
    ),
    "other-case": (
        f"SELECT * RENAME (carrier AS Carrier) FROM ({GOOD})",
        "Column carrier is missing in a.parquet (it has Carrier; names are case-sensitive); "
        "add it to the object, or remove it from spec.columns.",
    ),
    "type": (
        f"SELECT * REPLACE (delay::VARCHAR AS delay) FROM ({GOOD})",
        "Column delay of a.parquet is VARCHAR where spec.columns says Double; "
        "write it as DOUBLE, or correct spec.columns.",
    ),
    "null": (
        f"SELECT * REPLACE (CASE WHEN number > 97 THEN NULL ELSE carrier END AS carrier) FROM ({GOOD})",
        "Column carrier of a.parquet: 2 rows have no value, such as the row with id 'f98'; "
        "fill them, or set nullable: true on the column in spec.columns.",
    ),
    "fraction": (
        f"SELECT * REPLACE (number + CASE WHEN number = 7 THEN 0.5 ELSE 0 END AS number) FROM ({GOOD})",
        "Column number of a.parquet: 1 row has a value that is no Integer, such as 7.5; "
        "correct the values, or the type in spec.columns.",
    ),
    "key": (
        f"SELECT * REPLACE (CASE WHEN number = 7 THEN NULL ELSE id END AS id) FROM ({GOOD})",
        "Column id of a.parquet: 1 row has no value, but it is part of spec.key; "
        "give every row its key, or choose another key.",
    ),
    "time": (
        f"SELECT * REPLACE (CASE WHEN number = 7 THEN NULL ELSE dep END AS dep) FROM ({GOOD})",
        "a.parquet: 1 row has no time, for spec.time.event is null there; "
        "fill the columns that it uses, or correct the expression.",
    ),
    "duplicates": (
        f"FROM ({GOOD}) UNION ALL FROM ({GOOD}) WHERE number IN (5, 6)",
        "2 keys are not unique, such as id 'f5' with 2 rows in a.parquet; "
        "remove the duplicates, or add to spec.key what tells them apart.",
    ),
    "no-outcomes": (
        f"SELECT * REPLACE (NULL::DOUBLE AS delay) FROM ({GOOD})",
        "The rows cannot be split: there are no labelled rows; bring more data, or change spec.splits.",
    ),
}


@pytest.mark.parametrize("case", WRONG_OBJECTS)
def test_wrong_object(store: ObjectStore, tmp_path: Path, case: str) -> None:
    query, sentence = WRONG_OBJECTS[case]
    put(store, tmp_path, "raw/a.parquet", query)
    columns = with_column(name="dep", nullable=True) if case == "time" else COLUMNS
    result = ingest(store, small(store, columns=columns))
    assert (result.verdict, result.manifest) == ("Failed", None)
    assert sentences(result) == [sentence]


def test_object_that_is_no_parquet(store: ObjectStore) -> None:
    store.put_bytes("raw/a.parquet", b"these are not the bytes")
    (sentence,) = sentences(ingest(store, small(store)))
    assert sentence.startswith("a.parquet cannot be read as Parquet: ")
    assert "/tmp" not in sentence


def test_sensitive_values_are_not_shown(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.csv", "SELECT * REPLACE ('secret' AS delay) FROM (" + GOOD + ")", "FORMAT csv")
    result = ingest(store, small(store, format="Csv", columns=with_column(name="delay", sensitive=True)))
    assert sentences(result) == [
        "Column delay of a.csv: 100 rows have a value that is no Double, the values are withheld, for it is sensitive; "
        "correct the values, or the type in spec.columns."
    ]


def test_csv_gives_the_same_rows_as_parquet(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    put(store, tmp_path, "csv/a.csv", GOOD, "FORMAT csv")
    parquet = manifest_of(store, ingest(store, small(store)))
    csv = manifest_of(store, ingest(store, small(store, "csv/", format="Csv")))
    assert [part.digest for part in csv.parts] == [part.digest for part in parquet.parts]


def test_all_null_column_of_any_type_is_accepted(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    put(
        store,
        tmp_path,
        "raw/b.parquet",
        f"SELECT * REPLACE ('g' || number AS id, NULL::INTEGER AS delay) FROM ({GOOD})",
    )
    result = ingest(store, small(store))
    assert result.verdict == "Passed"
    assert sum(split.rows for split in result.splits) == 90


def test_unlabelled_rows_stay(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    result = ingest(store, small(store))
    (part,) = manifest_of(store, result).parts
    path = tmp_path / "part.parquet"
    store.download(part.key, path, digest=part.digest)
    with duckdb.connect() as connection:
        described = [(row[0], row[1]) for row in connection.execute(f"DESCRIBE FROM '{path}'").fetchall()]
        rows = connection.execute(
            f"SELECT count(*), count(late), count(available_at), count(event_time), bool_and(late = (delay >= 15)) "
            f"FROM '{path}'"
        ).fetchone()
    assert described == [
        *(("id", "VARCHAR"), ("carrier", "VARCHAR"), ("dep", "TIMESTAMP"), ("delay", "DOUBLE"), ("number", "BIGINT")),
        *(("late", "BOOLEAN"), ("event_time", "TIMESTAMP"), ("available_at", "TIMESTAMP")),
    ]
    assert rows == (100, 90, 90, 100, True)


def test_reference_that_does_not_hold(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "airlines/a.parquet", "SELECT 'UA' AS code")
    airlines = ingest(
        store,
        small(
            store, "airlines/", dataset="airlines", key=["code"], columns=[{"name": "code", "type": "String"}]
        ).model_copy(update={"time": None, "labels": None, "splits": None}),
    )
    put(store, tmp_path, "raw/a.parquet", GOOD)
    reference = {"datasetRef": {"name": "airlines"}, "column": "code"}
    request = small(
        store,
        columns=with_column(name="carrier", references=reference),
        references=[{"dataset": "airlines", "manifest": airlines.manifest}],
    )
    result = ingest(store, request)
    assert sentences(result) == [
        "Column carrier of a.parquet: 50 rows have a value ('AA') that airlines.code lacks; "
        "add it to dataset airlines, or correct the object."
    ]
    with pytest.raises(RefusalError, match="dataset airlines has no version yet"):
        ingest(store, request.model_copy(update={"references": []}))


# ---- what is wrong with the spec -------------------------------------------------------------------------------------
def quality(expect: str, **changes: Any) -> dict[str, Any]:
    """A spec with one rule."""
    return {"quality": [{"name": "r", "expect": expect} | changes]}


def label(expression: str) -> dict[str, Any]:
    """A spec with another label."""
    guide = {"uri": "s3://b/labels.md", "version": "3"}
    outcomes = {"expression": expression}
    return {"labels": {"column": "late", "type": "FromOutcomes", "fromOutcomes": outcomes, "guide": guide}}


WRONG_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "syntax": (quality("avg(delay"), "spec.quality[r].expect is not SQL: syntax error at or near"),
    "column": (quality("avg(dealy) > 1"), 'spec.quality[r].expect cannot be evaluated: Referenced column "dealy" not'),
    "version-column": (quality("avg(dealy) > 1", per="Version"), "spec.quality[r].expect cannot be evaluated: "),
    "no-aggregate": (
        quality("delay > 0"),
        "spec.quality[r].expect has no aggregate; write for example bool_and(x > 0)",
    ),
    "number": (quality("avg(delay)"), "spec.quality[r].expect gives DOUBLE; write a comparison"),
    "statement": (quality("true; DROP TABLE part"), "spec.quality[r].expect is a statement; it must be one expression"),
    "file": (quality("(SELECT count(*) FROM read_text('/etc/passwd')) > 0"), "spec.quality[r].expect has a subquery"),
    "clock": (quality("max(dep) > now()"), "spec.quality[r].expect has now, which gives another value each time"),
    "event": ({"time": {"event": "departure"}}, "spec.time.event cannot be evaluated: Referenced column"),
    "event-type": ({"time": {"event": "delay"}}, "spec.time.event gives DOUBLE; it must give a time"),
    "known-type": ({"time": {"event": "dep", "availableAt": "number"}}, "spec.time.availableAt gives BIGINT"),
    "label": (label("dely > 3"), "spec.labels.fromOutcomes.expression cannot be evaluated"),
    "label-aggregate": (label("delay > avg(delay)"), "spec.labels.fromOutcomes.expression has an aggregate"),
    "two-names": (
        label("true") | {"columns": [*COLUMNS, {"name": "late", "type": "Boolean"}]},
        "spec.labels.column late",
    ),
}


@pytest.mark.parametrize("case", WRONG_SPECS)
def test_wrong_spec_is_refused(store: ObjectStore, tmp_path: Path, case: str) -> None:
    changes, sentence = WRONG_SPECS[case]
    put(store, tmp_path, "raw/a.parquet", GOOD)
    with pytest.raises(RefusalError) as refused:
        ingest(store, small(store, **changes))
    assert refused.value.message.startswith(sentence)
    assert "\n" not in refused.value.message


def test_no_objects_are_refused(store: ObjectStore) -> None:
    with pytest.raises(RefusalError, match=r"no object below spec.source.s3.prefix"):
        ingest(store, small(store))


def test_object_replaced_after_the_listing_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    request = small(store)
    put(store, tmp_path, "raw/a.parquet", f"{GOOD} WHERE i < 50")
    with pytest.raises(RefusalError, match=r"raw/a.parquet was written again while it was read"):
        ingest(store, request)


# ---- rules -----------------------------------------------------------------------------------------------------------
def test_warning_passes_and_says_so(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    rule = quality("count(*) FILTER (WHERE delay > 35) > 100 AND avg(late) < 1", severity="Warn", per="Version")
    result = ingest(store, small(store, **rule))
    assert result.verdict == "Passed"
    assert [(item.severity, item.message) for item in result.violations] == [
        (
            "Warn",
            "Rule r of all rows: count(*) FILTER (WHERE delay > 35) > 100 AND avg(late) < 1 is false: "
            "count(*) FILTER (WHERE (delay > 35)) is 8, avg(CAST(late AS INTEGER)) is 0.566667; "
            "fix the data or the rule.",
        )
    ]


def test_rule_without_an_answer_is_broken(store: ObjectStore, tmp_path: Path) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    result = ingest(store, small(store, **quality("max(delay) FILTER (WHERE carrier = 'DL') < 100")))
    assert result.verdict == "Failed"
    assert "is unknown (null): max(delay) FILTER (WHERE (carrier = 'DL')) is null" in sentences(result)[0]


def test_same_data_under_another_rule_is_the_same_version_with_its_own_report(
    store: ObjectStore, tmp_path: Path
) -> None:
    put(store, tmp_path, "raw/a.parquet", GOOD)
    first = ingest(store, small(store))
    second = ingest(store, small(store, **quality("count(*) = 100")))
    assert second.digest == first.digest
    assert second.report != first.report
    assert store.get_json(first.report or "")["rules"] == []
    assert store.get_json(second.report or "")["rules"][0]["values"] == {"count(*)": "100"}
