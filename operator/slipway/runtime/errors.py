"""What can go wrong, and what each error means for the object that is being reconciled.

    Exception
    ├── UserError            the user must change something     condition, no retry until the spec changes
    ├── MissingDependency    something else must appear first   condition, retried with backoff, woken by the watch
    ├── Unavailable          a service does not answer          backoff; a condition after some tries
    ├── ApiError             the Kubernetes API said no
    │   ├── NotFound         404
    │   ├── AlreadyExists    409, the name is taken
    │   ├── Conflict         409, someone wrote in between      retried at once
    │   ├── Forbidden        403, RBAC, quota, Pod Security     condition and backoff
    │   ├── Invalid          400, 422, admission said no        condition and backoff
    │   └── Expired          410, the list or watch is too old
    └── Fenced               this process is no longer leader   nothing is written

Anything else is a defect: a traceback in the operator's log, the condition `InternalError`, and backoff.
"""

from __future__ import annotations


class UserError(Exception):
    """The user's spec cannot be fulfilled as it is.

    :param reason: CamelCase word for the condition
    :param message: a sentence that names field, value and remedy
    :param field: path of the field, e.g. `spec.steps[2].setWeight`; put before the message
    """

    def __init__(self, reason: str, message: str, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.reason = reason
        self.message = str(self)
        self.field = field


class MissingDependency(Exception):
    """Something that the object refers to does not exist or is not ready yet."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Unavailable(Exception):
    """A service (the API server, S3, a pipeline engine) did not answer, or asked to come back later.

    :param retry_after: seconds the service asked for, or None
    """

    def __init__(self, message: str, *, reason: str = "Unavailable", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Fenced(Exception):
    """A write was refused because this process may no longer be the leader."""


class ApiError(Exception):
    """The Kubernetes API answered with an error.

    :param status: HTTP status code
    :param reason: the API's own word, e.g. `NotFound`
    :param message: the API's own sentence
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):
    """There is no such object (or no such type)."""


class AlreadyExists(ApiError):
    """An object of that name exists."""


class Conflict(ApiError):
    """The object changed since it was read, or a precondition does not hold."""


class Forbidden(ApiError):
    """RBAC, a quota or Pod Security does not allow it."""


class Invalid(ApiError):
    """Schema, CEL or an admission webhook rejected the object; `message` says why."""


class Expired(ApiError):
    """The list's continuation or the watch's resource version is too old."""
