"""The Feast of the platform: registry and online store in PostgreSQL."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from slipway_pipelines.errors import OutageError
from slipway_server.instrumentation import without_typeguard

if TYPE_CHECKING:
    from feast import FeatureStore

LOCK_TIMEOUT = "10min"
"""How long one Job waits for another one that changes the same Feast project."""


@dataclass(frozen=True)
class FeastDatabase:
    """Where registry and online store are."""

    host: str
    port: int
    database: str
    username: str
    password: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> FeastDatabase:
        """The database that `SLIPWAY_FEAST_*` names. OutageError when one of the variables is missing."""
        names = ("HOST", "PORT", "DATABASE", "USERNAME", "PASSWORD")
        missing = [f"SLIPWAY_FEAST_{name}" for name in names if not environ.get(f"SLIPWAY_FEAST_{name}")]
        if missing:
            raise OutageError(f"the environment lacks {', '.join(missing)}, so the feature store is not known")
        host, port, database, username, password = (environ[f"SLIPWAY_FEAST_{name}"] for name in names)
        return cls(host, int(port), database, username, password)

    def repo_config(self, project: str) -> dict[str, Any]:
        """Arguments of Feast's RepoConfig."""
        credentials = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return {
            "project": project,
            "provider": "local",
            "registry": {
                "registry_type": "sql",
                "path": f"postgresql+psycopg://{credentials}@{self.host}:{self.port}/{quote(self.database, safe='')}",
            },
            "online_store": {
                "type": "postgres",
                "host": self.host,
                "port": self.port,
                "database": self.database,
                "user": self.username,
                "password": self.password,
                "sslmode": "prefer",
            },
            "entity_key_serialization_version": 3,
        }

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """A psycopg connection that commits by itself. OutageError when the database does not answer."""
        import psycopg

        try:
            connection = psycopg.connect(
                host=self.host,
                port=self.port,
                dbname=self.database,
                user=self.username,
                password=self.password,
                autocommit=True,
                connect_timeout=10,
            )
        except psycopg.Error as error:
            raise OutageError(f"the feature store {self.host}:{self.port} does not answer: {error}") from None
        with connection:
            yield connection

    @contextmanager
    def lock(self, project: str) -> Iterator[None]:
        """Holds a Feast project: `apply` reads and writes a registry that has no lock of its own.

        OutageError when another Job holds it for longer than ten minutes. PostgreSQL frees it when this process ends.
        """
        import psycopg

        with self.connect() as connection:
            connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            try:
                connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"slipway/{project}"])
            except psycopg.errors.LockNotAvailable:
                raise OutageError(
                    f"another Job holds the Feast project {project} for longer than {LOCK_TIMEOUT}"
                ) from None
            yield


def load_feast() -> None:
    """Imports Feast, which takes seconds: call it in a thread while other work goes on. Its warnings are its own."""
    os.environ.setdefault("FEAST_USAGE", "False")
    with warnings.catch_warnings(), without_typeguard():
        warnings.simplefilter("ignore")
        import feast
        import feast.infra.online_stores.postgres_online_store.postgres
        import feast.infra.registry.sql  # noqa: F401


def open_store(database: FeastDatabase, project: str) -> FeatureStore:
    """Feast's client for a project. OutageError when the database does not answer."""
    load_feast()
    from feast import FeatureStore, RepoConfig
    from sqlalchemy.exc import SQLAlchemyError

    os.environ["PGTZ"] = "UTC"  # Feast writes times without a zone, which PostgreSQL takes for the session's.
    try:
        return FeatureStore(config=RepoConfig(**database.repo_config(project)))
    except SQLAlchemyError as error:
        raise OutageError(f"the registry of Feast project {project} does not answer: {error}") from None


def close_store(store: FeatureStore) -> None:
    """Closes the client's connections, which Feast itself leaves to the end of the process."""
    registry: Any = store.registry  # the SQL registry, which has engines; its base class does not say so
    registry.write_engine.dispose()
    connection = getattr(store._get_provider().online_store, "_conn", None)
    if connection is not None:
        connection.close()
