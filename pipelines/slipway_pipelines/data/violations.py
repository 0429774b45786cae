"""Broken rules, as sentences, and how values look in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from slipway.api.datasetversion import Violation
from slipway_pipelines.errors import shorten

MESSAGE_LIMIT = 1024
PARTITION_LIMIT = 1024
VALUE_LIMIT = 60

Severity = Literal["Block", "Warn"]


def violation(rule: str, message: str, partition: str | None, severity: Severity = "Block") -> Violation:
    """A broken rule; `partition` is the key of the source object, None for all rows together."""
    return Violation(
        rule=rule,
        severity=severity,
        partition=None if partition is None else shorten(partition, PARTITION_LIMIT),
        message=shorten(message, MESSAGE_LIMIT),
    )


def file_name(key: str) -> str:
    """The last part of a source object's key, by which people know it."""
    return key.rpartition("/")[2]


def show(value: Any) -> str:
    """A value in a sentence: numbers to six digits, text in quotes, times as RFC 3339."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal):
        return f"{float(value):.6g}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str):
        return repr(shorten(value, VALUE_LIMIT))
    return shorten(str(value), VALUE_LIMIT)


def rows(count: int) -> str:
    """`1 row has`, `7 rows have`."""
    return "1 row has" if count == 1 else f"{count} rows have"


def listed(items: Sequence[str], limit: int = 3) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
