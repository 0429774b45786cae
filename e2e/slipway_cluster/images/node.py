"""The image that kind's nodes are made of, and the images they have from the start."""

import shutil
from collections.abc import Collection
from pathlib import Path

from slipway_cluster import gobuild, keys, paths
from slipway_cluster.images import archive, filesystems, layers, recipes
from slipway_cluster.images.archive import Image
from slipway_cluster.images.filesystems import FileSystem
from slipway_cluster.images.layers import Layer
from slipway_cluster.images.sandbox import run_in
from slipway_cluster.process import run
from slipway_cluster.versions import versions

NAME = "slipway-node"

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "containerd", "runc", "containernetworking-plugins"),
    *("mount", "util-linux", "hostname", "procps", "jq", "curl"),
)

# $1 is unused; images come in OCI's layout at /media, containerd's data go to /mnt.
_IMPORT = """
printf 'version = 2\\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\\n' > /run/config.toml
containerd --config /run/config.toml --root /mnt --log-level warn &
server=$!
until ctr version >/dev/null 2>&1; do sleep 0.1; done
tar -C /media -cf - . | ctr --namespace k8s.io images import -
kill $server
wait $server || true
"""


def node() -> Image:
    """A machine with systemd, containerd and the Kubernetes programs, named by its content."""
    content = (*file_system().layers, _files(), recipes.node_programs())
    tag = keys.key_of([layer.digest for layer in content])
    return Image(
        (recipes.reference(NAME, f"v{versions().kubernetes}-{tag}"),),
        content,
        entrypoint=("/usr/local/bin/entrypoint", "/sbin/init"),
        environment=("container=podman",),
        stop_signal="SIGRTMIN+3",
    )


def file_system() -> FileSystem:
    """Debian with everything a node runs but Kubernetes."""
    return filesystems.with_packages("node-packages", recipes.network_tools(), versions().debian, PACKAGES)


def _files() -> Layer:
    below = file_system()
    base = gobuild.module_folder("kind", "sigs.k8s.io/kind") / "images/base/files"
    script = (
        f"KUBERNETES={versions().kubernetes} PAUSE={versions().pause}\n"
        + (paths.PACKAGE / "assets" / "node-setup.sh").read_text()
    )
    key = keys.key_of(below.key, script, versions().kind)
    return layers.cached("node-files", key, lambda folder: run_in(below.folders, folder, script, binds={base: "/mnt"}))


def seed(images: Collection[Image]) -> Path:
    """A folder of containerd's data with images imported and unpacked, made once for all nodes.

    Nodes get links to its files (see :func:`plant`), so that a cluster starts with all images on every node
    without copying or unpacking any of them again.
    """
    key = keys.key_of(sorted((image.manifest, image.names) for image in images))
    folder = paths.cache_folder("seeds") / key
    with keys.lock("seed"):
        if not folder.exists():
            for older in folder.parent.iterdir():
                shutil.rmtree(older)
            unfinished = folder.with_name(f"{key}.unfinished")
            unfinished.mkdir()
            with archive.layout(images) as layout:
                run_in(
                    file_system().folders,
                    paths.cache_folder("work") / f"seed-{key}",
                    _IMPORT,
                    binds={unfinished: "/mnt", layout: "/media"},
                )
            shutil.rmtree(paths.cache_folder("work") / f"seed-{key}", ignore_errors=True)
            unfinished.rename(folder)
    return folder


def plant(seeded: Path, folder: Path) -> None:
    """Give a node its own containerd data: links to what never changes, copies of the databases that do."""
    folder.mkdir(parents=True)
    run("cp", "-a", "--link", f"{seeded}/.", folder)
    for database in folder.glob("*/*.db"):
        database.unlink()
        shutil.copyfile(seeded / database.relative_to(folder), database)
