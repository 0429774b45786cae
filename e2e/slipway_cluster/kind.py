"""Three real nodes by kind, from upstream's node image or from one that was made here.

One control plane, one worker for ordinary work (label ``slipway.dev/pool=cpu``), and one that stands for machines with
GPUs: label ``slipway.dev/pool=gpu``, taint ``nvidia.com/gpu:NoSchedule`` and two ``nvidia.com/gpu`` in its capacity.

Upstream's node image brings its own images and its own pod network (kindnet). One that was made here gets both from us:
containerd's data as a seed, and a bridge in each node with routes to the others.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_cluster import paths, programs
from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.images.node import plant
from slipway_cluster.origin import Origin
from slipway_cluster.process import run, succeeds
from slipway_cluster.versions import versions

POD_SUBNET = "10.244.0.0/16"
GPUS = 2
NODE_TIMEOUT = 180.0
CONTAINERD = "/var/lib/containerd"
OUTBOX = "/slipway/outbox"
"""Where nodes see what :func:`slipway_cluster.images.archive.layout` lays out for them."""

_NETWORK = """
set -eu
mkdir -p /etc/cni/net.d
cat > /etc/cni/net.d/10-bridge.conflist
while [ $# -gt 1 ]; do ip route replace "$1" via "$2"; shift 2; done
# To the world, pods speak with their node's address; to each other with their own.
rule="POSTROUTING -s $1 ! -d $1 -o eth0 -j MASQUERADE"
iptables -t nat -C $rule 2>/dev/null || iptables -t nat -A $rule
"""


@dataclass(frozen=True)
class Port:
    """A port of this machine's loopback that leads to a NodePort."""

    host: int
    node: int


@dataclass(frozen=True)
class Plan:
    """What a cluster is made of.

    Attributes:
        folder: where its kubeconfig and its nodes' data live.
        ports: what this machine reaches in it.
    """

    name: str
    folder: Path
    ports: Sequence[Port]

    @property
    def kubeconfig(self) -> Path:
        """Its administrator's kubeconfig; the user's own is never read or written."""
        return self.folder / "kubeconfig"

    @property
    def nodes(self) -> tuple[str, str, str]:
        """Names of the control plane, the CPU worker and the GPU worker."""
        return (f"{self.name}-control-plane", f"{self.name}-worker", f"{self.name}-worker2")


def create(engine: Engine, plan: Plan, node_image: str, seed: Path | None = None) -> None:
    """Make nodes and join them to a cluster.

    Args:
        seed: containerd data every node starts with; without it, what the node image brings.
    """
    origin = Origin.LOCAL if seed else Origin.UPSTREAM
    if seed:
        for node in plan.nodes:
            plant(seed, plan.folder / "nodes" / node)
    # kind mounts it, and not every kernel has modules.
    if os.geteuid() == 0:
        Path("/lib/modules").mkdir(parents=True, exist_ok=True)
    run(
        *(programs.kind(origin), "create", "cluster", "--name", plan.name, "--image", node_image),
        *("--kubeconfig", plan.kubeconfig, "--config", "-", "--retain"),
        input=json.dumps(configuration(plan, origin)),
        env=engine.environment,
        # Upstream's node image may have to be fetched first.
        timeout=600 if seed else 1800,
    )


def delete(engine: Engine, plan: Plan) -> None:
    """Remove nodes, their volumes, their network and their data; nothing to remove is no failure."""
    if containers := list(engine.containers(plan.name)):
        # Nothing in them outlives them, so nothing needs to end gracefully.
        at_once = ["--time=0"] if engine.name == "podman" else []
        engine.run("rm", "--force", "--volumes", *at_once, *containers)
    for node in plan.nodes:
        for volume in engine.run("volume", "ls", "--quiet", "--filter", f"label={node}").split():
            engine.run("volume", "rm", "--force", volume)
    engine.remove_network_if_unused()
    # Three times some 100,000 links: much faster than shutil.
    run("rm", "-rf", plan.folder / "nodes")
    plan.kubeconfig.unlink(missing_ok=True)


def configuration(plan: Plan, origin: Origin) -> dict[str, Any]:
    """kind's configuration, as JSON, which is YAML."""
    nodes = [
        _node("control-plane", ports=plan.ports),
        _node("worker", pool="cpu"),
        _node("worker", pool="gpu", taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]),
    ]
    if origin is Origin.LOCAL:
        for node, name in zip(nodes, plan.nodes, strict=True):
            seeded = {"hostPath": str(plan.folder / "nodes" / name), "containerPath": CONTAINERD}
            node["extraMounts"].append(seeded)
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {
            "disableDefaultCNI": origin is Origin.LOCAL,
            "kubeProxyMode": "nftables",
            "apiServerAddress": "127.0.0.1",
            "podSubnet": POD_SUBNET,
        },
        "kubeadmConfigPatches": [json.dumps(patch) for patch in _kubeadm_patches(origin)],
        "nodes": nodes,
    }


