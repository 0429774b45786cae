"""Slipway: a ModelRollout; a new release is a new ModelVersion."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import programs
from benchmarks.apiserver import ApiServer
from benchmarks.contenders import FIRST_WEIGHT, SECOND_WEIGHT, Look
from benchmarks.process import free_port
from benchmarks.stage import PARENT
from slipway.runtime.resources import (
    GATEWAY,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    PLATFORM,
    POD,
    SERVICE_ACCOUNT,
    Object,
    ResourceType,
)

STEPS: list[Object] = [
    {"name": "first", "setWeight": FIRST_WEIGHT},
    {"name": "second", "setWeight": SECOND_WEIGHT},
    {"name": "everyone", "setWeight": 100},
]
_SYSTEM = "slipway-system"
_PROXY = "envoy-gateway-system"


class Slipway:
    """The whole operator, with all its controllers; it has no limit of requests a second that could be raised."""

    name = "slipway"
    type = MODEL_ROLLOUT
    variants: Mapping[str, Sequence[str]] = {"default": ()}

    def build(self) -> None:
        """It is this checkout."""

    def crds(self) -> Sequence[Object]:
        return programs.slipway_crds()

    def command(self, kubeconfig: Path, flags: Sequence[str]) -> Sequence[str | Path]:
        return (
            *(sys.executable, "-m", "slipway.operator", "--kubeconfig", kubeconfig, "--namespace", _SYSTEM),
            *("--bind", "127.0.0.1", "--port", str(free_port()), *flags),
        )

    async def prepare(self, server: ApiServer, statistics_port: int) -> None:
        """Platform, Gateway, and a proxy's pod, which names the statistics."""
        for namespace in (_SYSTEM, _PROXY):
            await server.namespace(namespace)
        secret = {"namespace": _SYSTEM, "name": "stores"}
        platform = {
            "artifacts": {"s3": {"endpoint": "http://store:8333", "bucket": "slipway", "secretRef": secret}},
            "features": {"postgres": {"secretRef": secret}},
            "gateway": {"parentRef": PARENT, "statisticsPort": statistics_port},
        }
        listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
        client = server.client
        await client.apply(PLATFORM, made(PLATFORM, {"name": "default"}, platform))
        await client.apply(GATEWAY, made(GATEWAY, PARENT, {"gatewayClassName": "envoy", "listeners": listeners}))
        await client.apply(SERVICE_ACCOUNT, made(SERVICE_ACCOUNT, {"name": "default", "namespace": _PROXY}))
        pod = await client.apply(POD, _proxy())
        address = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        await client.merge(POD.key_of(pod), {"status": address}, "status")

    async def make(self, server: ApiServer, namespace: str, name: str) -> None:
        await server.client.create(MODEL_ROLLOUT, rollout(namespace, name, steps=STEPS))
        await self.release(server, namespace, name, 1)

    async def release(self, server: ApiServer, namespace: str, name: str, number: int) -> None:
        await server.client.create(MODEL_VERSION, version(namespace, name, number))

    def look(self, obj: Object) -> Look:
        status = obj.get("status") or {}
        under_way = bool(status.get("candidate"))
        return Look("" if under_way else status.get("stable", ""), status.get("weight", 0))


def rollout(namespace: str, name: str, **spec: object) -> Object:
    """A ModelRollout of the project of the same name."""
    whole = {"projectRef": {"name": name}, "routing": {"path": f"/{namespace}/{name}"}, **spec}
    return made(MODEL_ROLLOUT, {"name": name, "namespace": namespace}, whole)


def version(namespace: str, project: str, number: int) -> Object:
    """A ModelVersion that passed; a higher number is a newer version."""
    digest = f"{number:010x}" + "a" * 54
    kinds = ("parameters", "configuration", "featurePipeline", "trainingSet", "validationSet", "testSet", "code")
    folder = f"s3://slipway/models/{namespace}/{project}/{digest[:10]}"
    spec: Object = {
        "projectRef": {"name": project},
        "run": {"name": "run", "uid": "u"},
        "datasetVersionRef": {"name": "data-1"},
        "digests": {
            **dict.fromkeys((*kinds, "pipeline"), f"sha256:{'b' * 64}"),
            "model": f"sha256:{digest}",
            "image": "runner",
        },
        "artifact": folder,
        "manifest": f"{folder}/manifest.json",
        "manifestDigest": f"sha256:{'c' * 64}",
        "evaluation": f"{folder}/evaluation.json",
        "inputs": [{"name": "carrier", "type": "String", "source": "Request"}],
        "metrics": [],
        "score": "0.8",
        "verdicts": [],
        "passed": True,
    }
    return made(MODEL_VERSION, {"name": version_name(project, number), "namespace": namespace}, spec)


def version_name(project: str, number: int) -> str:
    return f"{project}-{number:010x}"


def service_name(name: str, number: int) -> str:
    """The InferenceService of a version."""
    return f"{name}-{number:010x}"


def made(type_: ResourceType, metadata: Object, spec: Object | None = None) -> Object:
    head: Object = {"apiVersion": type_.api_version, "kind": type_.kind, "metadata": dict(metadata)}
    return head if spec is None else {**head, "spec": spec}


def _proxy() -> Object:
    labels = {
        "app.kubernetes.io/managed-by": "envoy-gateway",
        "gateway.envoyproxy.io/owning-gateway-name": PARENT["name"],
        "gateway.envoyproxy.io/owning-gateway-namespace": PARENT["namespace"],
    }
    spec: Object = {
        "containers": [{"name": "envoy", "image": "envoy"}],
        "serviceAccountName": "default",
        "automountServiceAccountToken": False,
    }
    return made(POD, {"name": "envoy", "namespace": _PROXY, "labels": labels}, spec)
