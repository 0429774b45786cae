"""Arguments of templates: where texts refer to them, and texts with their values in place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from slipway.api.meta import ApiModel

M = TypeVar("M", bound=ApiModel)

_REFERENCE = re.compile(r"\{\{\s*args\.([A-Za-z0-9_-]+)\s*\}\}")


def names_in(model: ApiModel) -> set[str]:
    """Names of the arguments that any text of a model refers to."""
    return {name for text in _texts(model.wire()) for name in _REFERENCE.findall(text)}


def replaced(text: str, values: Mapping[str, str]) -> str:
    """The text with values in place of references. KeyError for one without a value."""
    return _REFERENCE.sub(lambda match: values[match[1]], text)


def filled(model: M, values: Mapping[str, str]) -> M:
    """The model with values in all of its texts.

    KeyError for a reference without a value; ValidationError where a text breaks a bound with its values.
    """
    wire = model.wire()
    if not any(_REFERENCE.search(text) for text in _texts(wire)):
        return model
    return type(model).model_validate(_filled(wire, values))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return replaced(value, values)
    if isinstance(value, dict):
        return {name: _filled(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    return value
