"""Structured logs: one line a record, with the object that is being reconciled in each of them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from slipway.runtime.resources import Key

Format = Literal["logfmt", "json"]

_current: ContextVar[Key | None] = ContextVar("slipway_key", default=None)


@contextmanager
def about(key: Key) -> Iterator[None]:
    """Every record inside carries the key: kind, namespace, name."""
    token = _current.set(key)
    try:
        yield
    finally:
        _current.reset(token)


def fields(record: logging.LogRecord) -> dict[str, str]:
    """A record as ordered fields; the traceback, if any, is the last."""
    found = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    key = _current.get()
    if key is not None:
        found["kind"] = key.type.kind
        if key.namespace:
            found["namespace"] = key.namespace
        found["name"] = key.name
    found["msg"] = record.getMessage()
    if record.exc_info:
        found["traceback"] = logging.Formatter().formatException(record.exc_info)
    return found


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields(record), ensure_ascii=False)


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs; values with spaces, quotes or line breaks are quoted as JSON strings."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_quoted(value)}" for name, value in fields(record).items())


def _quoted(value: str) -> str:
    plain = value and not any(char.isspace() or char in '"=\\' for char in value)
    return value if plain else json.dumps(value, ensure_ascii=False)


class Sparingly(logging.Filter):
    """Lets one record through in each period, and says how many it held back: during an outage of the API server, kopf
    logs an error for each watch and each try."""

    def __init__(self, period: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._period = period
        self._clock = clock
        self._next = 0.0
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if self._clock() < self._next:
            self._held += 1
            return False
        if self._held:
            record.msg, record.args = f"{record.getMessage()} (and {self._held} more like this)", ()
        self._next, self._held = self._clock() + self._period, 0
        return True


def configure(form: Format = "logfmt", level: str = "INFO") -> None:
    """Log to standard error. kopf, aiohttp and asyncio only from WARNING on: they would log every request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for repeated in ("kopf._cogs.clients.watching", "kopf._core.reactor.observation"):
        logging.getLogger(repeated).addFilter(Sparingly())
    for noisy in ("kopf", "aiohttp", "asyncio", "urllib3"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
