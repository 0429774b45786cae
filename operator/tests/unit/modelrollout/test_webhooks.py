"""The adapter against real HTTP servers on loopback: slow, closed, huge, redirecting, and well-behaved ones."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from prometheus_client import CollectorRegistry

from slipway.adapters import webhooks
from slipway.adapters.outbound import Refused
from slipway.adapters.secrets import SecretData
from slipway.adapters.webhook_post import check_url
from slipway.adapters.webhooks import AT_ONCE_EACH, SECRET_TYPE, Answer, Request, Webhooks
from slipway.runtime.errors import Unavailable
from slipway.runtime.metrics import Metrics

OWNER = "flights/delays"
LOCAL = ("127.0.0.1",)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Vault:
    """Secrets of the namespace `flights`."""

    def __init__(self) -> None:
        self.secrets: dict[str, SecretData] = {}
        self.away = False

    def add(self, name: str, type_: str = SECRET_TYPE, **values: str) -> None:
        self.secrets[name] = SecretData("1", values, type=type_)

    def bind(self, client: object) -> None:
        pass

    async def read(self, namespace: str, name: str) -> SecretData | None:
        assert namespace == "flights"
        if self.away:
            raise Unavailable("the API server does not answer.")
        return self.secrets.get(name)


class Endpoint:
    """A real server; `handler` may be replaced."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.handler: Handler = self.say(200)
        self.url = ""
        self.at_once = self.most_at_once = 0

    def say(self, code: int, body: str = "", **headers: str) -> Handler:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=code, text=body, headers=headers)

        return answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.handler(request)
        finally:
            self.at_once -= 1


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    one = Endpoint()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest_asyncio.fixture
async def calls(vault: Vault) -> AsyncIterator[Webhooks]:
    one = Webhooks(vault)
    yield one
    await one.close()


def request(url: str | None, key: str = "a", **more: Any) -> Request:
    settings = {"secret": None, "body": {"name": "delays"}, "timeout": 5.0, "hosts": LOCAL, **more}
    return Request(owner=settings.pop("owner", OWNER), key=key, token=f"token-of-{key}", url=url, **settings)


async def answered(calls: Webhooks, one: Request) -> Answer:
    await calls.post(one)
    for task in asyncio.all_tasks():
        if task.get_name() == f"webhook {one.key}":
            await task
    return calls.read(one.owner)[one.key]


# ---- answers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "result"), [(200, "Ok"), (202, "Ok"), (204, "Ok"), (400, "Failed"), (403, "Failed"), (500, "Failed")]
)
async def test_2xx_is_a_yes_and_everything_else_is_none(
    calls: Webhooks, endpoint: Endpoint, code: int, result: str
) -> None:
    endpoint.handler = endpoint.say(code, "" if code == 204 else "secret of a neighbour")
    answer = await answered(calls, request(f"{endpoint.url}/gate?x=1"))
    assert (answer.result, answer.code, answer.message) == (result, code, f"it answered {code}.")
    headers, body = endpoint.got[0]
    assert json.loads(body) == {"name": "delays"}
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "token-of-a"
    assert "authorization" not in headers
    assert "webhook-signature" not in headers


async def test_redirects_are_not_followed(calls: Webhooks, endpoint: Endpoint) -> None:
    endpoint.handler = endpoint.say(307, Location=f"{endpoint.url}/elsewhere")
    answer = await answered(calls, request(f"{endpoint.url}/gate"))
    assert (answer.result, answer.code, len(endpoint.got)) == ("Failed", 307, 1)


async def test_a_slow_answer_ends_at_the_timeout_and_blocks_nothing(calls: Webhooks, endpoint: Endpoint) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    endpoint.handler = slow
    begun = time.monotonic()
    await calls.post(request(endpoint.url, timeout=0.3))
    assert time.monotonic() - begun < 0.3, "posting does not wait"
    answer = await answered(calls, request(endpoint.url, timeout=0.3))
    assert (answer.result, answer.code) == ("Failed", None)
    assert "did not answer within 0.3 s" in answer.message
    assert time.monotonic() - begun < 5


