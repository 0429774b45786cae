"""The steady client: a process that sends real flights and counts every answer."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from slipway_demo.install import EXAMPLE, ROOT

RUNNER_PYTHON = ROOT / ".venv-runner" / "bin" / "python"


def flights(*arguments: str, environment: dict[str, str] | None = None, timeout: float = 300) -> str:
    """Runs one of the example's commands, `python -m flights.…`, and returns what it printed.

    CalledProcessError has what it said when it failed.
    """
    done = subprocess.run(
        [str(RUNNER_PYTHON), "-m", *arguments],
        cwd=EXAMPLE,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise RuntimeError(f"python -m {' '.join(arguments)} exited {done.returncode} and said: {said[0]}")
    return done.stdout


class SteadyClient:
    """Sends requests at a constant rate until it is stopped; `counts` is what it has counted so far."""

    def __init__(self, *arguments: str) -> None:
        self.counts: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [str(RUNNER_PYTHON), "-m", "flights.client", *arguments],
            cwd=EXAMPLE,
            env=_environment(None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="client", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.counts = json.loads(line)

    def stop(self, timeout: float = 20) -> dict[str, Any]:
        """Ends it; returns its last count, in which every request that was sent has its answer."""
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError("The steady client did not stop when it was asked to.") from None
        self._reader.join(timeout)
        return self.counts


def _environment(extra: dict[str, str] | None) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(EXAMPLE), **(extra or {})}


def bucket_arguments(url: str, bucket: str = "slipway") -> tuple[str, ...]:
    """Options of the loader that name the store."""
    return ("--endpoint", url, "--bucket", bucket)


def example_manifests() -> Path:
    """What the example's team writes."""
    return EXAMPLE / "manifests"
