"""Statistics of every column, for people and for later comparison."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb

from slipway.api.dataset import DatasetColumn
from slipway_pipelines.sql.engine import name
from slipway_pipelines.store import format_time

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP = 10
DIGITS = 9


def profile_columns(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: list[DatasetColumn]
) -> dict[str, dict[str, Any]]:
    """Statistics by column: `type`, `count`, `nulls`; unless it is sensitive, `distinct` (approximate), and by type
    `min`, `max`, `mean`, `quantiles`, or `top` (value and count, the most frequent first)."""
    return {column.name: _profile(connection, relation, column) for column in columns}


def _profile(connection: duckdb.DuckDBPyConnection, relation: str, column: DatasetColumn) -> dict[str, Any]:
    quoted = name(column.name)
    measures = {"count": f"count({quoted})", "nulls": f"count(*) - count({quoted})"}
    ordered = column.type in ("Integer", "Double", "Timestamp")
    if not column.sensitive:
        measures["distinct"] = f"approx_count_distinct({quoted})"
        if ordered:
            measures |= {"min": f"min({quoted})", "max": f"max({quoted})"}
        if column.type in ("Integer", "Double"):
            measures |= {
                "mean": f"avg({quoted})",
                "quantiles": f"quantile_cont({quoted}, {list(QUANTILES)})",
            }
    row = connection.execute(f"SELECT {', '.join(measures.values())} FROM {relation}").fetchone()
    assert row is not None
    out: dict[str, Any] = {"type": column.type} | {key: _plain(value) for key, value in zip(measures, row, strict=True)}
    if out.get("quantiles"):
        out["quantiles"] = {str(q): value for q, value in zip(QUANTILES, out["quantiles"], strict=True)}
    if column.sensitive:
        out["sensitive"] = True
    elif not ordered:
        out["top"] = _top(connection, relation, quoted)
    return out


def _top(connection: duckdb.DuckDBPyConnection, relation: str, quoted: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"SELECT {quoted}, count(*) AS n FROM {relation} WHERE {quoted} IS NOT NULL "
        f"GROUP BY 1 HAVING n > 1 ORDER BY n DESC, 1 LIMIT {TOP}"
    ).fetchall()
    return [{"value": value, "count": count} for value, count in rows]


def _plain(value: Any) -> Any:
    """A value for JSON: times as RFC 3339, floats to nine digits (the order of a sum does not show), no infinities."""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, float | Decimal):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
