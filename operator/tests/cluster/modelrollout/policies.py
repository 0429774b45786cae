"""Envoy Gateway's policies on an API server, where nothing but this test plays the gateway that takes them in."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import yaml
from cluster.modelrollout.stage import PARENT

from slipway.runtime.client import Client
from slipway.runtime.errors import ApiError
from slipway.runtime.resources import SECRET, SECURITY_POLICY, Object
from slipway_cluster import gobuild

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


def policy_crds(*plurals: str) -> list[Object]:
    """Envoy Gateway's CRDs of the policies; the chart's files have a condition around them."""
    chart = gobuild.module_folder("envoy-gateway", "github.com/envoyproxy/gateway") / "charts" / "gateway-crds-helm"
    found = []
    for plural in plurals:
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
