"""Flagger: a Canary of a Deployment, with an HTTPRoute; a new release is a new image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import programs
from benchmarks.apiserver import ApiServer
from benchmarks.contenders import FIRST_WEIGHT, SECOND_WEIGHT, Look
from benchmarks.contenders.argo import pod
from benchmarks.contenders.slipway import made
from benchmarks.process import free_port
from benchmarks.stage import DEPLOYMENT, PARENT
from slipway.runtime.resources import Object, ResourceType

CANARY = ResourceType("flagger.app", "v1beta1", "Canary", "canaries")


class Flagger:
    """`flagger`, which looks at each Canary every ten seconds, its shortest interval."""

    name = "flagger"
    type = CANARY
    variants: Mapping[str, Sequence[str]] = {
        "default": (),
        "raised": ("-kubeconfig-qps=1000", "-kubeconfig-burst=2000"),
    }

    def build(self) -> None:
        programs.binary(programs.FLAGGER)

    def crds(self) -> Sequence[Object]:
        return programs.flagger_crds()

    def command(self, kubeconfig: Path, flags: Sequence[str]) -> Sequence[str | Path]:
        fixed = ("-mesh-provider=gatewayapi:v1", f"-port={free_port()}", "-log-level=info")
        return (programs.binary(programs.FLAGGER), f"-kubeconfig={kubeconfig}", *fixed, *flags)

    async def prepare(self, server: ApiServer, statistics_port: int) -> None:
        """It needs nothing more: without metrics in its analysis it asks nobody."""

    async def make(self, server: ApiServer, namespace: str, name: str) -> None:
        metadata = {"name": name, "namespace": namespace}
        deployment = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": pod(name, 1)}
        await server.client.create(DEPLOYMENT, made(DEPLOYMENT, metadata, deployment))
        await server.client.create(CANARY, made(CANARY, metadata, _spec(name)))

    async def release(self, server: ApiServer, namespace: str, name: str, number: int) -> None:
        change = {"spec": {"template": pod(name, number)}}
        await server.client.merge(DEPLOYMENT.key(name, namespace), change)

    def look(self, obj: Object) -> Look:
        status = obj.get("status") or {}
        whole = status.get("phase") in ("Initialized", "Succeeded")
        return Look(status.get("lastPromotedSpec", "") if whole else "", status.get("canaryWeight", 0))


def _spec(name: str) -> Object:
    return {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "service": {"port": 80, "targetPort": 8080, "gatewayRefs": [PARENT]},
        "analysis": {"interval": "10s", "threshold": 5, "stepWeights": [FIRST_WEIGHT, SECOND_WEIGHT], "metrics": []},
    }
