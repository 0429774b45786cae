"""One source object becomes one part: read, converted, checked, sorted, written as Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
from pydantic import BaseModel, ConfigDict, Field

from slipway.api.datasetversion import Violation
from slipway.api.reasons import Reason
from slipway.contracts.digests import digest_json
from slipway.contracts.jobs import DatasetPart, IngestRequest, SourceObject
from slipway_pipelines.data.quality import RuleResult, check
from slipway_pipelines.data.schema import Reader, convert
from slipway_pipelines.data.types import AVAILABLE_AT, EVENT_TIME, TIMES, family
from slipway_pipelines.data.violations import file_name, rows, violation
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.sql.engine import literal, name, one_line, sandbox
from slipway_pipelines.sql.expressions import Expression, ExpressionError, parse
from slipway_pipelines.store import digest_file

FORMAT = 2
"""Raised when this module makes other bytes of the same input, so that nothing old is taken from the cache."""
ROW_GROUP_SIZE = 122_880


class Outcome(BaseModel):
    """What became of one source object; kept in the cache."""

    model_config = ConfigDict(frozen=True)

    part: DatasetPart | None
    """None when its schema is broken: then its rows cannot stand beside others, but rules are still judged."""
    violations: list[Violation] = Field(default_factory=list)
    rules: list[RuleResult] = Field(default_factory=list)


@dataclass(frozen=True)
class Recipe:
    """How source objects of a request are processed."""

    request: IngestRequest

    @property
    def label(self) -> str | None:
        """Name of the label column."""
        return self.request.labels.column if self.request.labels else None

    @property
    def digest(self) -> str:
        """Digest of everything that the outcome of an object depends on, beside the object."""
        request = self.request
        return digest_json(
            {
                "format": FORMAT,
                "duckdb": duckdb.__version__,
                "source": request.format,
                "key": request.key,
                "columns": [
                    column.model_dump(include={"name", "type", "nullable", "sensitive"}) for column in request.columns
                ],
                "time": request.time.wire() if request.time else None,
                "label": [self.label, request.labels.from_outcomes.wire() if request.labels.from_outcomes else None]
                if request.labels
                else None,
                "quality": [rule.wire() for rule in request.quality if rule.per == "Partition"],
            }
        )

    def check_names(self) -> None:
        """RefusalError when the spec gives one name to two columns."""
        declared = {column.name for column in self.request.columns}
        time, labels = self.request.time, self.request.labels
        if labels and labels.from_outcomes and labels.column in declared:
            raise RefusalError(
                Reason.InvalidSpec,
                f"spec.labels.column {labels.column} is one of spec.columns: rename one, or set labels.type Column.",
            )
        if time is None:
            return
        own = {EVENT_TIME: time.event, AVAILABLE_AT: time.available_at}
        for column, expression in own.items():
            if column == self.label or (column in declared and (expression or "").strip() != column):
                raise RefusalError(
                    Reason.InvalidSpec,
                    f"Column {column} has the name of a column that Slipway makes from spec.time: rename it.",
                )


def process(recipe: Recipe, source: SourceObject, path: Path, out: Path, memory: int, parts: str) -> Outcome:
    """Makes the part of one source object at `out`; `parts` is the folder of its key in the store.

    One thread, rows sorted by time and key: the same object gives the same bytes. RefusalError when the spec cannot be
    evaluated.
    """
    request = recipe.request
    with sandbox(path.parent, threads=1, memory=memory) as connection:
        reader = Reader(str(path), source.key, request.format)
        broken, readable = convert(connection, reader, request.columns, request.key)
        underived = _derive(connection, recipe, source) if readable else []
        if underived or not readable:
            return Outcome(part=None, violations=broken or underived)
        checks = [check(connection, rule, "part", source.key) for rule in request.quality if rule.per == "Partition"]
        failed = [checked.violation for checked in checks if checked.violation]
        rules = [checked.result for checked in checks]
        if broken:
            return Outcome(part=None, violations=[*broken, *failed], rules=rules)
        connection.execute(
            f"COPY (SELECT * FROM part ORDER BY {_order(connection, request)}) TO {literal(str(out))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_SIZE})"
        )
        count = connection.execute("SELECT count(*) FROM part").fetchone()
    assert count is not None
    digest = digest_file(out)
    part = DatasetPart(
        key=f"{parts}{digest.removeprefix('sha256:')}.parquet", digest=digest, rows=count[0], source=source
    )
    return Outcome(part=part, violations=failed, rules=rules)


def _order(connection: duckdb.DuckDBPyConnection, request: IngestRequest) -> str:
    """Time, then key, then everything else, so that the order is one also where keys are not unique."""
    first = [*([EVENT_TIME] if request.time else []), *request.key]
    others = [row[0] for row in connection.execute("DESCRIBE part").fetchall() if row[0] not in first]
    return ", ".join(name(column) for column in [*first, *others])


def _derive(connection: duckdb.DuckDBPyConnection, recipe: Recipe, source: SourceObject) -> list[Violation]:
    """Makes the table `part` from `converted`: times and the label beside the declared columns."""
    request = recipe.request
    derived: list[tuple[str, str, str]] = []
    if request.time:
        declared = {column.name for column in request.columns}
        event = _expression(connection, request.time.event, "spec.time.event").sql
        available = request.time.available_at
        known = _expression(connection, available, "spec.time.availableAt").sql if available else event
        derived += [
            (column, f"CAST({sql} AS TIMESTAMP)", field)
            for column, sql, field in (
                (EVENT_TIME, event, "spec.time.event"),
                (AVAILABLE_AT, known, "spec.time.availableAt"),
            )
            if column not in declared
        ]
        _require_time(connection, event, "spec.time.event")
        _require_time(connection, known, "spec.time.availableAt")
    if request.labels and request.labels.from_outcomes:
        field = "spec.labels.fromOutcomes.expression"
        label = _expression(connection, request.labels.from_outcomes.expression, field).sql
        derived.insert(0, (request.labels.column, label, field))
    for _, sql, field in derived:
        _bind(connection, sql, field)
    selection = ", ".join(["*", *(f"{sql} AS {name(column)}" for column, sql, _ in derived)])
    try:
        connection.execute(f"CREATE TABLE part AS SELECT {selection} FROM converted")
    except duckdb.Error as error:
        return [
            violation(
                "expression",
                f"{' or '.join(field for _, _, field in derived)} cannot be evaluated on {file_name(source.key)}: "
                f"{one_line(error)}; correct the values, or the expression.",
                source.key,
            )
        ]
    return _rows_without_time(connection, source) if request.time else []


def _rows_without_time(connection: duckdb.DuckDBPyConnection, source: SourceObject) -> list[Violation]:
    row = connection.execute(f"SELECT count(*) FROM part WHERE {EVENT_TIME} IS NULL").fetchone()
    if row is None or not row[0]:
        return []
    return [
        violation(
            "time",
            f"{file_name(source.key)}: {rows(row[0])} no time, for spec.time.event is null there; "
            "fill the columns that it uses, or correct the expression.",
            source.key,
        )
    ]


def _expression(connection: duckdb.DuckDBPyConnection, text: str, field: str) -> Expression:
    try:
        expression = parse(connection, text, "converted")
    except ExpressionError as error:
        raise RefusalError(Reason.InvalidExpression, f"{field} {error}: {text}") from None
    if expression.aggregates:
        raise RefusalError(
            Reason.InvalidExpression, f"{field} has an aggregate, and must be one value for each row: {text}"
        )
    return expression


def _bind(connection: duckdb.DuckDBPyConnection, sql: str, field: str) -> str:
    """Type of an expression over the declared columns."""
    try:
        row = connection.execute(f"DESCRIBE SELECT {sql} FROM converted").fetchone()
    except duckdb.Error as error:
        raise RefusalError(
            Reason.InvalidExpression, f"{field} cannot be evaluated: {one_line(error)}; the expression is {sql}"
        ) from None
    assert row is not None
    return str(row[1])


def _require_time(connection: duckdb.DuckDBPyConnection, sql: str, field: str) -> None:
    kind = _bind(connection, sql, field)
    if family(kind) not in TIMES:
        raise RefusalError(
            Reason.InvalidExpression, f"{field} gives {kind}; it must give a time, such as a Timestamp column: {sql}"
        )
