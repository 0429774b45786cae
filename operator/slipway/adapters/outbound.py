"""Requests to addresses that users name: bounded in time and size, and kept away from what is none of theirs.

Only http and https; redirects are not followed; answers are read up to `LIMIT` bytes. The operator may reach more than
the author of a template, so addresses of its own machine and link-local ones (a cloud's credentials) are refused, after
names were resolved. A Secret is sent only to hosts that it names itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from slipway.adapters.secrets import SecretData

LIMIT = 64 * 1024
HOSTS = "slipway.dev/analysis-hosts"
"""Annotation of a Secret: hosts, with commas between them, to which its content may be sent; or `host:port`."""


class Refused(Exception):
    """A request that is not made, or an answer that is not taken; says why in a sentence."""


class TooLarge(Refused):
    """An answer with more bytes than the request allows."""


@dataclass(frozen=True)
class Request:
    """One request.

    :param ca: PEM certificates that the server is checked with, instead of the system's
    :param limit: bytes that the answer may have
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    ca: str = ""
    timeout: float = 10.0
    limit: int = LIMIT


@dataclass(frozen=True)
class Answer:
    """What came back. :param headers: by name in lower case; of one that came twice the last"""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def retry_after(self, now: datetime) -> float | None:
        """Seconds until the server wants to be asked again (`Retry-After`, number or date); None: it does not say."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text[:9])
        try:
            return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
        except (ValueError, TypeError):  # no date, or one without a zone
            return None


def is_private_to_us(address: str) -> bool:
    """Whether an IP address is the operator's own machine's, link-local or none of a host."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast)


class GuardedResolver(AbstractResolver):
    """Leaves out addresses that may not be asked."""

    def __init__(self, refused: Callable[[str], bool]) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._refused = refused

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [each for each in found if not self._refused(each["host"])]
        if not allowed:
            raise OSError(f"{host} is an address of the operator's own machine")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


class Outbound:
    """Makes requests; each with a connection of its own.

    :param refused: tells addresses that are not asked
    """

    def __init__(self, refused: Callable[[str], bool] = is_private_to_us) -> None:
        self._refused = refused

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Status code and body. :raises Refused: no answer, or none that may be taken"""
        answer = await self.ask(request)
        return answer.status, answer.body

    async def ask(self, request: Request) -> Answer:
        """The same, with headers. :raises Refused: no answer, or none that may be taken"""
        url = self._checked(request.url)
        context = await asyncio.to_thread(_context, request.ca) if url.scheme == "https" else None
        try:
            async with asyncio.timeout(request.timeout):
                return await self._answer(url, request, context)
        except TimeoutError as error:
            raise Refused(f"{url.host} did not answer within {request.timeout:g} s.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Refused(f"{url.host} cannot be asked: {error or type(error).__name__}.") from error

    def _checked(self, text: str) -> URL:
        try:
            url = URL(text)
        except ValueError as error:
            raise Refused(f"{text} is no URL: {error}.") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(f"{text} is no http or https URL.")
        if url.user is not None or url.password is not None:
            raise Refused("A URL with a password is not asked: put it into a Secret and a header.")
        try:
            literal = str(ipaddress.ip_address(url.host.partition("%")[0]))
        except ValueError:
            return url
        if self._refused(literal):
            raise Refused(f"{url.host} is an address of the operator's own machine.")
        return url

    async def _answer(self, url: URL, request: Request, context: ssl.SSLContext | None) -> Answer:
        connector = aiohttp.TCPConnector(resolver=GuardedResolver(self._refused), ssl=context or True, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, trust_env=False) as session,
            session.request(
                request.method,
                url,
                params=dict(request.params),
                headers=dict(request.headers),
                data=request.body,
                allow_redirects=False,
            ) as answer,
        ):
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, await _bounded(answer.content, str(url.host), request.limit), headers)


async def _bounded(content: aiohttp.StreamReader, host: str, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_chunked(2**14):
        size += len(part)
        if size > limit:
            raise TooLarge(f"{host} answered with more than {limit // 1024} KiB.")
        parts.append(part)
    return b"".join(parts)


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise Refused(f"The CA certificates cannot be read: {error}.") from error


def check_host(secret: SecretData, name: str, url: str) -> None:
    """Whether a Secret's content may be sent to a URL's host. :raises Refused: its annotation does not name it"""
    target = URL(url)
    allowed = {each.strip() for each in secret.annotations.get(HOSTS, "").split(",")}
    if target.host not in allowed and f"{target.host}:{target.port}" not in allowed:
        raise Refused(
            f"Secret {name} may not be sent to {target.host}: annotate it `{HOSTS}: {target.host}` if it may."
        )
