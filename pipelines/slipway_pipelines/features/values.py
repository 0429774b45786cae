"""Feature values, computed from the parts of a dataset version by DuckDB.

An aggregate has a value at each point of a grid of `every` (counted from 1970-01-01T00:00:00Z): it is computed over the
rows that became known in `(t - window, t]`. A value stands until the next one, so only those points are kept at which a
row enters or leaves the window, and as many more as the ttl asks for: a reader at any time finds the value of the last
grid point. This keeps sparse entities small. Rows whose outcome is never known are in no window.

Values depend on nothing but the definitions and the data: the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb

from slipway.api.featureset import AggregateSource, Entity, Feature, View
from slipway.api.meta import parse_duration
from slipway.api.reasons import Reason
from slipway.contracts.jobs import DatasetManifest
from slipway_pipelines.data.types import AVAILABLE_AT, EVENT_TIME
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.sql.engine import literal, name, one_line, sandbox
from slipway_pipelines.sql.expressions import Expression, ExpressionError, parse, walk

EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"

FEATURE_TYPE = {"Double": "DOUBLE", "Integer": "BIGINT", "String": "VARCHAR", "Boolean": "BOOLEAN"}
ENTITY_TYPE = {"String": ("VARCHAR",), "Integer": ("BIGINT",)}

MICROSECOND = timedelta(microseconds=1)
SOURCE = "source"
"""The view of the dataset's rows that expressions see."""


@dataclass(frozen=True)
class ViewInput:
    """What a view is computed from: the manifest of its dataset, and the files of the manifest's parts."""

    manifest: DatasetManifest
    files: Sequence[Path]


def source_dataset(view: View) -> str:
    """Name of the dataset that a view reads."""
    source = view.source.aggregate or view.source.dataset
    assert source is not None, "the API server lets no view pass without its source"
    return source.dataset_ref.name


def compute_view(
    view: View, entities: Sequence[Entity], source: ViewInput, out: Path, *, memory: int, where: str = "spec"
) -> int:
    """Writes a view's values to `out` as Parquet; gives how many.

    Columns: entities, features, `event_timestamp` (when the value became known, UTC) and `created_timestamp` (the same:
    when a value was computed is no property of it). Rows are in order of time, then entities. The folder of `out` must
    hold `source.files`. RefusalError when a definition cannot be evaluated; `where` begins the field that it names.
    """
    where = f"{where}.views[{view.name}]"
    _check_source(view, entities, source.manifest, where)
    with sandbox(out.parent, threads=1, memory=memory) as connection:
        files = ", ".join(literal(str(path)) for path in source.files)
        keys = [name(entity) for entity in view.entities]
        known = " AND ".join(f"{column} IS NOT NULL" for column in [*keys, AVAILABLE_AT])
        connection.execute(f"CREATE VIEW {SOURCE} AS SELECT * FROM read_parquet([{files}]) WHERE {known}")
        if view.source.aggregate:
            values = _aggregates(connection, view, view.source.aggregate, keys, source.manifest, where)
        else:
            values = _rows(connection, view, keys, source.manifest, where)
        try:
            connection.execute(
                f"COPY (SELECT *, {EVENT_TIMESTAMP} AS {CREATED_TIMESTAMP} FROM ({values}) "
                f"ORDER BY {', '.join([EVENT_TIMESTAMP, *keys])}) "
                f"TO {literal(str(out))} (FORMAT parquet, COMPRESSION zstd)"
            )
        except duckdb.Error as error:
            raise RefusalError(
                Reason.InvalidExpression,
                f"{where} cannot be evaluated: {one_line(error)}; correct the expressions of its features.",
            ) from None
        row = connection.execute(f"SELECT count(*) FROM read_parquet({literal(str(out))})").fetchone()
    assert row is not None
    return int(row[0])


def _check_source(view: View, entities: Sequence[Entity], manifest: DatasetManifest, where: str) -> None:
    """RefusalError when the dataset cannot give the view's values."""
    if not manifest.has_time:
        raise RefusalError(
            Reason.InvalidSpec,
            f"{where}.source: dataset {manifest.dataset} has no spec.time, so nobody knows when a value became known; "
            "set time.event there.",
        )
    columns = {column.name: column for column in manifest.columns}
    declared = {entity.name: entity for entity in entities}
    for entity in view.entities:
        column = columns.get(entity)
        if column is None:
            raise RefusalError(
                Reason.InvalidSpec,
                f"{where}.entities has {entity}, which is no column of dataset {manifest.dataset}; "
                f"use one of {', '.join(columns)}.",
            )
        if column.sensitive:
            raise RefusalError(
                Reason.InvalidSpec,
                f"{where}.entities has {entity}, a sensitive column of dataset {manifest.dataset}; use another one.",
            )
        if column.type != declared[entity].type:
            raise RefusalError(
                Reason.InvalidSpec,
                f"spec.entities[{entity}].type is {declared[entity].type}, and the column of dataset "
                f"{manifest.dataset} is {column.type}; make them the same (String or Integer).",
            )


