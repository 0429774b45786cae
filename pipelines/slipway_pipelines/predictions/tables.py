"""Answers of two versions in DuckDB: each once, paired by request id and instance, marked by slice.

A row belongs to the time that is compared when its own time lies in `[since, until)`. Its partner may lie up to PAD
outside, for a copy comes a moment later than its request. So every row inside is either in one pair or unpaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from slipway.contracts.predictions import ComparedSlice
from slipway_pipelines.predictions.distances import Numbers
from slipway_pipelines.sql.engine import literal, name, one_line
from slipway_pipelines.sql.expressions import ExpressionError, parse

PAD = timedelta(minutes=1)
SIDES = ("stable", "candidate")
_EMPTY = (
    "SELECT NULL::VARCHAR AS request_id, NULL::INTEGER AS instance, NULL::TIMESTAMPTZ AS time,"
    ' NULL::BOOLEAN AS label, NULL::DOUBLE AS probability, NULL::STRUCT("_" INTEGER) AS inputs WHERE false'
)
_LATER = "SELECT NULL::VARCHAR AS source WHERE false"
"""Columns that objects of earlier servers lack."""
_OWN = ("request_id", "instance", "time", "label", "probability")
"""What conditions of slices may name beside inputs."""
_HIDDEN = {"inside": "inside", "answered_by_model": "answered_by_model", "place": "rowid"}
"""Columns of `stable` and `candidate` that conditions cannot name; `place` is where `SIDE_all` has a row's inputs."""
ALL = "true"
"""The slice that has all rows."""


