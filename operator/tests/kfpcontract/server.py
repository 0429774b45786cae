"""The contract server: requests are read by the published client's operations and models, and so are answers written.

`calls` has every request with what became of it. `watchers` are told before and after each; a test that kills the
operator at a request does it there, and raises `ServerDied` before a request that is to have no effect. `remarks` has
what a real server would overlook and a test should not: unknown parameters.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from kfpcontract.backend import Backend
from kfpcontract.contract import Contract, Unfit
from kfpcontract.database import Call
from kfpcontract.faults import Fault, Faults, ServerDied
from kfpcontract.operations import Operation, find
from kfpcontract.pipelines import UploadRefused
from kfpcontract.status import CODES, Refused

Phase = Literal["before", "after"]
Watcher = Callable[[str, Phase], Awaitable[None]]
"""Is told an operation's name, and whether it has had its effect."""

TOKEN_HEADER = "Authorization"
_TRUE = ("1", "t", "true")
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class User:
    """Who has a token.

    :param namespaces: where they may do everything; None: everywhere
    """

    name: str
    namespaces: frozenset[str] | None = None


@dataclass
class Access:
    """Who may ask. With no tokens and no `review` anybody may, as where Kubeflow Pipelines has one user.

    :param tokens: users by token
    :param review: gives the name of a token's user, or None; for tokens of a real API server
    """

    tokens: Mapping[str, User] = field(default_factory=dict)
    review: Callable[[str], Awaitable[str | None]] | None = None

    @property
    def open(self) -> bool:
        """Whether nobody is asked who they are."""
        return not self.tokens and self.review is None

    async def user(self, header: str) -> User:
        """Whose request it is. :raises Refused: Unauthenticated"""
        token = header.removeprefix("Bearer ")
        if not header.startswith("Bearer ") or not token:
            raise Refused("Unauthenticated", "Request header error: there is no user identity header.")
        if token in self.tokens:
            return self.tokens[token]
        name = await self.review(token) if self.review is not None else None
        if name is None:
            raise Refused("Unauthenticated", "Review.Status.Authenticated is false. Error invalid bearer token")
        return User(name)


@dataclass(frozen=True)
class Answered:
    """One request and its answer.

    :param status: HTTP status; 0: the connection was broken
    :param effect: whether the operation was carried out
    """

    operation: str
    status: int
    effect: bool
    request: Any = None


@dataclass(frozen=True)
class _Body:
    """What a request carries."""

    data: Any = None
    file: tuple[str, bytes] | None = None


