"""Controllers as processes of this machine, and what they cost."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 20.0


class Controller:
    """A running controller; its log goes to a file.

    :param command: program and arguments
    """

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self._log = log
        self._name = Path(command[0]).name
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is ours to handle, in order.
                start_new_session=True,
            )

    def check(self) -> None:
        """:raises RuntimeError: the controller ended by itself; the message ends with its log"""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._name} ended:\n{self._log.read_text(errors='replace')[-2000:]}")

    def cpu_seconds(self) -> float:
        """Processor time so far, of user and system."""
        self.check()
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        after_name = text[text.rindex(")") + 2 :].split()
        return (int(after_name[11]) + int(after_name[12])) / _TICKS

    def peak_mebibytes(self) -> float:
        """The most memory that was resident at a time."""
        self.check()
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise LookupError("the kernel does not tell VmHWM")

    def kill(self) -> None:
        """End at once, as a lost node does: nothing is given up or said."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End in order."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def machine() -> dict[str, Any]:
    """What a reader has to know of the machine: processors, kernel, and how busy it is."""
    return {
        "processors": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "load": [round(each, 2) for each in os.getloadavg()],
    }
