"""The permissions that the runtime itself needs, and no more: the operator works with exactly these."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.runtime.client import Client
from slipway.runtime.conditions import is_true
from slipway.runtime.controller import Watch
from slipway.runtime.resources import CONFIG_MAP, EVENT, GROUP, Object, ResourceType

pytestmark = pytest.mark.usefixtures("toy_crds")

CLUSTER_ROLE = ResourceType("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = ResourceType(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)

RULES = (
    # kopf follows CRDs that come and go
    ("apiextensions.k8s.io", "customresourcedefinitions", ("list", "watch")),
    # the reconciled kinds: read, keep a finalizer, write the status
    (GROUP, "widgets", ("list", "watch", "patch")),
    (GROUP, "widgets/status", ("update",)),
    (GROUP, "widgetsources", ("list", "watch")),
    # children: read one that is not in memory, server-side apply (create and patch), delete
    ("", "configmaps", ("get", "list", "watch", "create", "patch", "delete")),
    ("events.k8s.io", "events", ("create",)),
    # leader election; `watch` makes a hand-over immediate
    ("coordination.k8s.io", "leases", ("get", "create", "update", "watch")),
)


def role(name: str) -> Object:
    rules = [{"apiGroups": [group], "resources": [resource], "verbs": list(verbs)} for group, resource, verbs in RULES]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }


def binding(name: str, user: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }


async def test_the_whole_life_of_an_object_with_least_privilege(
    client: Client,
    namespace: str,
    toy: Any,
    start_operator: Any,
    eventually: Any,
    control_plane: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.apply(CLUSTER_ROLE, role(namespace))
    await client.apply(CLUSTER_ROLE_BINDING, binding(namespace, namespace))
    kubeconfig = str(control_plane.kubeconfig(user=namespace))
    first = await start_operator([toy.controller()], identity="first", kubeconfig=kubeconfig)
    second = await start_operator([toy.controller()], leading=False, identity="second", kubeconfig=kubeconfig)
    key = toy.type.key("a", namespace)
    await client.create(toy.type, toy.widget(namespace, "a", text="x"))

    async def ready() -> bool:
        return is_true(await client.get(key), "Ready")

    await eventually(ready)

    async def told() -> bool:  # Events follow the status
        return [each["reason"] for each in await client.list(EVENT, namespace)] == ["Written"]

    await eventually(told)
    first.stop()
    await eventually(lambda: second.health().leader)
    await client.delete(key)

    async def gone() -> bool:
        return await client.find(key) is None and await client.find(CONFIG_MAP.key("a", namespace)) is None

    await eventually(gone)
    assert "Forbidden" not in caplog.text
    assert "forbidden" not in caplog.text
    await client.delete(CLUSTER_ROLE_BINDING.key(namespace))
    await client.delete(CLUSTER_ROLE.key(namespace))


async def test_what_may_not_be_watched_is_left_out_where_it_is_optional(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, control_plane: Any
) -> None:
    await client.apply(CLUSTER_ROLE, role(namespace))
    await client.apply(CLUSTER_ROLE_BINDING, binding(namespace, namespace))
    extra = ResourceType("", "v1", "ReplicationController", "replicationcontrollers", optional=True)

    class Curious(toy.controller):  # type: ignore[misc]
        @property
        def watches(self) -> tuple[Watch, ...]:
            return (*super().watches, Watch(extra, lambda _, __: ()))

    await client.create(toy.type, toy.widget(namespace, "a", text="x"))
    operator = await start_operator([Curious()], kubeconfig=str(control_plane.kubeconfig(user=namespace)))
    await eventually(lambda: operator.engine is not None and operator.engine.stores.synced)
    assert operator.engine.stores.list(extra) == []
    await client.delete(CLUSTER_ROLE_BINDING.key(namespace))
    await client.delete(CLUSTER_ROLE.key(namespace))
