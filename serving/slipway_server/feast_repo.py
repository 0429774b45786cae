"""Feast as the model server uses it: definitions refreshed in the background, online values on demand.

Importing this module imports Feast, which takes seconds: only the maintenance thread does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feast import FeatureStore
from feast.repo_config import RepoConfig
from feast.types import Int32, Int64
from sqlalchemy import URL

from slipway.api.modelversion import FeatureServiceRecord
from slipway_server.pooledstore import STORE_TYPE
from slipway_server.settings import FeastConnection

_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class ServedFeature:
    """How a feature is asked for."""

    reference: str
    """`VIEW:FEATURE`, with the view's version where it is pinned."""
    keys: tuple[str, ...]
    """Entity columns that identify its value."""


@dataclass(frozen=True)
class ServicePlan:
    """A feature service, resolved: nothing of the registry is needed in a request."""

    features: Mapping[str, ServedFeature]
    integer_keys: frozenset[str]


class FeastRepo:
    """One Feast project in PostgreSQL. Methods block, and raise whatever Feast and its drivers raise."""

    def __init__(self, connection: FeastConnection, project: str, *, wait: float, connections: int) -> None:
        self._store = FeatureStore(config=_config(connection, project, wait=wait, connections=connections))

    def refresh(self) -> None:
        """Read the registry again."""
        self._store.refresh_registry()  # type: ignore[no-untyped-call]

    def plan(self, service: FeatureServiceRecord) -> ServicePlan:
        """Resolve a feature service from the registry that was read last."""
        features: dict[str, ServedFeature] = {}
        integer_keys: set[str] = set()
        for projection in self._store.get_feature_service(service.name, allow_cache=True).feature_view_projections:
            view = self._store.get_feature_view(projection.name, allow_registry_cache=True)
            integer_keys |= {column.name for column in view.entity_columns if column.dtype in (Int32, Int64)}
            prefix = projection.name_to_use()  # type: ignore[no-untyped-call]
            for feature in projection.features:
                features[feature.name] = ServedFeature(f"{prefix}:{feature.name}", tuple(view.join_keys))
        return ServicePlan(features, frozenset(integer_keys))

    def read(self, references: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Online values by feature, in the rows' order; None where there is none."""
        answer = self._store.get_online_features(features=list(references), entity_rows=[dict(row) for row in rows])
        values: dict[str, list[Any]] = answer.to_dict()
        return {name: [None if _is_nan(v) else v for v in column] for name, column in values.items()}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _config(connection: FeastConnection, project: str, *, wait: float, connections: int) -> RepoConfig:
    url = URL.create(
        "postgresql+psycopg",
        connection.username,
        connection.password,
        connection.host,
        connection.port,
        connection.database,
    )
    return RepoConfig(
        project=project,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": url.render_as_string(hide_password=False),
            # Never expires by itself: a request must not wait for the registry.
            "cache_ttl_seconds": 0,
            "schema_mode": "skip",
            "sqlalchemy_config_kwargs": {
                "echo": False,
                "pool_pre_ping": True,
                "connect_args": {"connect_timeout": _CONNECT_SECONDS},
            },
        },
        online_store={
            "type": STORE_TYPE,
            "host": connection.host,
            "port": connection.port,
            "database": connection.database,
            "user": connection.username,
            "password": connection.password,
            "sslmode": "prefer",
            "min_conn": 1,
            "max_conn": connections,
            "wait_seconds": wait,
        },
        entity_key_serialization_version=3,
    )
