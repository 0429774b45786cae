"""DuckDB connections that can touch one folder and nothing else."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

CGROUP = Path("/sys/fs/cgroup")
MEMORY_SHARE = 0.6
"""Share of the container's memory that DuckDB may use; the rest is Python's, and the page cache's."""
UNBOUNDED = 1 << 60


@dataclass(frozen=True)
class Limits:
    """What this container may use: `threads` CPUs, `memory` bytes."""

    threads: int
    memory: int


def container_limits(cgroup: Path = CGROUP) -> Limits:
    """CPU and memory limits from the control group (version 2, then 1), and from the machine where there is none."""
    memory = _first_number(cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Limits(threads=_cpus(cgroup), memory=min(memory or physical, physical))


def _cpus(cgroup: Path) -> int:
    available = len(os.sched_getaffinity(0))
    try:
        quota, _, period = (cgroup / "cpu.max").read_text().partition(" ")
    except OSError:
        quota, period = _read(cgroup / "cpu" / "cpu.cfs_quota_us"), _read(cgroup / "cpu" / "cpu.cfs_period_us")
    if not quota.strip().isdigit() or not period.strip().isdigit():
        return available
    return max(1, min(available, -(-int(quota) // int(period))))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _first_number(*paths: Path) -> int | None:
    for path in paths:
        text = _read(path).strip()
        if text.isdigit() and int(text) < UNBOUNDED:
            return int(text)
    return None


@contextmanager
def sandbox(
    folder: Path, *, threads: int, memory: int, tables_on_disk: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that reads and writes files below `folder` only, in UTC, with `memory` bytes and `threads` threads.

    No network, no extensions, no other files, and no way for a statement to change that: user SQL runs here. One thread
    gives the same bytes for the same rows. With `tables_on_disk`, tables may be larger than `memory`: a file has them,
    which stays behind in the folder.
    """
    spill = folder / f".spill-{uuid.uuid4().hex}"
    connection = duckdb.connect(
        str(folder / f".tables-{uuid.uuid4().hex}") if tables_on_disk else ":memory:",
        config={
            "threads": str(threads),
            "memory_limit": f"{max(64, memory >> 20)}MiB",
            "temp_directory": str(spill),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
        },
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_directories = [{literal(str(folder))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


def name(identifier: str) -> str:
    """A quoted identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted string."""
    return "'" + text.replace("'", "''") + "'"


def one_line(error: duckdb.Error) -> str:
    """DuckDB's message without its class, candidates and position: the one line that a person needs."""
    line = str(error).strip().splitlines()[0]
    head, separator, tail = line.partition(" Error: ")
    return tail if separator and " " not in head.strip() else line
