"""Errors that become an answer or an exit, each with one sentence for people.

ServingError
├── StartError    the process cannot serve this model: exit 1
└── Refused       a request gets this status and sentence
"""

from __future__ import annotations


class ServingError(Exception):
    """Base: `str(error)` is a sentence that a user may read."""


class StartError(ServingError):
    """The server cannot start; KServe shows the sentence as the load failure."""


class Refused(ServingError):
    """A request that is answered with `status` and the sentence; `detail` is for the log and the record only."""

    def __init__(self, status: int, sentence: str, *, detail: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.detail = detail
