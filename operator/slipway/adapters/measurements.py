"""Measurements of metrics that wait for the network: Prometheus queries and web endpoints.

A measurement has a token, which names rollout, candidate, run, metric and ordinal. `begin` starts a bounded task and
does nothing for a token that it knows; `read` tells what has come in. The next `begin` for the same metric forgets the
one before. Answers are in memory only: what was taken in stands in the rollout's status, and a measurement that was
under way when the operator ended is made again with the same token, which web endpoints get as `Idempotency-Key`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from yarl import URL

from slipway.adapters.outbound import Outbound, Refused, Request, check_host
from slipway.adapters.secrets import Reader, SecretData, Secrets
from slipway.api.analysis import Header, PrometheusProvider, Provider, SecretKeyRef, WebProvider
from slipway.api.meta import parse_duration
from slipway.runtime.errors import ApiError, Fenced, Unavailable

logger = logging.getLogger(__name__)

AT_ONCE = 16
"""Requests that are made at the same time, for all rollouts."""
_DEPTH = 64


@dataclass(frozen=True)
class Token:
    """Names one measurement.

    :param owner: the rollout's uid
    :param metric: run and metric
    :param measurement: the rest: attempt, ordinal
    """

    owner: str
    metric: str
    measurement: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.metric}/{self.measurement}"


@dataclass(frozen=True)
class Answer:
    """What a measurement gave. :param error: why there is no value; empty otherwise"""

    value: Any = None
    error: str = ""


@dataclass(frozen=True)
class Heard:
    """What is known of one rollout's measurements."""

    under_way: frozenset[Token] = frozenset()
    answers: Mapping[Token, Answer] = field(default_factory=dict)


class Sender(Protocol):
    """What makes requests: see `slipway.adapters.outbound.Outbound`."""

    async def send(self, request: Request) -> tuple[int, bytes]: ...


class Measurements:
    """Makes measurements, and remembers each until the next one of its metric."""

    def __init__(self, secrets: Secrets, outbound: Sender | None = None) -> None:
        self._secrets = secrets
        self._outbound = outbound or Outbound()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[Token, asyncio.Task[None]] = {}
        self._answers: dict[Token, Answer] = {}

    def bind(self, client: Reader) -> None:
        """Read Secrets with this client from now on: each term of leadership has its own."""
        self._secrets.bind(client)

    async def begin(self, token: Token, namespace: str, provider: Provider) -> None:
        """Start a measurement, unless it is known; returns at once."""
        if token in self._tasks or token in self._answers:
            return
        self._drop(lambda each: (each.owner, each.metric) == (token.owner, token.metric))
        task = asyncio.get_running_loop().create_task(
            self._measure(token, namespace, provider), name=f"measure {token}"
        )
        self._tasks[token] = task

    def read(self, owner: str) -> Heard:
        """What is under way and what has come in for a rollout."""
        return Heard(
            frozenset(token for token in self._tasks if token.owner == owner),
            {token: answer for token, answer in self._answers.items() if token.owner == owner},
        )

    def forget(self, owner: str) -> None:
        """The rollout measures nothing any more."""
        self._drop(lambda each: each.owner == owner)

    async def close(self) -> None:
        """End everything that is under way."""
        tasks = list(self._tasks.values())
        self._drop(lambda _: True)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, which: Any) -> None:
        for token in [each for each in self._tasks if which(each)]:
            self._tasks.pop(token).cancel()
        for token in [each for each in self._answers if which(each)]:
            del self._answers[token]

    async def _measure(self, token: Token, namespace: str, provider: Provider) -> None:
        try:
            async with self._room:
                answer = Answer(await self._value(token, namespace, provider))
        except (Refused, ApiError, Unavailable, Fenced) as error:
            answer = Answer(error=str(error)[:500])
        except Exception as error:
            logger.exception("a measurement failed with a defect")
            answer = Answer(error=f"It could not be measured: {type(error).__name__}.")
        if self._tasks.pop(token, None) is not None:  # else it was forgotten meanwhile
            self._answers[token] = answer

    async def _value(self, token: Token, namespace: str, provider: Provider) -> Any:
        if provider.prometheus is not None:
            return await self._prometheus(namespace, provider.prometheus)
        if provider.web is not None:
            return await self._web(token, namespace, provider.web)
        raise Refused("This kind of metric is not measured over the network.")

    # ---- Prometheus --------------------------------------------------------------------------------------------------
    async def _prometheus(self, namespace: str, spec: PrometheusProvider) -> Any:
        url = spec.address.rstrip("/") + "/api/v1/query"
        headers = await self._headers(namespace, url, spec.headers)
        if spec.token_secret_ref is not None:
            headers["Authorization"] = f"Bearer {await self._secret(namespace, spec.token_secret_ref, url)}"
        status, body = await self._outbound.send(
            Request(
                url,
                headers=headers,
                params={"query": spec.query},
                ca=await self._ca(namespace, spec.ca_secret_ref),
                timeout=_seconds(spec.timeout),
            )
        )
        return prometheus_value(status, body)

    # ---- web ---------------------------------------------------------------------------------------------------------
    async def _web(self, token: Token, namespace: str, spec: WebProvider) -> Any:
        headers = {"Accept": "application/json", "Idempotency-Key": str(token)}
        if spec.body is not None:
            headers["Content-Type"] = "application/json"
        status, body = await self._outbound.send(
            Request(
                spec.url,
                method=spec.method,
                headers=headers | await self._headers(namespace, spec.url, spec.headers),
                body=spec.body,
                ca=await self._ca(namespace, spec.ca_secret_ref),
                timeout=_seconds(spec.timeout),
            )
        )
        if not 200 <= status < 300:
            raise Refused(f"{URL(spec.url).host} answered {status}.")
        return select(_json(body), spec.json_path or "$")

    # ---- Secrets -----------------------------------------------------------------------------------------------------
    async def _headers(self, namespace: str, url: str, headers: list[Header]) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in headers:
            secret = each.secret_key_ref
            found[each.key] = each.value or "" if secret is None else await self._secret(namespace, secret, url)
        return found

    async def _secret(self, namespace: str, reference: SecretKeyRef, url: str) -> str:
        secret = await self._read(namespace, reference)
        check_host(secret, reference.name, url)
        return secret.values[reference.key].strip()

    async def _ca(self, namespace: str, reference: SecretKeyRef | None) -> str:
        """Certificates are no secret: they are sent to nobody."""
        if reference is None:
            return ""
        return (await self._read(namespace, reference)).values[reference.key]

    async def _read(self, namespace: str, reference: SecretKeyRef) -> SecretData:
        secret = await self._secrets.read(namespace, reference.name)
        if secret is None:
            raise Refused(f"There is no Secret {reference.name} in namespace {namespace}: create it.")
        if secret.missing(reference.key):
            raise Refused(f"Secret {reference.name} has no key {reference.key}: add it.")
        return secret


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()


