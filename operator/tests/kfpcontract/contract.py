"""From JSON to instances of the published models and back, as strict as the API server's protobuf JSON is.

Fields that are not set are left out, as are zero values of scalars: the API server does not emit unpopulated fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kfp_server_api import models

_OF = re.compile(r"^(?:list\[(?P<item>.+)\]|dict\(str, (?P<value>.+)\))$")
_TIME = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$")


class Unfit(Exception):
    """A value that does not fit the published model; the message is for whoever sent it."""


class ContractBroken(AssertionError):
    """This server was about to answer what the published models do not allow: its own fault."""


class Contract:
    """The published models, as one release of the API server knows them.

    :param lacks: fields that this release does not know, as `Model.field`
    """

    def __init__(self, lacks: frozenset[str] = frozenset()) -> None:
        self._lacks = lacks

    def decode(self, data: Any, kind: str) -> Any:
        """A value of a published type (`V2beta1Run`, `list[str]`, `dict(str, object)`…). :raises Unfit:"""
        return self._decode(data, kind, "")

    def encode(self, value: Any, kind: str) -> Any:
        """JSON of a value of a published type. :raises ContractBroken: it is none"""
        found = self._encode(value, kind, kind)
        return {} if found is None else found

    # Reading

    def _decode(self, data: Any, kind: str, where: str) -> Any:
        if data is None:
            return None
        container = _OF.match(kind)
        if container and container["item"]:
            items = _of_type(data, list, kind, where)
            return [self._decode(item, container["item"], f"{where}[{number}]") for number, item in enumerate(items)]
        if container:
            entries = _of_type(data, dict, kind, where)
            return {name: self._decode(each, container["value"], f"{where}.{name}") for name, each in entries.items()}
        if kind in _SCALARS:
            return _SCALARS[kind](data, where)
        model = getattr(models, kind)
        return _enum(data, model, where) if _is_enum(model) else self._model(data, model, where)

    def _model(self, data: Any, model: Any, where: str) -> Any:
        fields = _of_type(data, dict, model.__name__, where)
        names = {alias: name for name, key in model.attribute_map.items() for alias in (key, _camel(key))}
        given: dict[str, Any] = {}
        for key, value in fields.items():
            attribute = names.get(key)
            if attribute is None or self._unknown(model, attribute):
                raise Unfit(f'unknown field "{key}"{_at(where)}')
            if attribute in given:
                raise Unfit(f'duplicate field "{key}"{_at(where)}')
            given[attribute] = self._decode(value, model.openapi_types[attribute], f"{where}.{key}")
        return model(**given)

    def _unknown(self, model: Any, attribute: str) -> bool:
        return f"{model.__name__}.{attribute}" in self._lacks

    # Writing

    def _encode(self, value: Any, kind: str, where: str) -> Any:
        if value is None or kind == "object":
            return value
        container = _OF.match(kind)
        if container and container["item"]:
            return [self._encode(item, container["item"], f"{where}[]") for item in value]
        if container:
            return {
                str(name): self._encode(each, container["value"], f"{where}.{name}") for name, each in value.items()
            }
        if kind == "datetime":
            _promise(isinstance(value, datetime), where, value)
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if kind in _WRITTEN:
            _promise(type(value) is _WRITTEN[kind], where, value)
            return value
        model = getattr(models, kind)
        if _is_enum(model):
            _promise(value in model.allowable_values, where, value)
            return value
        _promise(isinstance(value, model), where, value)
        return self._written(value, model, where)

    def _written(self, value: Any, model: Any, where: str) -> dict[str, Any]:
        found = {}
        for attribute, kind in model.openapi_types.items():
            item = self._encode(getattr(value, attribute), kind, f"{where}.{attribute}")
            if item is not None and not _unpopulated(item, kind) and not self._unknown(model, attribute):
                found[model.attribute_map[attribute]] = item
        return found


def _enum(data: Any, model: Any, where: str) -> str:
    allowed: list[str] = model.allowable_values
    if isinstance(data, bool) or not isinstance(data, str | int):
        raise Unfit(f"invalid value for enum field{_at(where)}: {data!r}")
    if isinstance(data, int):
        if not 0 <= data < len(allowed):
            raise Unfit(f"invalid value for enum field{_at(where)}: {data!r}")
        return allowed[data]
    if data not in allowed:
        raise Unfit(f"invalid value for enum field{_at(where)}: {data!r}")
    return data


def _text(data: Any, where: str) -> str:
    return str(_of_type(data, str, "string", where))


def _number(data: Any, where: str) -> int:
    """Protobuf JSON reads numbers from texts, too."""
    if isinstance(data, bool) or not isinstance(data, int | str) or not re.fullmatch(r"-?\d+", str(data)):
        raise Unfit(f"invalid value for int field{_at(where)}: {data!r}")
    return int(data)


def _float(data: Any, where: str) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise Unfit(f"invalid value for float field{_at(where)}: {data!r}")
    return float(data)


def _boolean(data: Any, where: str) -> bool:
    return bool(_of_type(data, bool, "bool", where))


def _time(data: Any, where: str) -> datetime:
    if not isinstance(data, str) or not _TIME.match(data):
        raise Unfit(f"invalid google.protobuf.Timestamp value{_at(where)}: {data!r}")
    return datetime.fromisoformat(data)


_SCALARS: Mapping[str, Any] = {
    "str": _text,
    "int": _number,
    "float": _float,
    "bool": _boolean,
    "datetime": _time,
    "object": lambda data, _: data,
}


def _of_type(data: Any, wanted: type, name: str, where: str) -> Any:
    if not isinstance(data, wanted):
        raise Unfit(f"invalid value for {name} field{_at(where)}: {data!r}")
    return data


def _at(where: str) -> str:
    return f" {where.removeprefix('.')}" if where else ""


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _is_enum(model: Any) -> bool:
    return not model.openapi_types and hasattr(model, "allowable_values")


def _unpopulated(item: Any, kind: str) -> bool:
    """Whether a field has its zero value, which is not written; messages and structs are, once they are set."""
    if kind == "object":
        return False
    if _OF.match(kind):
        return not item
    if kind in _WRITTEN:
        return item in ("", 0, False)
    model = getattr(models, kind, None)
    return model is not None and _is_enum(model) and item == model.allowable_values[0]


_WRITTEN: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def _promise(true: bool, where: str, value: Any) -> None:
    if not true:
        raise ContractBroken(f"{where} cannot be {value!r}")
