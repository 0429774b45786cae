"""Calls of hooks and alerts: which hosts may be called, and how one POST is sent.

Whoever may write a ModelRollout chooses a URL that the operator then calls from inside of the cluster (server-side
request forgery). So a host has to be allowed, nothing of an answer but its code is read or shown, redirects are not
followed, proxies of the environment are not used, and names must not resolve to loopback or link-local addresses, where
nodes and clouds keep their own services.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import aiohttp

from slipway.adapters.outbound import GuardedResolver, Refused, is_private_to_us

USER_AGENT = "slipway"


def check_url(url: str, namespace: str, allowed: Sequence[str]) -> None:
    """Refuse what may not be called. Services of the rollout's own namespace always may.

    :param allowed: names, `*.DOMAIN`, addresses, or `*` for every host but loopback and link-local addresses
    :raises Refused:
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        _ = parts.port  # ValueError when it is none
    except ValueError:
        raise Refused("its URL cannot be read.") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise Refused("its URL must be http:// or https:// and have a host and no user name.")
    if not (_is_service_of(host, namespace) or any(_matches(host, pattern) for pattern in allowed)):
        raise Refused(
            f"host {host} is not allowed: an administrator can add it to spec.webhooks.allowedHosts of the Platform."
        )


def _is_service_of(host: str, namespace: str) -> bool:
    return host.endswith((f".{namespace}.svc", f".{namespace}.svc.cluster.local"))


def _matches(host: str, pattern: str) -> bool:
    if pattern == "*":
        return not (_is_address(host) and is_private_to_us(host))
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and not _is_address(host)
    return host == pattern


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
    """The code of the answer; its body is not read, and the connection is closed.

    :raises aiohttp.ClientError, TimeoutError, OSError: no answer
    """
    connector = aiohttp.TCPConnector(resolver=GuardedResolver(is_private_to_us), use_dns_cache=False, force_close=True)
    named = {"Content-Type": "application/json", "User-Agent": USER_AGENT, **headers}
    limit, jar = aiohttp.ClientTimeout(total=seconds), aiohttp.DummyCookieJar()
    async with (
        asyncio.timeout(seconds),
        aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=limit, trust_env=False) as session,
        session.post(url, data=body, headers=named, allow_redirects=False) as answer,
    ):
        return answer.status
