"""File systems that stay unpacked in the cache, because other layers are made on top of them."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway_cluster import keys, paths
from slipway_cluster.images import debian, layers
from slipway_cluster.images.layers import Layer


@dataclass(frozen=True)
class FileSystem:
    """Stacked folders and the layers they pack to, from the lowest to the highest."""

    key: str
    folders: tuple[Path, ...]
    layers: tuple[Layer, ...]


def base(release: str, packages: Sequence[str]) -> FileSystem:
    """A small Debian."""
    key = keys.key_of("base", release, tuple(packages), debian.SLIPWAY_USER)
    return _made("base", key, None, lambda folder: debian.make_base(folder, release, packages))


def with_packages(name: str, below: FileSystem, release: str, packages: Sequence[str], before: str = "") -> FileSystem:
    """A file system with further Debian packages; ``before`` is shell that runs before they are installed."""
    key = keys.key_of(name, below.key, release, tuple(packages), before, debian.APT_OPTIONS)
    return _made(
        name, key, below, lambda folder: debian.install(below.folders, folder, release, packages, before=before)
    )


def _made(name: str, key: str, below: FileSystem | None, make: Callable[[Path], None]) -> FileSystem:
    folder = paths.cache_folder("rootfs") / f"{name}-{key}"
    note = folder.with_suffix(".json")
    with keys.lock(f"rootfs-{name}"):
        if not (note.exists() and layers.blob_path(json.loads(note.read_text())["digest"]).exists()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            layers.remember(note, layers.pack(folder))
    layer = Layer(**json.loads(note.read_text()))
    return FileSystem(
        key,
        folders=(*(below.folders if below else ()), folder),
        layers=(*(below.layers if below else ()), layer),
    )
