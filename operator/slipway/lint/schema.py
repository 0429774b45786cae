"""One object against its kind's schema, as the API server checks it, with sentences that say what to change."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from slipway.api import KindInfo
from slipway.api.crd import Schema, root_schema
from slipway.lint.findings import FieldPath, Problem, did_you_mean, dotted


def prepared(value: Any, schema: Schema) -> Any:
    """The value as the API server sees it: nulls are unset, defaults are filled in. A copy."""
    if isinstance(value, dict):
        out = {
            name: prepared(item, _child(schema, name))
            for name, item in value.items()
            if item is not None or not (_child(schema, name))
        }
        for name, child in schema.get("properties", {}).items():
            if name not in out and "default" in child:
                out[name] = prepared(copy.deepcopy(child["default"]), child)
        return out
    if isinstance(value, list):
        return [prepared(item, schema.get("items", {})) for item in value]
    return value


def _child(schema: Schema, name: str) -> Schema:
    found: Schema = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
    return found


def schema_problems(obj: dict[str, Any], kind: KindInfo) -> Iterator[Problem]:
    """Everything that the schema says about a prepared object."""
    schema = root_schema(kind)
    yield from _unknown_fields(obj, schema, ())
    yield from _duplicates(obj, schema, ())
    for error in sorted(_validator(kind).iter_errors(obj), key=lambda each: [str(part) for part in each.absolute_path]):
        yield _problem(error)


# ---- what JSON schema does not know --------------------------------------------------------------------------------
def _unknown_fields(value: Any, schema: Schema, path: FieldPath) -> Iterator[Problem]:
    if isinstance(value, dict) and "properties" in schema:
        for name, item in value.items():
            here = (*path, name)
            if name in schema["properties"]:
                yield from _unknown_fields(item, schema["properties"][name], here)
            else:
                hint = did_you_mean(name, schema["properties"]) or _known(schema)
                yield Problem(here, "unknown-field", f"{dotted(here)} is no field of {_owner(path)}{hint}", key=True)
    elif isinstance(value, dict) and "additionalProperties" in schema:
        for name, item in value.items():
            yield from _unknown_fields(item, schema["additionalProperties"], (*path, name))
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _unknown_fields(item, schema["items"], (*path, index))


def _owner(path: FieldPath) -> str:
    return dotted(path) or "the object"


def _known(schema: Schema) -> str:
    return f": there are {', '.join(schema['properties'])}"


def _duplicates(value: Any, schema: Schema, path: FieldPath) -> Iterator[Problem]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _duplicates(item, _child(schema, name), (*path, name))
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys")
        is_set = schema.get("x-kubernetes-list-type") == "set"
        seen: set[str] = set()
        for index, item in enumerate(value):
            here = (*path, index)
            yield from _duplicates(item, schema.get("items", {}), here)
            if not is_set and not (keys and isinstance(item, dict)):
                continue
            identity = json.dumps(item if is_set else [item.get(key) for key in keys or ()], sort_keys=True)
            if identity in seen:
                what = _shown(item) if is_set else " and ".join(f"{key} {_shown(item.get(key))}" for key in keys or ())
                yield Problem(here, "duplicate", f"{dotted(path)} has {what} twice: remove or rename one")
            seen.add(identity)


# ---- what it knows ---------------------------------------------------------------------------------------------------
def _pattern(_: Any, pattern: str, value: Any, __: Schema) -> Iterator[ValidationError]:
    """Go's reading of a pattern: ASCII classes, and `$` is the end of the text."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern})


@cache
def _validator(kind: KindInfo) -> Any:
    return _Validator(_json_schema(root_schema(kind)))


def _json_schema(schema: Schema) -> Schema:
    """The structural schema in JSON schema's words."""
    out = {key: value for key, value in schema.items() if not key.startswith("x-") and key not in ("format", "default")}
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        # The type says what the structural schema has to say by bounds that nothing meets.
        out = {"type": ["string", "boolean", "number"], "maxLength": schema["maxLength"]}
    if "properties" in out:
        out["properties"] = {name: _json_schema(child) for name, child in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = _json_schema(out[key])
    return out


def _problem(error: Any) -> Problem:
    path: FieldPath = tuple(error.absolute_path)
    if error.validator == "required":
        (name,) = (each for each in error.validator_value if f"'{each}' is a required property" == error.message)
        here = (*path, name)
        description = _child(error.schema, name).get("description", "")
        return Problem(here, "required", f"{dotted(here)} is missing: {description}".rstrip(": "))
    describe = _SENTENCES.get(str(error.validator))
    sentence = describe(error) if describe else error.message
    return Problem(path, str(error.validator), f"{dotted(path) or 'the object'} {sentence}")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _type_sentence(error: Any) -> str:
    wanted = error.validator_value
    names = " or ".join(wanted) if isinstance(wanted, list) else wanted
    article = "an" if names[0] in "aeiou" else "a"
    quotes = ": write it in quotes" if wanted == "string" and isinstance(error.instance, int | float | bool) else ""
    return f"must be {article} {names}, not {_shown(error.instance)}{quotes}"


def _enum_sentence(error: Any) -> str:
    known = [str(value) for value in error.validator_value]
    return f"must be one of {', '.join(known)}, not {_shown(error.instance)}{did_you_mean(str(error.instance), known)}"


def _length(unit: str, word: str) -> Callable[[Any], str]:
    return lambda error: f"has {len(error.instance)} {unit}; {word} {error.validator_value} are allowed"


_SENTENCES: dict[str, Callable[[Any], str]] = {
    "type": _type_sentence,
    "enum": _enum_sentence,
    "pattern": lambda error: f"is {_shown(error.instance)}, which does not match {error.validator_value}",
    "minimum": lambda error: f"is {error.instance}; it must be at least {error.validator_value}",
    "maximum": lambda error: f"is {error.instance}; it must be at most {error.validator_value}",
    "minLength": _length("characters", "at least"),
    "maxLength": _length("characters", "at most"),
    "minItems": _length("items", "at least"),
    "maxItems": _length("items", "at most"),
    "minProperties": _length("entries", "at least"),
    "maxProperties": _length("entries", "at most"),
}
