"""The part of the KFP v2beta1 HTTP API that the engine needs. Wire names are those of the published models.

Requests carry only fields that every server since 2.5 knows, for servers refuse unknown ones; answers may have more or
fewer fields than expected.

    Unavailable       no answer, 5xx, 429; with reason EndpointRefused 401 and 403
    ├── NotCertain    a write was sent and its answer never came: it may have been done, or may yet be
    ApiRefused        any other 4xx: the endpoint's word on what was asked
"""

from __future__ import annotations

import json
import secrets as random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from slipway.adapters.kfp.endpoint import Endpoint
from slipway.adapters.outbound import Answer, Outbound, Refused, Request, TooLarge
from slipway.adapters.secrets import Secrets
from slipway.api.reasons import Reason
from slipway.runtime.errors import Unavailable
from slipway.runtime.threads import in_thread

BASE = "/apis/v2beta1"
OLD = "/apis/v1beta1"
"""The version before, which every server has to this day."""
TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"
"""Where the chart mounts the operator's token for the endpoint; the path that KFP's own SDK looks at."""
READ_SECONDS, WRITE_SECONDS = 15.0, 30.0
QUIET_SECONDS = 300.0
"""The longest pause that an endpoint is granted by its `Retry-After`."""
LIMIT = 8 * 2**20
"""Bytes of an answer; a run may carry its whole pipeline."""
_SAID = 500
_NOT_FOUND = 5
"""gRPC's code for it."""


class NotCertain(Unavailable):
    """A write whose answer never came."""


class ApiRefused(Exception):
    """The endpoint does not do what was asked. :param status: HTTP status :param message: its own words"""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


Wire = Callable[[Request], Awaitable[Answer]]


