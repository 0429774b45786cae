"""What goes wrong with requests, on demand."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Literal

When = Literal["before", "after"]
"""Before the operation has any effect, or when it has had all of it."""


class ServerDied(Exception):
    """The API server's process ended in the middle of an operation: the connection breaks, what was done stays."""


@dataclass
class Fault:
    """One thing that goes wrong.

    :param operations: pattern of the operations' names, such as `run_service_*`
    :param times: how often it happens; None: always
    :param skip: matching requests that go well before
    :param when: before or after the effect
    :param status: answer with this HTTP status
    :param body: text of the answer, as proxies in front of the API write it; empty: the gateway's JSON
    :param content_type: of `body`
    :param retry_after: header of the answer
    :param drop: break the connection
    :param seconds: first wait so long
    :param dies_between: the server dies between the Workflow and the database's row
    """

    operations: str = "*"
    times: int | None = 1
    skip: int = 0
    when: When = "before"
    status: int = 0
    body: str = ""
    content_type: str = "text/plain"
    retry_after: str = ""
    drop: bool = False
    seconds: float = 0.0
    dies_between: bool = False
    happened: int = field(default=0, init=False)

    def takes(self, operation: str) -> bool:
        """Whether it happens to this request; counts it."""
        if not fnmatch.fnmatchcase(operation, self.operations) or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.happened += 1
        return True


class Faults:
    """The faults that are to happen. The first that fits a request happens to it, and no other."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Have it happen from now on."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    def of(self, operation: str) -> Fault | None:
        """What happens to a request, if anything does."""
        return next((fault for fault in self._faults if fault.takes(operation)), None)


# Faults by the names that people know them under.


def unavailable(operations: str = "*", times: int | None = 1, retry_after: str = "") -> Fault:
    """503, as the gateway answers while the gRPC server restarts."""
    return Fault(operations, times, status=503, retry_after=retry_after)


def broken(operations: str = "*", times: int | None = 1, when: When = "before") -> Fault:
    """500: an error of the database, before or after the effect."""
    return Fault(operations, times, status=500, when=when)


def forbidden(operations: str = "*", times: int | None = None) -> Fault:
    """403 as a service mesh answers it, which is no JSON."""
    return Fault(operations, times, status=403, body="RBAC: access denied")


def login_page(operations: str = "*", times: int | None = None) -> Fault:
    """200 with a page for people: what an authenticating proxy answers to a request without a session."""
    page = "<!doctype html><html><title>Sign in</title></html>"
    return Fault(operations, times, status=200, body=page, content_type="text/html")


def dropped(operations: str = "*", times: int | None = 1, when: When = "before") -> Fault:
    """The connection breaks before or after the effect."""
    return Fault(operations, times, when=when, drop=True)


def slow(seconds: float, operations: str = "*", times: int | None = 1, when: When = "before") -> Fault:
    """The answer comes late; with `after` the effect does not."""
    return Fault(operations, times, when=when, seconds=seconds)


def dies_between_workflow_and_row(times: int | None = 1) -> Fault:
    """The server makes the Workflow and dies before it has written the run."""
    return Fault("run_service_create_run", times, dies_between=True)
