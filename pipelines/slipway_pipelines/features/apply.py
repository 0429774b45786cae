"""Bringing definitions and values to Feast: apply, prune, materialize, tear down."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from slipway_pipelines.errors import OutageError
from slipway_pipelines.features.definitions import Definitions
from slipway_pipelines.features.feaststore import FeastDatabase
from slipway_pipelines.features.values import EVENT_TIMESTAMP
from slipway_pipelines.sql.engine import literal, name

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore, FeatureView

log = logging.getLogger("slipway.job")


@dataclass(frozen=True)
class Values:
    """A view's values on disk, and the newest time among them (UTC); None when there are none."""

    path: Path
    newest: datetime | None


def apply(store: FeatureStore, definitions: Definitions, owned: Iterable[str]) -> list[str]:
    """Applies definitions and deletes what this FeatureSet owned before and does not define any more.

    Gives what it owns now, as `kind/name`. A view that a FeatureService still refers to stays, with its entities and
    its source, until the service is gone: a model that serves keeps its features.
    """
    with _errors():
        wanted = definitions.names()
        gone = sorted(set(owned) - set(wanted))
        kept = _in_use(store, gone)
        deleted = _find(store, [item for item in gone if item not in kept])
        store.apply(definitions.objects(), objects_to_delete=deleted, partial=False)
    for item in kept:
        log.info("%s is not defined any more and stays, for a FeatureService refers to it", item)
    return sorted([*wanted, *kept])


def remove(store: FeatureStore, objects: Iterable[str]) -> list[str]:
    """Deletes objects and their online tables; gives those that there were."""
    with _errors():
        names = sorted(objects)
        found = _find(store, names)
        store.apply([], objects_to_delete=found, partial=False)
    present = {(type(item).__name__, item.name) for item in found}
    return [item for item in names if any(item.partition("/")[2] == known for _, known in present)]


def materialize(database: FeastDatabase, store: FeatureStore, view: FeatureView, values: Values) -> None:
    """Writes each entity's newest value to the online store, and deletes those that are older than the ttl.

    Age counts from the view's newest value, not from the clock: the data decide what the present is. Feast's own
    `materialize` would load the whole history, refuse to serve meanwhile, and grow the registry each time.
    """
    if values.newest is None or view.ttl is None:
        return
    oldest = values.newest - view.ttl
    frame = _newest_rows(values.path, view.join_keys, oldest)
    with _errors():
        store.write_to_online_store(view.name, frame)
        _delete_older(database, store.project, view.name, oldest)
        registered = store.get_feature_view(view.name)
        registered.materialization_intervals = [(oldest.replace(tzinfo=UTC), values.newest.replace(tzinfo=UTC))]
        store.registry.apply_feature_view(registered, store.project)


def newest_time(path: Path) -> datetime | None:
    """The newest `event_timestamp` of a file of values."""
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT max({EVENT_TIMESTAMP}) FROM read_parquet({literal(str(path))})").fetchone()
    return row[0] if row else None


def _newest_rows(path: Path, keys: Sequence[str], oldest: datetime) -> pd.DataFrame:
    """One row an entity; missing values are None, for Feast takes NaN as a number."""
    entity = ", ".join(name(key) for key in keys)
    with duckdb.connect() as connection:
        table = connection.sql(
            f"SELECT * FROM read_parquet({literal(str(path))}) WHERE {EVENT_TIMESTAMP} >= {literal(str(oldest))} "
            f"QUALIFY row_number() OVER (PARTITION BY {entity} ORDER BY {EVENT_TIMESTAMP} DESC) = 1 ORDER BY {entity}"
        ).to_arrow_table()
    import pandas as pd

    return pd.DataFrame(
        {
            field.name: pd.Series(column.to_pylist(), dtype=None if field.name.endswith("_timestamp") else object)
            for field, column in zip(table.schema, table.columns, strict=True)
        }
    )


def _delete_older(database: FeastDatabase, project: str, view: str, oldest: datetime) -> None:
    from psycopg import sql

    table = sql.Identifier(f"{project}_{view}")
    with database.connect() as connection:
        connection.execute(sql.SQL("DELETE FROM {} WHERE event_ts < %s").format(table), [oldest.replace(tzinfo=UTC)])


def _in_use(store: FeatureStore, objects: Sequence[str]) -> list[str]:
    """Those of the objects that a FeatureService needs."""
    used = {
        projection.name for service in store.list_feature_services() for projection in service.feature_view_projections
    }
    views = [item.partition("/")[2] for item in objects if item.startswith("view/")]
    kept = {view for view in views if view in used}
    entities = {entity for view in store.list_feature_views() if view.name in kept for entity in view.entities}
    return [
        item
        for item in objects
        if (item.startswith(("view/", "source/")) and item.partition("/")[2] in kept)
        or (item.startswith("entity/") and item.partition("/")[2] in entities)
    ]


def _find(store: FeatureStore, objects: Sequence[str]) -> list[Any]:
    """The registry's objects of these names; those that are gone already are left out."""
    known: dict[str, Any] = {}
    known |= {f"entity/{item.name}": item for item in store.list_entities()}
    known |= {f"source/{item.name}": item for item in store.list_data_sources()}
    known |= {f"view/{item.name}": item for item in store.list_feature_views()}
    return [known[item] for item in objects if item in known]


@contextmanager
def _errors() -> Iterator[None]:
    """An outage of the database, as such."""
    import psycopg
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, DBAPIError) as error:
        raise OutageError(f"the feature store does not answer: {str(error).splitlines()[0]}") from None
