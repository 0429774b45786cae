"""Asks endpoints and remembers their answers, so that no plan waits for the network.

A plan posts a request under a key and goes on; a later look reads what was answered. Calls are bounded in number, in
time and in what they read. Answers are in memory only: after a restart a question is asked again, with the same token,
which the endpoint gets as `webhook-id` (https://www.standardwebhooks.com), so that it can tell a repetition.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp

from slipway.adapters import webhook_post
from slipway.adapters.outbound import Refused
from slipway.adapters.secrets import Reader, SecretData
from slipway.runtime.errors import ApiError, Unavailable
from slipway.runtime.metrics import Metrics

logger = logging.getLogger(__name__)

SECRET_TYPE: Final = "slipway.dev/webhook"
"""Only Secrets of this type are sent anywhere: a rollout must not be a way to read its namespace's other Secrets."""

AT_ONCE: Final = 64
"""Calls of all rollouts at the same time."""
AT_ONCE_EACH: Final = 4
"""Calls of one rollout: receivers that never answer must not keep others waiting."""
KEPT: Final = 128
"""Answers remembered for one rollout."""
LEAST_PAUSE: Final = 3.0
"""Seconds that always pass between two calls under one key."""
_RETRY_PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})

Result = Literal["Ok", "Failed", "NotSent"]


class SecretReader(Protocol):
    """Reads Secrets: see `slipway.adapters.secrets.Secrets`."""

    def bind(self, client: Reader) -> None: ...

    async def read(self, namespace: str, name: str) -> SecretData | None: ...


@dataclass(frozen=True)
class Request:
    """One question or message.

    :param owner: the rollout, as `NAMESPACE/NAME`
    :param key: its answer is found under it; posting a key again asks again
    :param token: idempotency token: the same for every repetition
    :param url: None: `address` of the Secret
    :param secret: name of a Secret in the rollout's namespace
    :param timeout: seconds for one try
    :param retries: further tries when there is no answer, or one that may pass by itself
    :param pause: seconds until the key may be posted again, doubled after each answer that is no yes
    :param longest_pause: where doubling ends
    :param hosts: what may be called beside Services of the namespace
    """

    owner: str
    key: str
    token: str
    url: str | None
    secret: str | None
    body: Mapping[str, Any]
    timeout: float = 10.0
    retries: int = 0
    pause: float = 10.0
    longest_pause: float = 10.0
    hosts: tuple[str, ...] = ()

    @property
    def namespace(self) -> str:
        return self.owner.partition("/")[0]


@dataclass(frozen=True)
class Answer:
    """What is known of a key.

    :param result: of the last call that ended; Ok: 2xx; NotSent: it was not even tried; None: none has ended
    :param pending: a call is on its way
    :param code: HTTP status of the answer, if there was one
    :param message: what it was, in words: "it answered 403"
    :param due_in: seconds until the key may be posted again
    """

    result: Result | None = None
    pending: bool = False
    code: int | None = None
    message: str = ""
    due_in: float = 0.0


@dataclass(slots=True)
class _Entry:
    answer: Answer = field(default_factory=Answer)
    due_at: float = 0.0
    refusals: int = 0
    task: asyncio.Task[None] | None = None


