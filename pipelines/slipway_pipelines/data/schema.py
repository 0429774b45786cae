"""Whether a source object has the declared columns, and those columns converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from slipway.api.dataset import DatasetColumn
from slipway.api.datasetversion import Violation
from slipway_pipelines.data.types import FRACTIONS, SQL_TYPE, accepts, family
from slipway_pipelines.data.violations import file_name, rows, show, violation
from slipway_pipelines.sql.engine import literal, name, one_line

RULE = "schema"


@dataclass(frozen=True)
class Reader:
    """A source object on disk: `path`, `key` in the store, `format` of spec.source."""

    path: str
    key: str
    format: str

    @property
    def relation(self) -> str:
        """The table function that reads it. CSV comes as text, so that a bad value can be shown."""
        if self.format == "Parquet":
            return f"read_parquet({literal(self.path)})"
        return f"read_csv({literal(self.path)}, all_varchar = true, header = true, auto_detect = true)"


def convert(
    connection: duckdb.DuckDBPyConnection, reader: Reader, columns: list[DatasetColumn], key: list[str]
) -> tuple[list[Violation], bool]:
    """Makes the table `converted` with the declared columns in their types.

    Returns what is wrong with the object, and whether the table is there: it is when every column is, and then values
    that do not fit are null in it.
    """
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {reader.relation}").fetchall()
    except duckdb.Error as error:
        return [_unreadable(reader, error)], False
    found = {row[0]: row[1] for row in described}
    broken = [problem for column in columns if (problem := _mismatch(connection, reader, column, found))]
    if broken:
        return broken, False
    selection = ", ".join(
        f"{_converted(reader, column, found[column.name])} AS {name(column.name)}" for column in columns
    )
    try:
        broken = _bad_values(connection, reader, columns, found, key)
        connection.execute(f"CREATE TABLE converted AS SELECT {selection} FROM {reader.relation}")
    except duckdb.Error as error:
        # Bad values can also make the reader itself give up, and were told already.
        return broken or [_unreadable(reader, error)], False
    return broken, True


def _unreadable(reader: Reader, error: duckdb.Error) -> Violation:
    file = file_name(reader.key)
    message = one_line(error).replace(reader.path, file)
    return violation(RULE, f"{file} cannot be read as {reader.format}: {message}; write the object again.", reader.key)


def _mismatch(
    connection: duckdb.DuckDBPyConnection, reader: Reader, column: DatasetColumn, found: dict[str, str]
) -> Violation | None:
    """A column that is missing, or has another type than the declared one."""
    file = file_name(reader.key)
    if column.name not in found:
        near = [other for other in found if other.lower() == column.name.lower()]
        hint = f" (it has {near[0]}; names are case-sensitive)" if near else ""
        return violation(
            RULE,
            f"Column {column.name} is missing in {file}{hint}; add it to the object, or remove it from spec.columns.",
            reader.key,
        )
    if (
        reader.format == "Parquet"
        and not accepts(column, found[column.name])
        and _has_values(connection, reader, column)
    ):
        return violation(
            RULE,
            f"Column {column.name} of {file} is {found[column.name]} where spec.columns says {column.type}; "
            f"write it as {SQL_TYPE[column.type]}, or correct spec.columns.",
            reader.key,
        )
    return None


def _has_values(connection: duckdb.DuckDBPyConnection, reader: Reader, column: DatasetColumn) -> bool:
    """Whether there is any value: a column of nulls only has an arbitrary type in a file."""
    row = connection.execute(f"SELECT count({name(column.name)}) FROM {reader.relation}").fetchone()
    return row is not None and row[0] > 0


def _converted(reader: Reader, column: DatasetColumn, sql_type: str) -> str:
    """SQL of a column in its declared type; null where the value does not fit. NaN counts as missing."""
    target = SQL_TYPE[column.type]
    cast = f"TRY_CAST({name(column.name)} AS {target})"
    if column.type == "Integer" and (family(sql_type) in FRACTIONS or reader.format == "Csv"):
        number = f"TRY_CAST({name(column.name)} AS DOUBLE)"
        return f"CASE WHEN isnan({number}) OR {number} <> trunc({number}) THEN NULL ELSE {cast} END"
    if column.type == "Double":
        return f"CASE WHEN isnan({cast}) THEN NULL ELSE {cast} END"
    return cast


def _is_missing(reader: Reader, column: DatasetColumn, sql_type: str) -> str:
    quoted = name(column.name)
    if reader.format == "Parquet" and family(sql_type) in ("FLOAT", "DOUBLE"):
        return f"({quoted} IS NULL OR isnan({quoted}))"
    return f"{quoted} IS NULL"


def _bad_values(
    connection: duckdb.DuckDBPyConnection,
    reader: Reader,
    columns: list[DatasetColumn],
    found: dict[str, str],
    key: list[str],
) -> list[Violation]:
    """Values that do not fit their type, and nulls where there may be none: one pass over the object."""
    measures = []
    for column in columns:
        quoted, sql_type = name(column.name), found[column.name]
        missing = _is_missing(reader, column, sql_type)
        unfit = f"({_converted(reader, column, sql_type)}) IS NULL AND NOT {missing}"
        measures += [
            f"count(*) FILTER (WHERE {missing})",
            f"count(*) FILTER (WHERE {unfit})",
            f"first({quoted}) FILTER (WHERE {unfit})",
        ]
    values = connection.execute(f"SELECT {', '.join(measures)} FROM {reader.relation}").fetchone()
    assert values is not None
    problems: list[Violation | None] = []
    for number, column in enumerate(columns):
        missing_rows, unfit_rows, example = values[3 * number : 3 * number + 3]
        problems.append(_unfit(reader, column, unfit_rows, example) if unfit_rows else None)
        if missing_rows and (not column.nullable or column.name in key):
            problems.append(_nulls(connection, reader, column, missing_rows, key))
    return [problem for problem in problems if problem]


def _unfit(reader: Reader, column: DatasetColumn, count: int, example: Any) -> Violation:
    shown = "the values are withheld, for it is sensitive" if column.sensitive else f"such as {show(example)}"
    return violation(
        RULE,
        f"Column {column.name} of {file_name(reader.key)}: {rows(count)} a value that is no {column.type}, {shown}; "
        "correct the values, or the type in spec.columns.",
        reader.key,
    )


def _nulls(
    connection: duckdb.DuckDBPyConnection, reader: Reader, column: DatasetColumn, count: int, key: list[str]
) -> Violation:
    file = file_name(reader.key)
    if column.name in key:
        return violation(
            "key",
            f"Column {column.name} of {file}: {rows(count)} no value, but it is part of spec.key; "
            "give every row its key, or choose another key.",
            reader.key,
        )
    where = _example_row(connection, reader, column, key)
    return violation(
        RULE,
        f"Column {column.name} of {file}: {rows(count)} no value{where}; "
        "fill them, or set nullable: true on the column in spec.columns.",
        reader.key,
    )


def _example_row(connection: duckdb.DuckDBPyConnection, reader: Reader, column: DatasetColumn, key: list[str]) -> str:
    """`, such as the row with flight_id 'x'`: the first row without a value."""
    selection = ", ".join(name(part) for part in key)
    row = connection.execute(
        f"SELECT {selection} FROM {reader.relation} WHERE {name(column.name)} IS NULL LIMIT 1"
    ).fetchone()
    if row is None:
        return ""
    shown = ", ".join(f"{part} {show(value)}" for part, value in zip(key, row, strict=True))
    return f", such as the row with {shown}"
