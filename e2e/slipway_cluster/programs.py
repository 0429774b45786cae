"""The programs that a cluster is driven with: kind, helm, kubectl.

With local images each is built from its pinned module. With upstream's, those on ``PATH`` do if their version fits;
kind and helm are built otherwise, and kubectl is copied from a node, because building it takes minutes.
"""

import re
import shutil
from functools import cache
from pathlib import Path

from slipway_cluster import gobuild
from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.origin import Origin
from slipway_cluster.process import run
from slipway_cluster.versions import versions

Version = tuple[int, int]

ASKING = {
    "kind": ("version", "--quiet"),
    "helm": ("version", "--template={{.Version}}"),
    "kubectl": ("version", "--client", "--output=json"),
}
"""How each says its version."""


def kind(origin: Origin) -> Path:
    """The program that makes nodes."""
    return _found_or_built("kind", origin)


def helm(origin: Origin) -> Path:
    """The program that installs charts."""
    return _found_or_built("helm", origin)


def kubectl(origin: Origin, engine: Engine, node: str, folder: Path) -> Path:
    """The program that talks to the API server.

    Args:
        node: a node that has it.
        folder: where a copy of the node's is kept.
    """
    if origin is Origin.LOCAL:
        return gobuild.binary("kubectl")
    return on_path("kubectl") or _of_node(engine, node, folder / "kubectl")


def _found_or_built(name: str, origin: Origin) -> Path:
    return (on_path(name) if origin is Origin.UPSTREAM else None) or gobuild.binary(name)


def _of_node(engine: Engine, node: str, file: Path) -> Path:
    if not file.exists():
        source = engine.exec(node, "sh", "-c", 'readlink -f "$(command -v kubectl)"').strip()
        unfinished = file.with_suffix(".unfinished")
        engine.run("cp", f"{node}:{source}", unfinished)
        unfinished.rename(file)
    return file


@cache
def on_path(name: str) -> Path | None:
    """A program that the machine has in a version that fits."""
    found = shutil.which(name)
    if not found:
        return None
    try:
        said = run(found, *ASKING[name], timeout=20)
    except ClusterError:
        return None
    return Path(found) if fits(name, said) else None


def fits(name: str, said: str) -> bool:
    """Whether a program of the version that it said may be used.

    kind and helm: the pinned major version, and no older minor. kubectl: at most one minor version off the server.
    """
    version = _version(said)
    if version is None:
        return False
    if name == "kubectl":
        major, minor = _pinned(versions().kubernetes)
        return version[0] == major and abs(version[1] - minor) <= 1
    pinned = _pinned(versions().kind if name == "kind" else versions().helm)
    return version[0] == pinned[0] and version >= pinned


def _version(said: str) -> Version | None:
    found = re.search(r"(\d+)\.(\d+)\.\d+", said)
    return (int(found[1]), int(found[2])) if found else None


def _pinned(version: str) -> Version:
    major, minor, _ = version.split(".")
    return int(major), int(minor)
