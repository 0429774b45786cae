"""Feast's PostgreSQL online store with a connection pool that survives a database that stops answering.

Feast's own pool mode loses a connection for each query that fails, and its single connection is never opened again once
it broke. This one only changes where connections come from; queries and decoding stay Feast's. Importing this module
imports Feast, which takes seconds.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, Literal

from feast.infra.online_stores.postgres_online_store.postgres import (
    PostgreSQLOnlineStore,
    PostgreSQLOnlineStoreConfig,
)
from feast.infra.utils.postgres.connection_utils import _get_conn_kwargs, _get_conninfo
from psycopg import Connection
from psycopg_pool import ConnectionPool

STORE_TYPE = "slipway_server.pooledstore.PooledOnlineStore"
_CONNECT_SECONDS = 2
_RECONNECT_SECONDS = 30


class PooledOnlineStoreConfig(PostgreSQLOnlineStoreConfig):
    """Configuration as Feast finds it: by the store's name and `Config`."""

    type: Literal["slipway_server.pooledstore.PooledOnlineStore"] = STORE_TYPE  # type: ignore[assignment]
    wait_seconds: float = 0.05
    """How long a read waits for a connection."""


class Call:
    """One read in one thread, which another thread may abort."""

    _running = threading.local()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection[Any] | None = None

    @classmethod
    @contextlib.contextmanager
    def connected(cls, connection: Connection[Any]) -> Iterator[None]:
        """While this thread's call uses a connection."""
        call: Call | None = getattr(cls._running, "call", None)
        if call is None:
            yield
            return
        with call._lock:
            call._connection = connection
        try:
            yield
        finally:
            with call._lock:
                call._connection = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Make this the call of the thread."""
        Call._running.call = self
        try:
            yield
        finally:
            Call._running.call = None

    def abort(self) -> None:
        """Break the call's connection, so that a thread that waits for a silent database goes on with an error."""
        with self._lock:
            if self._connection is None or self._connection.closed:
                return
            with socket.socket(fileno=socket.dup(self._connection.fileno())) as handle, contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)


class PooledOnlineStore(PostgreSQLOnlineStore):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._pool: ConnectionPool[Connection[Any]] | None = None
        self._pool_lock = threading.Lock()

    @contextlib.contextmanager
    def _get_conn(self, config: Any, autocommit: bool = False) -> Iterator[Connection[Any]]:
        settings = config.online_store
        with self._opened(settings).connection(timeout=settings.wait_seconds) as connection:
            if connection.autocommit != autocommit:
                connection.set_autocommit(autocommit)
            with Call.connected(connection):
                yield connection

    def _opened(self, settings: PooledOnlineStoreConfig) -> ConnectionPool[Connection[Any]]:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    _get_conninfo(settings),
                    min_size=settings.min_conn,
                    max_size=settings.max_conn,
                    reconnect_timeout=_RECONNECT_SECONDS,
                    kwargs=_get_conn_kwargs(settings) | {"connect_timeout": _CONNECT_SECONDS},
                    open=True,
                    name="online-store",
                )
            return self._pool
