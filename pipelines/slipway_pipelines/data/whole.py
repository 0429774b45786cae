"""What can only be said of all rows together: keys, references, rules per version, splits, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from slipway.api.dataset import DatasetColumn
from slipway.api.datasetversion import LabelRecord, SplitRecord, Violation
from slipway.contracts.jobs import DatasetPart, IngestRequest
from slipway_pipelines.data.profile import profile_columns
from slipway_pipelines.data.quality import RuleResult, check
from slipway_pipelines.data.splits import Moment, SplitError, by_time
from slipway_pipelines.data.types import AVAILABLE_AT, EVENT_TIME
from slipway_pipelines.data.violations import file_name, listed, rows, show, violation
from slipway_pipelines.sql.engine import literal, name
from slipway_pipelines.store import format_time

ROWS = "dataset"
"""The view of all rows that rules see."""
EXAMPLES = 3


@dataclass(frozen=True)
class LocalPart:
    """A part and its file."""

    part: DatasetPart
    path: Path


@dataclass
class Whole:
    """What was found."""

    violations: list[Violation] = field(default_factory=list)
    rules: list[RuleResult] = field(default_factory=list)
    splits: list[SplitRecord] = field(default_factory=list)
    labels: LabelRecord | None = None
    known_until: str | None = None
    profile: dict[str, Any] = field(default_factory=dict)


def create_views(connection: duckdb.DuckDBPyConnection, parts: Sequence[LocalPart]) -> None:
    """The view `dataset` of all rows, and `located` with the number of each row's part beside it."""
    files = ", ".join(literal(str(local.path)) for local in parts)
    connection.execute("CREATE TABLE origin (file VARCHAR, number INTEGER)")
    connection.executemany("INSERT INTO origin VALUES (?, ?)", [(str(p.path), i) for i, p in enumerate(parts)])
    connection.execute(f"CREATE VIEW {ROWS} AS SELECT * FROM read_parquet([{files}])")
    connection.execute(
        f'CREATE VIEW located AS SELECT r.*, o.number AS "part number" '
        f'FROM read_parquet([{files}], filename = "part file") AS r JOIN origin AS o ON r."part file" = o.file'
    )


def examine(
    connection: duckdb.DuckDBPyConnection,
    request: IngestRequest,
    parts: Sequence[LocalPart],
    references: dict[str, Path],
) -> Whole:
    """Looks at all rows. `references` has by column a file with the values (column `value`) that it may have."""
    whole = Whole()
    whole.violations += _duplicate_keys(connection, request, parts)
    for column in request.columns:
        if column.name in references:
            whole.violations += _unknown_references(connection, column, parts, references[column.name])
    for rule in request.quality:
        if rule.per == "Version":
            checked = check(connection, rule, ROWS, None)
            whole.rules.append(checked.result)
            whole.violations += [checked.violation] if checked.violation else []
    if request.labels:
        whole.labels = LabelRecord(
            column=request.labels.column,
            guide_version=request.labels.guide.version,
            positives=_positives(connection, request.labels.column),
        )
    if request.time:
        whole.known_until = _known_until(connection)
    if request.splits and request.splits.time and request.labels:
        try:
            whole.splits = by_time(_moments(connection, request.labels.column), request.splits.time)
        except SplitError as error:
            whole.violations.append(
                violation("splits", f"The rows cannot be split: {error}; bring more data, or change spec.splits.", None)
            )
    whole.profile = _profile(connection, request, whole, parts)
    return whole