class KfpApi:
    """Speaks to endpoints; holds no connection, and of state only until when an endpoint wants to be left alone.

    :param token_path: file with the operator's token; read for each request, for it is renewed
    :param wire: sends a request; the endpoint is the administrators' word, so no address is kept from it
    :param clock: gives seconds that only grow
    """

    def __init__(
        self,
        secrets: Secrets,
        token_path: str = TOKEN_PATH,
        wire: Wire | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._quiet: dict[str, float] = {}
        self._secrets = secrets
        self._token_path = Path(token_path)
        self._wire = wire or Outbound(refused=lambda _: False).ask

    async def healthy(self, endpoint: Endpoint) -> Mapping[str, Any]:
        """What `/healthz` says. :raises Unavailable, ApiRefused:"""
        return await self._call(endpoint, "GET", "/healthz")

    async def may_list(self, endpoint: Endpoint, namespace: str) -> None:
        """Ask for one experiment, which a refused token may not. :raises Unavailable, ApiRefused:"""
        await self._call(endpoint, "GET", "/experiments", {"page_size": "1", "namespace": namespace})

    async def run(self, endpoint: Endpoint, run_id: str) -> Mapping[str, Any] | None:
        """A run; None when the endpoint knows none of that id."""
        try:
            return await self._call(endpoint, "GET", f"/runs/{quote(run_id, safe='')}")
        except ApiRefused as refused:
            if refused.status == 404:
                return None
            raise

    async def last_workflow(self, endpoint: Endpoint, run_id: str) -> Mapping[str, Any] | None:
        """A run's Workflow as the endpoint saw it last; None where it does not say.

        Only the API's version before this one tells it. A server or a proxy that has that no more, or stumbles over it,
        is as good as one that knows nothing. :raises Unavailable: no answer, or a trouble that passes
        """
        try:
            answer = await self._send(endpoint, "GET", f"{OLD}/runs/{quote(run_id, safe='')}")
        except TooLarge:
            return None
        except Refused as error:
            raise self._silent(endpoint, error) from error
        if answer.status in (408, 429, 502, 503, 504):
            _understood(endpoint, answer.status, answer.body)
        try:
            found = json.loads(json.loads(answer.body)["pipeline_runtime"]["workflow_manifest"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if isinstance(found, Mapping) else None

    async def create_run(self, endpoint: Endpoint, run: Mapping[str, Any]) -> None:
        """Create a run. :raises ApiRefused: 409 when there is one of that id"""
        await self._call(endpoint, "POST", "/runs", body=run)

    async def terminate_run(self, endpoint: Endpoint, run_id: str) -> None:
        """Have a run ended. :raises ApiRefused: 404, or 400 when it has ended or is being ended already"""
        await self._call(endpoint, "POST", f"/runs/{quote(run_id, safe='')}:terminate")

    async def experiment(self, endpoint: Endpoint, namespace: str, name: str, description: str) -> str:
        """Id of the experiment of that name, which is made where there is none."""
        return await self._of_namespace(endpoint, "experiment", namespace, name, description)

    async def pipeline(self, endpoint: Endpoint, namespace: str, name: str, description: str) -> str:
        """Id of the pipeline of that name, which is made, without versions, where there is none."""
        return await self._of_namespace(endpoint, "pipeline", namespace, name, description)

    async def _of_namespace(self, endpoint: Endpoint, kind: str, namespace: str, name: str, description: str) -> str:
        body = {"display_name": name, "description": description}
        if namespace:
            body["namespace"] = namespace
        return await self._found_or_made(
            endpoint,
            f"/{kind}s",
            f"{kind}s",
            f"{kind}_id",
            name,
            {"namespace": namespace},
            lambda: self._call(endpoint, "POST", f"/{kind}s", body=body),
        )

    async def version(
        self, endpoint: Endpoint, pipeline_id: str, name: str, description: str, text: Callable[[], str]
    ) -> str:
        """Id of a pipeline's version of that name; `text` is uploaded where there is none."""

        async def upload() -> Mapping[str, Any]:
            query = {"name": name, "display_name": name, "pipelineid": pipeline_id, "description": description}
            return await self._call(endpoint, "POST", "/pipelines/upload_version", query, upload=(name, text()))

        path = f"/pipelines/{quote(pipeline_id, safe='')}/versions"
        return await self._found_or_made(endpoint, path, "pipeline_versions", "pipeline_version_id", name, {}, upload)

    async def version_spec(
        self, endpoint: Endpoint, namespace: str, pipeline: str, version: str
    ) -> Mapping[str, Any] | None:
        """The pipeline of a version, by the names of both; None when the endpoint has none of that name.

        It is the IR, or `pipeline_spec` with it and `platform_spec` beside it.
        """
        known = await self._named(
            endpoint, "/pipelines", "pipelines", "pipeline_id", pipeline, {"namespace": namespace}
        )
        if not known:
            return None
        path = f"/pipelines/{quote(known, safe='')}/versions"
        found = await self._named(endpoint, path, "pipeline_versions", "pipeline_version_id", version, {})
        if not found:
            return None
        answer = await self._call(endpoint, "GET", f"{path}/{quote(found, safe='')}")
        spec = answer.get("pipeline_spec")
        return spec if isinstance(spec, Mapping) else None

    async def _found_or_made(
        self,
        endpoint: Endpoint,
        path: str,
        list_name: str,
        id_name: str,
        name: str,
        query: Mapping[str, str],
        make: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> str:
        """Look, make where there is none, and look again where somebody made it in between (409)."""
        found = await self._named(endpoint, path, list_name, id_name, name, query)
        if found:
            return found
        try:
            found = str((await make()).get(id_name) or "")
        except ApiRefused as refused:
            if refused.status != 409:
                raise
        except NotCertain as error:  # it is looked for again by name, so nothing is in doubt
            raise Unavailable(error.message, reason=error.reason) from error
        found = found or await self._named(endpoint, path, list_name, id_name, name, query)
        if not found:
            raise Unavailable(
                f"{endpoint.url} says that {path.rpartition('/')[2]} has {name}, and does not list it.",
                reason=Reason.EndpointUnavailable,
            )
        return found

    async def _named(
        self, endpoint: Endpoint, path: str, list_name: str, id_name: str, name: str, query: Mapping[str, str]
    ) -> str:
        """Id of the object of that name, or empty. Filters are a wish that not every server grants."""
        predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
        asked = {**query, "page_size": "100", "filter": json.dumps({"predicates": [predicate]})}
        while True:
            page = await self._call(endpoint, "GET", path, asked)
            for each in page.get(list_name) or ():
                if name in (each.get("display_name"), each.get("name")) and each.get(id_name):
                    return str(each[id_name])
            token = page.get("next_page_token")
            if not token or token == asked.get("page_token"):
                return ""
            asked["page_token"] = str(token)

    async def _call(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        upload: tuple[str, str] | None = None,
    ) -> Mapping[str, Any]:
        try:
            answer = await self._send(endpoint, method, f"{BASE}{path}", query, body, upload)
        except Refused as error:
            raise self._silent(endpoint, error, Unavailable if method == "GET" else NotCertain) from error
        try:
            return _understood(endpoint, answer.status, answer.body)
        except Unavailable as error:
            error.retry_after = self._left(endpoint)
            raise

    @staticmethod
    def _silent(endpoint: Endpoint, error: Refused, kind: type[Unavailable] = Unavailable) -> Unavailable:
        return kind(f"The pipelines endpoint {endpoint.url}: {error}", reason=Reason.EndpointUnavailable)

    async def _send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        upload: tuple[str, str] | None = None,
    ) -> Answer:
        """Whatever is answered. :raises Refused: nothing is"""
        self._require_welcome(endpoint)
        headers = {"Accept": "application/json", **await self._authorization(endpoint)}
        data = None
        if upload is not None:
            data, headers["Content-Type"] = multipart(*upload)
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        request = Request(
            url=f"{endpoint.url}{path}",
            method=method,
            headers=headers,
            params={name: value for name, value in (query or {}).items() if value},
            body=data,
            ca=await self._ca(endpoint),
            timeout=READ_SECONDS if method == "GET" else WRITE_SECONDS,
            limit=LIMIT,
        )
        answer = await self._wire(request)
        if answer.status in (429, 503):
            self._heed(endpoint, answer)
        return answer

    def _heed(self, endpoint: Endpoint, answer: Answer) -> None:
        """Leave an endpoint alone that asks for it, whichever run comes next."""
        seconds = answer.retry_after(datetime.now(UTC))
        if seconds is not None:
            now = self.clock()
            self._quiet = {url: until for url, until in self._quiet.items() if until > now}
            self._quiet[endpoint.url] = now + min(seconds, QUIET_SECONDS)

    def _left(self, endpoint: Endpoint) -> float | None:
        left = self._quiet.get(endpoint.url, 0.0) - self.clock()
        return left if left > 0 else None

    def _require_welcome(self, endpoint: Endpoint) -> None:
        """:raises Unavailable: the endpoint wants to be left alone, so nothing is sent"""
        left = self._left(endpoint)
        if left is not None:
            raise Unavailable(
                f"The pipelines endpoint {endpoint.url} asked for a pause (Retry-After); it is asked again after it.",
                reason=Reason.EndpointUnavailable,
                retry_after=left,
            )

    async def _authorization(self, endpoint: Endpoint) -> dict[str, str]:
        if not endpoint.token:
            return {}
        try:
            token = await in_thread(self._token_path.read_text, timeout=5.0, what="the operator's token")
        except OSError as error:
            raise Unavailable(
                f"The operator has no token for the pipelines endpoint ({self._token_path}: {error.strerror}): install "
                "the chart with kubeflowPipelines.token.enabled=true, or set auth.type None.",
                reason=Reason.EndpointRefused,
            ) from error
        return {"Authorization": f"Bearer {token.strip()}"}

    async def _ca(self, endpoint: Endpoint) -> str:
        if endpoint.ca is None:
            return ""
        where = "/".join(endpoint.ca)
        secret = await self._secrets.read(*endpoint.ca)
        if secret is None or secret.missing("ca.crt"):
            raise Unavailable(
                f"spec.pipelines.kubeflowPipelines.tls.caSecretRef: Secret {where} has no ca.crt: create it with the "
                "endpoint's CA certificates in PEM form.",
                reason=Reason.SecretMissing,
            )
        return secret.values["ca.crt"]


def multipart(name: str, text: str) -> tuple[str, str]:
    """A form with one file, `uploadfile`, as text; and its content type."""
    boundary = f"slipway-{random.token_hex(16)}"
    lines = [
        f"--{boundary}",
        f'Content-Disposition: form-data; name="uploadfile"; filename="{name}.yaml"',
        "Content-Type: application/x-yaml",
        "",
        text,
        f"--{boundary}--",
        "",
    ]
    return "\r\n".join(lines), f"multipart/form-data; boundary={boundary}"


def _understood(endpoint: Endpoint, status: int, answer: bytes) -> Mapping[str, Any]:
    """The answer's JSON object, or the error that a status stands for."""
    try:
        found = json.loads(answer) if answer.strip() else {}
    except ValueError:
        found = None
    if 200 <= status < 300:
        if not isinstance(found, dict):
            raise Unavailable(
                f"The pipelines endpoint {endpoint.url} answered something that is no JSON object: is it the API of "
                "Kubeflow Pipelines, and not its user interface?",
                reason=Reason.EndpointUnavailable,
            )
        return found
    said = _said(found, answer)
    if status in (401, 403):
        word = "refuses the operator's token" if endpoint.token else "wants a token"
        raise Unavailable(
            f"The pipelines endpoint {endpoint.url} {word} ({status}: {said}).", reason=Reason.EndpointRefused
        )
    # What is not there the API says with its own code; a 404 of a proxy in front of it says nothing of runs.
    foreign = status == 404 and not (isinstance(found, dict) and found.get("code") == _NOT_FOUND)
    if status >= 500 or status in (408, 429) or 300 <= status < 400 or foreign:
        raise Unavailable(
            f"The pipelines endpoint {endpoint.url} answered {status}: {said}.", reason=Reason.EndpointUnavailable
        )
    raise ApiRefused(status, said)


def _said(found: Any, answer: bytes) -> str:
    """An error's words: `message` of the gateway, `error` of older ones, `error_message` of the upload server."""
    if isinstance(found, dict):
        for name in ("message", "error_message", "error", "error_details"):
            text = found.get(name)
            if isinstance(text, dict):
                text = text.get("message")
            if isinstance(text, str) and text:
                return _short(text)
    return _short(answer.decode(errors="replace")) or "nothing more"


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _SAID else text[: _SAID - 1] + "…"