async def test_an_answer_that_trickles_is_not_waited_for(calls: Webhooks, endpoint: Endpoint) -> None:
    """Only the head is read: neither a huge nor an endless body costs memory or time."""

    async def endless(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(asked)
        for _ in range(10_000):
            await response.write(b"x" * 65536)
        return response

    endpoint.handler = endless
    begun = time.monotonic()
    answer = await answered(calls, request(endpoint.url))
    assert answer.result == "Ok"
    assert time.monotonic() - begun < 5


async def test_huge_headers_are_refused(calls: Webhooks, endpoint: Endpoint) -> None:
    endpoint.handler = endpoint.say(200, **{"X-Huge": "x" * 100_000})
    assert (await answered(calls, request(endpoint.url))).result == "Failed"


async def test_a_closed_port_is_a_failure_that_names_no_address(calls: Webhooks) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    answer = await answered(calls, request(f"http://127.0.0.1:{port}/gate"))
    assert (answer.result, answer.message) == ("Failed", "it cannot be reached: the connection failed.")


async def test_a_connection_that_is_cut_is_a_failure(calls: Webhooks) -> None:
    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        answer = await answered(calls, request(f"http://127.0.0.1:{port}/"))
    assert (answer.result, answer.message) == ("Failed", "it cannot be reached: the connection broke.")


async def test_proxies_of_the_environment_are_not_used(
    calls: Webhooks, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await answered(calls, request(endpoint.url))).result == "Ok"


# ---- tries, pauses, bounds -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("code", "tries"), [(503, 3), (429, 3), (403, 1), (200, 1)])
async def test_retries_are_for_answers_that_may_pass_and_keep_the_token(
    calls: Webhooks, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, code: int, tries: int
) -> None:
    monkeypatch.setattr(webhooks, "_RETRY_PAUSES", (0.01,))
    endpoint.handler = endpoint.say(code)
    await answered(calls, request(endpoint.url, retries=2))
    assert [headers["webhook-id"] for headers, _ in endpoint.got] == ["token-of-a"] * tries


async def test_a_key_is_not_asked_again_before_its_pause_is_over(vault: Vault, endpoint: Endpoint) -> None:
    now = 1000.0
    calls = Webhooks(vault, clock=lambda: now)
    endpoint.handler = endpoint.say(403)
    pauses = []
    for _ in range(4):
        answer = await answered(calls, request(endpoint.url, pause=5.0, longest_pause=15.0))
        pauses.append(answer.due_in)
        now += answer.due_in - 0.1
        await answered(calls, request(endpoint.url, pause=5.0, longest_pause=15.0))
        now += 0.2
    assert len(endpoint.got) == 4
    assert pauses == [5.0, 10.0, 15.0, 15.0]
    await calls.close()


async def test_even_without_a_pause_there_are_seconds_between_two_questions(
    calls: Webhooks, endpoint: Endpoint
) -> None:
    answer = await answered(calls, request(endpoint.url, pause=0.0, longest_pause=0.0))
    assert answer.due_in > 2.5


async def test_the_last_answer_stays_while_it_is_asked_again(vault: Vault, endpoint: Endpoint) -> None:
    now = 1000.0
    calls = Webhooks(vault, clock=lambda: now)
    await answered(calls, request(endpoint.url))
    now += 60
    await calls.post(request(endpoint.url))
    answer = calls.read(OWNER)["a"]
    assert (answer.result, answer.pending) == ("Ok", True)
    await calls.close()


async def test_one_rollout_has_few_calls_at_once_and_others_do_not_wait_for_it(
    calls: Webhooks, endpoint: Endpoint
) -> None:
    async def slow(asked: web.Request) -> web.StreamResponse:
        if asked.path == "/slow":
            await asyncio.sleep(1.0)
        return web.Response()

    endpoint.handler = slow
    for number in range(20):
        await calls.post(request(f"{endpoint.url}/slow", key=f"k{number}"))
    begun = time.monotonic()
    answer = await answered(calls, request(f"{endpoint.url}/fast", owner="others/rollout"))
    assert answer.result == "Ok"
    assert time.monotonic() - begun < 0.9
    assert endpoint.most_at_once <= AT_ONCE_EACH + 1


async def test_answers_are_bounded_in_number(calls: Webhooks) -> None:
    for number in range(200):
        await answered(calls, request("http://elsewhere.example.com/", key=f"k{number}"))
    known = calls.read(OWNER)
    assert len(known) == webhooks.KEPT
    assert "k199" in known
    assert "k0" not in known


async def test_a_rollout_that_is_gone_has_no_calls(calls: Webhooks, endpoint: Endpoint) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    endpoint.handler = never
    await calls.post(request(endpoint.url))
    await asyncio.sleep(0.05)
    calls.forget(OWNER)
    await asyncio.sleep(0.05)
    assert calls.read(OWNER) == {}
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("webhook")]


async def test_calls_and_losses_are_counted(vault: Vault, endpoint: Endpoint) -> None:
    calls, metrics = Webhooks(vault), Metrics(CollectorRegistry())
    calls.measure(metrics)
    await answered(calls, request(endpoint.url))
    await answered(calls, request("http://elsewhere.example.com/", key="b"))
    await calls.dropped(3)
    sample = metrics.registry.get_sample_value
    assert sample("slipway_webhook_calls_total", {"outcome": "Ok"}) == 1
    assert sample("slipway_webhook_calls_total", {"outcome": "NotSent"}) == 1
    assert sample("slipway_notices_dropped_total") == 3


# ---- Secrets ---------------------------------------------------------------------------------------------------------
async def test_a_token_and_a_signature_that_receivers_can_verify(
    calls: Webhooks, endpoint: Endpoint, vault: Vault
) -> None:
    raw = b"0123456789abcdef0123456789abcdef"
    vault.add("gates", hosts="127.0.0.1", token="open sesame", hmacKey=f"whsec_{base64.b64encode(raw).decode()}")
    assert (await answered(calls, request(endpoint.url, secret="gates"))).result == "Ok"
    headers, body = endpoint.got[0]
    assert headers["authorization"] == "Bearer open sesame"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 10
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


