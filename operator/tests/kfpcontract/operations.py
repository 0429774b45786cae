"""The operations of the API, read from the published client by having it make one request of each kind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote

import kfp_server_api

_SUFFIX = "_with_http_info"
_PARAMETER = re.compile(r":param (?P<name>\w+):")
_TYPE = re.compile(r":type (?P<name>\w+): (?P<kind>.+)")
_PLACE = re.compile(r"\{([^}]+)\}")
_OWN = frozenset({"async_req", "_return_http_data_only", "_preload_content", "_request_timeout"})
"""Parameters of the client itself."""


@dataclass(frozen=True)
class Operation:
    """One operation of the API.

    :param name: as the client calls it, such as `run_service_create_run`
    :param path: with `{places}`
    :param query: type of each parameter in the query, such as `int`
    :param body: published type of the body; None: there is none
    :param file: name of the part of a form that is a file; None: there is none
    :param response: published type of the answer; `object` is an empty message
    """

    name: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    file: str | None = None
    response: str = "object"

    def places(self, path: str) -> dict[str, str] | None:
        """What stands at the places of a path; None: it is not this operation's."""
        found = _pattern(self.path).fullmatch(path)
        return (
            None
            if found is None
            else {name: unquote(text) for name, text in zip(self._names, found.groups(), strict=True)}
        )

    @property
    def _names(self) -> list[str]:
        return _PLACE.findall(self.path)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    parts = _PLACE.split(path)
    return re.compile("".join("([^/:]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts)))


@cache
def operations() -> Sequence[Operation]:
    """All operations; those with fewer places in their path first, so that `/pipelines/create` is no pipeline's id."""
    found = []
    services: list[tuple[str, Any]] = inspect.getmembers(kfp_server_api, inspect.isclass)
    for _, service in services:
        if service.__name__.endswith("Api"):
            recorder = _Recorder()
            asked = service(recorder)
            found += [
                recorder.ask(name.removesuffix(_SUFFIX), getattr(asked, name))
                for name in dir(asked)
                if name.endswith(_SUFFIX)
            ]
    return sorted(found, key=lambda each: (len(_PLACE.findall(each.path)), each.path, each.method))


def find(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """The operation that a request is for, and what stands at its places."""
    for operation in operations():
        places = operation.places(path) if operation.method == method else None
        if places is not None:
            return operation, places
    return None


class _Recorder(kfp_server_api.ApiClient):  # type: ignore[misc] # the client is not typed
    """A client that makes no requests: it notes what they would be."""

    def ask(self, name: str, method: Any) -> Operation:
        """Has the client make a request with every parameter."""
        text = inspect.getdoc(method) or ""
        wanted = [each for each in _PARAMETER.findall(text) if each not in _OWN]
        self._types = {found["name"]: found["kind"] for found in _TYPE.finditer(text)}
        self._name = name
        method(**{each: _Marker(each) for each in wanted})
        return self._noted

    def call_api(  # type: ignore[no-untyped-def] # as the client calls it
        self, resource_path, method, path_params=None, query_params=None, header_params=None, **given
    ) -> None:
        assert path_params is not None, header_params
        body, files = given.get("body"), given.get("files") or {}
        self._noted = Operation(
            self._name,
            method,
            resource_path,
            {name: self._types[marker] for name, marker in query_params},
            self._types[body] if body is not None else None,
            next(iter(files), None),
            given.get("response_type") or "object",
        )


class _Marker(str):
    """Stands for the value of a parameter; its text is the parameter's name."""
