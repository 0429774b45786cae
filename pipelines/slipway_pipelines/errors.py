"""How a Job says that it cannot do what was asked.

JobError
├── RefusalError      the user's input is at fault: a result with a refusal, exit 0, never tried again
│   └── UserCodeError the team's code raised: the same, exit 3
└── OutageError       something else is at fault: no result, exit 1, tried again by Kubernetes
"""

from __future__ import annotations

from slipway.api.reasons import Reason
from slipway.contracts.jobs import Refusal

MESSAGE_LIMIT = 4096


class JobError(Exception):
    """Base of what a Job raises on purpose; `str()` is a sentence for people."""


class RefusalError(JobError):
    """The input cannot be processed, now or later: `reason` for programs, `message` says field, value and remedy."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def refusal(self) -> Refusal:
        """The form that stands in a result."""
        return Refusal(reason=str(self.reason), message=shorten(self.message, MESSAGE_LIMIT))


class UserCodeError(RefusalError):
    """The team's own code raised an error."""


class OutageError(JobError):
    """A store or database does not answer, or not yet: trying again may help."""


def shorten(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis at the end."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
