"""The client's verbs and errors against a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.errors import (
    AlreadyExists,
    Conflict,
    Fenced,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
    UserError,
)
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import CONFIG_MAP, JOB, SERVICE_ACCOUNT, Object, ResourceType

UNSERVED = ResourceType("nobody.example.com", "v1", "Unserved", "unserved")


def config_map(namespace: str, name: str = "a", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


async def test_create_get_list_delete(client: Client, namespace: str) -> None:
    key = CONFIG_MAP.key("a", namespace)
    created = await client.create(CONFIG_MAP, config_map(namespace, one="1"))
    assert (await client.get(key))["metadata"]["uid"] == created["metadata"]["uid"]
    (listed,) = await client.list(CONFIG_MAP, namespace)
    assert (listed["kind"], listed["apiVersion"], listed["data"]) == ("ConfigMap", "v1", {"one": "1"})
    (metadata,) = await client.list(CONFIG_MAP, namespace, metadata_only=True)
    assert "data" not in metadata
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAP, config_map(namespace))
    assert await client.delete(key)
    assert not await client.delete(key)
    assert await client.find(key) is None
    with pytest.raises(NotFound):
        await client.get(key)


async def test_long_lists_come_in_pages(client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.runtime.client.PAGE", 2)
    for index in range(5):
        await client.create(CONFIG_MAP, config_map(namespace, f"name-{index}"))
    assert [each["metadata"]["name"] for each in await client.list(CONFIG_MAP, namespace)] == [
        f"name-{index}" for index in range(5)
    ]


async def test_selectors(client: Client, namespace: str) -> None:
    marked = config_map(namespace, "marked")
    marked["metadata"]["labels"] = {"team": "a"}
    await client.create(CONFIG_MAP, marked)
    await client.create(CONFIG_MAP, config_map(namespace, "plain"))
    by_label = await client.list(CONFIG_MAP, namespace, label_selector="team=a")
    by_name = await client.list(CONFIG_MAP, namespace, field_selector="metadata.name=plain")
    assert [each["metadata"]["name"] for each in (*by_label, *by_name)] == ["marked", "plain"]


async def test_apply_owns_its_fields_and_leaves_others(client: Client, namespace: str) -> None:
    key = CONFIG_MAP.key("a", namespace)
    await client.apply(CONFIG_MAP, config_map(namespace, ours="1", gone="soon"))
    await client.merge(key, {"data": {"theirs": "1"}})
    await client.apply(CONFIG_MAP, config_map(namespace, ours="2"))
    assert (await client.get(key))["data"] == {"ours": "2", "theirs": "1"}


async def test_an_unchanged_apply_leaves_the_resource_version(client: Client, namespace: str) -> None:
    first = await client.apply(CONFIG_MAP, config_map(namespace, one="1"))
    second = await client.apply(CONFIG_MAP, config_map(namespace, one="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_apply_without_force_says_who_owns_the_field(
    client: Client, namespace: str, connection: Connection, metrics: Metrics
) -> None:
    other = Client(await connection.api(), metrics, field_manager="other")
    await other.apply(CONFIG_MAP, config_map(namespace, one="1"))
    with pytest.raises(Conflict, match='conflict with "other"'):
        await client.apply(CONFIG_MAP, config_map(namespace, one="2"), force=False)
    await other.close()


async def test_deletion_spares_a_successor(client: Client, namespace: str) -> None:
    key = CONFIG_MAP.key("a", namespace)
    first = await client.create(CONFIG_MAP, config_map(namespace))
    await client.delete(key)
    await client.create(CONFIG_MAP, config_map(namespace))
    assert not await client.delete(key, uid=first["metadata"]["uid"])
    with pytest.raises(Conflict):
        await client.delete(key, resource_version=first["metadata"]["resourceVersion"])
    assert await client.find(key) is not None


@pytest.mark.usefixtures("toy_crds")
async def test_a_status_is_written_only_on_the_version_that_was_read(client: Client, namespace: str, toy: Any) -> None:
    read = await client.create(toy.type, toy.widget(namespace, "a", text="x"))
    await client.merge(toy.type.key("a", namespace), {"spec": {"text": "y"}})
    with pytest.raises(Conflict):
        await client.replace_status(read, toy.type, {"phase": "old"})
    current = await client.get(toy.type.key("a", namespace))
    written = await client.replace_status(current, toy.type, {"phase": "new"})
    assert (written["status"], written["spec"]) == ({"phase": "new"}, {"text": "y"})


@pytest.mark.usefixtures("toy_crds")
async def test_a_status_write_from_a_trimmed_object_keeps_everything_else(
    client: Client, namespace: str, toy: Any
) -> None:
    widget = toy.widget(namespace, "a", text="x")
    widget["metadata"]["finalizers"] = ["example.org/keep"]
    widget["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "1"}
    created = await client.create(toy.type, widget)
    trimmed = {**created, "metadata": {**created["metadata"], "managedFields": None, "annotations": {"note": "1"}}}
    written = await client.replace_status(trimmed, toy.type, {"phase": "new"})
    assert written["metadata"]["annotations"] == widget["metadata"]["annotations"]
    assert written["metadata"]["finalizers"] == ["example.org/keep"]
    assert len(written["metadata"]["managedFields"]) == 2


async def test_invalid_objects_and_missing_permissions(
    client: Client, namespace: str, control_plane: Any, metrics: Metrics
) -> None:
    with pytest.raises(Invalid, match=r"spec\.template"):
        await client.create(
            JOB, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": namespace}}
        )
    nobody = Client(await Connection(str(control_plane.kubeconfig(user="nobody"))).api(), metrics)
    with pytest.raises(Forbidden, match='User "nobody" cannot list resource "serviceaccounts"'):
        await nobody.list(SERVICE_ACCOUNT, namespace)
    await nobody.close()


async def test_a_type_that_is_not_served_is_not_found(client: Client, namespace: str) -> None:
    with pytest.raises(NotFound):
        await client.list(UNSERVED, namespace)
    assert await client.find(UNSERVED.key("a", namespace)) is None


async def test_requests_are_counted_by_verb_resource_and_code(
    connection: Connection, metrics: Metrics, namespace: str
) -> None:
    client = Client(await connection.api(), metrics)
    await client.apply(CONFIG_MAP, config_map(namespace))
    await client.find(CONFIG_MAP.key("none", namespace))
    await client.list(CONFIG_MAP, namespace)
    await client.close()
    assert metrics.write_requests() == {("apply", "configmaps", "201"): 1.0}
    assert (
        metrics.registry.get_sample_value(
            "slipway_api_requests_total", {"verb": "get", "resource": "configmaps", "code": "404"}
        )
        == 1.0
    )


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Any, kubeconfig: Any, metrics: Metrics) -> None:
    elsewhere = tmp_path / "kubeconfig"
    text = kubeconfig.read_text()
    start = text.index("https://127.0.0.1:")
    elsewhere.write_text(text[:start] + "https://127.0.0.1:1" + text[text.index('"', start) :])
    client = Client(await Connection(str(elsewhere)).api(), metrics)
    with pytest.raises(Unavailable, match="did not answer list configmaps"):
        await client.list(CONFIG_MAP)
    await client.close()
    assert (
        metrics.registry.get_sample_value(
            "slipway_api_requests_total", {"verb": "list", "resource": "configmaps", "code": "0"}
        )
        == 1.0
    )


class Closed:
    def remaining(self) -> float:
        return 0.0


async def test_behind_a_closed_fence_reads_pass_and_no_write_is_sent(
    connection: Connection, metrics: Metrics, namespace: str
) -> None:
    client = Client(await connection.api(), metrics)
    fenced = client.fenced(Closed())
    assert await fenced.list(CONFIG_MAP, namespace) == []
    key = CONFIG_MAP.key("a", namespace)
    manifest = config_map(namespace)
    for write in (
        fenced.apply(CONFIG_MAP, manifest),
        fenced.create(CONFIG_MAP, manifest),
        fenced.replace(CONFIG_MAP, manifest),
        fenced.merge(key, {}),
        fenced.replace_status(manifest, CONFIG_MAP, {}),
        fenced.delete(key),
    ):
        with pytest.raises(Fenced):
            await write
    await client.close()
    assert metrics.write_requests() == {}


async def test_a_kubeconfig_that_cannot_be_read_is_a_sentence(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="Cannot log in with"):
        await Connection(str(tmp_path / "none")).api()