def _node(role: str, *, pool: str = "", taints: Sequence[Any] = (), ports: Sequence[Port] = ()) -> dict[str, Any]:
    outbox = {"hostPath": str(paths.cache_folder("outbox")), "containerPath": OUTBOX, "readOnly": True}
    node: dict[str, Any] = {"role": role, "extraMounts": [outbox]}
    if pool:
        node["labels"] = {"slipway.dev/pool": pool}
    if taints:
        join = {"kind": "JoinConfiguration", "nodeRegistration": {"taints": taints}}
        node["kubeadmConfigPatches"] = [json.dumps(join)]
    if ports:
        node["extraPortMappings"] = [
            {"containerPort": port.node, "hostPort": port.host, "listenAddress": "127.0.0.1"} for port in ports
        ]
    return node


def _kubeadm_patches(origin: Origin) -> list[dict[str, Any]]:
    etcd: dict[str, Any] = {"extraArgs": {"unsafe-no-fsync": "true"}}
    control_plane: dict[str, Any] = {"kind": "ClusterConfiguration", "etcd": {"local": etcd}}
    driver = {}
    if origin is Origin.LOCAL:
        # Upstream's node image has the images that its kubeadm asks for, and its containerd the driver that kind sets.
        etcd["imageTag"] = versions().etcd
        control_plane["dns"] = {"imageTag": f"v{versions().coredns}"}
        driver = {"cgroupDriver": "cgroupfs"}
    return [
        control_plane,
        {
            "kind": "KubeletConfiguration",
            **driver,
            # A host may not let a container be favoured when memory runs out.
            "oomScoreAdj": 0,
            # Slipway's images come from this machine and could not be fetched again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi"},
            "maxPods": 200,
        },
        {"kind": "KubeProxyConfiguration", "oomScoreAdj": 0},
    ]


class Nodes:
    """A running cluster's nodes."""

    def __init__(self, engine: Engine, plan: Plan, kubectl: Callable[[], Path]) -> None:
        self._engine = engine
        self._plan = plan
        self._kubectl = kubectl

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        """Run kubectl as the cluster's administrator."""
        return run(self._kubectl(), "--kubeconfig", self._plan.kubeconfig, *arguments, input=input, timeout=timeout)

    def answers(self) -> bool:
        """Whether the cluster's API server is ready."""
        if not self._plan.kubeconfig.exists():
            return False
        try:
            kubectl = self._kubectl()
        except ClusterError:
            # It would come from a node, which does not run.
            return False
        command = (kubectl, "--kubeconfig", self._plan.kubeconfig, "--request-timeout=5s", "get", "--raw=/readyz")
        return succeeds(*command, timeout=10)

    def start(self) -> None:
        """Start nodes that exist and do not run, as after the machine's own restart."""
        states = self._engine.containers(self._plan.name)
        if stopped := [name for name, state in states.items() if state != "running"]:
            self._engine.run("start", *stopped)

    def alive(self) -> bool:
        """Whether every node runs programs; an engine that was killed may call a dead node running."""
        try:
            for name in self._engine.containers(self._plan.name):
                self._engine.exec(name, "true", timeout=20)
        except ClusterError:
            return False
        return True

    def wait_until_answering(self) -> None:
        """Wait for the API server."""
        deadline = time.monotonic() + NODE_TIMEOUT
        while not self.answers():
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"The API server of cluster {self._plan.name!r} did not answer in {NODE_TIMEOUT:.0f} s."
                )
            time.sleep(0.3)

    def connect(self) -> None:
        """Give pods of a node image made here networks, also between nodes: bridges, and routes to the others."""
        nodes = self._addressed()
        routes = {name: (node["spec"]["podCIDR"], _address(node)) for name, node in nodes.items()}

        def connect_one(name: str) -> None:
            others = [part for other, route in routes.items() if other != name for part in route]
            self._engine.exec(
                name, "sh", "-c", _NETWORK, "network", *others, POD_SUBNET, input=json.dumps(_bridge(routes[name][0]))
            )

        with ThreadPoolExecutor() as pool:
            list(pool.map(connect_one, nodes))

    def add_gpus(self) -> None:
        """Say that the GPU worker has GPUs, as a device plugin would."""
        count = {"nvidia.com/gpu": str(GPUS)}
        patch = json.dumps({"status": {"capacity": count, "allocatable": count}})
        self.kubectl("patch", "node", self._plan.nodes[2], "--subresource=status", "--type=merge", "--patch", patch)

    def wait_until_ready(self) -> None:
        """Wait until every node takes pods."""
        self.kubectl(
            "wait",
            "node",
            "--all",
            "--for=condition=Ready",
            f"--timeout={NODE_TIMEOUT:.0f}s",
            timeout=NODE_TIMEOUT + 10,
        )

    def _addressed(self) -> dict[str, Any]:
        deadline = time.monotonic() + NODE_TIMEOUT
        while True:
            items = json.loads(self.kubectl("get", "nodes", "--output=json"))["items"]
            found = {node["metadata"]["name"]: node for node in items if node["spec"].get("podCIDR")}
            if set(self._plan.nodes) <= set(found):
                return found
            if time.monotonic() > deadline:
                missing = ", ".join(set(self._plan.nodes) - set(found))
                raise ClusterError(f"No range of pod addresses was given to {missing} in {NODE_TIMEOUT:.0f} s.")
            time.sleep(0.3)


def _address(node: dict[str, Any]) -> str:
    return next(str(entry["address"]) for entry in node["status"]["addresses"] if entry["type"] == "InternalIP")


def _bridge(subnet: str) -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
