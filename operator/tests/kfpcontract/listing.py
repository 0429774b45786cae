"""Lists: filters, order and pages, as all list operations of the API have them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kfp_server_api.models import V2beta1Filter, V2beta1Predicate

from kfpcontract.contract import Contract, Unfit
from kfpcontract.database import Call
from kfpcontract.status import invalid

T = TypeVar("T")

DEFAULT_PAGE, LARGEST_PAGE = 20, 200
_OLD_NAMES = {
    f'"{old}":': f'"{new}":'
    for old, new in (
        *(("intValue", "int_value"), ("longValue", "long_value"), ("stringValue", "string_value")),
        *(("timestampValue", "timestamp_value"), ("intValues", "int_values"), ("stringValues", "string_values")),
    )
}


def page_of(
    rows: Sequence[T], call: Call, fields: Mapping[str, Callable[[T], Any]], default_order: str = "created_at"
) -> tuple[list[T], int, str]:
    """One page of rows, how many there are in all, and the token of the next page.

    :param fields: what may be filtered and ordered by
    """
    chosen = [row for row in rows if _fits(row, _filter(call.query.get("filter") or ""), fields)]
    name, descending = _order(call.query.get("sort_by") or "", fields, default_order)
    chosen.sort(key=lambda row: str(fields[name](row)), reverse=descending)
    size = call.query.get("page_size") or DEFAULT_PAGE
    if size < 0:
        raise invalid(f"The page size should be greater than 0. Got {size}")
    begin = _begin(call.query.get("page_token") or "")
    end = begin + min(size, LARGEST_PAGE)
    return chosen[begin:end], len(chosen), _token(end) if end < len(chosen) else ""


def _filter(text: str) -> list[V2beta1Predicate]:
    if not text:
        return []
    for old, new in _OLD_NAMES.items():
        text = text.replace(old, new)
    try:
        found: V2beta1Filter = Contract().decode(json.loads(text), "V2beta1Filter")
    except (json.JSONDecodeError, Unfit) as error:
        raise invalid(f'failed to parse valid filter from "{text}": {error}') from error
    return list(found.predicates or ())


def _fits(row: T, predicates: Sequence[V2beta1Predicate], fields: Mapping[str, Callable[[T], Any]]) -> bool:
    for each in predicates:
        if each.key not in fields:
            raise invalid(f'no support for filtering on unrecognized field "{each.key}"')
        value = str(fields[each.key](row))
        if each.operation == "EQUALS":
            fits = value == each.string_value
        elif each.operation == "NOT_EQUALS":
            fits = value != each.string_value
        elif each.operation == "IS_SUBSTRING":
            fits = (each.string_value or "").lower() in value.lower()
        elif each.operation == "IN":
            fits = value in (each.string_values.values or ())
        else:
            raise invalid(f"{each.operation} is not played by this server")
        if not fits:
            return False
    return True


def _order(text: str, fields: Mapping[str, Callable[[T], Any]], default: str) -> tuple[str, bool]:
    words = text.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise invalid(
            f'Received invalid sort by format "{text}". Supported format: "field_name", "field_name desc", or'
            ' "field_name asc"'
        )
    name = words[0] if words else default
    if name not in fields:
        raise invalid(f'Invalid sorting field: "{name}"')
    return name, len(words) == 2 and words[1] == "desc"


def _token(begin: int) -> str:
    return base64.b64encode(json.dumps({"Begin": begin}).encode()).decode()


def _begin(token: str) -> int:
    if not token:
        return 0
    try:
        return int(json.loads(base64.b64decode(token, validate=True))["Begin"])
    except (ValueError, KeyError, TypeError) as error:
        raise invalid("Invalid page token") from error