async def test_the_signature_is_the_one_of_the_published_example() -> None:
    """The vector of the Standard Webhooks libraries."""
    body = b'{"test": 2432232314}'
    found = webhooks.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_an_address_comes_from_the_secret(calls: Webhooks, endpoint: Endpoint, vault: Vault) -> None:
    vault.add("slack", address=f"{endpoint.url}/services/T0/B0/x\n")
    assert (await answered(calls, request(None, secret="slack"))).result == "Ok"


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (None, "there is no Secret gates: create it, with type slipway.dev/webhook."),
        (SecretData("1", {"token": "x"}, type="Opaque"), "is not of type slipway.dev/webhook"),
        (
            SecretData("1", {"token": "x"}, type="kubernetes.io/service-account-token"),
            "is not of type slipway.dev/webhook",
        ),
        (SecretData("1", {"token": "x"}, type=SECRET_TYPE), "Secret gates may not be sent to 127.0.0.1"),
        (SecretData("1", {"hosts": "a 127.0.0.1:1", "token": "x"}, type=SECRET_TYPE), "may not be sent to 127.0.0.1"),
        (SecretData("1", {"password": "x"}, type=SECRET_TYPE), "Secret gates lacks token and hmacKey"),
        (SecretData("1", {"hosts": "127.0.0.1", "hmacKey": "whsec_?"}, type=SECRET_TYPE), "is not base64"),
        (SecretData("1", {"hosts": "127.0.0.1", "token": "a\r\nHost: b"}, type=SECRET_TYPE), "has line breaks"),
    ],
)
async def test_a_secret_that_does_not_fit_is_sent_nowhere(
    calls: Webhooks, endpoint: Endpoint, vault: Vault, secret: SecretData | None, says: str
) -> None:
    if secret is not None:
        vault.secrets["gates"] = secret
    answer = await answered(calls, request(endpoint.url, secret="gates"))
    assert answer.result == "NotSent"
    assert says in answer.message
    assert endpoint.got == []


async def test_an_api_server_that_is_away_is_no_fault_of_the_endpoint(
    calls: Webhooks, endpoint: Endpoint, vault: Vault
) -> None:
    vault.away = True
    answer = await answered(calls, request(endpoint.url, secret="gates"))
    assert answer.result == "NotSent"
    assert "cannot be read" in answer.message


# ---- where it may call -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://gate.flights.svc/x", ()),
        ("https://gate.flights.svc.cluster.local:8443/x", ()),
        ("http://pod.gate.flights.svc", ()),
        ("https://gates.example.com/x", ("gates.example.com",)),
        ("https://GATES.example.com./x", ("gates.example.com",)),
        ("https://a.b.example.com/x", ("*.example.com",)),
        ("https://anything.example.org/x", ("*",)),
        ("http://192.0.2.7:8080/x", ("192.0.2.7",)),
        ("http://127.0.0.1/x", ("127.0.0.1",)),
        ("http://10.1.2.3/x", ("*",)),
    ],
)
def test_what_may_be_called(url: str, allowed: tuple[str, ...]) -> None:
    check_url(url, "flights", allowed)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://gate.other.svc/x", ()),
        ("http://gate.flights.svc.evil.com/x", ()),
        ("http://flights.svc/x", ()),
        ("http://evilflights.svc/x", ()),
        ("https://gates.example.com/x", ()),
        ("https://example.com/x", ("*.example.com",)),
        ("https://evilexample.com/x", ("*.example.com",)),
        ("http://kubernetes.default.svc/x", ()),
        ("http://169.254.169.254/latest/meta-data", ("*",)),
        ("http://127.0.0.1:10250/pods", ("*",)),
        ("http://[::1]/x", ("*",)),
        ("http://[::ffff:127.0.0.1]/x", ("*",)),
        ("http://[fe80::1%25eth0]/x", ("*",)),
        ("http://0.0.0.0/x", ("*",)),
        ("http://gate.flights.svc@evil.com/x", ()),
        ("http://me:secret@gates.example.com/x", ("gates.example.com",)),
        ("ftp://gate.flights.svc/x", ("*",)),
        ("file:///etc/passwd", ("*",)),
        ("http:///x", ("*",)),
        ("http://gate.flights.svc:99999/x", ("*",)),
        ("http://[broken/x", ("*",)),
    ],
)
def test_what_may_not_be_called(url: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        check_url(url, "flights", allowed)


async def test_a_name_that_leads_to_loopback_is_not_called(calls: Webhooks, endpoint: Endpoint) -> None:
    port = endpoint.url.rpartition(":")[2]
    answer = await answered(calls, request(f"http://localhost:{port}/", hosts=("localhost",)))
    assert (answer.result, answer.message) == (
        "Failed",
        "it cannot be reached: its name has no address that may be called.",
    )
    assert endpoint.got == []
