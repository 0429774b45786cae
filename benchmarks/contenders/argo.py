"""Argo Rollouts: a Rollout with Istio's VirtualService, its built-in router; a new release is a new image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import programs
from benchmarks.apiserver import ApiServer
from benchmarks.contenders import FIRST_WEIGHT, SECOND_WEIGHT, Look
from benchmarks.contenders.slipway import made
from benchmarks.process import free_port
from slipway.runtime.resources import Object, ResourceType

ROLLOUT = ResourceType("argoproj.io", "v1alpha1", "Rollout", "rollouts")
VIRTUAL_SERVICE = ResourceType("networking.istio.io", "v1alpha3", "VirtualService", "virtualservices")
SERVICE = ResourceType("", "v1", "Service", "services")


class Argo:
    """`rollouts-controller`, which may send 40 requests a second by default."""

    name = "argo-rollouts"
    type = ROLLOUT
    variants: Mapping[str, Sequence[str]] = {"default": (), "raised": ("--qps=1000", "--burst=2000")}

    def build(self) -> None:
        programs.binary(programs.ARGO)

    def crds(self) -> Sequence[Object]:
        return programs.argo_crds()

    def command(self, kubeconfig: Path, flags: Sequence[str]) -> Sequence[str | Path]:
        ports = (f"--metricsPort={free_port()}", f"--healthzPort={free_port()}")
        return (programs.binary(programs.ARGO), "--kubeconfig", kubeconfig, *ports, *flags)

    async def prepare(self, server: ApiServer, statistics_port: int) -> None:  # noqa: ARG002 - it reads none
        """Its own namespace, where its Lease is."""
        await server.namespace(self.name)

    async def make(self, server: ApiServer, namespace: str, name: str) -> None:
        for service in (f"{name}-stable", f"{name}-canary"):
            ports = [{"name": "http", "port": 80, "targetPort": 8080}]
            spec = {"selector": {"app": name}, "ports": ports}
            await server.client.create(SERVICE, made(SERVICE, {"name": service, "namespace": namespace}, spec))
        destinations = [
            {"destination": {"host": f"{name}-stable"}, "weight": 100},
            {"destination": {"host": f"{name}-canary"}, "weight": 0},
        ]
        routes = {"hosts": [name], "http": [{"name": "primary", "route": destinations}]}
        metadata = {"name": name, "namespace": namespace}
        await server.client.create(VIRTUAL_SERVICE, made(VIRTUAL_SERVICE, metadata, routes))
        await server.client.create(ROLLOUT, made(ROLLOUT, metadata, _spec(name)))

    async def release(self, server: ApiServer, namespace: str, name: str, number: int) -> None:
        change = {"spec": {"template": pod(name, number)}}
        await server.client.merge(ROLLOUT.key(name, namespace), change)

    def look(self, obj: Object) -> Look:
        status = obj.get("status") or {}
        current = status.get("observedGeneration") == str(obj["metadata"]["generation"])
        whole = status.get("stableRS") == status.get("currentPodHash") and status.get("phase") == "Healthy"
        weights = (status.get("canary") or {}).get("weights") or {}
        return Look(
            status.get("stableRS", "") if current and whole else "", (weights.get("canary") or {}).get("weight", 0)
        )


def pod(name: str, number: int) -> Object:
    """The pod template of a release, alike for all who have one."""
    container = {"name": "server", "image": f"server:{number}", "ports": [{"name": "http", "containerPort": 8080}]}
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}


def _spec(name: str) -> Object:
    canary = {
        "stableService": f"{name}-stable",
        "canaryService": f"{name}-canary",
        "trafficRouting": {"istio": {"virtualService": {"name": name, "routes": ["primary"]}}},
        "steps": [{"setWeight": FIRST_WEIGHT}, {"setWeight": SECOND_WEIGHT}],
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": pod(name, 1),
        "strategy": {"canary": canary},
    }
