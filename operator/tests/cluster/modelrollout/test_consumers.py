"""Declared consumers on a real API server: its issuer, Envoy Gateway's CRDs with their rules, types that come late."""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml
from cluster.modelrollout.director import NAME, Director, Eventually, rollout, serves
from cluster.modelrollout.stage import PARENT

from slipway.adapters import access
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.controllers.modelrollout import Doors, ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.errors import ApiError
from slipway.runtime.resources import (
    BACKEND_TRAFFIC_POLICY,
    HTTP_ROUTE,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    SECRET,
    SECURITY_POLICY,
    Object,
)
from slipway_cluster import gobuild

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY, NEW_KEY = "k" * 24, "n" * 24
CONSUMERS: list[Object] = [
    {
        "name": "site",
        "apiKey": {"secretRefs": [{"name": "site-key"}]},
        "purpose": "Warns of delays.",
        "contact": "site@example.com",
        "rateLimit": {"requests": 50, "per": "Second"},
    },
    {
        "name": "crews",
        "serviceAccountRef": {"namespace": "crews", "name": "planner"},
        "purpose": "Plans crews.",
        "contact": "#crews",
    },
]


def policy_crds() -> list[Object]:
    """Envoy Gateway's CRDs of the policies; the chart's files have a condition around them."""
    chart = gobuild.module_folder("envoy-gateway", "github.com/envoyproxy/gateway") / "charts" / "gateway-crds-helm"
    found = []
    for plural in ("securitypolicies", "backendtrafficpolicies"):
        text = (chart / "templates" / "generated" / f"gateway.envoyproxy.io_{plural}.yaml").read_text()
        plain = "\n".join(line for line in text.splitlines() if not line.startswith("{{"))
        found.append(yaml.load(plain, yaml.CSafeLoader))
    return found


@asynccontextmanager
async def accepting(client: Client, namespace: str) -> AsyncIterator[None]:
    """While the gateway accepts every SecurityPolicy."""

    async def play() -> None:
        while True:
            with contextlib.suppress(ApiError):
                for policy in await client.list(SECURITY_POLICY, namespace):
                    await accept(client, policy)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def accept(client: Client, policy: Object) -> None:
    generation = policy["metadata"]["generation"]
    ancestors = (policy.get("status") or {}).get("ancestors") or ()
    if [each["conditions"][0]["observedGeneration"] for each in ancestors] == [generation]:
        return
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-11-23T08:00:00Z",
    }
    ancestor = {"ancestorRef": PARENT, "controllerName": "slipway.dev/test", "conditions": [condition]}
    await client.replace_status(policy, SECURITY_POLICY, {"ancestors": [ancestor]})


async def make_key(client: Client, namespace: str, name: str, key: str) -> None:
    data = {"apiKey": b64encode(key.encode()).decode()}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
    await client.create(SECRET, manifest)


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
    await install_crds(*policy_crds())
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
