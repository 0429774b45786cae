"""Images as OCI archives: what ``ctr``, ``podman`` and ``docker`` import without a registry."""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slipway_cluster import paths
from slipway_cluster.images.layers import Layer, blob_path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Image:
    """An image: layers from the lowest to the highest, and how it starts.

    Attributes:
        names: full references, each with a tag.
        user: numeric ``UID:GID``; empty for root.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    environment: tuple[str, ...] = ()
    stop_signal: str = ""

    @cached_property
    def blobs(self) -> tuple[str, ...]:
        """Digests of everything it consists of: its manifest, its configuration, its layers."""
        config = _store(self._config())
        manifest = _store(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _descriptor(CONFIG, config),
                "layers": [_descriptor(LAYER, layer.digest) for layer in self.layers],
            }
        )
        return (manifest, config, *dict.fromkeys(layer.digest for layer in self.layers))

    @property
    def manifest(self) -> str:
        """The digest that identifies it."""
        return self.blobs[0]

    def _config(self) -> dict[str, Any]:
        start: dict[str, Any] = {"Env": [f"PATH={PATH}", *self.environment], "WorkingDir": "/"}
        if self.entrypoint:
            start["Entrypoint"] = list(self.entrypoint)
        if self.command:
            start["Cmd"] = list(self.command)
        if self.user:
            start["User"] = self.user
        if self.stop_signal:
            start["StopSignal"] = self.stop_signal
        return {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": start,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in self.layers]},
            "history": [{"created_by": "slipway"} for _ in self.layers],
        }


@contextmanager
def layout(images: Collection[Image], without: Collection[str] = ()) -> Iterator[Path]:
    """A folder in OCI's image layout, for as long as it is needed; it also says what `docker load` asks for.

    Args:
        without: digests of blobs the reader has already; content it has need not travel again.
    """
    with tempfile.TemporaryDirectory(prefix="outbox-", dir=paths.cache_folder("outbox")) as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest in {digest for image in images for digest in image.blobs} - set(without):
            os.link(blob_path(digest), blobs / digest)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (folder / "index.json").write_text(json.dumps(_index(images)))
        (folder / "manifest.json").write_text(json.dumps([_docker_entry(image) for image in images]))
        yield folder


def _index(images: Collection[Image]) -> dict[str, Any]:
    manifests = [
        _descriptor(MANIFEST, image.manifest)
        | {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}}
        for image in images
        for name in image.names
    ]
    return {"schemaVersion": 2, "manifests": manifests}


def _docker_entry(image: Image) -> dict[str, Any]:
    """An image in the older format, which Docker reads unless it keeps its images in containerd."""
    return {
        "Config": f"blobs/sha256/{image.blobs[1]}",
        "RepoTags": list(image.names),
        "Layers": [f"blobs/sha256/{layer.digest}" for layer in image.layers],
    }


def _descriptor(media_type: str, digest: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": blob_path(digest).stat().st_size}


def _store(value: dict[str, Any]) -> str:
    content = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(content).hexdigest()
    if not (blob := blob_path(digest)).exists():
        unfinished = blob.with_suffix(f".{os.getpid()}.unfinished")
        unfinished.write_bytes(content)
        unfinished.rename(blob)
    return digest
