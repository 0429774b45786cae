"""Keeping credentials and verdicts away from the team's code and from what a model runs when it is unpickled.

Such code runs in a process of its own, with a short list of environment variables, in a session of its own that is
killed as a whole when it has answered. Processes that do hold credentials make themselves unreadable to others of the
same user: neither `/proc/PID/environ` nor `ptrace` shows them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from slipway.contracts.stages import FEAST_VARIABLES, STORE_VARIABLES, TaskInfo

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_CREDENTIALS = (STORE_VARIABLES, FEAST_VARIABLES, "AWS_")
_HARMLESS = frozenset({"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV"})


def become_unreadable() -> None:
    """Makes this process's memory and environment unreadable to other processes of the same user."""
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its children leave behind, so that it can be killed."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def task_environment(task: TaskInfo, extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with exactly the credentials that a task needs."""
    allowed = [prefix for prefix, given in ((STORE_VARIABLES, task.store), (FEAST_VARIABLES, task.feast)) if given]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_CREDENTIALS) or name.startswith(tuple(allowed))
    }
    return {**kept, **extra}


def bare_environment() -> dict[str, str]:
    """An environment for code that nobody trusts: where programs are, and how many threads to use."""
    return {name: value for name, value in os.environ.items() if name in _HARMLESS or name.endswith("_NUM_THREADS")}


@contextlib.contextmanager
def untrusted(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the bare environment, its output in `log`; in the end it and all that it started are killed."""
    adopt_orphans()
    ours = set(_children(os.getpid()))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _kill_orphans(ours)


def _kill_orphans(ours: set[int]) -> None:
    """Kills what the process left behind outside of its session: orphans, which have this process as their parent."""
    while orphans := set(_children(os.getpid())) - ours:
        for child in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children(parent: int) -> list[int]:
    """Processes whose parent is `parent`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def last_line(log: Path, limit: int = 500) -> str:
    """The last line of a process's output that is not empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:limit] if lines else "it said nothing"


def peak_memory(pid: int | None = None) -> float:
    """Peak resident memory of a process in MiB (`VmHWM`). OSError when it has ended."""
    return _status("VmHWM", pid)


def memory(pid: int | None = None) -> float:
    """Resident memory of a process in MiB (`VmRSS`). OSError when it has ended."""
    return _status("VmRSS", pid)


def _status(field: str, pid: int | None) -> float:
    for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise OSError(f"process {pid} has no {field}: it has ended")
