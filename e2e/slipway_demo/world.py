"""The cluster as a test sees it: reads, applies and waits, with a sentence when something does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient

from slipway.api import kind_named
from slipway.api.meta import API_VERSION

Obj = dict[str, Any]


class NeverHappenedError(AssertionError):
    """What was waited for did not come in time; the message has the last state."""


class World:
    """A cluster behind one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._api = config.new_client_from_config(config_file=str(kubeconfig))
        self._dynamic: DynamicClient | None = None
        self.custom = client.CustomObjectsApi(self._api)
        self.core = client.CoreV1Api(self._api)

    @property
    def dynamic(self) -> DynamicClient:
        """Client for any kind; discovery happens at first use, when the CRDs are there."""
        if self._dynamic is None:
            self._dynamic = DynamicClient(self._api)
        return self._dynamic

    # ---- reads -------------------------------------------------------------------------------------------------------
    def list(self, kind: str, namespace: str | None = None) -> list[Obj]:
        """Objects of one of Slipway's kinds."""
        model = kind_named(kind)
        group, version = API_VERSION.split("/")
        if model.namespaced and namespace:
            found = self.custom.list_namespaced_custom_object(group, version, namespace, model.plural)
        else:
            found = self.custom.list_cluster_custom_object(group, version, model.plural)
        return list(found["items"])

    def get(self, kind: str, name: str, namespace: str | None = None) -> Obj | None:
        """One object of Slipway's kinds, or None."""
        model = kind_named(kind)
        group, version = API_VERSION.split("/")
        try:
            if model.namespaced:
                found = self.custom.get_namespaced_custom_object(group, version, namespace, model.plural, name)
            else:
                found = self.custom.get_cluster_custom_object(group, version, model.plural, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return dict(found)

    def get_any(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Obj | None:
        """One object of any kind, or None."""
        try:
            found = self.dynamic.resources.get(api_version=api_version, kind=kind).get(name=name, namespace=namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return dict(found.to_dict())

    def list_any(self, api_version: str, kind: str, namespace: str | None = None, selector: str = "") -> list[Obj]:
        """Objects of any kind."""
        found = self.dynamic.resources.get(api_version=api_version, kind=kind).get(
            namespace=namespace, label_selector=selector
        )
        return [dict(item) for item in found.to_dict()["items"]]

    # ---- writes ------------------------------------------------------------------------------------------------------
    def apply(self, manifest: Obj, *, manager: str = "demo") -> Obj:
        """Server-side apply, as `kubectl apply --server-side`."""
        resource = self.dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        meta = manifest["metadata"]
        applied = self.dynamic.server_side_apply(
            resource,
            body=manifest,
            name=meta["name"],
            namespace=meta.get("namespace"),
            field_manager=manager,
            force_conflicts=True,
        )
        return dict(applied.to_dict())

    def apply_files(self, *paths: Path, change: Callable[[Obj], Obj] = lambda o: o) -> list[Obj]:
        """Applies every document of files and folders, in order of file names."""
        return [self.apply(change(document)) for document in documents(*paths)]

    def patch(self, kind: str, name: str, body: Obj, namespace: str | None = None) -> None:
        """Merge patch of one of Slipway's kinds."""
        model = kind_named(kind)
        group, version = API_VERSION.split("/")
        if model.namespaced:
            self.custom.patch_namespaced_custom_object(group, version, namespace, model.plural, name, body)
        else:
            self.custom.patch_cluster_custom_object(group, version, model.plural, name, body)

    def annotate(self, kind: str, name: str, namespace: str, **annotations: str) -> None:
        """Sets `slipway.dev/KEY` annotations."""
        notes = {f"slipway.dev/{key}": value for key, value in annotations.items()}
        self.patch(kind, name, {"metadata": {"annotations": notes}}, namespace)

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Deletes one of Slipway's kinds; nothing happens when it is gone."""
        model = kind_named(kind)
        group, version = API_VERSION.split("/")
        try:
            if model.namespaced:
                self.custom.delete_namespaced_custom_object(group, version, namespace, model.plural, name)
            else:
                self.custom.delete_cluster_custom_object(group, version, model.plural, name)
        except ApiException as error:
            if error.status != 404:
                raise

    # ---- waits -------------------------------------------------------------------------------------------------------
    def wait(
        self,
        what: str,
        ready: Callable[[], Any],
        *,
        timeout: float,
        every: float = 0.5,
        state: Callable[[], str] = lambda: "",
    ) -> Any:
        """Polls until `ready()` is truthy and returns it. NeverHappenedError with `state()` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            found = ready()
            if found:
                return found
            if time.monotonic() > deadline:
                raise NeverHappenedError(f"{what} did not happen within {timeout:.0f} s. {state()}")
            time.sleep(every)

    def kill_operator(self, namespace: str = "slipway-system") -> list[str]:
        """Kills the operator's pods at once, without grace; returns their names."""
        pods = self.core.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/name=slipway").items
        for pod in pods:
            self.core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)
        return [pod.metadata.name for pod in pods]


def documents(*paths: Path) -> list[Obj]:
    """Every YAML document of files and folders (recursively), in order of path."""
    out: list[Obj] = []
    for path in paths:
        files = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")]) if path.is_dir() else [path]
        for file in files:
            out.extend(document for document in yaml.safe_load_all(file.read_text()) if document)
    return out


def condition(obj: Obj | None, kind: str = "Ready") -> Obj:
    """A condition of an object; empty when there is none."""
    for entry in ((obj or {}).get("status") or {}).get("conditions") or []:
        if entry["type"] == kind:
            return dict(entry)
    return {}


def describe(obj: Obj | None) -> str:
    """An object's conditions as sentences, for messages of failed waits."""
    if obj is None:
        return "The object does not exist."
    notes = [
        f"{c['type']}={c['status']} {c['reason']}: {c['message']}"
        for c in (obj.get("status") or {}).get("conditions") or []
    ]
    return f"{obj['kind']} {obj['metadata']['name']}: " + ("; ".join(notes) or "no conditions yet")
