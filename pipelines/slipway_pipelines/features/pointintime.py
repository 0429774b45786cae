"""Training rows with the features that were known when each prediction would have been made.

The join is DuckDB's ASOF join over the values that the feature store gets too; tests compare it with Feast's own
`get_historical_features` and with a plain SQL truth. It takes seconds for a year of flights, needs neither Feast's
import nor its registry, and so works with the store's credentials only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from slipway.api.featureset import View
from slipway.api.meta import parse_duration
from slipway.api.reasons import Reason
from slipway.contracts.jobs import DatasetManifest, TrainingFeatureSet
from slipway_pipelines.data.parts import fetch_parts, read_manifest
from slipway_pipelines.data.splits import SplitName
from slipway_pipelines.data.types import EVENT_TIME
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.features.values import EVENT_TIMESTAMP, MICROSECOND, ViewInput, compute_view, source_dataset
from slipway_pipelines.sql.engine import Limits, container_limits, literal, name, sandbox
from slipway_pipelines.store import ObjectStore

SPLIT = "split"


def training_frame(
    store: ObjectStore,
    manifest: DatasetManifest,
    feature_sets: Sequence[TrainingFeatureSet],
    inputs: Sequence[str],
    lead_time: timedelta,
    *,
    split: SplitName | None = None,
    limits: Limits | None = None,
) -> pa.Table:
    """The labelled rows of a dataset version, of one split or of all, each with its features.

    Columns: `spec.key` of the dataset, `event_time` (TIMESTAMP, UTC), `split`, `inputs`, every feature of every view of
    `feature_sets` in their order, and the label. Rows are in order of event time, then key: the same arguments give the
    same table. A feature is the newest value with `t <= event_time - lead_time` that is not older than its view's ttl,
    and null where there is none; defaults are not applied (`features.defaults` has them).

    RefusalError when the dataset has no label or splits, or the features do not fit it.
    """
    _check(manifest, feature_sets, inputs)
    limits = limits or container_limits()
    with tempfile.TemporaryDirectory(prefix="slipway-frame-") as temporary:
        folder = Path(temporary).resolve()
        files = _fetch(store, manifest, folder / "rows", limits)
        views = [
            (view, _values(store, feature_set, view, folder / f"view-{number}-{position}", limits))
            for number, feature_set in enumerate(feature_sets)
            for position, view in enumerate(feature_set.views)
        ]
        with sandbox(folder, threads=limits.threads, memory=limits.memory) as connection:
            return _join(connection, manifest, files, views, inputs, lead_time, split)


def _check(manifest: DatasetManifest, feature_sets: Sequence[TrainingFeatureSet], inputs: Sequence[str]) -> None:
    if manifest.label is None or not manifest.splits:
        raise RefusalError(
            Reason.InvalidSpec,
            f"Dataset {manifest.dataset} has no {'labels' if manifest.label is None else 'splits'}, "
            "so nothing can be trained on it: set spec.labels and spec.splits of the Dataset.",
        )
    columns = {column.name for column in manifest.columns}
    if SPLIT in {*inputs, *manifest.key}:
        raise RefusalError(
            Reason.InvalidSpec,
            f"Dataset {manifest.dataset} has a column {SPLIT}, which a training set uses for itself: rename it.",
        )
    taken = {*inputs, *manifest.key, manifest.label, EVENT_TIME, SPLIT}
    for feature_set in feature_sets:
        for view in feature_set.views:
            for entity in view.entities:
                if entity not in columns:
                    raise RefusalError(
                        Reason.InvalidSpec,
                        f"FeatureSet {feature_set.name}, view {view.name}: entity {entity} is no column of dataset "
                        f"{manifest.dataset}, so its features cannot be joined; add the column, or leave the view out.",
                    )
            for feature in view.features:
                if feature.name in taken:
                    raise RefusalError(
                        Reason.InvalidSpec,
                        f"Feature {feature.name} of FeatureSet {feature_set.name} has the name of another column of "
                        "the training set: rename it.",
                    )
                taken.add(feature.name)


def _fetch(store: ObjectStore, manifest: DatasetManifest, folder: Path, limits: Limits) -> list[Path]:
    paths = [folder / f"part-{number:06}.parquet" for number in range(len(manifest.parts))]
    fetch_parts(store, manifest.parts, paths, limits.threads)
    return paths


def _values(store: ObjectStore, feature_set: TrainingFeatureSet, view: View, folder: Path, limits: Limits) -> Path:
    """A view's values, computed as the `features` Job computes them."""
    wanted = source_dataset(view)
    found = [item for item in feature_set.datasets if item.dataset == wanted]
    if not found:
        raise RefusalError(
            Reason.DependencyMissing,
            f"FeatureSet {feature_set.name}, view {view.name}: dataset {wanted} has no version yet.",
        )
    manifest = read_manifest(store, found[0].manifest)
    source = ViewInput(manifest, _fetch(store, manifest, folder, limits))
    out = folder / "values.parquet"
    where = f"FeatureSet {feature_set.name}: spec"
    compute_view(view, feature_set.entities, source, out, memory=limits.memory, where=where)
    return out