def _json(body: bytes) -> Any:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("The answer is no JSON.") from error
    if _deeper_than(found, _DEPTH):
        raise Refused(f"The answer is nested more than {_DEPTH} deep.")
    return found


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def prometheus_value(status: int, body: bytes) -> Any:
    """The numbers in an answer of Prometheus' query API: a list for a vector, one for a scalar.

    :raises Refused: it is an error, or of another type
    """
    try:
        answer = _json(body)
    except Refused as error:
        raise Refused(f"Prometheus answered {status} without JSON.") from error
    if not isinstance(answer, dict) or answer.get("status") != "success":
        said = answer.get("error", "no reason") if isinstance(answer, dict) else "no reason"
        raise Refused(f"Prometheus answered {status}: {said}")
    data = answer.get("data") or {}
    kind: Any = data.get("resultType")
    result: Any = data.get("result")
    try:
        if kind == "vector":
            return [float(each["value"][1]) for each in result]
        if kind == "scalar":
            return float(result[1])
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise Refused("Prometheus' answer has no numbers.") from error
    raise Refused(f"The query gives a {kind}: let it give an instant vector or a scalar.")


_SELECTOR = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\['([^']+)'\]|\[(0|-?[1-9][0-9]*)\]")


def select(value: Any, path: str) -> Any:
    """The value at a singular query of RFC 9535. :raises Refused: there is none"""
    for match in _SELECTOR.finditer(path, 1):
        name, index = match[1] or match[2], match[3]
        try:
            value = value[int(index)] if index is not None and isinstance(value, list) else _member(value, name)
        except (KeyError, IndexError) as error:
            raise Refused(f"The answer has nothing at {path[: match.end()]}.") from error
    return value


def _member(value: Any, name: str | None) -> Any:
    if not isinstance(value, dict) or name is None:
        raise KeyError(name)
    return value[name]


def has_nan(value: Any) -> bool:
    """Whether a result, or one of a list, is not a number: nothing was counted that could be divided by."""
    return any(isinstance(each, float) and math.isnan(each) for each in (value if isinstance(value, list) else [value]))
