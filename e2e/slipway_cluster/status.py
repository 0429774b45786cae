"""What runs and what does not, in sentences."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from slipway_cluster import gobuild, programs
from slipway_cluster.cluster import Cluster
from slipway_cluster.errors import ClusterError
from slipway_cluster.process import run
from slipway_cluster.stack import gateway, kserve, storage

Kubectl = Callable[..., str]

KINDS = {
    "gatewayclasses.gateway.networking.k8s.io": "the Gateway API",
    "httproutes.gateway.networking.k8s.io": "the Gateway API",
    "inferenceservices.serving.kserve.io": "KServe",
    "clusterservingruntimes.serving.kserve.io": "KServe",
}
"""What Slipway needs to be served, and what brings it."""


@dataclass(frozen=True)
class Line:
    """One fact, and whether it is well."""

    good: bool
    sentence: str


def local(name: str) -> list[Line]:
    """The state of a local cluster."""
    cluster = Cluster(name)
    if not cluster.kubeconfig.exists():
        return [Line(False, f"There is no cluster {name!r}: slipway cluster up makes it.")]
    if not cluster.is_up():
        return [Line(False, f"Cluster {name!r} exists and does not answer: slipway cluster up starts it.")]
    namespaces = ("kube-system", gateway.NAMESPACE, kserve.NAMESPACE, storage.NAMESPACE, storage.SYSTEM)
    return [*_nodes(cluster.kubectl), *_deployments(cluster.kubectl, namespaces), *_gateways(cluster.kubectl)]


def existing(context: str) -> list[Line]:
    """Whether a cluster of the user's own has what Slipway needs; nothing there is changed.

    Args:
        context: a context of the user's kubeconfig: there is no default, so that no cluster is met by accident.
    """

    program = programs.on_path("kubectl") or gobuild.binary("kubectl")

    def kubectl(*arguments: str) -> str:
        return run(program, "--context", context, "--request-timeout=20s", *arguments, timeout=40)

    return [*_nodes(kubectl), *_kinds(kubectl), *_gateways(kubectl)]


def _nodes(kubectl: Kubectl) -> Iterator[Line]:
    for node in _items(kubectl, "nodes"):
        ready = _condition(node["status"].get("conditions", []), "Ready")
        gpus = node["status"].get("capacity", {}).get("nvidia.com/gpu")
        extra = f", {gpus} GPUs" if gpus else ""
        name, version = node["metadata"]["name"], node["status"]["nodeInfo"]["kubeletVersion"]
        yield Line(ready, f"node {name} is {'ready' if ready else 'not ready'} ({version}{extra})")


def _deployments(kubectl: Kubectl, namespaces: tuple[str, ...]) -> Iterator[Line]:
    for deployment in _items(kubectl, "deployments", "--all-namespaces"):
        metadata, status = deployment["metadata"], deployment["status"]
        if metadata["namespace"] not in namespaces:
            continue
        wanted, available = deployment["spec"].get("replicas", 1), status.get("availableReplicas", 0)
        where = f"{metadata['namespace']}/{metadata['name']}"
        yield Line(available >= wanted, f"deployment {where}: {available} of {wanted} available")


def _kinds(kubectl: Kubectl) -> Iterator[Line]:
    served = {item["metadata"]["name"] for item in _items(kubectl, "customresourcedefinitions")}
    for kind, source in KINDS.items():
        good = kind in served
        yield Line(good, f"kind {kind} is served" if good else f"kind {kind} is not served: install {source}.")


def _gateways(kubectl: Kubectl) -> Iterator[Line]:
    try:
        gateways = _items(kubectl, "gateways.gateway.networking.k8s.io", "--all-namespaces")
    except ClusterError:
        yield Line(False, "There is no gateway, as the Gateway API is not served.")
        return
    if not gateways:
        yield Line(False, "There is no gateway: models have nowhere to be served at.")
    for item in gateways:
        programmed = _condition(item["status"].get("conditions", []), "Programmed")
        where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        yield Line(programmed, f"gateway {where} is {'programmed' if programmed else 'not programmed'}")


def _items(kubectl: Kubectl, *what: str) -> list[dict[str, Any]]:
    return list(json.loads(kubectl("get", *what, "--output=json"))["items"])


def _condition(conditions: list[dict[str, str]], kind: str) -> bool:
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)
