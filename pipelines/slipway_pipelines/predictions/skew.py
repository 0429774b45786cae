"""How the inputs of two versions differ, input by input."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from slipway.contracts.predictions import InputSkew
from slipway_pipelines.predictions import distances
from slipway_pipelines.predictions.tables import SIDES, Side, column, numbers
from slipway_pipelines.predictions.text import decimal
from slipway_pipelines.sql.engine import name

_TOP = 20
_JOINED = 5
_NUMERIC = ("BIGINT", "DOUBLE", "INTEGER", "FLOAT")


def skews(connection: duckdb.DuckDBPyConnection, sides: Mapping[str, Side]) -> list[InputSkew]:
    """Every input that both versions have and log, in the stable version's order."""
    stable, candidate = sides["stable"].inputs, sides["candidate"].inputs
    shared = [each for each in stable if candidate.get(each) == stable[each]]
    if not shared:
        return []
    changed = _changed(connection, shared)
    return [_skew(connection, each, stable[each], changed.get(each)) for each in shared]


def _changed(connection: duckdb.DuckDBPyConnection, inputs: list[str]) -> dict[str, float | None]:
    """Percent of pairs with another value, a few inputs at a time: a join holds their values."""
    found: dict[str, float | None] = {}
    for start in range(0, len(inputs), _JOINED):
        some = inputs[start : start + _JOINED]
        values = ", ".join(f"inputs.{name(each)} AS v{number}" for number, each in enumerate(some))
        stable, candidate = (f"(SELECT rowid AS {side}_place, {values} FROM {side}_all)" for side in SIDES)
        measures = ", ".join(
            f"100 * avg((s.v{number} IS DISTINCT FROM c.v{number})::INTEGER) AS {name(each)}"
            for number, each in enumerate(some)
        )
        found |= numbers(
            connection,
            f"SELECT {measures} FROM pairs JOIN {stable} AS s USING (stable_place)"
            f" JOIN {candidate} AS c USING (candidate_place)",
        )
    return found


def _skew(connection: duckdb.DuckDBPyConnection, each: str, kind: str, changed: float | None) -> InputSkew:
    value = f"inputs.{name(each)}"
    missing = {
        side: numbers(connection, f"SELECT 100 * avg(({value} IS NULL)::INTEGER) AS share FROM {_inside(side)}")[
            "share"
        ]
        for side in SIDES
    }
    return InputSkew(
        name=each,
        changed_percent=decimal(changed),
        population_stability=decimal(_distance(connection, value, kind)),
        stable_missing_percent=decimal(missing["stable"]),
        candidate_missing_percent=decimal(missing["candidate"]),
    )


def _distance(connection: duckdb.DuckDBPyConnection, value: str, kind: str) -> float | None:
    if kind in _NUMERIC or kind.startswith("TIMESTAMP"):
        number = value if kind in _NUMERIC else f"epoch({value})"
        samples = [column(connection, f"SELECT ({number})::DOUBLE AS v FROM {_inside(side)}") for side in SIDES]
        return distances.stability(*samples)
    return distances.stability_of_categories(*_categories(connection, f"({value})::VARCHAR"))


def _categories(connection: duckdb.DuckDBPyConnection, value: str) -> tuple[dict[str, int], dict[str, int]]:
    """Counts of the stable version's most frequent values, of all others, and of missing ones."""
    top = connection.execute(
        f"SELECT {value} FROM {_inside('stable')} WHERE {value} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1"
        f" LIMIT {_TOP}"
    ).fetchall()
    names = [str(row[0]) for row in top]
    counts = []
    for side in SIDES:
        found = dict.fromkeys([*(f"value {each}" for each in names), "others", "missing"], 0)
        rows = connection.execute(
            "SELECT CASE WHEN v IS NULL THEN 'missing' WHEN list_contains(?, v) THEN 'value ' || v ELSE 'others' END,"
            f" count(*) FROM (SELECT {value} AS v FROM {_inside(side)}) GROUP BY 1",
            [names],
        ).fetchall()
        found |= {str(row[0]): int(row[1]) for row in rows}
        counts.append(found)
    return counts[0], counts[1]


def _inside(side: str) -> str:
    return f"(SELECT inputs FROM {side}_all WHERE inside)"
