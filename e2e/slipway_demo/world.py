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

from slipway.api.meta import API_VERSION

Obj = dict[str, Any]
Objs = list[Obj]
_MERGE = "application/merge-patch+json"


class NeverHappenedError(AssertionError):
    """What was waited for did not come in time; the message has the last state."""


class World:
    """A cluster behind one kubeconfig. Kinds are Slipway's unless `api_version` says otherwise."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._api: Any = config.new_client_from_config(config_file=str(kubeconfig))
        self._dynamic: Any = None
        self.core: Any = client.CoreV1Api(self._api)

    def resource(self, kind: str, api_version: str = API_VERSION) -> Any:
        """The dynamic client's resource; discovery happens at first use, when the CRDs are there."""
        if self._dynamic is None:
            self._dynamic = DynamicClient(self._api)
        return self._dynamic.resources.get(api_version=api_version, kind=kind)

    # ---- reads -------------------------------------------------------------------------------------------------------
    def get(self, kind: str, name: str, namespace: str | None = None, api_version: str = API_VERSION) -> Obj | None:
        """One object, or None."""
        try:
            found = self.resource(kind, api_version).get(name=name, namespace=namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return dict(found.to_dict())

    def objects(
        self, kind: str, namespace: str | None = None, api_version: str = API_VERSION, selector: str = ""
    ) -> Objs:
        """Objects of a kind, oldest first."""
        found = self.resource(kind, api_version).get(namespace=namespace, label_selector=selector).to_dict()["items"]
        return sorted((dict(item) for item in found), key=lambda o: str(o["metadata"]["creationTimestamp"]))

    # ---- writes ------------------------------------------------------------------------------------------------------
    def apply(self, manifest: Obj, *, manager: str = "demo") -> Obj:
        """Server-side apply, as `kubectl apply --server-side`."""
        meta = manifest["metadata"]
        applied = self.resource(manifest["kind"], manifest["apiVersion"]).server_side_apply(
            body=manifest,
            name=meta["name"],
            namespace=meta.get("namespace"),
            field_manager=manager,
            force_conflicts=True,
        )
        return dict(applied.to_dict())

    def apply_files(self, *paths: Path, change: Callable[[Obj], Obj] = lambda o: o) -> Objs:
        """Applies every document of files and folders, in order of file names."""
        return [self.apply(change(document)) for document in documents(*paths)]

    def patch(self, kind: str, name: str, body: Obj, namespace: str | None = None) -> None:
        """Merge patch."""
        self.resource(kind).patch(body=body, name=name, namespace=namespace, content_type=_MERGE)

    def annotate(self, kind: str, name: str, namespace: str, **annotations: str) -> None:
        """Sets `slipway.dev/KEY` annotations."""
        notes = {f"slipway.dev/{key}": value for key, value in annotations.items()}
        self.patch(kind, name, {"metadata": {"annotations": notes}}, namespace)

    def delete(self, kind: str, name: str, namespace: str | None = None, api_version: str = API_VERSION) -> None:
        """Deletes an object; nothing happens when it is gone."""
        try:
            self.resource(kind, api_version).delete(name=name, namespace=namespace)
        except ApiException as error:
            if error.status != 404:
                raise

    def kill_operator(self, namespace: str = "slipway-system") -> list[str]:
        """Kills the operator's pods at once, without grace; returns their names."""
        pods = self.core.list_namespaced_pod(namespace, label_selector="app.kubernetes.io/name=slipway-operator").items
        for pod in pods:
            self.core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)
        return [pod.metadata.name for pod in pods]

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


def documents(*paths: Path) -> Objs:
    """Every YAML document of files and folders (recursively), in order of path."""
    out: Objs = []
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


def status(obj: Obj | None) -> Obj:
    """An object's status; empty when there is none."""
    return dict((obj or {}).get("status") or {})


def describe(obj: Obj | None) -> str:
    """An object's conditions as sentences, for messages of failed waits."""
    if obj is None:
        return "The object does not exist."
    notes = [f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in status(obj).get("conditions") or []]
    return f"{obj['kind']} {obj['metadata']['name']}: " + ("; ".join(notes) or "no conditions yet")
