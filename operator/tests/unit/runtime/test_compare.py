"""Subset comparison and the applied hash: when is a write needed?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.runtime import compare
from slipway.runtime.resources import APPLIED_HASH, CONFIG_MAP, Object

JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=12,
)
MAPS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


def with_additions(value: Any, data: st.DataObject) -> Any:
    """The value as a server might return it: further fields in every map, lists of the same length."""
    if isinstance(value, dict):
        extra = data.draw(st.dictionaries(st.text("xyz", min_size=4, max_size=5), JSON, max_size=2))
        return {**extra, **{name: with_additions(each, data) for name, each in value.items()}}
    if isinstance(value, list):
        return [with_additions(each, data) for each in value]
    return value


@given(value=MAPS, data=st.data())
def test_defaults_that_a_server_adds_need_no_write(value: dict[str, Any], data: st.DataObject) -> None:
    assert compare.covers(with_additions(value, data), value)


@given(value=MAPS, data=st.data())
def test_a_changed_scalar_is_found_wherever_it_is(value: dict[str, Any], data: st.DataObject) -> None:
    paths = list(scalar_paths(value))
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    live = copy.deepcopy(value)
    holder: Any = live
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = "certainly something else"
    assert not compare.covers(live, value)


def scalar_paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield path
    for step, each in items:
        yield from scalar_paths(each, (*path, step))


@pytest.mark.parametrize(
    ("live", "desired", "expected"),
    [
        ({}, {"labels": {}}, True),
        ({}, {"labels": None, "args": []}, True),
        ({"a": None}, {"a": {}}, True),
        ({}, {"a": False}, False),
        ({}, {"a": 0}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1.0}, {"a": 1}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": [2, 1]}, {"a": [1, 2]}, False),
        ({"a": [{"name": "x", "extra": 1}]}, {"a": [{"name": "x"}]}, True),
        ({"a": "text"}, {"a": {"b": 1}}, False),
        ({"a": {"b": 1}}, {"a": ["b"]}, False),
    ],
)
def test_cases(live: Object, desired: Object, expected: bool) -> None:
    assert compare.covers(live, desired) is expected


def test_a_route_with_a_backend_that_somebody_added_is_not_ours_any_more() -> None:
    desired = {"spec": {"rules": [{"backendRefs": [{"name": "v1", "weight": 100}]}]}}
    live = {"spec": {"rules": [{"backendRefs": [{"name": "v1", "weight": 100}, {"name": "theirs", "weight": 100}]}]}}
    assert not compare.covers(live, desired)


def test_others_may_add_owners_and_finalizers() -> None:
    desired = {"metadata": {"ownerReferences": [{"uid": "1"}], "finalizers": ["a"]}}
    live = {"metadata": {"ownerReferences": [{"uid": "2"}, {"uid": "1"}], "finalizers": ["b", "a"]}}
    assert compare.covers(live, desired)
    assert not compare.covers({"metadata": {"ownerReferences": [{"uid": "2"}], "finalizers": ["a"]}}, desired)


def manifest(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": data}


def test_the_hash_finds_fields_that_are_no_longer_set() -> None:
    live = compare.with_hash(manifest(one="1", two="2"))
    assert compare.is_applied(live, compare.with_hash(manifest(one="1", two="2")))
    assert not compare.is_applied(live, compare.with_hash(manifest(one="1")))


def test_the_hash_keeps_other_annotations_and_leaves_its_input_alone() -> None:
    given_ = manifest(one="1")
    given_["metadata"]["annotations"] = {"keep": "me"}
    before = copy.deepcopy(given_)
    dressed = compare.with_hash(given_)
    assert dressed["metadata"]["annotations"]["keep"] == "me"
    assert len(dressed["metadata"]["annotations"][APPLIED_HASH]) == 16
    assert given_ == before


def test_a_value_that_the_server_rewrites_is_applied_once_until_something_changes() -> None:
    futile, key = compare.Futile(), CONFIG_MAP.key("a", "n")
    desired = compare.with_hash(manifest(cpu="1000m"))
    result = {**compare.with_hash(manifest(cpu="1000m")), "data": {"cpu": "1"}}
    result["metadata"] = {**desired["metadata"], "resourceVersion": "5"}
    assert futile.remember(key, desired, result)
    newer = {**result, "status": {"phase": "x"}, "metadata": {**result["metadata"], "resourceVersion": "6"}}
    assert futile(key, desired, newer)  # a new status is no edit
    assert not futile(key, desired, {**newer, "data": {"cpu": "2"}})  # an edit is
    assert not futile(key, compare.with_hash(manifest(cpu="2000m")), newer)  # so is a new wish


def test_an_apply_that_worked_is_not_remembered() -> None:
    futile, key = compare.Futile(), CONFIG_MAP.key("a", "n")
    desired = compare.with_hash(manifest(cpu="1"))
    assert not futile.remember(key, desired, desired)
    assert not futile(key, desired, desired)


def test_only_so_many_are_remembered() -> None:
    futile = compare.Futile(size=2)
    desired = compare.with_hash(manifest(cpu="1000m"))
    result = {**desired, "data": {"cpu": "1"}}
    keys = [CONFIG_MAP.key(name, "n") for name in ("a", "b", "c")]
    for key in keys:
        futile.remember(key, desired, result)
    assert [futile(key, desired, result) for key in keys] == [False, True, True]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data": {"text": "other"}}, "data.text"),
        ({"data": None}, "data"),
        ({"data": {"text": "right", "list": [1]}}, "data.list"),
        ({"data": {"text": "right", "list": [1, 2], "more": "theirs"}}, ""),
    ],
)
def test_an_edit_of_what_was_applied_is_told_by_its_field(change: dict[str, Any], field: str) -> None:
    desired = compare.with_hash({"metadata": {"name": "a"}, "data": {"text": "right", "list": [1, 2]}})
    live = copy.deepcopy(desired) | change
    assert compare.first_difference(live, desired) == field
    assert compare.is_edited(live, desired) == bool(field)


def test_what_was_never_applied_like_this_is_no_edit() -> None:
    desired = compare.with_hash({"metadata": {"name": "a"}, "data": {"text": "new"}})
    before = compare.with_hash({"metadata": {"name": "a"}, "data": {"text": "old"}})
    assert not compare.is_edited(before, desired)
    assert not compare.is_edited({"metadata": {"name": "a"}, "data": {"text": "old"}}, desired)
