"""Declared consumers on a real API server: its issuer, Envoy Gateway's CRDs with their rules, types that come late."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from cluster.modelrollout.director import NAME, Director, Eventually, rollout, serves
from cluster.modelrollout.policies import CONSUMERS, accepting, make_key, policy_crds

from slipway.adapters import access
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.controllers.modelrollout import Doors, ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.resources import (
    BACKEND_TRAFFIC_POLICY,
    HTTP_ROUTE,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    SECRET,
    SECURITY_POLICY,
    Object,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY, NEW_KEY = "k" * 24, "n" * 24


async def test_consumers_wait_for_a_gateway_that_can_enforce_them_and_keys_rotate(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually, install_crds: Any
) -> None:
    client, namespace = director.client, director.namespace
    await make_key(client, namespace, "site-key", KEY)
    await client.create(MODEL_ROLLOUT, rollout(namespace, consumers=CONSUMERS))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, Doors(namespace))])

    async def condition(kind: str, word: str, reason: str) -> bool:
        found = [each for each in (await director.status()).get("conditions", ()) if each["type"] == kind]
        return [(each["status"], each["reason"]) for each in found] == [(word, reason)]

    # The types are not served: the operator works, says so, and serves nobody.
    await eventually(lambda: condition("AccessEnforced", "False", "EnforcementUnsupported"), seconds=90, pause=0.2)
    await eventually(lambda: condition("Ready", "False", "EnforcementUnsupported"), seconds=90, pause=0.2)
    assert access.closed_by(await client.get(HTTP_ROUTE.key(NAME, namespace)))

    # They come while it runs.
    await install_crds(*policy_crds("securitypolicies", "backendtrafficpolicies"))
    async with accepting(client, namespace):
        await eventually(lambda: serves(director, first), seconds=120, pause=0.2)
        assert await condition("AccessEnforced", "True", "PoliciesAccepted")
        assert not access.closed_by(await client.get(HTTP_ROUTE.key(NAME, namespace)))
        await eventually(lambda: has_jwt(client, namespace), seconds=30, pause=0.2)
        (provider,) = (await policy(client, namespace))["spec"]["jwt"]["providers"]
        assert provider["issuer"].startswith("https://")
        assert json.loads(provider["localJWKS"]["inline"])["keys"], "the API server's own keys"
        assert len(await client.list(SECURITY_POLICY, namespace)) == 2
        assert len(await client.list(BACKEND_TRAFFIC_POLICY, namespace)) == 1
        (network,) = await client.list(NETWORK_POLICY, namespace)
        assert network["spec"]["policyTypes"] == ["Ingress"]
        assert await keys(client, namespace) == {"site.0": KEY}

        # The old and the new key together, then the new one alone; the route stays open.
        await make_key(client, namespace, "site-key-2", NEW_KEY)
        both = [{"name": "site-key"}, {"name": "site-key-2"}]
        await client.merge(director.key, {"spec": {"consumers": with_keys(both)}})
        await eventually(lambda: keys_are(client, namespace, {"site.0": KEY, "site.1": NEW_KEY}), pause=0.2)
        await client.merge(director.key, {"spec": {"consumers": with_keys(both[1:])}})
        await eventually(lambda: keys_are(client, namespace, {"site.0": NEW_KEY}), pause=0.2)
        assert not access.closed_by(await client.get(HTTP_ROUTE.key(NAME, namespace)))

        # Without consumers nothing is left of them.
        await client.merge(director.key, {"spec": {"consumers": None}})
        await eventually(lambda: nothing_left(client, namespace), pause=0.2)


def with_keys(sources: list[Object]) -> list[Object]:
    return [{**CONSUMERS[0], "apiKey": {"secretRefs": sources}}, CONSUMERS[1]]


async def policy(client: Client, namespace: str) -> Object:
    return await client.get(SECURITY_POLICY.key(access.policy_name(NAME), namespace))


async def has_jwt(client: Client, namespace: str) -> bool:
    return "jwt" in (await policy(client, namespace))["spec"]


async def keys(client: Client, namespace: str) -> dict[str, str]:
    secret = await client.get(SECRET.key(access.keys_secret_name(NAME), namespace))
    return {name: b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}


async def keys_are(client: Client, namespace: str, expected: dict[str, str]) -> bool:
    return await keys(client, namespace) == expected


async def nothing_left(client: Client, namespace: str) -> bool:
    left = [await client.list(each, namespace) for each in (SECURITY_POLICY, BACKEND_TRAFFIC_POLICY, NETWORK_POLICY)]
    return not any(left)
