"""Keys of what is cached: hashes over everything that goes into it."""

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_cluster import paths

KEY_LENGTH = 16


def key_of(*parts: object) -> str:
    """A short hash of values whose ``repr`` tells them apart."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:KEY_LENGTH]


def content_key(files: Iterable[Path]) -> str:
    """A short hash of files' names and contents."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:KEY_LENGTH]


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Let one thread of one process at a time make a thing; the others wait, then find it made."""
    with (paths.cache_folder("locks") / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
