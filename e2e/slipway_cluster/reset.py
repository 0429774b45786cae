"""Removing what users made in a cluster, and keeping the cluster."""

import json
import time
from typing import Protocol

from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.stack import gateway, kserve, storage

KEPT_NAMESPACES = {
    # The last one is of upstream's node image.
    *("default", "kube-node-lease", "kube-public", "kube-system", "local-path-storage"),
    *(storage.SYSTEM, storage.NAMESPACE, gateway.NAMESPACE, kserve.NAMESPACE),
}
TIMEOUT = 180


class Target(Protocol):
    """A cluster."""

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        """Run kubectl."""


def reset(cluster: Target, engine: Engine, data_node: str) -> None:
    """Delete custom resources while their controllers still run, then namespaces, then data."""
    _delete_custom_resources(cluster)
    found = json.loads(cluster.kubectl("get", "namespaces", "--output=json"))["items"]
    names = [item["metadata"]["name"] for item in found if item["metadata"]["name"] not in KEPT_NAMESPACES]
    if names:
        cluster.kubectl("delete", "namespace", *names, f"--timeout={TIMEOUT}s", timeout=TIMEOUT + 10)
    _delete_data(cluster, engine, data_node)


def _delete_custom_resources(cluster: Target) -> None:
    """Slipway's own first, so that its controllers see the rest go."""
    for group in ("slipway.dev", "serving.kserve.io", "gateway.networking.k8s.io"):
        kinds = cluster.kubectl("api-resources", f"--api-group={group}", "--verbs=delete", "--output=name").split()
        for kind in kinds:
            if kind.startswith(("gatewayclasses.", "gateways.", "clusterstoragecontainers.")):
                continue
            cluster.kubectl(
                *("delete", kind, "--all", "--all-namespaces", "--ignore-not-found", f"--timeout={TIMEOUT}s"),
                timeout=TIMEOUT + 10,
            )


def _delete_data(cluster: Target, engine: Engine, node: str) -> None:
    for name in ("seaweedfs", "postgresql"):
        cluster.kubectl("scale", f"deployment/{name}", "-n", storage.NAMESPACE, "--replicas=0")
    _wait_until_gone(cluster)
    for name in ("seaweedfs", "postgresql"):
        engine.exec(node, "find", f"{storage.VOLUMES}/{name}", "-mindepth", "1", "-delete")
    for name in ("seaweedfs", "postgresql"):
        cluster.kubectl("scale", f"deployment/{name}", "-n", storage.NAMESPACE, "--replicas=1")


def _wait_until_gone(cluster: Target) -> None:
    deadline = time.monotonic() + TIMEOUT
    while cluster.kubectl("get", "pods", "-n", storage.NAMESPACE, "--output=name"):
        if time.monotonic() > deadline:
            raise ClusterError(f"Pods in namespace {storage.NAMESPACE!r} did not end in {TIMEOUT} s.")
        time.sleep(0.3)
