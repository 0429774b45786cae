"""How a task says why it failed: one line of its output that begins with a mark, and exit code 3.

A container of any engine can print a line and end; it needs neither the store nor a result of its own. Where a task has
a container of its own, what starts it may swallow the exit code: there the same words are the termination message.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from slipway.api.reasons import Reason
from slipway.contracts.stages import TERMINATION_LOG
from slipway_pipelines.errors import OutageError, RefusalError, UserCodeError, shorten

MARK = "slipway-refusal: "
EXIT_REFUSED = 3
TERMINATION_LIMIT = 2048
"""Characters of a message; Kubernetes keeps 4096 bytes of a termination message, 12 KiB of a whole pod."""

P = ParamSpec("P")


def task(function: Callable[P, None]) -> Callable[P, None]:
    """Ends the process with the mark and a sentence where `function` refuses, and with a sentence in an outage."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except RefusalError as refusal:
            told = {
                "reason": str(refusal.reason),
                "message": refusal.message,
                "userCode": isinstance(refusal, UserCodeError),
            }
            print(f"\n{MARK}{json.dumps(told)}", flush=True)
            _leave({**told, "message": shorten(refusal.message, TERMINATION_LIMIT)})
            sys.exit(EXIT_REFUSED)
        except OutageError as outage:
            print(f"\noutage: {outage}", flush=True)
            _leave({"reason": str(Reason.PlatformUnavailable), "message": shorten(str(outage), TERMINATION_LIMIT)})
            sys.exit(1)

    return run


def _leave(told: dict[str, object]) -> None:
    """The words as the container's termination message, where the engine wants one; the output has them in any case."""
    path = os.environ.get(TERMINATION_LOG)
    if path:
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(told))


def parse(line: str) -> RefusalError | None:
    """The refusal that a line of a task's output tells, or None."""
    if not line.startswith(MARK):
        return None
    try:
        told = json.loads(line.removeprefix(MARK))
        kind = UserCodeError if told["userCode"] else RefusalError
        return kind(Reason[told["reason"]], str(told["message"]))
    except (ValueError, KeyError, TypeError):
        return None
