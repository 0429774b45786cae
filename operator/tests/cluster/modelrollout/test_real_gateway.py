"""What the operator writes, on Envoy Gateway that reads it from the API server: policies, a patch, requests."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from cluster.modelrollout.director import NAME, Director, Eventually, made, rejected, rollout, serves
from cluster.modelrollout.realgateway import Running
from cluster.modelrollout.stage import PARENT, Servers

from slipway.adapters import access, retry
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.gateway import PIN_HEADER, token_of
from slipway.api.platform import GatewayParentRef
from slipway.controllers.modelrollout import Doors, ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.resources import (
    BACKEND_TRAFFIC_POLICY,
    ENVOY_PATCH_POLICY,
    EVENT,
    HTTP_ROUTE,
    MODEL_ROLLOUT,
    SECRET,
    SECURITY_POLICY,
    SERVICE_ACCOUNT,
    Object,
    ResourceType,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HOST = {"host": "models.example.com"}
PARENT_REF = GatewayParentRef(**PARENT)
KEY, NEW_KEY = "k" * 24, "n" * 24
PREDICT = f"/delays/v1/models/{NAME}:predict"
STEPS: list[Object] = [
    {"name": "some", "setWeight": 20},
    {"name": "watch", "analyze": {"for": "60s"}},
    {"name": "everyone", "setWeight": 100},
]


def consumers(namespace: str, *secrets: str) -> list[Object]:
    about = {"purpose": "A test.", "contact": "test@example.com"}
    return [
        {"name": "site", "apiKey": {"secretRefs": [{"name": each} for each in secrets]}, **about},
        {"name": "crews", "serviceAccountRef": {"namespace": namespace, "name": "planner"}, **about},
    ]


async def make_callers(client: Client, namespace: str) -> None:
    for name, key in (("old", KEY), ("new", NEW_KEY)):
        data = {"apiKey": b64encode(key.encode()).decode()}
        meta = {"namespace": namespace, "name": name}
        await client.create(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    for name in ("planner", "stranger"):
        meta = {"namespace": namespace, "name": name}
        await client.create(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})


async def bearer(client: Client, namespace: str, account: str, audience: str) -> dict[str, str]:
    """A token that the API server signs."""
    request = ResourceType("", "v1", "TokenRequest", f"serviceaccounts/{account}/token")
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}}
    answer = await client.create(request, {**wanted, "metadata": {"namespace": namespace, "name": account}})
    return {"authorization": f"Bearer {answer['status']['token']}"}


async def ask(gateway: Running, headers: dict[str, str], times: int = 1) -> Counter[int]:
    codes = Counter[int]()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        for _ in range(times):
            codes[(await gateway.ask(session, PREDICT, {**HOST, **headers}))[0]] += 1
    return codes


@asynccontextmanager
async def steadily(gateway: Running, headers: dict[str, str], times: int = 1) -> AsyncIterator[Counter[int]]:
    """Ask again and again while the block runs; `headers` may change meanwhile."""
    codes = Counter[int]()

    async def run() -> None:
        while True:
            codes.update(await ask(gateway, headers, times))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(run())
    try:
        yield codes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_consumers_and_a_bad_candidate_on_a_real_gateway(
    client: Client,
    namespace: str,
    real_gateway: tuple[Running, Servers],
    start_operator: Any,
    statistics: GatewayStatistics,
    eventually: Eventually,
) -> None:
    gateway, servers = real_gateway
    director = Director(client, namespace, None)  # type: ignore[arg-type]
    await make_callers(client, namespace)
    rollback = {"keepPrevious": "1s", "retryOnStable": True}
    spec = rollout(namespace, consumers=consumers(namespace, "old"), rollback=rollback, steps=STEPS)
    await client.create(MODEL_ROLLOUT, spec)
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, Doors(namespace))])
    await eventually(lambda: serves(director, first), seconds=120, pause=0.2)

    audience = access.audience(namespace, NAME)
    planner = await bearer(client, namespace, "planner", audience)
    stranger = await bearer(client, namespace, "stranger", audience)
    elsewhere = await bearer(client, namespace, "planner", "other")
    await eventually(lambda: answers(gateway, planner, 200), seconds=30, pause=0.2)
    assert await ask(gateway, {}) == {401: 1}
    assert await ask(gateway, {"x-api-key": "x" * 24}) == {401: 1}
    assert await ask(gateway, stranger) == {403: 1}
    assert await ask(gateway, elsewhere) == {403: 1}
    assert await ask(gateway, {"x-api-key": KEY}) == {200: 1}

    caller = {"x-api-key": KEY}
    async with steadily(gateway, caller) as codes:
        await client.merge(director.key, {"spec": {"consumers": consumers(namespace, "old", "new")}})
        await eventually(lambda: answers(gateway, {"x-api-key": NEW_KEY}, 200), seconds=30, pause=0.2)
        await asyncio.sleep(1)  # each thread of Envoy takes new rules in by itself
        caller["x-api-key"] = NEW_KEY
        await client.merge(director.key, {"spec": {"consumers": consumers(namespace, "new")}})
        await eventually(lambda: answers(gateway, {"x-api-key": KEY}, 401), seconds=30, pause=0.2)
    assert set(codes) == {200}, "a key changes and nobody notices"
    await put_back(client, namespace, eventually)

    second = f"flight-delays-{2:010x}"
    servers.failing.add(second)
    async with steadily(gateway, caller, 10) as codes, steadily(gateway, planner, 10) as others:
        assert await director.add_version(2) == second
        await eventually(lambda: repeats(director), seconds=60, pause=0.1)
        await eventually(lambda: rejected(director, second), seconds=60, pause=0.1)
    assert set(codes) == set(others) == {200}, "every second answer of the candidate is a 500"
    (rejection,) = (await director.status())["rejected"]
    assert rejection["reason"] == "ChecksFailed"
    await eventually(lambda: gone(client, namespace), seconds=30, pause=0.2)
    await eventually(lambda: used(director, codes[200]), seconds=90, pause=0.5)


async def test_a_consumer_over_its_rate_limit_is_refused_and_nobody_else(
    client: Client,
    namespace: str,
    real_gateway: tuple[Running, Servers],
    start_operator: Any,
    statistics: GatewayStatistics,
    eventually: Eventually,
) -> None:
    """The policy selects routes by their label, which Envoy Gateway knows from the API server only."""
    gateway, servers = real_gateway
    director = Director(client, namespace, None)  # type: ignore[arg-type]
    await make_callers(client, namespace)
    await client.create(MODEL_ROLLOUT, rollout(namespace, consumers=limited(namespace, 6)))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, Doors(namespace))])
    await eventually(lambda: serves(director, first), seconds=120, pause=0.2)
    site, other = {"x-api-key": KEY}, {"x-api-key": NEW_KEY}
    planner = await bearer(client, namespace, "planner", access.audience(namespace, NAME))
    await eventually(lambda: answers(gateway, other, 200), seconds=30, pause=0.2)
    await eventually(lambda: limits_are_accepted(client, namespace), seconds=30, pause=0.2)
    await asyncio.sleep(1)  # each thread of Envoy takes new rules in by itself

    async with steadily(gateway, other) as unlimited:
        assert await ask(gateway, site, 30) == {200: 6, 429: 24}
        assert await ask(gateway, planner, 30) == {200: 4, 429: 26}
        assert await ask(gateway, other, 30) == {200: 30}
        assert await ask(gateway, {"x-api-key": "x" * 24}, 3) == {401: 3}
        assert servers.callers[("site.0", 200)] == 6, "the rest never reached a server"
        pin = await client.get(HTTP_ROUTE.key(f"{NAME}-pin-0000000001", namespace))
        # The label finds the pin route too; each route counts by itself.
        assert await ask(gateway, {PIN_HEADER: token_of(pin), **site}, 10) == {200: 6, 429: 4}

        # A higher limit is in force without a new key; without any there is no policy.
        await client.merge(director.key, {"spec": {"consumers": limited(namespace, 1000)}})
        await eventually(lambda: answers(gateway, site, 200), seconds=30, pause=0.2)
        await client.merge(director.key, {"spec": {"consumers": limited(namespace, None)}})
        await eventually(lambda: no_limits(client, namespace), seconds=30, pause=0.2)
        await eventually(lambda: answers(gateway, planner, 200), seconds=30, pause=0.2)
    assert set(unlimited) == {200}, "limits come and go and nobody else notices"

    # An older policy of somebody else on the same route wins at the gateway, which is told.
    await client.create(BACKEND_TRAFFIC_POLICY, policy_of_others(namespace))
    await asyncio.sleep(1.1)  # ages are whole seconds
    await client.merge(director.key, {"spec": {"consumers": limited(namespace, 6)}})
    refusal = await eventually(lambda: refused(director), seconds=60, pause=0.2)
    assert (refusal["status"], refusal["reason"]) == ("False", "PolicyRefused")
    assert "another BackendTrafficPolicy has already attached" in refusal["message"]
    await client.delete(BACKEND_TRAFFIC_POLICY.key("theirs", namespace))
    await eventually(lambda: answers(gateway, planner, 429), seconds=60, pause=0.2)
    await eventually(lambda: not_refused(director), seconds=30, pause=0.2)


def limited(namespace: str, requests: int | None) -> list[Object]:
    """A key and a ServiceAccount with limits, if any, and a key without."""
    site, crews = consumers(namespace, "old")
    (other, _) = consumers(namespace, "new")
    if requests is not None:
        site["rateLimit"], crews["rateLimit"] = ({"requests": each, "per": "Hour"} for each in (requests, 4))
    return [site, crews, {**other, "name": "other"}]


async def limits_are_accepted(client: Client, namespace: str) -> bool:
    policy = await client.find(BACKEND_TRAFFIC_POLICY.key(access.limits_name(NAME), namespace))
    return policy is not None and access.standing(policy, PARENT_REF) == access.Standing("Accepted", newest=True)


async def not_refused(director: Director) -> bool:
    return await refused(director) is None


def policy_of_others(namespace: str) -> Object:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": NAME}
    spec = {"targetRefs": [target], "mergeType": "StrategicMerge", "timeout": {"tcp": {"connectTimeout": "5s"}}}
    return made(BACKEND_TRAFFIC_POLICY, {"name": "theirs", "namespace": namespace}, spec)


async def refused(director: Director) -> Object | None:
    """What is said about limits that are not in force."""
    conditions = (await director.status()).get("conditions", ())
    return next((each for each in conditions if each["type"] == "RateLimitsEnforced"), None)


async def no_limits(client: Client, namespace: str) -> bool:
    return await client.find(BACKEND_TRAFFIC_POLICY.key(access.limits_name(NAME), namespace)) is None


async def answers(gateway: Running, headers: dict[str, str], code: int) -> bool:
    return await ask(gateway, headers, 5) == {code: 5}


async def repeats(director: Director) -> bool:
    """Whether the gateway has taken the patch in while the candidate has a weight."""
    found = [each for each in (await director.status()).get("conditions", ()) if each["type"] == "RetryOnStable"]
    return [each["status"] for each in found] == ["True"]


async def gone(client: Client, namespace: str) -> bool:
    name = retry.policy_name(namespace, NAME)
    return await client.find(ENVOY_PATCH_POLICY.key(name, "slipway-system")) is None


async def used(director: Director, at_least: int) -> bool:
    rows = {each["name"]: each for each in (await director.status()).get("consumers", ())}
    return all(rows.get(each, {}).get("requests", 0) > at_least // 2 for each in ("site", "crews"))


async def put_back(client: Client, namespace: str, eventually: Eventually) -> None:
    """Somebody lets everybody in by hand, and opens a rule: both are put back, with an Event each."""
    key = SECURITY_POLICY.key(access.policy_name(NAME), namespace)
    route = HTTP_ROUTE.key(NAME, namespace)
    before = (await client.get(key))["spec"]
    rules = (await client.get(route))["spec"]["rules"]
    await client.merge(key, {"spec": {"authorization": {"defaultAction": "Allow"}}})
    await client.merge(route, {"spec": {"rules": rules[:1]}})

    async def restored() -> bool:
        same = (await client.get(key))["spec"] == before and (await client.get(route))["spec"]["rules"] == rules
        notes = [each["note"] for each in await client.list(EVENT, namespace) if each["reason"] == "PutBack"]
        return same and all(any(kind in each for each in notes) for kind in ("SecurityPolicy", "HTTPRoute"))

    await eventually(restored, seconds=30, pause=0.2)
