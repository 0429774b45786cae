"""How a task says why it failed: one line of its output that begins with a mark, and exit code 3.

A container of any engine can print a line and end; it needs neither the store nor a result of its own.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import ParamSpec

from slipway.api.reasons import Reason
from slipway_pipelines.errors import OutageError, RefusalError, UserCodeError

MARK = "slipway-refusal: "
EXIT_REFUSED = 3

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
            sys.exit(EXIT_REFUSED)
        except OutageError as outage:
            print(f"\noutage: {outage}", flush=True)
            sys.exit(1)

    return run


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
