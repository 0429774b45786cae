"""A real API server takes the CRDs, takes good objects, and refuses every kind of bad one; `slipway lint` agrees."""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.search import THOROUGH, law

from slipway.api import KINDS, KindInfo, kind_named
from slipway.api.crd import Schema, root_schema
from slipway.api.reference import example
from slipway.lint.linter import object_problems
from slipway.lint.schema import prepared

if TYPE_CHECKING:
    from .conftest import Api

UNIT = Path(__file__).parents[2] / "unit" / "api"
BY_KIND = [pytest.param(kind, id=kind.kind_name) for kind in KINDS]
ROWS = yaml.load((UNIT / "bad-input.yaml").read_text(), yaml.CSafeLoader)


@cache
def full(kind_name: str) -> list[dict[str, Any]]:
    """Objects that set every field; nobody changes them."""
    return list(yaml.load_all((UNIT / "full" / f"{kind_name.lower()}.yaml").read_text(), yaml.CSafeLoader))


def merged(base: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


def complaints(obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    """What `slipway lint` says about an object."""
    return [problem.message for problem in object_problems(obj, kind_named(obj["kind"]), old)]


# ---- good objects ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", BY_KIND)
def test_examples_are_taken_and_their_defaults_agree(api: Api, kind: KindInfo) -> None:
    """The server's defaults are the models' defaults and the linter's."""
    obj = yaml.safe_load(example(kind.kind_name))
    stored = api.create(obj, dryRun="All").ok()
    assert complaints(obj) == []
    parsed, wanted = kind.model_validate(stored), kind.model_validate(obj)
    assert parsed.spec.wire() == wanted.spec.wire()  # type: ignore[attr-defined]
    assert prepared(obj, root_schema(kind))["spec"] == stored["spec"]


@pytest.mark.parametrize("kind", BY_KIND)
def test_full_objects_are_taken_with_their_status(api: Api, kind: KindInfo) -> None:
    for obj in full(kind.kind_name):
        stored = api.create(obj).ok()
        try:
            assert complaints(obj) == []
            assert kind.model_validate(stored).spec == kind.model_validate(obj).spec  # type: ignore[attr-defined]
            assert "status" not in stored
            if "status" in obj:
                stored = api.replace(stored | {"status": obj["status"]}, "/status").ok()
                assert stored["status"] == obj["status"]
        finally:
            api.delete(obj).ok()


@pytest.mark.parametrize("kind", BY_KIND)
def test_null_is_as_good_as_nothing(api: Api, kind: KindInfo) -> None:
    schema = root_schema(kind)["properties"]["spec"]
    obj = yaml.safe_load(example(kind.kind_name))
    unset = {name for name in schema["properties"] if name not in obj["spec"]}
    obj["spec"] |= dict.fromkeys(unset)
    stored = api.create(obj, dryRun="All").ok()
    assert complaints(obj) == []
    assert prepared(obj, root_schema(kind))["spec"] == stored["spec"]


# ---- rules -----------------------------------------------------------------------------------------------------------
def name_of(row: dict[str, Any]) -> str:
    return f"{row['kind']}-{row.get('at', 'metadata.name')}-{row['rule'].split(':')[0][:40]}"


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_rules_refuse_with_their_sentence(api: Api, row: dict[str, Any]) -> None:
    base = full(row["kind"])[row.get("object", 0)]
    bad = merged(base, row["patch"])
    if row.get("update"):
        stored = api.create(base).ok()
        try:
            answer = api.replace(bad | {"metadata": stored["metadata"]}, dryRun="All")
        finally:
            api.delete(base).ok()
    else:
        answer = api.create(bad, dryRun="All")
    assert answer.code == 422
    assert row["rule"] in answer.message
    causes = [cause["message"] for cause in answer.body["details"]["causes"]]
    assert len(causes) == 1, causes
    said = complaints(bad, base if row.get("update") else None)
    assert len(said) == 1, said
    assert said[0].endswith(row["rule"])


@pytest.mark.parametrize("name", ["DatasetVersion", "ModelVersion"])
def test_the_deletion_policy_of_a_record_may_change(api: Api, name: str) -> None:
    base = full(name)[0]
    stored = api.create(base).ok()
    try:
        changed = merged(stored, {"spec": {"deletionPolicy": "Retain"}})
        assert api.replace(changed).ok()["spec"]["deletionPolicy"] == "Retain"
    finally:
        api.delete(base).ok()


# ---- bounds, patterns, enums, types ----------------------------------------------------------------------------------
Path_ = tuple[str | int, ...]


def mutations(value: Any, schema: Schema, path: Path_ = ()) -> Iterator[tuple[str, Path_, Any]]:
    """Bad values for every keyword of every node that an object sets: what is wrong, where, the value."""
    if "enum" in schema:
        yield "enum", path, "Nonsense" if schema["type"] == "string" else max(schema["enum"]) + 1
    for keyword, bad in _bounds(value, schema):
        yield keyword, path, bad
    if isinstance(value, dict) and "properties" in schema:
        yield "type", path, "text"
        yield "unknown", (*path, "nonsense"), 1
        for name in schema.get("required", ()):
            yield "required", (*path, name), ...
        for name, child in schema["properties"].items():
            if name in value:
                yield from mutations(value[name], child, (*path, name))
    elif isinstance(value, dict) and "additionalProperties" in schema:
        yield "type", path, "text"
        for name, item in value.items():
            yield from mutations(item, schema["additionalProperties"], (*path, name))
    elif isinstance(value, list):
        yield "type", path, "text"
        if schema["x-kubernetes-list-type"] != "atomic":
            yield "duplicate", path, [*value, value[0]]
        for index, item in enumerate(value):
            yield from mutations(item, schema["items"], (*path, index))


def _bounds(value: Any, schema: Schema) -> Iterator[tuple[str, Any]]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        yield from (("object", {}), ("object", {"a": 1}), ("list", []), ("list", [1]))
        yield "maxLength", "a" * (schema["maxLength"] + 1)
        return
    if "maxLength" in schema:
        yield "maxLength", "a" * (schema["maxLength"] + 1)
    if "pattern" in schema:
        yield "pattern", _no_match(schema)
    if schema.get("minLength"):
        yield "minLength", ""
    if schema.get("type") == "string":
        yield "type", 7
    if schema.get("type") == "boolean":
        yield "type", "yes"
    if schema.get("type") == "integer":
        yield "type", "7"
        yield "type", 1.5
    if "minimum" in schema:
        yield "minimum", schema["minimum"] - 1
    if "maximum" in schema:
        yield "maximum", schema["maximum"] + 1
    if schema.get("minItems"):
        yield "minItems", []
    if "maxItems" in schema:
        yield "maxItems", _many(value, schema)
    if "maxProperties" in schema:
        one = next(iter(value.values()))
        yield "maxProperties", {f"key{number}": one for number in range(schema["maxProperties"] + 1)}


def _no_match(schema: Schema) -> str:
    """A text that only the pattern forbids."""
    candidates = ("!", "sh a256:?!", "a b\n", "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4")
    return next(
        each
        for each in candidates
        if schema.get("minLength", 0) <= len(each) <= schema["maxLength"] and not re.search(schema["pattern"], each)
    )


def _many(value: list[Any], schema: Schema) -> list[Any]:
    """One item too many, each with its own key."""
    out = []
    for number in range(schema["maxItems"] + 1):
        item = copy.deepcopy(value[0])
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            if "enum" not in schema["items"]["properties"][key]:
                item[key] = f"a{number}"
        if isinstance(item, str) and "enum" not in schema["items"]:
            item = f"a{number}"
        out.append(item)
    return out


def mutated(obj: dict[str, Any], path: Path_, bad: Any) -> dict[str, Any]:
    """A copy of the object with the value at the path set, or removed where it is `...`."""
    out = copy.deepcopy(obj)
    target: Any = out
    for part in path[:-1]:
        target = target[part]
    if bad is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = bad
    return out


@law
@pytest.mark.parametrize("kind", BY_KIND)
def test_bad_values_are_refused_wherever_they_stand(api: Api, kind: KindInfo) -> None:
    """Every keyword at every node of every spec: the server refuses it and names the field, and so does the linter.

    A node that stands in several items of a list, or in several objects, is tried once. `make test` tries a third.
    """
    schema = root_schema(kind)["properties"]["spec"]
    tried: set[str] = set()
    nodes: set[tuple[Any, ...]] = set()
    wrong: list[str] = []
    for obj in full(kind.kind_name):
        for keyword, path, bad in mutations(obj["spec"], schema, ("spec",)):
            node = (keyword, type(bad), *("item" if isinstance(part, int) else part for part in path))
            if node in nodes or not (THOROUGH or zlib.crc32(repr(node).encode()) % 3 == 0 or keyword not in tried):
                continue
            nodes.add(node)
            broken = mutated(obj, path, bad)
            answer = api.create(broken, dryRun="All")
            field = next(part for part in reversed(path) if isinstance(part, str))
            if answer.code not in (400, 422) or field not in answer.message:
                wrong.append(f"server: {keyword} at {path}: {answer.code} {answer.message[:200]}")
            said = complaints(broken)
            if not any(field in each for each in said):
                wrong.append(f"linter: {keyword} at {path}: {said}")
            tried.add(keyword)
    assert wrong == []
    assert {"type", "required", "unknown", "pattern", "maxLength"} <= tried


@pytest.mark.parametrize("kind", BY_KIND)
def test_an_object_needs_a_spec(api: Api, kind: KindInfo) -> None:
    obj = yaml.safe_load(example(kind.kind_name))
    del obj["spec"]
    answer = api.create(obj, dryRun="All")
    assert answer.code == 422
    assert "spec: Required value" in answer.message
    assert [each.partition(":")[0] for each in complaints(obj)] == ["spec is missing"]


def test_every_kind_is_in_the_category(api: Api) -> None:
    found = api.request("GET", "/apis/slipway.dev/v1alpha1").ok()
    kinds = {each["kind"]: each for each in found["resources"] if "/" not in each["name"]}
    assert set(kinds) == {kind.kind_name for kind in KINDS}
    for kind in KINDS:
        assert kinds[kind.kind_name]["categories"] == ["mlops"]
        assert tuple(kinds[kind.kind_name].get("shortNames", ())) == kind.short_names