class ContractServer:
    """Serves a backend.

    :param access: who may ask
    """

    def __init__(self, backend: Backend, access: Access | None = None) -> None:
        self.backend = backend
        self.access = access or Access()
        self.faults = Faults()
        self.calls: list[Answered] = []
        self.remarks: list[str] = []
        self.watchers: list[Watcher] = []
        self.url = ""
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._contract = Contract(backend.settings.lacks)

    @asynccontextmanager
    async def serving(
        self, port: int = 0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator[str]:
        """Serve on loopback while the block runs; gives the URL.

        As with a real one, what a request began is finished though its client is gone.
        """
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=tls)
            await site.start()
            assert site._server is not None
            bound = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            self.url = f"{'https' if tls else 'http'}://{host}:{bound}"
            yield self.url
        finally:
            await runner.cleanup()

    def made(self, operation: str) -> list[Answered]:
        """The requests of one operation."""
        return [each for each in self.calls if each.operation == operation]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        found = find(request.method, request.path) or self._older(request)
        if found is None:
            self.calls.append(Answered(f"{request.method} {request.path}", 404, False))
            return _error(Refused("NotFound", "Not Found"), self.backend.settings.before_2_6)
        operation, places = found
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._operate(request, operation, places, await _body_of(request))
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def rest(self) -> None:
        """Wait until no request is under way, also none whose client is gone."""
        await self._idle.wait()

    async def _operate(
        self, request: web.Request, operation: Operation, places: Mapping[str, str], body: _Body
    ) -> web.StreamResponse:
        fault = self.faults.of(operation.name)
        try:
            await self._tell(operation, "before")
        except ServerDied:
            return self._break(request, operation, body, effect=False)
        spoiled = await self._spoil(request, operation, fault, body, "before")
        if spoiled is not None:
            return spoiled
        effect = False
        try:
            call = await self._call(request, operation, places, body, fault)
            answer = self._written(operation, await self.backend.answer(call))
            effect = True
            response: web.StreamResponse = web.json_response(answer)
        except (Refused, UploadRefused) as refused:
            response = _error(refused, self.backend.settings.before_2_6)
        except ServerDied:
            return self._break(request, operation, body, effect=False)
        spoiled = await self._spoil(request, operation, fault, body, "after") if effect else None
        if spoiled is not None:
            return spoiled
        self.calls.append(Answered(operation.name, response.status, effect, body.data))
        await self._tell(operation, "after")
        return response

    async def _tell(self, operation: Operation, phase: Phase) -> None:
        for watcher in list(self.watchers):
            await watcher(operation.name, phase)

    def _older(self, request: web.Request) -> tuple[Operation, dict[str, str]] | None:
        """A run by the API's version before, where it is served; nothing else of that is."""
        operation = Operation("get_run_v1", "GET", "/apis/v1beta1/runs/{run_id}")
        places = operation.places(request.path) if self.backend.settings.serves_v1beta1 else None
        return None if places is None or request.method != "GET" else (operation, places)

    # Faults

    async def _spoil(
        self, request: web.Request, operation: Operation, fault: Fault | None, body: _Body, phase: Phase
    ) -> web.StreamResponse | None:
        """What a fault makes of a request, or None: it goes on."""
        if fault is None or fault.when != phase or fault.dies_between:
            return None
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        if fault.drop:
            return self._break(request, operation, body, effect=phase == "after")
        if not fault.status:
            return None
        self.calls.append(Answered(operation.name, fault.status, phase == "after", body.data))
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        if fault.body:
            return web.Response(status=fault.status, text=fault.body, content_type=fault.content_type, headers=headers)
        name = next((name for name, (_, http) in CODES.items() if http == fault.status), "Internal")
        return _error(Refused(name, "a fault that a test asked for"), self.backend.settings.before_2_6, headers)

    def _break(self, request: web.Request, operation: Operation, body: _Body, *, effect: bool) -> web.StreamResponse:
        self.calls.append(Answered(operation.name, 0, effect, body.data))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    # Reading and writing

    async def _call(
        self, request: web.Request, operation: Operation, places: Mapping[str, str], body: _Body, fault: Fault | None
    ) -> Call:
        async def between() -> None:
            if fault is not None and fault.dies_between:
                raise ServerDied

        data = None
        if operation.body is not None:
            try:
                data = self._contract.decode(body.data, operation.body)
            except Unfit as error:
                raise Refused("InvalidArgument", f"proto: {error}", f"proto: {error}") from error
            if data is None:
                raise Refused("InvalidArgument", "proto: unexpected token ", "proto: unexpected token ")
        call = Call(operation, places, self._query(request, operation), data, body.file, between)
        await self._allow(request, call)
        return call

    def _query(self, request: web.Request, operation: Operation) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, text in request.query.items():
            kind = operation.query.get(name)
            if kind is None:
                self.remarks.append(f"{operation.name} knows no parameter {name}")
                continue
            try:
                found[name] = text.lower() in _TRUE if kind == "bool" else self._contract.decode(text, kind)
            except Unfit as error:
                raise Refused("InvalidArgument", f"type mismatch, parameter: {name}, error: {error}") from error
        return found

    async def _allow(self, request: web.Request, call: Call) -> None:
        """Whether the user may do that in the namespace that it is about."""
        if self.access.open or call.operation.name == "healthz_service_get_healthz":
            return
        user = await self.access.user(request.headers.get(TOKEN_HEADER, ""))
        namespace = self._namespace(call)
        if user.namespaces is not None and namespace not in user.namespaces:
            raise Refused(
                "PermissionDenied",
                f"User '{user.name}' is not authorized with reason:  (request: namespace:{namespace})",
                f"PermissionDenied: User '{user.name}' is not authorized: Unauthorized access",
            )

    def _namespace(self, call: Call) -> str:
        """The namespace that a call is about. :raises Refused: there is no such thing"""
        database, places = self.backend.database, call.places
        if "run_id" in places:
            return self.backend.runs.of(places["run_id"]).namespace
        experiment = places.get("experiment_id") or call.query.get("experiment_id") or ""
        experiment = experiment or getattr(call.body, "experiment_id", None) or ""
        if experiment:
            return self.backend.experiments.of(experiment).namespace or ""
        pipeline = database.pipelines.get(places.get("pipeline_id") or call.query.get("pipelineid") or "")
        if pipeline is not None:
            return pipeline.namespace or ""
        return getattr(call.body, "namespace", None) or call.query.get("namespace") or ""

    def _written(self, operation: Operation, answer: Any) -> Any:
        written = self._contract.encode(answer, operation.response)
        if operation.name == "healthz_service_get_healthz":  # written by another marshaller
            written = {"commit_sha": "unknown", "tag_name": "unknown", "multi_user": False, **written}
        return {**written, **self.backend.settings.adds.get(operation.response, {})}


async def _body_of(request: web.Request) -> _Body:
    if request.content_type == "multipart/form-data":
        form = await request.post()
        part = form.get("uploadfile")
        if isinstance(part, web.FileField):
            return _Body(file=(part.filename, part.file.read()))
        return _Body()
    text = await request.text()
    if not text:
        return _Body()
    try:
        return _Body(json.loads(text))
    except json.JSONDecodeError:
        return _Body(text)


def _error(
    refused: Refused | UploadRefused, before_2_6: bool, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    if isinstance(refused, UploadRefused):
        return web.Response(status=refused.status, text=refused.body, content_type="application/json", headers=headers)
    return web.json_response(refused.body(before_2_6=before_2_6), status=refused.http, headers=headers)
