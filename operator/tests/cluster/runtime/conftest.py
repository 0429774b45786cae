"""A toy kind and its controller: a Widget becomes a ConfigMap. It shows every feature of the runtime once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Apply, Delete, Io, Plan, Watch, owned, referring
from slipway.runtime.errors import MissingDependency, UserError
from slipway.runtime.resources import CONFIG_MAP, Key, Object, ResourceType, generation_of, is_deleting

WIDGET = ResourceType("slipway.dev", "v1alpha1", "Widget", "widgets")
SOURCE = ResourceType("slipway.dev", "v1alpha1", "WidgetSource", "widgetsources")


@dataclass(frozen=True)
class WidgetSnapshot:
    widget: Object
    child: Object | None
    source: Object | None


@dataclass
class WidgetController:
    """`spec.text` (or that of the WidgetSource in `spec.sourceRef`) goes into a ConfigMap of the same name."""

    type: ResourceType = WIDGET
    before_plan: Callable[[Key], Any] | None = None
    observed_by_standby: bool = False
    observed: list[Key] = field(default_factory=list)

    @property
    def watches(self) -> Sequence[Watch]:
        return (owned(CONFIG_MAP, WIDGET), referring(SOURCE, WIDGET, _refers))

    async def observe(self, io: Io, key: Key) -> WidgetSnapshot | None:
        widget = io.get(key)
        if widget is None:
            return None
        self.observed.append(key)
        if self.before_plan is not None:
            await self.before_plan(key)
        name = widget["spec"].get("sourceRef", "")
        source = io.get(SOURCE.key(name, key.namespace)) if name else None
        return WidgetSnapshot(widget, io.get(CONFIG_MAP.key(key.name, key.namespace)), source)

    def plan(self, snapshot: WidgetSnapshot, now: datetime) -> Plan:
        widget = snapshot.widget
        meta, spec = widget["metadata"], widget["spec"]
        child = CONFIG_MAP.key(meta["name"], meta["namespace"])
        if is_deleting(widget):
            actions = (Delete(child),) if snapshot.child else ()
            return Plan(actions, finalizer="none" if snapshot.child else "drop")
        text = spec.get("text", "")
        if spec.get("sourceRef"):
            if snapshot.source is None:
                raise MissingDependency("SourceMissing", f"WidgetSource {spec['sourceRef']} does not exist.")
            text = snapshot.source["spec"]["text"]
        if text == "forbidden":
            raise UserError("BadText", "must not be `forbidden`; choose another text.", "spec.text")
        conditions = Conditions(widget, now)
        ready = snapshot.child is not None and snapshot.child["data"].get("text") == text
        conditions.set("Ready", ready, "Written" if ready else "Writing", f"The text is {text}." if ready else "")
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": child.name, "namespace": child.namespace},
            "data": {"text": text, **({"more": "yes"} if spec.get("more") else {})},
        }
        status = {"conditions": conditions.list(), "observedGeneration": generation_of(widget)}
        return Plan((Apply(manifest),), status, finalizer="keep")


def _refers(widget: Object, source: Object) -> bool:
    return bool(widget["spec"].get("sourceRef") == source["metadata"]["name"])


def _crd(type_: ResourceType) -> Object:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": type_.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": str(type_)},
        "spec": {
            "group": type_.group,
            "scope": "Namespaced",
            "names": {"kind": type_.kind, "plural": type_.plural, "singular": type_.kind.lower()},
            "versions": [version],
        },
    }


@dataclass(frozen=True)
class Toy:
    """The toy's parts, for tests that cannot import this file."""

    type: ResourceType
    source: ResourceType
    controller: Callable[..., WidgetController]

    def widget(self, namespace: str, name: str, **spec: Any) -> Object:
        return self._object(self.type, namespace, name, spec)

    def source_object(self, namespace: str, name: str, text: str) -> Object:
        return self._object(self.source, namespace, name, {"text": text})

    def _object(self, type_: ResourceType, namespace: str, name: str, spec: dict[str, Any]) -> Object:
        meta = {"name": name, "namespace": namespace}
        return {"apiVersion": type_.api_version, "kind": type_.kind, "metadata": meta, "spec": spec}


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy(WIDGET, SOURCE, WidgetController)


@pytest.fixture(scope="session")
def toy_crd() -> Callable[[ResourceType], Object]:
    """Makes a CRD without a schema."""
    return _crd


@pytest_asyncio.fixture
async def toy_crds(install_crds: Any, toy_types: list[ResourceType]) -> None:
    toy_types[:] = [WIDGET, SOURCE]
    await install_crds(_crd(WIDGET), _crd(SOURCE))
