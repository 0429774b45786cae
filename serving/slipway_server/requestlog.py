"""What became of each prediction request: one log line, and the last few thousand kept for `slipway why REQUEST_ID`."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slipway_server.abstaining import Decision

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
_MAX_ID = 128
_MAX_CONSUMER = 512
"""`system:serviceaccount:NAMESPACE:NAME` has at most 339 characters."""


@dataclass(frozen=True)
class Answer:
    """What the model saw and said: values by input, where those of features came from, a probability an instance.

    :param decisions: what clients were told
    """

    columns: Mapping[str, Sequence[Any]]
    origins: Mapping[str, Sequence[str]]
    probabilities: Sequence[float]
    decisions: Sequence[Decision]


@dataclass
class RequestRecord:
    """One prediction request. `features` says for each feature column where its values came from, with counts.

    `consumer` is the caller as the gateway calls it, where a rollout declares its consumers. `sources` counts who
    answered its instances, where the model may abstain.
    """

    id: str
    version: str
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    status: int = 0
    milliseconds: float = 0.0
    instances: int = 0
    inputs_digest: str | None = None
    features: dict[str, dict[str, int]] = field(default_factory=dict)
    error: str | None = None
    consumer: str | None = None
    sources: dict[str, int] = field(default_factory=dict)
    answer: Answer | None = None
    """Until the prediction log has taken it; not kept for `slipway why`."""

    def wire(self) -> dict[str, Any]:
        """The JSON form, camelCase."""
        out: dict[str, Any] = {
            "id": self.id,
            "version": self.version,
            "at": self.at,
            "status": self.status,
            "milliseconds": round(self.milliseconds, 3),
            "instances": self.instances,
            "inputsDigest": self.inputs_digest,
            "features": self.features,
        }
        more = {"error": self.error, "consumer": self.consumer, "sources": self.sources}
        return out | {name: value for name, value in more.items() if value}


class RequestLog:
    """The newest records by id; at most `capacity`, the oldest go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._records: OrderedDict[str, RequestRecord] = OrderedDict()

    def add(self, record: RequestRecord) -> None:
        """Keep a record; a later one of the same id replaces it."""
        self._records.pop(record.id, None)
        self._records[record.id] = record
        while len(self._records) > self._capacity:
            self._records.popitem(last=False)

    def get(self, request_id: str) -> RequestRecord | None:
        """The record of a request, when it is still kept."""
        return self._records.get(request_id)


def request_id(header: str | None) -> str:
    """The client's id when it is safe to log and to put in a URL, or a new one."""
    if header and len(header) <= _MAX_ID and _ID_CHARACTERS.issuperset(header):
        return header
    return uuid.uuid4().hex


def consumer_of(header: str | None) -> str | None:
    """The caller that the gateway names, when it is safe to log and to count by."""
    return header if header and len(header) <= _MAX_CONSUMER and _ID_CHARACTERS.issuperset(header) else None


_current: ContextVar[RequestRecord] = ContextVar("slipway_request")


def begin(record: RequestRecord) -> None:
    """Make `record` the one of the running request."""
    _current.set(record)


def current() -> RequestRecord:
    """The record of the running request. LookupError outside of one."""
    return _current.get()