def _join(
    connection: duckdb.DuckDBPyConnection,
    manifest: DatasetManifest,
    files: Sequence[Path],
    views: Sequence[tuple[View, Path]],
    inputs: Sequence[str],
    lead_time: timedelta,
    split: SplitName | None,
) -> pa.Table:
    assert manifest.label is not None
    carried = list(dict.fromkeys([*manifest.key, *inputs]))
    entities = list(dict.fromkeys(entity for view, _ in views for entity in view.entities))
    columns = list(dict.fromkeys([*carried, *entities, EVENT_TIME, manifest.label]))
    chosen = f"= {literal(split)}" if split else "IS NOT NULL"
    connection.execute(
        f"CREATE TABLE labelled AS SELECT * FROM (SELECT {', '.join(map(name, columns))}, "
        f"{_split_case(manifest)} AS {SPLIT}, "
        f'{EVENT_TIME} - to_microseconds({lead_time // MICROSECOND}) AS "asked at" '
        f"FROM read_parquet([{', '.join(literal(str(path)) for path in files)}]) "
        f"WHERE {name(manifest.label)} IS NOT NULL) WHERE {SPLIT} {chosen}"
    )
    keys = list(manifest.key)
    shown = dict.fromkeys([*keys, EVENT_TIME, SPLIT, *inputs])
    selection = [f"r.{name(column)}" for column in shown]
    joins = []
    for number, (view, path) in enumerate(views):
        joins.append(_asof(number, view, path))
        fresh = f'v{number}.{EVENT_TIMESTAMP} >= r."asked at" - to_microseconds({_microseconds(view.ttl)})'
        selection += [
            f"CASE WHEN {fresh} THEN v{number}.{name(feature.name)} END AS {name(feature.name)}"
            for feature in view.features
        ]
    selection.append(f"r.{name(manifest.label)}")
    order = ", ".join(f"r.{name(column)}" for column in [EVENT_TIME, *keys])
    return connection.sql(
        f"SELECT {', '.join(selection)} FROM labelled AS r {' '.join(joins)} ORDER BY {order}"
    ).to_arrow_table()


def _asof(number: int, view: View, path: Path) -> str:
    """The newest value that was known when the prediction was asked for."""
    same = " AND ".join(f"r.{name(entity)} = v{number}.{name(entity)}" for entity in view.entities)
    return (
        f"ASOF LEFT JOIN read_parquet({literal(str(path))}) AS v{number} "
        f'ON {same} AND r."asked at" >= v{number}.{EVENT_TIMESTAMP}'
    )


def _split_case(manifest: DatasetManifest) -> str:
    """SQL of the split that a row is in."""
    cases = " ".join(
        f"WHEN {EVENT_TIME} >= {_timestamp(record.start)} AND {EVENT_TIME} < {_timestamp(record.end)} "
        f"THEN {literal(record.name)}"
        for record in manifest.splits
    )
    return f"CASE {cases} END"


def _timestamp(text: str) -> str:
    return f"TIMESTAMP {literal(text.removesuffix('Z'))}"


def _microseconds(duration: str) -> int:
    return parse_duration(duration) // MICROSECOND
