"""Hooks and alerts on a real API server, with real calls to a real HTTP receiver and real requests through Envoy."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cluster.modelrollout.director import Director, Eventually, rejected, rollout, serves, stalled
from cluster.modelrollout.stage import SteadyClient, sending

from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.secrets import Secrets
from slipway.adapters.webhooks import SECRET_TYPE, Webhooks
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.runtime.resources import EVENT, MODEL_ROLLOUT, PLATFORM, SECRET, Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WAIT = {"seconds": 120, "pause": 0.2}
KEY = b"0123456789abcdef0123456789abcdef"
TOKEN = "open sesame"
EVERY = (
    *("confirm-rollout", "pre-rollout", "rollout", "confirm-traffic-increase"),
    *("confirm-promotion", "post-rollout", "rollback", "event"),
)


@dataclass
class Got:
    """A call that the receiver got."""

    path: str
    token: str
    body: Any


@dataclass
class Receiver:
    """A real server; a path answers what is next in its list, the last for ever, and 200 without a list."""

    url: str = ""
    says: dict[str, list[int]] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        raw, path, headers = await request.read(), request.path.strip("/"), request.headers
        self.got.append(Got(path, headers["webhook-id"], json.loads(raw)))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + raw
        wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if headers.get("webhook-signature") != f"v1,{wanted}" or headers.get("Authorization") != f"Bearer {TOKEN}":
            self.forged.append(path)
        says = self.says.get(path, [200])
        return web.Response(status=says.pop(0) if len(says) > 1 else says[0])

    def of(self, path: str) -> list[Got]:
        return [each for each in self.got if each.path == path]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest_asyncio.fixture
async def allowed(director: Director) -> None:
    """An administrator lets the operator call this machine."""
    await director.client.merge(PLATFORM.key("default"), {"spec": {"webhooks": {"allowedHosts": ["127.0.0.1"]}}})


async def add_secret(director: Director, name: str, type_: str = SECRET_TYPE, **data: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": type_,
        "metadata": {"name": name, "namespace": director.namespace},
        "stringData": {
            "hosts": "127.0.0.1",
            "token": TOKEN,
            "hmacKey": f"whsec_{base64.b64encode(KEY).decode()}",
            **data,
        },
    }
    await director.client.create(SECRET, secret)


def hook(receiver: Receiver, type_: str, **more: Any) -> Object:
    secret = {"name": "gates"}
    return {
        "name": type_,
        "type": type_,
        "url": f"{receiver.url}/{type_}",
        "interval": "5s",
        "secretRef": secret,
        **more,
    }


@pytest_asyncio.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    one = Webhooks(Secrets())
    yield one
    await one.close()


async def has_candidate(director: Director, name: str) -> bool:
    return (await director.status()).get("candidate") == name


@pytest.mark.usefixtures("allowed")
async def test_a_canary_with_all_eight_gates(
    director: Director,
    receiver: Receiver,
    start_operator: Any,
    statistics: GatewayStatistics,
    webhooks: Webhooks,
    eventually: Eventually,
) -> None:
    await add_secret(director, "gates")
    receiver.says = {"rollback": [404], "confirm-rollout": [403, 200], "pre-rollout": [500, 200]}
    spec = rollout(director.namespace, hooks=[hook(receiver, each) for each in EVERY])
    await director.client.create(MODEL_ROLLOUT, spec)
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, webhooks=webhooks)])
    await eventually(lambda: serves(director, first), **WAIT)
    assert {each.path for each in receiver.got} <= {"event"}, "the first version passes no gate"
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        second = await director.add_version(2)
        await eventually(lambda: serves(director, second), **WAIT)
        await eventually(lambda: bool(receiver.of("post-rollout")), **WAIT)
    assert answers.lost == []
    assert answers.failed(first) == answers.failed(second) == 0
    assert receiver.forged == [], "every call is signed"
    assert {each.path for each in receiver.got} == set(EVERY)
    held = [each.path for each in receiver.got if each.path not in ("event", "rollback", "rollout")]
    assert held == [
        *("confirm-rollout", "confirm-rollout", "pre-rollout", "pre-rollout"),
        *("confirm-traffic-increase", "confirm-traffic-increase", "confirm-promotion", "post-rollout"),
    ]
    weights = [each.body["weight"] for each in receiver.of("confirm-traffic-increase")]
    assert weights == [0, 30], "asked before the weight rises"
    for repeated in ("confirm-rollout", "pre-rollout"):
        assert len({each.token for each in receiver.of(repeated)}) == 1
    (end,) = receiver.of("post-rollout")
    assert (end.body["phase"], end.body["candidate"]["name"]) == ("Succeeded", second)
    reasons = {each["reason"] for each in await director.client.list(EVENT, director.namespace)}
    assert {"WaitingForHook", "HookFailed", "Promoted"} <= reasons

    async def all_told() -> bool:
        return not (await director.status()).get("notices")

    await eventually(all_told, **WAIT)
    posted = {each.body["metadata"]["eventReason"] for each in receiver.of("event")}
    assert {"Started", "WaitingForHook", "HookFailed", "StepStarted", "Promoted"} <= posted


@pytest.mark.usefixtures("allowed")
async def test_a_rollback_hook_takes_all_requests_back_while_receivers_are_dead(
    director: Director,
    receiver: Receiver,
    start_operator: Any,
    statistics: GatewayStatistics,
    webhooks: Webhooks,
    eventually: Eventually,
) -> None:
    await add_secret(director, "gates")
    await add_secret(director, "team", address="http://127.0.0.1:1/nobody")
    receiver.says = {"rollback": [404], "event": [500], "post-rollout": [500], "confirm-promotion": [403]}
    hooks = [hook(receiver, each) for each in ("rollback", "event", "post-rollout", "confirm-promotion")]
    alerts = [{"name": "team", "type": "Webhook", "secretRef": {"name": "team"}}]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, hooks=hooks, alerts=alerts, checks=[]))
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, webhooks=webhooks)])
    await eventually(lambda: serves(director, first), **WAIT)
    with sending(SteadyClient(director.url(), rate=50)) as answers:
        second = await director.add_version(2)
        await eventually(lambda: bool(receiver.of("confirm-promotion")), **WAIT)
        receiver.says["rollback"] = [200]
        await eventually(lambda: rejected(director, second), **WAIT)
    assert answers.lost == []
    assert await director.weights() == {"delays-0000000001": 100}
    status = await director.status()
    assert status["rejected"][0]["reason"] == "RollbackRequested"
    waiting = {each["to"] for each in status["notices"] if "deliveredAt" not in each}
    assert {"alert/team", "hook/event"} <= waiting


@pytest.mark.usefixtures("allowed")
async def test_an_alert_is_delivered_once_over_a_restart_of_the_operator(
    director: Director,
    receiver: Receiver,
    start_operator: Any,
    statistics: GatewayStatistics,
    webhooks: Webhooks,
    eventually: Eventually,
) -> None:
    await add_secret(director, "team", address=f"{receiver.url}/team")
    receiver.says = {"team": [503]}
    alerts = [{"name": "team", "type": "Webhook", "secretRef": {"name": "team"}}]
    await director.client.create(MODEL_ROLLOUT, rollout(director.namespace, alerts=alerts))
    first = await director.add_version(1)
    operator = await start_operator([ModelRolloutController(statistics, webhooks=webhooks)])
    await eventually(lambda: serves(director, first), **WAIT)
    await eventually(lambda: bool(receiver.of("team")), **WAIT)
    operator.stop()
    receiver.says, receiver.got = {}, []

    async def all_delivered() -> bool:
        notices = (await director.status()).get("notices", ())
        return len(notices) == 2 and all("deliveredAt" in each for each in notices)

    for identity in ("second", "third"):
        other, calls = GatewayStatistics(), Webhooks(Secrets())
        operator = await start_operator([ModelRolloutController(other, webhooks=calls)], identity=identity)
        await eventually(all_delivered, **WAIT)
        if identity == "second":
            operator.stop()
            await calls.close()
            await other.close()
    second = await director.add_version(2)
    await eventually(lambda: has_candidate(director, second), **WAIT)
    await eventually(lambda: len(receiver.of("team")) == 3, **WAIT)
    assert [(each.body["reason"], each.body["version"]) for each in receiver.of("team")] == [
        ("Started", first),
        ("Promoted", first),
        ("Started", second),
    ]
    await calls.close()
    await other.close()


@pytest.mark.usefixtures("allowed")
async def test_another_kind_of_secret_is_sent_nowhere_and_no_version_is_blamed(
    director: Director,
    receiver: Receiver,
    start_operator: Any,
    statistics: GatewayStatistics,
    webhooks: Webhooks,
    eventually: Eventually,
) -> None:
    await add_secret(director, "gates", type_="Opaque")
    spec = rollout(director.namespace, hooks=[hook(receiver, "pre-rollout", failureLimit=0)])
    await director.client.create(MODEL_ROLLOUT, spec)
    first = await director.add_version(1)
    await start_operator([ModelRolloutController(statistics, webhooks=webhooks)])
    await eventually(lambda: serves(director, first), **WAIT)
    second = await director.add_version(2)
    await eventually(lambda: stalled(director, "HookNotSent"), **WAIT)
    assert receiver.got == []
    await director.client.delete(SECRET.key("gates", director.namespace))
    await add_secret(director, "gates")
    await eventually(lambda: bool(receiver.got), **WAIT)
    assert (await director.status()).get("rejected") is None
    assert await has_candidate(director, second) or await director.stable() == second