def _aggregates(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    source: AggregateSource,
    keys: Sequence[str],
    manifest: DatasetManifest,
    where: str,
) -> str:
    """SQL of an Aggregate view's values: one pass of window functions over rows and grid points together."""
    every, window, ttl = (parse_duration(text) // MICROSECOND for text in (source.every, source.window, view.ttl))
    if not every or not window:
        raise RefusalError(Reason.InvalidSpec, f"{where}.source.aggregate: window and every must be longer than 0s.")
    entity = ", ".join(keys)
    over = (
        f'PARTITION BY {entity} ORDER BY "moment" RANGE BETWEEN to_microseconds({window - 1}) PRECEDING AND CURRENT ROW'
    )
    features = []
    for feature in view.features:
        field = f"{where}.features[{feature.name}].expression"
        expression = _parse(connection, feature, manifest, field)
        if not expression.aggregates:
            raise RefusalError(
                Reason.InvalidExpression,
                f"{field} has no aggregate such as avg(x) or count(*), which an Aggregate view needs: "
                f"{feature.expression}",
            )
        _require_type(connection, expression.sql, f"GROUP BY {entity}", feature, field)
        features.append(_selected(feature, expression.windowed(over)))
    _create_points(connection, keys, every, window, max(1, ttl // every) * every)
    return (
        f'SELECT {", ".join([entity, *features])}, "moment" AS {EVENT_TIMESTAMP} FROM ('
        f'SELECT *, {AVAILABLE_AT} AS "moment", true AS "known" FROM {SOURCE} '
        f'UNION ALL BY NAME SELECT *, false AS "known" FROM points) QUALIFY NOT "known"'
    )


def _create_points(
    connection: duckdb.DuckDBPyConnection, keys: Sequence[str], every: int, window: int, gap: int
) -> None:
    """The table `points`: entities and the grid points (`moment`) at which their values are kept.

    These are the points at which a row enters or leaves the window, more where two of an entity would be further apart
    than `gap`, and the newest point of the dataset, after which there is none. All lengths are in microseconds.
    """
    entity = ", ".join(keys)
    late = f"epoch_us({AVAILABLE_AT}) + {window}"
    connection.execute(f"CREATE MACRO grid(x) AS -((-x) - (((-x) % {every}) + {every}) % {every})")
    connection.execute(
        f"""
        CREATE TABLE points AS
        WITH changes AS (
            SELECT DISTINCT {entity}, unnest([grid(epoch_us({AVAILABLE_AT})), grid({late})]) AS us FROM {SOURCE}
        ),
        newest AS (SELECT max(grid(epoch_us({AVAILABLE_AT}))) AS us FROM {SOURCE}),
        spans AS (SELECT {entity}, min(us) AS first FROM changes GROUP BY {entity}),
        regular AS (
            SELECT {entity}, unnest(generate_series(first, (SELECT us FROM newest), {gap}::BIGINT)) AS us FROM spans
        ),
        last AS (SELECT {entity}, (SELECT us FROM newest) AS us FROM spans)
        SELECT {entity}, make_timestamp(us) AS "moment"
        FROM (FROM changes UNION FROM regular UNION FROM last)
        WHERE us <= (SELECT us FROM newest)
        """
    )


def _rows(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    keys: Sequence[str],
    manifest: DatasetManifest,
    where: str,
) -> str:
    """SQL of a Dataset view's values: the rows as they are, at the time from which they are known.

    Where several rows of one entity became known at the same instant, the one that happened last counts.
    """
    features = []
    for feature in view.features:
        field = f"{where}.features[{feature.name}].expression"
        expression = _parse(connection, feature, manifest, field)
        if expression.aggregates:
            raise RefusalError(
                Reason.InvalidExpression,
                f"{field} has an aggregate, and must be one value of a row; use a source of type Aggregate: "
                f"{feature.expression}",
            )
        _require_type(connection, expression.sql, "", feature, field)
        features.append(_selected(feature, expression.sql))
    order = ", ".join(f"{column} DESC" for column in [EVENT_TIME, *map(name, manifest.key)])
    entity = ", ".join(keys)
    return (
        f"SELECT {', '.join([entity, *features])}, {AVAILABLE_AT} AS {EVENT_TIMESTAMP} FROM {SOURCE} "
        f"QUALIFY row_number() OVER (PARTITION BY {entity}, {AVAILABLE_AT} ORDER BY {order}) = 1"
    )


def _parse(
    connection: duckdb.DuckDBPyConnection, feature: Feature, manifest: DatasetManifest, field: str
) -> Expression:
    text = feature.expression or name(feature.name)
    try:
        expression = parse(connection, text, SOURCE)
    except ExpressionError as error:
        raise RefusalError(Reason.InvalidExpression, f"{field} {error}: {text}") from None
    sensitive = {column.name.lower() for column in manifest.columns if column.sensitive}
    for node in walk(expression.tree):
        used = (node.get("column_names") or [""])[-1]
        if used.lower() in sensitive:
            raise RefusalError(
                Reason.InvalidSpec,
                f"{field} uses {used}, a sensitive column of dataset {manifest.dataset}; use another one.",
            )
    return expression


def _require_type(connection: duckdb.DuckDBPyConnection, sql: str, group: str, feature: Feature, field: str) -> None:
    """RefusalError when an expression cannot be evaluated, or never gives the declared type."""
    target = FEATURE_TYPE[feature.type]
    try:
        row = connection.execute(f"DESCRIBE SELECT {sql} FROM {SOURCE} {group}").fetchone()
    except duckdb.Error as error:
        raise RefusalError(
            Reason.InvalidExpression, f"{field} cannot be evaluated: {one_line(error)}; the expression is {sql}"
        ) from None
    assert row is not None
    found = str(row[1])
    if (target == "VARCHAR") != (found == "VARCHAR") or (target == "BOOLEAN" and found != "BOOLEAN"):
        raise RefusalError(
            Reason.InvalidExpression,
            f"{field} gives {found} where type says {feature.type}; correct the type, or cast the expression.",
        )


def _selected(feature: Feature, sql: str) -> str:
    return f"CAST({sql} AS {FEATURE_TYPE[feature.type]}) AS {name(feature.name)}"
