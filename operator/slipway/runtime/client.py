"""The one seam to the Kubernetes API: plain dicts in, plain dicts or an error from `slipway.runtime.errors` out.

Every request has a timeout, is counted by verb, resource and code, and every write passes the fence first: a process
that may have lost its Lease sends nothing, and a write in flight is cut off before another leader can begin.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient

from slipway.runtime import errors
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import ACCESS_REVIEW, FIELD_MANAGER, Key, Object, Objects, ResourceType

REQUEST_TIMEOUT = 30.0
_DOCUMENT = ResourceType("", "v1", "Document", "documents", namespaced=False)
"""Stands in metrics and messages for what has no type."""
PAGE = 500
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"
_KEY_SET = "application/jwk-set+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Fence(Protocol):
    """Says for how long this process may still write."""

    def remaining(self) -> float:
        """Seconds; 0 when nothing may be written."""
        ...


class Client:
    """An async client for all types; see the verbs for what each may raise beside `Unavailable`.

    :param api: connection and credentials, see `Connection.api`
    :param fence: asked before each write; None writes always (command line, the Lease itself)
    """

    def __init__(
        self,
        api: ApiClient,
        metrics: Metrics,
        fence: Fence | None = None,
        field_manager: str = FIELD_MANAGER,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._fence = fence
        self._field_manager = field_manager
        self._timeout = timeout

    def fenced(self, fence: Fence) -> Client:
        """The same connection behind a fence."""
        return Client(self._api, self._metrics, fence, self._field_manager, self._timeout)

    async def close(self) -> None:
        await self._api.close()

    # Reads

    async def get(self, key: Key) -> Object:
        """:raises NotFound:"""
        return await self._json("get", "GET", key.type, key.type.path(key.namespace, key.name))

    async def find(self, key: Key) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self.get(key)
        except errors.NotFound:
            return None

    async def list(
        self,
        type_: ResourceType,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        *,
        metadata_only: bool = False,
    ) -> Objects:
        """All objects in pages of 500, without a page's `kind` and `apiVersion` gaps.

        :raises NotFound: when the type is not served
        """
        query = {"limit": str(PAGE), "labelSelector": label_selector, "fieldSelector": field_selector}
        accept = _METADATA_ONLY if metadata_only else _JSON
        found: Objects = []
        while True:
            page = await self._json("list", "GET", type_, type_.path(namespace), query=query, accept=accept)
            for item in page.get("items") or ():
                item.setdefault("apiVersion", type_.api_version)
                item.setdefault("kind", type_.kind)
                found.append(item)
            query["continue"] = page.get("metadata", {}).get("continue", "")
            if not query["continue"]:
                return found

    async def serves(self, type_: ResourceType) -> bool:
        """Whether the API server serves a type now, by discovery."""
        path = type_.path().rsplit("/", 1)[0]
        try:
            found = await self._json("get", "GET", type_, path)
        except errors.NotFound:
            return False
        return any(each.get("name") == type_.plural for each in found.get("resources") or ())

    async def allowed(self, type_: ResourceType, verb: str) -> bool:
        """Whether we may do something to all objects of a type, by the API server's own word."""
        attributes = {"group": type_.group, "version": type_.version, "resource": type_.plural, "verb": verb}
        review = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.kind,
            "spec": {"resourceAttributes": attributes},
        }
        found = await self._json("create", "POST", ACCESS_REVIEW, ACCESS_REVIEW.path(), body=review)
        return bool((found.get("status") or {}).get("allowed"))

    async def document(self, path: str) -> Object:
        """A JSON document that is no object, such as `/openid/v1/jwks`. :raises NotFound, Forbidden:"""
        return await self._json("get", "GET", _DOCUMENT, path, accept=f"{_JSON}, {_KEY_SET}")

    async def watch_name(self, key: Key, resource_version: str, seconds: float) -> AsyncIterator[str]:
        """Types of the watch events of one object (ADDED, MODIFIED, DELETED) for at most `seconds`.

        The rest of the operator is fed by kopf; this is for the Lease, which is waited on before kopf runs.
        """
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={key.name}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        response = await self._send("watch", "GET", key.type, key.type.path(key.namespace), query, timeout=seconds + 5)
        try:
            async for line in response.content:
                yield json.loads(line).get("type", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise errors.Unavailable(f"The watch of {key} broke off: {_brief(error)}") from error
        finally:
            response.close()

    # Writes

    async def apply(self, type_: ResourceType, manifest: Mapping[str, Any], *, force: bool = True) -> Object:
        """Server-side apply: owns exactly the fields in `manifest`; fields of other managers stay.

        :raises Conflict: without `force`, when another manager owns one of the fields with another value
        :raises Invalid, Forbidden, NotFound: NotFound means that the namespace or the type is missing
        """
        key = type_.key_of(manifest)
        query = {"fieldManager": self._field_manager, "force": "true" if force else "false"}
        path = type_.path(key.namespace, key.name)
        return await self._json("apply", "PATCH", type_, path, query, manifest, content_type=_APPLY)

    async def create(self, type_: ResourceType, manifest: Mapping[str, Any]) -> Object:
        """:raises AlreadyExists, Invalid, Forbidden, NotFound:"""
        namespace = manifest["metadata"].get("namespace", "") if type_.namespaced else ""
        query = {"fieldManager": self._field_manager}
        return await self._json("create", "POST", type_, type_.path(namespace), query, manifest)

    async def replace(self, type_: ResourceType, manifest: Mapping[str, Any]) -> Object:
        """Replace a whole object; with `metadata.resourceVersion` only if it is unchanged.

        :raises Conflict, NotFound, Invalid, Forbidden:
        """
        key = type_.key_of(manifest)
        query = {"fieldManager": self._field_manager}
        return await self._json("update", "PUT", type_, type_.path(key.namespace, key.name), query, manifest)

    async def merge(self, key: Key, patch: Mapping[str, Any], subresource: str = "") -> Object:
        """JSON merge patch; put `metadata.resourceVersion` into it to make it conditional.

        :raises Conflict, NotFound, Invalid, Forbidden:
        """
        query = {"fieldManager": self._field_manager}
        path = key.type.path(key.namespace, key.name, subresource)
        return await self._json("patch", "PATCH", key.type, path, query, patch, content_type=_MERGE)

    async def replace_status(self, obj: Mapping[str, Any], type_: ResourceType, status: Mapping[str, Any]) -> Object:
        """Replace the status of `obj` if nobody changed the object since it was read.

        :raises Conflict: someone did
        :raises NotFound, Invalid:
        """
        key = type_.key_of(obj)
        body = {**obj, "apiVersion": type_.api_version, "kind": type_.kind, "status": status}
        query = {"fieldManager": self._field_manager}
        path = type_.path(key.namespace, key.name, "status")
        return await self._json("update_status", "PUT", type_, path, query, body)

    async def delete(
        self, key: Key, *, uid: str = "", resource_version: str = "", propagation: str = "Background"
    ) -> bool:
        """Delete an object; False when there was none, or when `uid` names an earlier one of the same name.

        :param propagation: Background, Foreground or Orphan
        :raises Conflict: the resource version differs
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid or resource_version:
            body["preconditions"] = {name: value for name, value in preconditions.items() if value}
        try:
            await self._json("delete", "DELETE", key.type, key.type.path(key.namespace, key.name), {}, body)
        except errors.NotFound:
            return False
        except errors.Conflict as conflict:
            if uid and "UID" in conflict.message:
                return False
            raise
        return True

    # The wire

    async def _json(
        self,
        verb: str,
        method: str,
        type_: ResourceType,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Object:
        reads = method == "GET" or type_ == ACCESS_REVIEW  # a review is a question, though it is posted
        timeout = self._timeout if reads else self._write_timeout(verb, type_)
        begin = time.monotonic()
        response = await self._send(verb, method, type_, path, query, body, content_type, accept, timeout)
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise errors.Unavailable(f"The API server's answer to {verb} {type_} broke off: {_brief(error)}") from error
        finally:
            response.release()
            self._metrics.request_seconds.labels(verb).observe(time.monotonic() - begin)
        return cast(Object, json.loads(data))

    def _write_timeout(self, verb: str, type_: ResourceType) -> float:
        if self._fence is None:
            return self._timeout
        remaining = self._fence.remaining()
        if remaining <= 0:
            raise errors.Fenced(f"{verb} {type_} was not sent: this process may no longer be the leader")
        return min(self._timeout, remaining)

    async def _send(
        self,
        verb: str,
        method: str,
        type_: ResourceType,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109 - the socket's, with an error of its own
    ) -> aiohttp.ClientResponse:
        headers = {**self._api.default_headers, "Accept": accept, "Content-Type": content_type}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        present = {name: value for name, value in (query or {}).items() if value}
        url = f"{self._api.configuration.host}{path}" + (f"?{urlencode(present)}" if present else "")
        code = "0"
        try:
            answer = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=aiohttp.ClientTimeout(total=timeout)
            )
            response = cast(aiohttp.ClientResponse, answer.response)
            code = str(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(f"The API server did not answer {verb} {type_}: {_brief(error)}") from error
        finally:
            self._metrics.requests.labels(verb, str(type_), code).inc()
        if response.status >= 400:
            raise await _failure(response)
        return response


def _brief(error: Exception) -> str:
    return str(error) or type(error).__name__  # a TimeoutError says nothing


async def _failure(response: aiohttp.ClientResponse) -> Exception:
    """The error for an answer of 400 and above; reads and releases the response."""
    try:
        text = await response.text()
    except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError):
        text = ""
    finally:
        response.release()
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    reason = str(status.get("reason") or response.reason or "")
    message = str(status.get("message") or text[:500] or reason)
    return to_error(response.status, reason, message, response.headers.get("Retry-After", ""))


def to_error(code: int, reason: str, message: str, retry_after: str = "") -> Exception:
    """Map an HTTP status and the API's `Status` to our error tree."""
    if code == 429 or code >= 500 or code == 401:
        seconds = float(retry_after) if retry_after.isdigit() else None
        return errors.Unavailable(f"The API server answered {code}: {message}", retry_after=seconds)
    if "admission webhook" in message and "denied the request" in message:
        return errors.Invalid(code, reason, message)
    if code == 409 and reason == "AlreadyExists":
        return errors.AlreadyExists(code, reason, message)
    kinds: dict[int, type[errors.ApiError]] = {
        400: errors.Invalid,
        403: errors.Forbidden,
        404: errors.NotFound,
        409: errors.Conflict,
        410: errors.Expired,
        422: errors.Invalid,
    }
    return kinds.get(code, errors.ApiError)(code, reason, message)
