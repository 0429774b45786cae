"""Layers: tar files named by the digest of their content, each made once.

A layer is asked for by a key over everything that goes into it. ``layers/KEY.json`` in the cache remembers which blob
that gave; the blob itself is ``blobs/DIGEST``.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway_cluster import keys, paths
from slipway_cluster.errors import ClusterError

BLOCK = 1 << 20
KEPT_NOTES = 2
YOUNG_SECONDS = 3600


@dataclass(frozen=True)
class Layer:
    """One layer: the SHA-256 of its uncompressed tar file, and its size in bytes."""

    digest: str
    size: int

    @property
    def blob(self) -> Path:
        """The tar file."""
        return blob_path(self.digest)


@dataclass(frozen=True)
class Files:
    """A file or folder that goes into a layer.

    Attributes:
        target: where it appears, without a leading slash.
        link: what it points to, for a symbolic link without a source.
    """

    target: str
    source: Path | None = None
    link: str = ""
    mode: int = 0o755


def blob_path(digest: str) -> Path:
    """Where the cache keeps a blob."""
    return paths.cache_folder("blobs") / digest


def cached(name: str, key: str, make: Callable[[Path], None]) -> Layer:
    """The layer of a key; ``make`` fills an empty folder with its content if it was never made before."""
    remembered = paths.cache_folder("layers") / f"{name}-{key}.json"
    if layer := _remembered(remembered):
        return layer
    with keys.lock(f"layer-{name}"):
        if layer := _remembered(remembered):
            return layer
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=paths.cache_folder("work")) as folder:
            content = Path(folder) / "content"
            content.mkdir()
            make(content)
            return remember(remembered, pack(content))


def remember(file: Path, layer: Layer) -> Layer:
    """Note which blob a key gave, last of all, so that a note never points to nothing."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"digest": layer.digest, "size": layer.size}))
    unfinished.rename(file)
    return layer


def _remembered(file: Path) -> Layer | None:
    if not file.exists():
        return None
    layer = Layer(**json.loads(file.read_text()))
    return layer if layer.blob.exists() else None


def of_files(name: str, files: Iterable[Files]) -> Layer:
    """A layer of files, keyed by their content."""
    listed = tuple(files)
    sources = [entry.source for entry in listed if entry.source]
    key = keys.key_of(
        [(entry.target, entry.link, entry.mode) for entry in listed],
        keys.content_key(file for source in sources for file in _regular_files(source)),
    )
    return cached(name, key, lambda folder: _place(folder, listed))


def _regular_files(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())


def _place(folder: Path, files: Iterable[Files]) -> None:
    for entry in files:
        target = folder / entry.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.source is None:
            if entry.link:
                target.symlink_to(entry.link)
            else:
                target.mkdir(exist_ok=True)
                target.chmod(entry.mode)
        elif entry.source.is_dir():
            shutil.copytree(entry.source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(entry.source, target)
            target.chmod(entry.mode)
    # Modules are read-only in Go's cache, and times differ between machines: neither is to show.
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink() and path.stat().st_mode & 0o700 != 0o700:
            path.chmod(0o755)
        os.utime(path, (0, 0), follow_symlinks=False)


def prune() -> None:
    """Remove content that no remembered layer refers to, and notes of layers that newer ones replaced.

    Of a layer's notes the newest two stay: one may belong to the state a person just came from.
    """
    notes: dict[str, list[Path]] = {}
    for note in paths.cache_folder("layers").glob("*.json"):
        notes.setdefault(note.name.rpartition("-")[0], []).append(note)
    for same in notes.values():
        for outdated in sorted(same, key=lambda note: note.stat().st_mtime)[:-KEPT_NOTES]:
            outdated.unlink()
    remembered = [*paths.cache_folder("layers").glob("*.json"), *paths.cache_folder("rootfs").glob("*.json")]
    used = {json.loads(note.read_text())["digest"] for note in remembered}
    for blob in paths.cache_folder("blobs").iterdir():
        # A young one may be on its way into an image, here or in another process.
        if blob.name not in used and time.time() - blob.stat().st_mtime > YOUNG_SECONDS:
            blob.unlink()


def pack(content: Path) -> Layer:
    """Write a folder, as overlayfs leaves it, as a blob.

    What overlayfs notes as deleted becomes the empty ``.wh.NAME`` files that images have instead.
    """
    with tempfile.TemporaryDirectory(dir=paths.cache_folder("work")) as temporary:
        folder = Path(temporary)
        markers, excluded = folder / "markers", folder / "excluded"
        markers.mkdir()
        excluded.write_text("".join(f"./{path}\n" for path in _mark_deleted(content, markers)))
        unfinished = folder / "layer.tar"
        command = [
            *("tar", "-c", "--sort=name", "--format=posix", "--pax-option=delete=atime,delete=ctime"),
            *("--numeric-owner", "--no-wildcards", "--anchored", f"--exclude-from={excluded}"),
            *("-C", str(content), "."),
        ]
        if names := _names(markers):
            command += ["-C", str(markers), *names]
        digest, size = _write_hashed(command, unfinished)
        if not (blob := blob_path(digest)).exists():
            unfinished.rename(blob)
        return Layer(digest, size)


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _mark_deleted(content: Path, markers: Path) -> list[Path]:
    """Write a marker for everything deleted, and say which paths only say so."""
    deleted = []
    for parent, folders, files in os.walk(content):
        relative = Path(parent).relative_to(content)
        for name in files:
            status = (Path(parent) / name).lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                deleted.append(relative / name)
                _touch(markers / relative / f".wh.{name}")
        for name in folders:
            if _is_opaque(Path(parent) / name):
                _touch(markers / relative / name / ".wh..wh..opq")
    return deleted


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (0, 0))


def _write_hashed(command: list[str], file: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as packing, file.open("wb") as output:
        assert packing.stdout
        while block := packing.stdout.read(BLOCK):
            digest.update(block)
            output.write(block)
            size += len(block)
    if packing.returncode:
        raise ClusterError(f"tar failed with code {packing.returncode}: is the disk full?")
    return digest.hexdigest(), size
