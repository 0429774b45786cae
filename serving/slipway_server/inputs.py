"""Instances of a request → typed columns in the model's order.

A column that the request must carry has to be in every instance; `null` is a missing value. A column of the feature
store may be left out (or null): then it is looked up. Numbers keep the types that training saw: integers without a
missing value are int64, all other numbers float64 with NaN, strings and booleans objects with None, times
datetime64[us] in UTC without a zone, as DuckDB hands them to training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slipway.api.modelversion import InputField
from slipway_server.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

Instance = dict[str, Any]
_MAX_INT64 = 2**63
_EXAMPLES = {
    "String": 'a string such as "JFK"',
    "Integer": "a whole number such as 7",
    "Double": "a number such as 7.5",
    "Boolean": "true or false",
    "Timestamp": 'an RFC 3339 time such as "2013-07-01T12:00:00Z"',
}


def parse_instances(body: Any) -> list[Instance]:
    """The instances of a v1 request. Refused (400) when the body is not `{"instances": [{…}, …]}`."""
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list) or not instances:
        raise Refused(400, 'The body must be {"instances": [{column: value, …}, …]} with at least one instance.')
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict):
            raise Refused(400, f"instances[{index}] must be an object of column: value, not {_kind(instance)}.")
    return instances


def request_values(instances: Sequence[Instance], field: InputField) -> list[Any]:
    """One column of values as the request carries them, None where missing. Refused (400) names index, field, type."""
    must = field.source == "Request"
    values = []
    for index, instance in enumerate(instances):
        if must and field.name not in instance:
            raise Refused(
                400,
                f"instances[{index}] lacks {field.name} ({field.type}): send {_EXAMPLES[field.type]}, or null.",
            )
        value = instance.get(field.name)
        values.append(None if value is None else _typed(value, field, index))
    return values


def frame(fields: Sequence[InputField], columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A DataFrame of the model's inputs, in its order and with the types that training saw."""
    import pandas as pd

    return pd.DataFrame({field.name: _series(field.type, columns[field.name]) for field in fields}, copy=False)


def _series(kind: str, values: list[Any]) -> Any:
    import numpy as np

    if kind == "Integer" and None not in values:
        return np.array(values, dtype=np.int64)
    if kind in ("Integer", "Double"):
        return np.array(values, dtype=np.float64)  # None becomes NaN
    if kind == "Timestamp":
        return np.array(values, dtype="datetime64[us]")  # None becomes NaT
    if kind == "Boolean" and None not in values:
        return np.array(values, dtype=np.bool_)
    return np.array(values, dtype=object)


def _typed(value: Any, field: InputField, index: int) -> Any:
    """The value in its Python type; JSON numbers like 7.0 count as integers."""
    kind = field.type
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind == "String" and isinstance(value, str):
        return value
    if kind == "Boolean" and isinstance(value, bool):
        return value
    if kind == "Double" and number:
        return float(value)
    if kind == "Integer" and number and value == int(value) and abs(value) < _MAX_INT64:
        return int(value)
    if kind == "Timestamp" and isinstance(value, str) and (moment := _time(value)) is not None:
        return moment
    raise Refused(400, f"instances[{index}].{field.name} is {_shown(value)}: send {_EXAMPLES[kind]}, or null.")


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text[:60]}… ({_kind(value)})" if len(text) > 60 else f"{text} ({_kind(value)})"


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null")