def _duplicate_keys(
    connection: duckdb.DuckDBPyConnection, request: IngestRequest, parts: Sequence[LocalPart]
) -> list[Violation]:
    key = ", ".join(name(column) for column in request.key)
    found = connection.execute(
        f'SELECT {key}, count(*) AS n, list(DISTINCT "part number" ORDER BY "part number"), count(*) OVER () '
        f"FROM located GROUP BY {key} HAVING n > 1 ORDER BY {key} LIMIT 1"
    ).fetchone()
    if found is None:
        return []
    *values, count, numbers, keys = found
    sensitive = {column.name for column in request.columns if column.sensitive}
    shown = ", ".join(
        f"{column} {'(withheld)' if column in sensitive else show(value)}"
        for column, value in zip(request.key, values, strict=True)
    )
    where = listed([file_name(parts[number].part.source.key) for number in numbers])
    several = "1 key is" if keys == 1 else f"{keys} keys are"
    return [
        violation(
            "key",
            f"{several} not unique, such as {shown} with {count} rows in {where}; "
            "remove the duplicates, or add to spec.key what tells them apart.",
            None,
        )
    ]


def _unknown_references(
    connection: duckdb.DuckDBPyConnection, column: DatasetColumn, parts: Sequence[LocalPart], values: Path
) -> list[Violation]:
    assert column.references is not None
    quoted = name(column.name)
    found = connection.execute(
        f'SELECT "part number", count(*), list(DISTINCT {quoted} ORDER BY {quoted}) FROM located '
        f"ANTI JOIN read_parquet({literal(str(values))}) AS known ON known.value = {quoted} "
        f'WHERE {quoted} IS NOT NULL GROUP BY "part number" ORDER BY "part number"'
    ).fetchall()
    target = f"{column.references.dataset_ref.name}.{column.references.column}"
    out = []
    for number, count, unknown in found:
        key = parts[number].part.source.key
        shown = "" if column.sensitive else f" ({listed([show(value) for value in unknown], EXAMPLES)})"
        out.append(
            violation(
                "reference",
                f"Column {column.name} of {file_name(key)}: {rows(count)} a value{shown} that {target} lacks; "
                f"add it to dataset {column.references.dataset_ref.name}, or correct the object.",
                key,
            )
        )
    return out


def _positives(connection: duckdb.DuckDBPyConnection, label: str) -> int | None:
    described = connection.execute(f"DESCRIBE SELECT {name(label)} FROM {ROWS}").fetchone()
    if described is None or described[1] != "BOOLEAN":
        return None
    return int(_scalar(connection, f"SELECT count(*) FILTER (WHERE {name(label)}) FROM {ROWS}"))


def _known_until(connection: duckdb.DuckDBPyConnection) -> str | None:
    latest: datetime | None = _scalar(connection, f"SELECT max({AVAILABLE_AT}) FROM {ROWS}")
    return format_time(latest) if latest is not None else None


def _moments(connection: duckdb.DuckDBPyConnection, label: str) -> list[Moment]:
    found = connection.execute(
        f"SELECT {EVENT_TIME}, count(*) FROM {ROWS} WHERE {name(label)} IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [Moment(time, count) for time, count in found]


def _profile(
    connection: duckdb.DuckDBPyConnection, request: IngestRequest, whole: Whole, parts: Sequence[LocalPart]
) -> dict[str, Any]:
    total = sum(local.part.rows for local in parts)
    out: dict[str, Any] = {
        "rows": total,
        "partitions": {local.part.source.key: local.part.rows for local in parts},
        "columns": profile_columns(connection, ROWS, request.columns),
    }
    if request.labels:
        labelled = _scalar(connection, f"SELECT count({name(request.labels.column)}) FROM {ROWS}")
        positives = whole.labels.positives if whole.labels else None
        out["label"] = {
            "column": request.labels.column,
            "labelled": labelled,
            "unlabelled": total - labelled,
            "positives": positives,
        }
    if request.time:
        first, last, unknown = _row(
            connection, f"SELECT min({EVENT_TIME}), max({EVENT_TIME}), count(*) - count({AVAILABLE_AT}) FROM {ROWS}"
        )
        out["time"] = {
            "first": format_time(first) if first else None,
            "last": format_time(last) if last else None,
            "knownUntil": whole.known_until,
            "neverKnown": unknown,
        }
    return out


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(sql).fetchone()
    assert row is not None
    return row


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    return _row(connection, sql)[0]
