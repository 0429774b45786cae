"""Where the API server keeps Argo's Workflow objects: in memory, or on a real kube-apiserver."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from slipway.runtime.client import Client
from slipway.runtime.errors import NotFound
from slipway.runtime.resources import ResourceType

Object = dict[str, Any]

RUN_ID = "pipeline/runid"
"""Label of every Workflow that runs a pipeline."""
PERSISTED = "pipeline/persistedFinalState"
"""Label of a Workflow whose end is in the database."""
RUN_NAME = "pipelines.kubeflow.org/run_name"

WORKFLOW = ResourceType("argoproj.io", "v1alpha1", "Workflow", "workflows")
WORKFLOW_CRD: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "workflows.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "names": {
            "kind": "Workflow",
            "listKind": "WorkflowList",
            "plural": "workflows",
            "shortNames": ["wf"],
            "singular": "workflow",
        },
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["metadata", "spec"],
                        "properties": {
                            "apiVersion": {"type": "string"},
                            "kind": {"type": "string"},
                            "metadata": {"type": "object"},
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}
"""As Argo's minimal one: no status subresource, and no field is looked at."""


class Workflows(Protocol):
    """Workflow objects of a cluster."""

    async def create(self, manifest: Object) -> Object:
        """Make one; its `generateName` is completed."""
        ...

    async def get(self, namespace: str, name: str) -> Object | None:
        """One, or None."""
        ...

    async def list(self) -> list[Object]:
        """All that run pipelines, oldest first."""
        ...

    async def merge(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        """Patch one; None: there is none."""
        ...

    async def delete(self, namespace: str, name: str) -> bool:
        """Delete one; whether there was one."""
        ...


class MemoryWorkflows:
    """Workflows of no cluster.

    :param clock: gives the time at which they are made
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self._clock = clock
        self._numbers = itertools.count(1)

    async def create(self, manifest: Object) -> Object:
        made = named(manifest, next(self._numbers))
        made["metadata"] |= {"uid": f"workflow-{made['metadata']['name']}", "creationTimestamp": stamp(self._clock())}
        self.objects[_key(made)] = made
        return copy.deepcopy(made)

    async def get(self, namespace: str, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((namespace, name)))

    async def list(self) -> list[Object]:
        return [copy.deepcopy(each) for each in self.objects.values()]

    async def merge(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        live = self.objects.get((namespace, name))
        if live is None:
            return None
        self.objects[namespace, name] = merged(live, patch)
        return copy.deepcopy(self.objects[namespace, name])

    async def delete(self, namespace: str, name: str) -> bool:
        return self.objects.pop((namespace, name), None) is not None


class ClusterWorkflows:
    """Workflows on a kube-apiserver that has Argo's CRD.

    :param client: with the API server's own rights, which are not the operator's
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(self, manifest: Object) -> Object:
        return await self._client.create(WORKFLOW, named(manifest, random.randrange(16**5)))

    async def get(self, namespace: str, name: str) -> Object | None:
        return await self._client.find(WORKFLOW.key(name, namespace))

    async def list(self) -> list[Object]:
        found = await self._client.list(WORKFLOW, "", RUN_ID)
        return sorted(found, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))

    async def merge(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        try:
            return await self._client.merge(WORKFLOW.key(name, namespace), patch)
        except NotFound:
            return None

    async def delete(self, namespace: str, name: str) -> bool:
        return await self._client.delete(WORKFLOW.key(name, namespace))


def named(manifest: Object, number: int) -> Object:
    """A copy with a name made from `generateName`."""
    made = copy.deepcopy(manifest)
    made["metadata"].setdefault("name", f"{made['metadata'].get('generateName', '')}{number:05x}")
    return made


def merged(live: Any, patch: Any) -> Any:
    """A JSON merge patch."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    base = dict(live) if isinstance(live, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = merged(base.get(name), value)
    return base


def stamp(time: datetime) -> str:
    """As Kubernetes writes times."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(workflow: Object) -> tuple[str, str]:
    return workflow["metadata"].get("namespace", ""), workflow["metadata"]["name"]
