"""Policies that somebody edits by hand: those of consumers at rest, the gateway's patch while requests are split."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from cluster.modelrollout.director import NAME, Director, Eventually, rollout, serves, weight_is
from cluster.modelrollout.policies import CONSUMERS, accepting, make_key, policy_crds
from cluster.modelrollout.realcluster import CRD
from cluster.modelrollout.stage import PARENT

from slipway.adapters import access, retry
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.controllers.modelrollout import Doors, ModelRolloutController
from slipway.runtime.client import Client
from slipway.runtime.errors import NotFound
from slipway.runtime.resources import (
    BACKEND_TRAFFIC_POLICY,
    ENVOY_PATCH_POLICY,
    EVENT,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    SECURITY_POLICY,
    Key,
    Object,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "wait", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]
THEIRS: Object = {"labels": {"theirs": "yes"}, "annotations": {"theirs.example.com/note": "keep"}}


@dataclass(frozen=True)
class Edit:
    """What somebody does to one of our objects.

    :param wrong: of `spec`: fields that are ours
    :param field: the first of them, as the Event names it
    :param added: of `spec`: fields of another manager, which Slipway does not set
    """

    key: Key
    wrong: Object
    field: str
    added: Object


def edits(namespace: str) -> list[Edit]:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "theirs"}
    connect = {"timeout": {"tcp": {"connectTimeout": "5s"}}}
    cors = {"cors": {"allowOrigins": ["https://theirs.example.com"]}}
    first: Object = {"type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "theirs"}
    patch = {**first, "operation": {"op": "remove", "path": "/load_assignment"}}
    return [
        Edit(
            ENVOY_PATCH_POLICY.key(retry.policy_name(namespace, NAME), PARENT["namespace"]),
            {"jsonPatches": [patch]},
            "spec.jsonPatches",
            {"priority": 7},
        ),
        Edit(
            SECURITY_POLICY.key(access.policy_name(NAME), namespace),
            {"authorization": {"defaultAction": "Allow"}},
            "spec.authorization.defaultAction",
            cors,
        ),
        Edit(
            SECURITY_POLICY.key(access.keys_policy_name(NAME), namespace),
            {"targetRefs": [target]},
            "spec.targetRefs",
            cors,
        ),
        Edit(
            BACKEND_TRAFFIC_POLICY.key(access.limits_name(NAME), namespace),
            {"rateLimit": {"local": {"rules": [{"limit": {"requests": 1_000_000, "unit": "Second"}}]}}},
            "spec.rateLimit.local.rules",
            connect,
        ),
        Edit(NETWORK_POLICY.key(access.policy_name(NAME), namespace), {"ingress": [{}]}, "spec.ingress", {}),
    ]


@pytest_asyncio.fixture
async def policies(crds: None, install_crds: Any, client: Client) -> AsyncIterator[None]:  # noqa: ARG001
    """The types, until the end: other tests begin without them."""
    manifests = policy_crds("securitypolicies", "backendtrafficpolicies", "envoypatchpolicies")
    await install_crds(*manifests)
    yield
    for manifest in manifests:
        with contextlib.suppress(NotFound):
            await client.delete(CRD.key(manifest["metadata"]["name"]))


@pytest.mark.usefixtures("policies")
async def test_hand_made_changes_of_policies_are_put_back_and_fields_of_others_stay(
    director: Director, start_operator: Any, statistics: GatewayStatistics, eventually: Eventually
) -> None:
    client, namespace = director.client, director.namespace
    await make_key(client, namespace, "site-key", "k" * 24)
    rollback = {"keepPrevious": "1s", "retryOnStable": True}
    await client.create(MODEL_ROLLOUT, rollout(namespace, consumers=CONSUMERS, rollback=rollback, steps=STEPS))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, Doors(namespace))])
    async with accepting(client, namespace):
        await eventually(lambda: serves(director, first), seconds=120, pause=0.2)
        patched, *others = edits(namespace)
        for edit in others:  # nothing would look for half a minute but for the edit
            await edited(client, edit, eventually, seconds=15)
        await director.add_version(2)
        await eventually(lambda: weight_is(director, "delays-0000000002", 30), seconds=90, pause=0.2)
        await edited(client, patched, eventually, seconds=15)
        expected = [put_back(each) for each in (*others, patched)]
        await eventually(lambda: is_told(client, namespace, expected[-1]), seconds=15, pause=0.2)
        assert await told(client, namespace) == expected, "nothing else, and once"

        # What somebody deletes comes back too.
        await client.delete(patched.key)
        await eventually(lambda: client.find(patched.key), seconds=15, pause=0.2)
        await client.delete(director.key)
        await eventually(lambda: is_gone(client, patched.key), seconds=60, pause=0.2)


async def edited(client: Client, edit: Edit, eventually: Eventually, seconds: float) -> None:
    """Edit an object in both ways, and wait until ours is as before, theirs is there, and an Event says so."""
    before = await eventually(lambda: client.find(edit.key), seconds=30, pause=0.2)
    await add_theirs(client, before, edit)
    await client.merge(edit.key, {"spec": edit.wrong})

    async def as_before() -> bool:
        return bool((await client.get(edit.key))["spec"] == {**before["spec"], **edit.added})

    await eventually(as_before, seconds=seconds, pause=0.1)
    after = await client.get(edit.key)
    for kind, values in THEIRS.items():
        assert after["metadata"][kind] == {**before["metadata"][kind], **values}, edit.key


async def add_theirs(client: Client, live: Object, edit: Edit) -> None:
    """Another manager applies fields of its own, as GitOps tools do."""
    meta = {"name": edit.key.name, "namespace": edit.key.namespace, **THEIRS}
    fields = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": meta}
    await client.apply(edit.key.type, {**fields, "spec": edit.added} if edit.added else fields)


def put_back(edit: Edit) -> str:
    return f"{edit.key} was changed by someone else ({edit.field}) and is put back: change what it is made from."


async def told(client: Client, namespace: str) -> list[str]:
    events = [each for each in await client.list(EVENT, namespace) if each["reason"] == "PutBack"]
    assert {(each["regarding"]["kind"], each["regarding"]["name"], each["type"]) for each in events} <= {
        ("ModelRollout", NAME, "Warning")
    }
    return [each["note"] for each in sorted(events, key=lambda each: str(each["eventTime"]))]


async def is_told(client: Client, namespace: str, note: str) -> bool:
    return note in await told(client, namespace)


async def is_gone(client: Client, key: Key) -> bool:
    return await client.find(key) is None
