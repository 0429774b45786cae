"""Around every request: its id, the version's name, one log line and one record, and a drain's `Connection: close`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from slipway.contracts import callers
from slipway.contracts.sessions import parse as parse_session
from slipway_server import metrics
from slipway_server.drain import Drain
from slipway_server.predictionlog import PredictionLog
from slipway_server.requestlog import RequestLog, RequestRecord, begin, consumer_of, request_id

log = logging.getLogger("slipway.access")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Tracing:
    """ASGI middleware; see the module. An exception that nobody handled is answered here, without its traceback."""

    def __init__(
        self, app: App, *, version: str, requests: RequestLog, drain: Drain, predictions: PredictionLog | None
    ) -> None:
        self._app = app
        self._predictions = predictions
        self._version = version
        self._requests = requests
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(id=request_id(_header(scope, b"x-request-id")), version=self._version)
        record.consumer = consumer_of(_caller(scope))
        begin(record)
        started = time.perf_counter()
        prediction = scope["method"] == "POST" and scope["path"].endswith((":predict", "/infer"))
        with self._drain.request(counts=prediction):
            await self._run(record, scope, receive, self._sender(scope, record, send))
        if prediction:
            record.milliseconds = (time.perf_counter() - started) * 1000
            metrics.REQUESTS.labels(str(record.status)).observe(record.milliseconds / 1000)
            if record.consumer:
                metrics.count_consumer(record.consumer, record.status)
            if self._predictions is not None:
                self._predictions.offer(record, scope["headers"])
            record.answer = None  # the record is kept for a while, the answer need not be
            self._requests.add(record)
            log.info("prediction", extra={"fields": record.wire()})

    async def _run(self, record: RequestRecord, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("A request failed", extra={"fields": {"id": record.id}})
            if record.status:
                raise
            record.error = f"The server failed on this request: its log says why under request id {record.id}."
            body = json.dumps({"error": record.error}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _sender(self, scope: Scope, record: RequestRecord, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *self._headers(record),
                    *self._session(scope, record),
                ]
            await send(message)

        return wrapped

    def _session(self, scope: Scope, record: RequestRecord) -> list[tuple[bytes, bytes]]:
        """The cookie that keeps the client here, where the gateway asks for one that it does not have yet."""
        session = parse_session(_header(scope, b"x-slipway-session") or "")
        if session is None or record.status >= 500:
            return []
        mine = f"{session.name}={session.value(self._version)}"
        if mine in (_header(scope, b"cookie") or ""):
            return []
        return [(b"set-cookie", session.cookie(self._version).encode())]

    def _headers(self, record: RequestRecord) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-slipway-version", self._version.encode()), (b"x-request-id", record.id.encode())]
        return [*headers, (b"connection", b"close")] if self._drain.started else headers


def _caller(scope: Scope) -> str | None:
    """Who the gateway says has called; where a transformer stands between, in the header that it passes on."""
    named = (_header(scope, each.encode()) for each in (callers.CLIENT_HEADER, callers.SUBJECT_HEADER))
    return next(filter(None, named), None) or callers.carried(_header(scope, callers.CARRIER_HEADER.encode()))


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None
