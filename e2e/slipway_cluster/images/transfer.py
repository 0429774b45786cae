"""Getting images onto running nodes."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slipway_cluster import paths
from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.images import archive
from slipway_cluster.images.archive import Image
from slipway_cluster.kind import OUTBOX

CTR = ("ctr", "--namespace", "k8s.io")


def load(engine: Engine, nodes: Sequence[str], images: Sequence[Image]) -> list[str]:
    """Put images on nodes; returns the nodes that lacked some.

    Only content that is nowhere on a node travels there: after a change of code that is one thin layer.
    """
    with ThreadPoolExecutor() as pool:
        lacking = {
            node: missing
            for node, missing in zip(nodes, pool.map(lambda node: _missing(engine, node, images), nodes), strict=True)
            if missing
        }
        if not lacking:
            return []
        wanted = list({image.manifest: image for missing in lacking.values() for image in missing}.values())
        present = set.intersection(*pool.map(lambda node: _content(engine, node), lacking))
        with archive.layout(wanted, without=present) as layout:
            script = f"tar -C {OUTBOX}/{layout.name} -cf - . | {' '.join(CTR)} images import -"
            list(pool.map(lambda node: engine.exec(node, "sh", "-c", script, timeout=600), lacking))
    return list(lacking)


def _missing(engine: Engine, node: str, images: Sequence[Image]) -> list[Image]:
    listed = [line.split() for line in engine.exec(node, *CTR, "images", "ls").splitlines()[1:]]
    found = {(fields[0], fields[2].removeprefix("sha256:")) for fields in listed if len(fields) > 2}
    return [image for image in images if not {(name, image.manifest) for name in image.names} <= found]


def _content(engine: Engine, node: str) -> set[str]:
    return {line.removeprefix("sha256:") for line in engine.exec(node, *CTR, "content", "ls", "--quiet").split()}


def load_from_engine(engine: Engine, nodes: Sequence[str], names: Sequence[str]) -> list[str]:
    """Put images that the container engine has on the nodes that lack one of their names."""
    lacking = [node for node in nodes if not set(names) <= _names(engine, node)]
    if not lacking:
        return []
    for name in names:
        if not engine.has_image(name):
            raise ClusterError(f"{engine.name} has no image {name!r}: build or pull it first, with its full name.")
    with tempfile.TemporaryDirectory(prefix="outbox-", dir=paths.cache_folder("outbox")) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        engine.save(names, folder / "image.tar")
        command = (*CTR, "images", "import", f"{OUTBOX}/{folder.name}/image.tar")
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: engine.exec(node, *command, timeout=600), lacking))
    return lacking


def _names(engine: Engine, node: str) -> set[str]:
    return set(engine.exec(node, *CTR, "images", "ls", "--quiet").split())
