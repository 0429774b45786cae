"""A type whose CRD comes after the operator's start is watched, even where kopf missed its event."""

from __future__ import annotations

from typing import Any

import pytest
from kopf._core.reactor import observation

from slipway.runtime import engine as engine_module
from slipway.runtime.client import Client
from slipway.runtime.controller import Watch
from slipway.runtime.resources import Object, ResourceType

CRD = ResourceType(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
LATE = ResourceType("late.slipway.dev", "v1alpha1", "Latecomer", "latecomers")

pytestmark = pytest.mark.usefixtures("toy_crds")


async def test_a_type_that_comes_later_is_watched_though_kopf_missed_it(
    client: Client,
    namespace: str,
    toy: Any,
    toy_crd: Any,
    start_operator: Any,
    install_crds: Any,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def missed(**_: Any) -> None:
        return None

    monkeypatch.setattr(observation, "process_discovered_resource_event", missed)
    monkeypatch.setattr(engine_module, "ARRIVAL_PERIOD", 0.3)
    seen: list[str] = []

    class Both(toy.controller):  # type: ignore[misc,name-defined]
        @property
        def watches(self) -> tuple[Watch, ...]:
            return (*super().watches, Watch(LATE, lambda obj, _: seen.append(obj["metadata"]["name"]) or ()))

    operator = await start_operator([Both()])

    def stored() -> bool:
        return operator.engine is not None and operator.engine.stores.get(LATE.key("one", namespace)) is not None

    await client.create(toy.type, toy.widget(namespace, "first", text="hello"))
    await eventually(lambda: operator.engine is not None and operator.engine.stores.synced)
    assert not await client.serves(LATE)
    try:
        await install_crds(toy_crd(LATE))
        await eventually(lambda: client.serves(LATE))
        latecomer: Object = {
            "apiVersion": LATE.api_version,
            "kind": LATE.kind,
            "metadata": {"name": "one", "namespace": namespace},
        }
        await client.create(LATE, latecomer)
        key = LATE.key("one", namespace)
        await eventually(stored, seconds=30)
        await client.merge(key, {"metadata": {"labels": {"changed": "yes"}}})
        await eventually(lambda: seen)
    finally:
        await client.delete(CRD.key(str(LATE)))
