"""Errors as the API server states them: a gRPC code, a message with its history, and what a person may see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfp_server_api.models import GoogleRpcStatus, ProtobufAny

from kfpcontract.contract import Contract

CODES: Mapping[str, tuple[int, int]] = {
    "InvalidArgument": (3, 400),
    "DeadlineExceeded": (4, 504),
    "NotFound": (5, 404),
    "AlreadyExists": (6, 409),
    "PermissionDenied": (7, 403),
    "ResourceExhausted": (8, 429),
    "FailedPrecondition": (9, 400),
    "Aborted": (10, 409),
    "Unimplemented": (12, 501),
    "Internal": (13, 500),
    "Unavailable": (14, 503),
    "Unauthenticated": (16, 401),
}
"""gRPC code and HTTP status by name, as the gateway translates them."""

_CONTRACT = Contract()
_EXTERNAL = {"Internal": "Internal Server Error", "Unavailable": "Service unavailable"}
"""What people may see of errors whose cause is nobody's business."""


class Refused(Exception):
    """An operation that is answered with an error.

    :param name: a name of `CODES`
    :param message: what people see
    :param internal: what went before it, for the log and the message; by default the same
    """

    def __init__(self, name: str, message: str, internal: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.external = _EXTERNAL.get(name, message)
        self.message = internal or f"{name}: {message}"

    @property
    def http(self) -> int:
        """The HTTP status."""
        return CODES[self.name][1]

    def body(self, *, before_2_6: bool = False) -> dict[str, Any]:
        """The gateway's body. Until KFP 2.5 the gateway repeated the message as `error`."""
        code = CODES[self.name][0]
        inner = ProtobufAny(type="type.googleapis.com/google.rpc.Status")
        status = GoogleRpcStatus(code=code, message=self.message, details=[inner])
        found: dict[str, Any] = _CONTRACT.encode(status, "GoogleRpcStatus")
        # An Any is written with the fields of what it holds, here another status.
        found["details"][0] |= _CONTRACT.encode(GoogleRpcStatus(code=code, message=self.external), "GoogleRpcStatus")
        return {"error": self.message, **found} if before_2_6 else found


def not_found(kind: str, name: str) -> Refused:
    """There is none of that name."""
    message = f"{kind} {name} not found"
    return Refused("NotFound", message, f"ResourceNotFoundError: {message}")


def invalid(message: str) -> Refused:
    """The request makes no sense."""
    return Refused("InvalidArgument", message, f"Invalid input error: {message}")
