"""A toy controller through kopf, queue, plan and server-side apply, on a real API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slipway.runtime.client import Client
from slipway.runtime.conditions import find
from slipway.runtime.resources import (
    APPLIED_HASH,
    CONFIG_MAP,
    EVENT,
    FINALIZER,
    MANAGED_BY_LABEL,
    Object,
    uid_of,
)

pytestmark = pytest.mark.usefixtures("toy_crds")


def condition(obj: Object | None, kind: str = "Ready") -> dict[str, Any]:
    found = find(((obj or {}).get("status") or {}).get("conditions") or (), kind)
    return dict(found) if found else {}


async def make(client: Client, toy: Any, namespace: str, name: str, **spec: Any) -> Object:
    return await client.create(toy.type, toy.widget(namespace, name, **spec))


async def ready(client: Client, toy: Any, namespace: str, name: str) -> Object | None:
    found = await client.find(toy.type.key(name, namespace))
    current = found is not None and condition(found).get("observedGeneration") == found["metadata"]["generation"]
    return found if found and current and condition(found).get("status") == "True" else None


async def settled(operator: Any) -> None:
    """Wait until nothing is due, nothing runs, and the watches have delivered what the last writes caused."""
    quiet = 0
    while quiet < 10:
        await asyncio.sleep(0.05)
        busy = operator.engine is None or operator.engine.queue.depth() or operator.engine.queue.running()
        quiet = 0 if busy else quiet + 1


async def test_a_widget_becomes_a_config_map_with_marks_and_owner(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    before = await make(client, toy, namespace, "early", text="here first")
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "late", text="hello")

    widget = await eventually(lambda: ready(client, toy, namespace, "late"))
    child = await client.get(CONFIG_MAP.key("late", namespace))

    assert child["data"] == {"text": "hello"}
    assert child["metadata"]["labels"][MANAGED_BY_LABEL] == "slipway"
    assert child["metadata"]["labels"]["slipway.dev/widget"] == "late"
    assert APPLIED_HASH in child["metadata"]["annotations"]
    (owner,) = child["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Widget", uid_of(widget), True)
    assert {entry["manager"] for entry in child["metadata"]["managedFields"]} == {"slipway"}
    assert widget["metadata"]["finalizers"] == [FINALIZER]
    assert condition(widget)["reason"] == "Written"
    assert uid_of(await eventually(lambda: ready(client, toy, namespace, "early"))) == uid_of(before)


async def test_nothing_is_written_when_nothing_changes(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    operator = await start_operator([toy.controller()], lease_name="idle")
    for index in range(20):
        await make(client, toy, namespace, f"widget-{index}", text=str(index))
    for index in range(20):
        await eventually(lambda index=index: ready(client, toy, namespace, f"widget-{index}"))
    await settled(operator)

    before = without_lease(operator.metrics.write_requests())
    for item in operator.engine._items():
        operator.engine.queue.add(item)
    await settled(operator)

    assert without_lease(operator.metrics.write_requests()) == before
    # finalizer, ConfigMap, status twice (Writing, Written) and the Event of the transition: five writes a widget
    assert sum(before.values()) == 100


async def test_a_restart_writes_nothing(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    first = await start_operator([toy.controller()])
    await make(client, toy, namespace, "stays", text="same")
    await eventually(lambda: ready(client, toy, namespace, "stays"))
    await settled(first)
    first.stop()

    second_toy = toy.controller()
    second = await start_operator([second_toy])
    await eventually(lambda: second_toy.observed)
    await settled(second)

    assert without_lease(second.metrics.write_requests()) == {}


async def test_edits_by_hand_are_put_back_and_foreign_fields_stay(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "edited", text="right")
    await eventually(lambda: ready(client, toy, namespace, "edited"))
    key = CONFIG_MAP.key("edited", namespace)

    await client.merge(key, {"data": {"text": "wrong", "note": "by hand"}, "metadata": {"labels": {"theirs": "yes"}}})

    async def repaired() -> Object | None:
        found = await client.get(key)
        return found if found["data"]["text"] == "right" else None

    child = await eventually(repaired)
    widget = await client.get(toy.type.key("edited", namespace))

    async def told() -> list[str]:
        events = await client.list(EVENT, namespace)
        return [e["note"] for e in events if e["reason"] == "PutBack" and e["regarding"]["uid"] == uid_of(widget)]

    (note,) = await eventually(told)
    assert note == (f"{key} was changed by someone else (data.text) and is put back: change what it is made from.")
    assert child["data"]["note"] == "by hand"
    assert child["metadata"]["labels"]["theirs"] == "yes"


async def test_a_deleted_child_and_a_removed_label_come_back(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "child", text="x")
    await eventually(lambda: ready(client, toy, namespace, "child"))
    key = CONFIG_MAP.key("child", namespace)

    await client.delete(key)
    child = await eventually(lambda: client.find(key))
    await eventually(lambda: ready(client, toy, namespace, "child"))
    await client.merge(key, {"metadata": {"labels": {MANAGED_BY_LABEL: None}}})

    async def labelled() -> bool:
        return bool((await client.get(key))["metadata"]["labels"].get(MANAGED_BY_LABEL) == "slipway")

    await eventually(labelled)
    assert uid_of(await client.get(key)) == uid_of(child)


async def test_a_field_that_is_no_longer_set_is_removed(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "less", text="x", more=True)
    await eventually(lambda: ready(client, toy, namespace, "less"))
    key = CONFIG_MAP.key("less", namespace)
    assert (await client.get(key))["data"] == {"text": "x", "more": "yes"}

    await client.merge(toy.type.key("less", namespace), {"spec": {"more": None}})

    async def gone() -> bool:
        return "more" not in (await client.get(key))["data"]

    await eventually(gone)


async def test_an_object_of_that_name_that_is_not_ours_is_left_alone(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    meta = {"name": "taken", "namespace": namespace}
    await client.create(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mine": "1"}})
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "taken", text="x")
    key = toy.type.key("taken", namespace)

    async def refused() -> Object | None:
        found = await client.get(key)
        return found if condition(found).get("reason") == "NameTaken" else None

    widget = await eventually(refused)
    assert condition(widget)["message"] == (
        f"ConfigMap {namespace}/taken exists and was not made by Slipway; rename or delete it, or rename "
        f"Widget {namespace}/taken."
    )
    assert condition(widget, "Stalled")["status"] == "True"
    assert (await client.get(CONFIG_MAP.key("taken", namespace)))["data"] == {"mine": "1"}


async def test_a_users_error_is_a_condition_once_and_ends_with_the_next_spec(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    controller = toy.controller()
    operator = await start_operator([controller])
    await make(client, toy, namespace, "wrong", text="forbidden")
    key = toy.type.key("wrong", namespace)

    async def stalled() -> Object | None:
        found = await client.get(key)
        return found if condition(found, "Stalled").get("status") == "True" else None

    widget = await eventually(stalled)
    assert condition(widget)["message"] == "spec.text: must not be `forbidden`; choose another text."
    await settled(operator)
    tries = len(controller.observed)
    await settled(operator)
    assert len(controller.observed) == tries  # not tried again
    events = [each for each in await client.list(EVENT, namespace) if each["regarding"]["name"] == "wrong"]
    assert [(each["type"], each["reason"]) for each in events] == [("Warning", "BadText")]

    await client.merge(key, {"spec": {"text": "fine"}})
    widget = await eventually(lambda: ready(client, toy, namespace, "wrong"))
    assert condition(widget, "Stalled") == {}


async def test_a_missing_dependency_wakes_its_dependents_when_it_appears(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "waits", sourceRef="later")
    key = toy.type.key("waits", namespace)

    async def told() -> bool:
        return condition(await client.get(key)).get("reason") == "SourceMissing"

    await eventually(told)
    await client.create(toy.source, toy.source_object(namespace, "later", "at last"))
    await eventually(lambda: ready(client, toy, namespace, "waits"))
    assert (await client.get(CONFIG_MAP.key("waits", namespace)))["data"]["text"] == "at last"


async def test_a_finalizer_is_kept_until_the_cleanup_is_done(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    await start_operator([toy.controller()])
    await make(client, toy, namespace, "goes", text="x")
    await eventually(lambda: ready(client, toy, namespace, "goes"))

    await client.delete(toy.type.key("goes", namespace))

    async def gone() -> bool:
        return await client.find(toy.type.key("goes", namespace)) is None

    await eventually(gone)
    assert await client.find(CONFIG_MAP.key("goes", namespace)) is None


async def test_a_status_write_that_lost_the_race_is_repeated_with_the_newer_object(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    edited: list[str] = []

    async def edit_once(key: Any) -> None:
        if not edited:
            edited.append(key.name)
            await client.merge(key, {"spec": {"text": "second"}})

    await start_operator([toy.controller(before_plan=edit_once)])
    await make(client, toy, namespace, "race", text="first")

    widget = await eventually(lambda: ready(client, toy, namespace, "race"))
    assert condition(widget)["message"] == "The text is second."


async def test_a_defect_is_a_condition_and_the_others_go_on(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, caplog: Any
) -> None:
    async def stumble(key: Any) -> None:
        if key.name == "broken":
            raise ZeroDivisionError("a defect")

    await start_operator([toy.controller(before_plan=stumble)])
    await make(client, toy, namespace, "broken", text="x")
    await make(client, toy, namespace, "sound", text="x")
    await eventually(lambda: ready(client, toy, namespace, "sound"))

    async def told() -> bool:
        return condition(await client.get(toy.type.key("broken", namespace))).get("reason") == "InternalError"

    await eventually(told)
    assert "ZeroDivisionError: a defect" in caplog.text
    assert "ZeroDivisionError" not in str(await client.get(toy.type.key("broken", namespace)))


def without_lease(writes: dict[tuple[str, str, str], float]) -> dict[tuple[str, str, str], float]:
    return {what: count for what, count in writes.items() if not what[1].startswith("leases")}