@dataclass(frozen=True)
class Window:
    """The time that is compared, in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class Side:
    """Inputs of a version whose values are logged, with their types in DuckDB; `rows` and `duplicates` of the window
    and its pads."""

    inputs: Mapping[str, str]
    rows: int
    duplicates: int


def redacted(paths: Sequence[Path]) -> frozenset[str]:
    """Inputs whose values some of the files leave out."""
    found: set[str] = set()
    for path in paths:
        metadata = pq.read_schema(path).metadata or {}
        found |= {each for each in metadata.get(b"slipway.redacted", b"").decode().split(",") if each}
    return frozenset(found)


def load(connection: duckdb.DuckDBPyConnection, side: str, paths: Sequence[Path], window: Window) -> Side:
    """Make the table `SIDE_all` of a version's rows in the window and its pads, the first answer of each instance.

    `inside` says which are in the window itself.
    """
    files = ", ".join(literal(str(path)) for path in paths)
    source = f"SELECT * FROM read_parquet([{files}], union_by_name = true)" if paths else _EMPTY
    source = f"{source} UNION ALL BY NAME {_LATER}"
    near = f"time >= {_time(window.since - PAD)} AND time < {_time(window.until + PAD)}"
    connection.execute(f"CREATE VIEW {side}_raw AS SELECT * FROM ({source}) WHERE {near}")
    duplicates = _keep_first(connection, side, window)
    left_out = redacted(paths)
    inputs = {each: kind for each, kind in _inputs(connection, side).items() if each not in left_out}
    return Side(inputs, _count(connection, f"{side}_all"), duplicates)


def _keep_first(connection: duckdb.DuckDBPyConnection, side: str, window: Window) -> int:
    """Make the table; how many answers were not the first.

    Only instances that come twice are sorted, for which a sort has to hold all inputs: others stream through. They are
    counted by a hash of eight bytes; those that merely share one are sorted too.
    """
    key = "hash(request_id, instance)"
    connection.execute(
        f"CREATE TABLE {side}_twice AS SELECT {key} AS key FROM {side}_raw GROUP BY key HAVING count(*) > 1"
    )
    inside = f"time >= {_time(window.since)} AND time < {_time(window.until)}"
    columns = (
        f"request_id, instance, time, label, probability, inputs, {inside} AS inside,"
        " coalesce(source, 'model') = 'model' AS answered_by_model"
    )
    twice = f"JOIN {side}_twice ON {key} = {side}_twice.key"
    connection.execute(f"CREATE TABLE {side}_all AS SELECT {columns} FROM {side}_raw ANTI {twice}")
    once = _count(connection, f"{side}_all")
    again = _count(connection, f"(SELECT 1 FROM {side}_raw SEMI {twice})")
    if again:
        connection.execute(
            f"INSERT INTO {side}_all SELECT {columns} FROM {side}_raw SEMI {twice}"
            " QUALIFY row_number() OVER (PARTITION BY request_id, instance ORDER BY time, probability) = 1"
        )
    return once + again - _count(connection, f"{side}_all")


def _inputs(connection: duckdb.DuckDBPyConnection, side: str) -> dict[str, str]:
    rows = connection.execute(f"DESCRIBE SELECT unnest(inputs) FROM {side}_all").fetchall()
    return {str(row[0]): str(row[1]) for row in rows if row[0] != "_"}


def mark(
    connection: duckdb.DuckDBPyConnection, sides: Mapping[str, Side], slices: Sequence[ComparedSlice]
) -> dict[str, str]:
    """Make the tables `stable` and `candidate`, without inputs and with a column `slice_N` for each slice, and `pairs`.

    Gives, by slice, why it cannot be measured; its column is false everywhere.
    """
    notes: dict[str, str] = {}
    conditions: list[str] = []
    for each in slices:
        sql, note = _condition(connection, sides, each)
        conditions.append(sql)
        if note:
            notes[each.name] = note
    for side in SIDES:
        _make_view(connection, side, sides[side])
        wheres = conditions if sides[side].rows else ["false"] * len(slices)  # without a row there are no inputs
        flags = [f"coalesce({sql}, false) AS slice_{number}" for number, sql in enumerate(wheres)]
        hidden = [f"slipway_{each} AS {each}" for each in _HIDDEN]
        columns = ", ".join(["request_id", "instance", "label", "probability", *hidden, *flags])
        connection.execute(f"CREATE TABLE {side} AS SELECT {columns} FROM {side}_rows")
    kept = ", ".join(["s.request_id", "s.instance", *(f"s.slice_{number}" for number in range(len(slices)))])
    both = ", ".join(
        f"{alias}.{each} AS {side}_{each}"
        for alias, side in (("s", "stable"), ("c", "candidate"))
        for each in ("label", "probability", "place")
    )
    connection.execute(
        f"CREATE TABLE pairs AS SELECT {kept}, {both}"
        " FROM stable AS s JOIN candidate AS c USING (request_id, instance) WHERE s.inside"
    )
    return notes


def _make_view(connection: duckdb.DuckDBPyConnection, side: str, has: Side) -> None:
    """`SIDE_rows`: the inputs as columns, beside what every row has. A column of ours hides an input of its name."""
    inputs = [f"inputs.{name(each)} AS {name(each)}" for each in has.inputs if each.lower() not in _OWN]
    hidden = [f"{value} AS slipway_{each}" for each, value in _HIDDEN.items()]
    columns = ", ".join([*_OWN, *hidden, *inputs])
    connection.execute(f"CREATE OR REPLACE VIEW {side}_rows AS SELECT {columns} FROM {side}_all")


def _condition(
    connection: duckdb.DuckDBPyConnection, sides: Mapping[str, Side], wanted: ComparedSlice
) -> tuple[str, str]:
    """SQL of a slice, and why there is none."""
    sql = "false"
    for side in SIDES:
        if not sides[side].rows:
            continue
        _make_view(connection, side, sides[side])
        try:
            sql = parse(connection, wanted.where, f"{side}_rows").sql
            connection.execute(f"SELECT ({sql})::BOOLEAN FROM {side}_rows LIMIT 0")
        except ExpressionError as error:
            return "false", f"where {error}"
        except duckdb.Error as error:
            return "false", f"where cannot be evaluated on the inputs that are logged: {one_line(error)}"[:500]
    return sql, ""


# ---- reading ---------------------------------------------------------------------------------------------------------
def numbers(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """The one row of a query, by column."""
    cursor = connection.execute(sql)
    row = cursor.fetchone()
    assert row is not None
    return dict(zip([each[0] for each in cursor.description or ()], row, strict=True))


def column(connection: duckdb.DuckDBPyConnection, sql: str) -> Numbers:
    """The one column of a query as floats; NULL is NaN."""
    (found,) = connection.execute(sql).fetchnumpy().values()
    return np.ma.filled(np.ma.asarray(found, dtype=np.float64), np.nan)


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    return int(numbers(connection, f"SELECT count(*) AS n FROM {relation}")["n"])


def _time(value: datetime) -> str:
    return f"TIMESTAMPTZ {literal(value.isoformat())}"