class _Owner:
    """One rollout's calls."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.slots = asyncio.Semaphore(AT_ONCE_EACH)


class Webhooks:
    """Makes calls in the background.

    :param clock: monotonic seconds
    """

    def __init__(self, secrets: SecretReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._secrets = secrets
        self._clock = clock
        self._owners: dict[str, _Owner] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._metrics: Metrics | None = None

    def bind(self, client: Reader) -> None:
        """Read Secrets with this client from now on."""
        self._secrets.bind(client)

    def measure(self, metrics: Metrics) -> None:
        """Count calls and dropped notices there."""
        self._metrics = metrics

    def read(self, owner: str) -> dict[str, Answer]:
        """What is known of a rollout's keys; never waits."""
        known = self._owners.get(owner)
        if known is None:
            return {}
        now = self._clock()
        return {
            key: Answer(e.answer.result, e.task is not None, e.answer.code, e.answer.message, max(0.0, e.due_at - now))
            for key, e in known.entries.items()
        }

    async def post(self, request: Request) -> None:
        """Begin a call and return at once; nothing happens while one is on its way or too soon after the last."""
        owner = self._owners.setdefault(request.owner, _Owner())
        entry = owner.entries.setdefault(request.key, _Entry())
        owner.entries.move_to_end(request.key)
        if entry.task is None and self._clock() >= entry.due_at:
            entry.task = asyncio.create_task(self._call(owner, entry, request), name=f"webhook {request.key}")
        self._forget_oldest(owner)

    async def dropped(self, number: int) -> None:
        """Count notices that were given up."""
        if self._metrics is not None:
            self._metrics.notices_dropped.inc(number)

    def forget(self, owner: str) -> None:
        """The rollout is gone: its calls end, and nothing of them is kept."""
        known = self._owners.pop(owner, None)
        for entry in known.entries.values() if known else ():
            if entry.task is not None:
                entry.task.cancel()

    async def close(self) -> None:
        """End all calls."""
        tasks = [e.task for owner in self._owners.values() for e in owner.entries.values() if e.task]
        for owner in list(self._owners):
            self.forget(owner)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget_oldest(self, owner: _Owner) -> None:
        for key in list(owner.entries)[:-KEPT]:
            if owner.entries[key].task is None:
                del owner.entries[key]

    async def _call(self, owner: _Owner, entry: _Entry, request: Request) -> None:
        try:
            answer = await self._tried(owner, request)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("the call of %s failed by a defect", request.key)
            answer = Answer("NotSent", message="Slipway has a defect; the operator's log has the details.")
        entry.answer, entry.task = answer, None
        entry.refusals = 0 if answer.result == "Ok" else entry.refusals + 1
        doubled = request.pause * 2.0 ** min(max(0, entry.refusals - 1), 16)
        entry.due_at = self._clock() + max(LEAST_PAUSE, min(doubled, max(request.longest_pause, request.pause)))
        if self._metrics is not None:
            self._metrics.webhook_calls.labels(answer.result or "").inc()
        logger.info("webhook %s of %s: %s %s", request.key, request.owner, answer.result, answer.message)

    async def _tried(self, owner: _Owner, request: Request) -> Answer:
        """Try as often as the request says."""
        try:
            url, headers, body = await self._prepared(request)
        except Refused as error:
            return Answer("NotSent", message=str(error))
        answer = Answer()
        for attempt in range(request.retries + 1):
            async with owner.slots, self._slots:
                answer = await self._once(url, headers, body, request.timeout)
            if answer.result == "Ok" or (answer.code is not None and answer.code not in _AGAIN):
                break
            if attempt < request.retries:
                await asyncio.sleep(_RETRY_PAUSES[min(attempt, len(_RETRY_PAUSES) - 1)])
        return answer

    async def _once(self, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> Answer:
        try:
            code = await webhook_post.post(url, body, headers, seconds)
        except TimeoutError:
            return Answer("Failed", message=f"it did not answer within {seconds:g} s.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer("Failed", message=f"it cannot be reached: {_kind_of(error)}.")
        if 200 <= code < 300:
            return Answer("Ok", code=code, message=f"it answered {code}.")
        return Answer("Failed", code=code, message=f"it answered {code}.")

    async def _prepared(self, request: Request) -> tuple[str, dict[str, str], bytes]:
        """URL, headers and body. :raises Refused:"""
        secret = await self._secret(request)
        url = request.url if request.url is not None else secret.get("address", "").strip()
        webhook_post.check_url(url, request.namespace, request.hosts)
        if request.secret is not None and request.url is not None:
            _check_hosts(secret, request.secret, url)
        body = json.dumps(request.body, separators=(",", ":")).encode()
        sent_at = str(int(time.time()))
        headers = {"webhook-id": request.token, "webhook-timestamp": sent_at}
        if secret.get("token"):
            headers["Authorization"] = f"Bearer {secret['token'].strip()}"
        if secret.get("hmacKey"):
            headers["webhook-signature"] = signature(secret["hmacKey"], request.token, sent_at, body)
        if any(character in value for value in headers.values() for character in "\r\n\0"):
            raise Refused(f"the token in Secret {request.secret} has line breaks: store it without.")
        return url, headers, body

    async def _secret(self, request: Request) -> Mapping[str, str]:
        if request.secret is None:
            return {}
        name = request.secret
        try:
            data = await self._secrets.read(request.namespace, name)
        except (ApiError, Unavailable) as error:
            raise Refused(f"Secret {name} cannot be read: {error}") from error
        if data is None:
            raise Refused(f"there is no Secret {name}: create it, with type {SECRET_TYPE}.")
        if data.type != SECRET_TYPE:
            raise Refused(f"Secret {name} is not of type {SECRET_TYPE}, so it is not sent anywhere: make it anew.")
        wanted = ("token", "hmacKey") if request.url is not None else ("address",)
        if all(not data.values.get(key) for key in wanted):
            raise Refused(f"Secret {name} lacks {' and '.join(wanted)}: add {wanted[0]}.")
        return data.values


def _check_hosts(secret: Mapping[str, str], name: str, url: str) -> None:
    """Whether a Secret's owner lets it be sent to a URL. :raises Refused: `hosts` does not name it"""
    parts = urlsplit(url)
    named = {each.strip() for each in secret.get("hosts", "").replace(",", " ").split()}
    if named.isdisjoint((str(parts.hostname), f"{parts.hostname}:{parts.port}")):
        raise Refused(f"Secret {name} may not be sent to {parts.hostname}: list that in its key hosts, if it may.")


def signature(key: str, token: str, sent_at: str, body: bytes) -> str:
    """`webhook-signature` of Standard Webhooks. A key is `whsec_` and base64, or any text, taken as it is."""
    raw = key.strip().encode()
    if raw.startswith(b"whsec_"):
        try:
            raw = base64.b64decode(raw.removeprefix(b"whsec_"), validate=True)
        except binascii.Error:
            raise Refused("what follows whsec_ in hmacKey is not base64: correct the Secret.") from None
    signed = b".".join((token.encode(), sent_at.encode(), body))
    return f"v1,{base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()}"


def _kind_of(error: Exception) -> str:
    """What went wrong, without addresses: a status must not tell what answers inside of the cluster."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name has no address that may be called"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "the connection failed"
    return "the connection broke"
