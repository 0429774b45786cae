"""Running other programs, with failures that read as sentences."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from slipway_cluster.errors import ClusterError

TAIL_LINES = 12
"""How much of a failed program's output goes into the message."""


def run(
    *arguments: str | Path,
    input: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600,
    log: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed.

    Args:
        input: what it reads from its standard input.
        env: variables added to this process's own.
        timeout: seconds after which it is killed.
        log: file that receives both output streams instead of the result.

    Raises:
        ClusterError: it is missing, failed or took too long; the message ends with the last lines it wrote.
    """
    command = [str(argument) for argument in arguments]
    data = input.encode() if isinstance(input, str) else input
    sink = log.open("wb") if log else None
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command,
            # An empty input, and not ours: no program is to read the user's terminal.
            input=data or b"",
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"The program {command[0]!r} is not installed.") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{_short(command)} did not finish within {timeout:.0f} s.") from error
    finally:
        if sink:
            sink.close()
    if done.returncode:
        written = log.read_bytes() if log else done.stderr or done.stdout
        raise ClusterError(f"{_short(command)} failed with code {done.returncode}:\n{tail(written)}")
    return "" if log else done.stdout.decode(errors="replace")


def succeeds(*arguments: str | Path, timeout: float = 60) -> bool:
    """Whether a program runs and returns 0."""
    try:
        run(*arguments, timeout=timeout)
    except ClusterError:
        return False
    return True


def tail(output: bytes, lines: int = TAIL_LINES) -> str:
    """The last lines of a program's output, indented."""
    return "\n".join(f"  {line}" for line in output.decode(errors="replace").strip().splitlines()[-lines:])


def _short(command: list[str]) -> str:
    return " ".join(command[:4]) + (" …" if len(command) > 4 else "")
