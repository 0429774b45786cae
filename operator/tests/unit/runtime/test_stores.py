"""Stores: order of arrival does not matter, memory stays small."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.runtime.resources import CONFIG_MAP, JOB, WORKFLOW, Object
from slipway.runtime.stores import Store, Stores, trim


def obj(name: str = "a", uid: str = "u1", version: int = 1, **meta: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version), **meta}}


KEY = CONFIG_MAP.key("a", "n")


@given(order=st.permutations([1, 2, 3, 4, 5]))
def test_the_newest_version_wins_in_whatever_order_they_arrive(order: list[int]) -> None:
    store = Store(CONFIG_MAP)
    for version in order:
        store.put(obj(version=version))
    assert store.get(KEY) == obj(version=5)


def test_a_late_answer_does_not_bring_a_deleted_object_back() -> None:
    store = Store(CONFIG_MAP)
    store.put(obj(version=1))
    store.remove(obj(version=7))
    assert not store.put(obj(version=5))
    assert store.get(KEY) is None


def test_an_object_that_gets_its_label_back_returns() -> None:
    store = Store(CONFIG_MAP)
    store.put(obj(version=1))
    store.remove(obj(version=3))
    assert store.put(obj(version=4))


def test_a_successor_of_the_same_name_survives_the_news_of_its_predecessors_end() -> None:
    store = Store(CONFIG_MAP)
    store.put(obj(uid="old", version=1))
    store.put(obj(uid="new", version=9))
    assert not store.remove(obj(uid="old", version=8))
    assert not store.put(obj(uid="old", version=5))
    assert store.get(KEY) == obj(uid="new", version=9)


def test_indices_follow_changes_of_owner_and_label() -> None:
    store = Store(CONFIG_MAP)
    store.put(obj(version=1, ownerReferences=[{"uid": "x"}], labels={"team": "a"}))
    store.put(obj("b", "u2", version=2, ownerReferences=[{"uid": "x"}], labels={"team": "b"}))
    assert [each["metadata"]["name"] for each in store.owned_by("x")] == ["a", "b"]
    store.put(obj(version=3, ownerReferences=[{"uid": "y"}], labels={"team": "b"}))
    assert [each["metadata"]["name"] for each in store.owned_by("x")] == ["b"]
    assert [each["metadata"]["name"] for each in store.list("n", {"team": "b"})] == ["a", "b"]
    assert store.list("elsewhere") == []
    store.remove(obj(version=4))
    store.remove(obj("b", "u2", version=5))
    assert (len(store), store.owned_by("x"), store.owned_by("y"), store.list()) == (0, [], [], [])


def test_what_nobody_reads_is_not_kept() -> None:
    heavy = obj(managedFields=[1], annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}", "k": "v"})
    assert trim(heavy)["metadata"]["annotations"] == {"k": "v"}
    assert "managedFields" not in trim(heavy)["metadata"]
    assert "managedFields" in heavy["metadata"]


def test_an_unwatched_type_is_a_sentence() -> None:
    with pytest.raises(KeyError, match=r"jobs\.batch is not watched"):
        Stores([CONFIG_MAP]).list(JOB)


PATH = ("spec", "path")
"""A field that objects are asked by."""


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "remove"]), st.sampled_from([None, "x", "y"])),
        max_size=40,
    ),
    asked_after=st.integers(0, 40),
)
def test_an_index_by_field_finds_what_a_search_would(
    steps: list[tuple[str, str, str | None]], asked_after: int
) -> None:
    store = Store(CONFIG_MAP)
    for number, (name, step, value) in enumerate(steps, 1):
        if number == asked_after:
            store.where({PATH: "x"})  # from here on the index is kept up to date
        if step == "put":
            store.put({**obj(name, uid=f"u{name}", version=number), "spec": {} if value is None else {"path": value}})
        else:
            store.remove(obj(name, uid=f"u{name}", version=number))
    for value in ("x", "y"):
        searched = [each for each in store.list() if each["spec"].get("path") == value]
        assert store.where({PATH: value}) == searched
        assert store.where({PATH: value}, "n") == searched
        assert store.where({PATH: value}, "elsewhere") == []


def test_several_fields_must_all_have_their_values() -> None:
    store = Store(CONFIG_MAP)
    store.put({**obj("a", "u1", 1, labels={"team": "a"}), "spec": {"path": "x"}})
    store.put({**obj("b", "u2", 2, labels={"team": "b"}), "spec": {"path": "x"}})
    found = store.where({PATH: "x", ("metadata", "labels", "team"): "b"})
    assert [each["metadata"]["name"] for each in found] == ["b"]
    assert [each["metadata"]["name"] for each in store.list("n", {"team": "a"})] == ["a"]
    assert store.list("n", {"team": "c"}) == []


def test_of_a_large_type_only_what_wakes_is_kept() -> None:
    store = Store(WORKFLOW)
    meta = {"name": "w", "namespace": "a", "uid": "1", "resourceVersion": "1", "labels": {"pipeline/runid": "r"}}
    status = {"phase": "Running", "nodes": {"n": {"message": "much"}}}
    store.put(
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": meta, "spec": {}, "status": status}
    )
    (kept,) = store.list("a", {"pipeline/runid": "r"})
    assert kept["status"] == {"phase": "Running"}
    assert "spec" not in kept
