"""Measurements over the network: real servers on loopback, and Prometheus' answers as its API documents them."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio
from aiohttp import web

from slipway.adapters import outbound
from slipway.adapters.measurements import AT_ONCE, Answer, Measurements, Token, prometheus_value, select
from slipway.adapters.outbound import Outbound, Refused, Request, is_private_to_us
from slipway.adapters.secrets import Secrets
from slipway.api.analysis import Provider
from slipway.runtime.resources import Key

NAMESPACE = "flights"


class Cluster:
    """Secrets of a cluster."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}

    def add(self, name: str, hosts: str = "", **data: str) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        meta = {"name": name, "resourceVersion": "1", "annotations": {outbound.HOSTS: hosts} if hosts else {}}
        self.secrets[name] = {"metadata": meta, "data": encoded}

    async def find(self, key: Key) -> dict[str, Any] | None:
        assert key.namespace == NAMESPACE
        return self.secrets.get(key.name)


class Site:
    """An HTTP server that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], str]] = []
        self.answer: Any = {"data": {"values": [0.97, 0.5]}}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause = 0.0
        self.at_once = self.most_at_once = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path_qs, dict(request.headers), await request.text()))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(self.pause)
        finally:
            self.at_once -= 1
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(body=body, status=self.status, headers=self.headers)


async def started(site: Site, context: ssl.SSLContext | None = None) -> web.AppRunner:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", site.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port = runner.addresses[0][1]
    site.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    return runner


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    one = Site()
    runner = await started(one)
    yield one
    await runner.cleanup()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest_asyncio.fixture
async def measurements(cluster: Cluster) -> AsyncIterator[Measurements]:
    one = Measurements(Secrets(), Outbound(lambda _: False))
    one.bind(cluster)
    yield one
    await one.close()


def provider(**kind: Any) -> Provider:
    return Provider.model_validate(kind)


def token(measurement: str = "v2/a/b/0", metric: str = "Background//up", owner: str = "uid") -> Token:
    return Token(owner, metric, measurement)


async def answer_of(measurements: Measurements, source: Provider, one: Token | None = None) -> Answer:
    one = one or token()
    await measurements.begin(one, NAMESPACE, source)
    assert one in measurements.read(one.owner).under_way
    await until_answered(measurements, one)
    heard = measurements.read(one.owner)
    assert one not in heard.under_way
    return heard.answers[one]


async def until_answered(measurements: Measurements, *tokens: Token) -> None:
    async with asyncio.timeout(20):
        for one in tokens:
            while one not in measurements.read(one.owner).answers:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.005)


# ---- web -------------------------------------------------------------------------------------------------------------
async def test_a_web_endpoint_is_asked_once_and_its_value_selected(site: Site, measurements: Measurements) -> None:
    source = provider(web={"url": f"{site.url}/quality?v=2", "jsonPath": "$.data.values[0]"})
    assert await answer_of(measurements, source) == Answer(0.97)
    method, path, headers, body = site.asked[0]
    assert (method, path, body) == ("GET", "/quality?v=2", "")
    assert headers["Idempotency-Key"] == "uid/Background//up/v2/a/b/0"
    await measurements.begin(token(), NAMESPACE, source)
    assert len(site.asked) == 1


async def test_a_web_endpoint_gets_body_and_headers(site: Site, measurements: Measurements, cluster: Cluster) -> None:
    cluster.add("quality", "127.0.0.1", authorization="Basic abc\n")
    headers = [
        {"key": "X-Team", "value": "a"},
        {"key": "Authorization", "secretKeyRef": {"name": "quality", "key": "authorization"}},
    ]
    source = provider(web={"url": site.url, "method": "POST", "body": '{"a": 1}', "headers": headers})
    assert await answer_of(measurements, source) == Answer({"data": {"values": [0.97, 0.5]}})
    method, _, sent, body = site.asked[0]
    assert (method, body) == ("POST", '{"a": 1}')
    assert (sent["X-Team"], sent["Authorization"], sent["Content-Type"]) == ("a", "Basic abc", "application/json")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"status": 500}, "127.0.0.1 answered 500."),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "127.0.0.1 answered 302."),
        ({"answer": b"<html>"}, "The answer is no JSON."),
        ({"answer": b"[" * 100 + b"]" * 100}, "The answer is nested more than 64 deep."),
        ({"answer": b"[" * 50000}, "The answer is no JSON."),
        ({"answer": {"data": {}}}, "The answer has nothing at $.data.values."),
        ({"answer": {"data": {"values": []}}}, "The answer has nothing at $.data.values[0]."),
        ({"answer": {"data": {"values": "ab"}}}, "The answer has nothing at $.data.values[0]."),
        ({"answer": b" " * (outbound.LIMIT + 1)}, "127.0.0.1 answered with more than 64 KiB."),
    ],
)
async def test_what_is_no_value_is_an_error(
    site: Site, measurements: Measurements, change: dict[str, Any], error: str
) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    source = provider(web={"url": site.url, "jsonPath": "$.data.values[0]", "timeout": "20s"})
    assert await answer_of(measurements, source) == Answer(error=error)
    assert len(site.asked) == 1, "a redirect was followed, or a request repeated"


async def test_a_server_that_does_not_answer_in_time_is_an_error(site: Site, measurements: Measurements) -> None:
    site.pause = 60
    source = provider(web={"url": site.url, "jsonPath": "$.data.values[0]", "timeout": "300ms"})
    assert await answer_of(measurements, source) == Answer(error="127.0.0.1 did not answer within 0.3 s.")


async def test_a_server_that_is_not_there_is_an_error(measurements: Measurements) -> None:
    answer = await answer_of(measurements, provider(web={"url": "http://127.0.0.1:1/"}))
    assert answer.error.startswith("127.0.0.1 cannot be asked: ")
    answer = await answer_of(measurements, provider(web={"url": "http://name.invalid/"}), token("v2/a/b/1"))
    assert answer.error.startswith("name.invalid cannot be asked: ")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", {"a": [1, {"b c": 2}], "d-e": 3}),
        ("$.a[0]", 1),
        ("$.a[-1]['b c']", 2),
        ("$['a'][1]['b c']", 2),
        ("$.d-e", 3),
    ],
)
def test_singular_queries(path: str, value: Any) -> None:
    assert select({"a": [1, {"b c": 2}], "d-e": 3}, path) == value


# ---- what may be asked -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("10.0.0.1", False),
        ("fd00::1", False),
        ("93.184.216.34", False),
    ],
)
def test_addresses_of_our_own_machine_are_refused(address: str, refused: bool) -> None:
    assert is_private_to_us(address) is refused


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433", "0x7f.1", "127.1"]
)
async def test_nobody_reaches_our_own_machine_by_any_name(site: Site, host: str) -> None:
    port = site.url.rpartition(":")[2]
    with pytest.raises(Refused):
        await Outbound().send(Request(f"http://{host}:{port}/", timeout=2.0))
    assert site.asked == []


@pytest.mark.parametrize(
    "url", ["ftp://a/", "file:///etc/passwd", "http://", "http://user:word@a/", "http://a:99999999/"]
)
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Refused):
        await Outbound(lambda _: False).send(Request(url))


@pytest.mark.parametrize(
    ("hosts", "key", "error"),
    [
        ("", "token", "Secret quality may not be sent to 127.0.0.1: annotate it"),
        ("elsewhere, 127.0.0.2", "token", "Secret quality may not be sent to 127.0.0.1: annotate it"),
        ("127.0.0.1:1", "token", "Secret quality may not be sent to 127.0.0.1: annotate it"),
        ("127.0.0.1", "other", "Secret quality has no key other: add it."),
    ],
)
async def test_a_secret_is_sent_only_to_hosts_that_it_names(
    site: Site, measurements: Measurements, cluster: Cluster, hosts: str, key: str, error: str
) -> None:
    cluster.add("quality", hosts, token="t")
    headers = [{"key": "Authorization", "secretKeyRef": {"name": "quality", "key": key}}]
    answer = await answer_of(measurements, provider(web={"url": site.url, "headers": headers}))
    assert answer.error.startswith(error)
    assert site.asked == []


async def test_a_secret_that_is_not_there_is_an_error(site: Site, measurements: Measurements) -> None:
    source = provider(prometheus={"address": site.url, "query": "up", "tokenSecretRef": {"name": "p", "key": "token"}})
    assert (await answer_of(measurements, source)).error == "There is no Secret p in namespace flights: create it."


# ---- bounds ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
async def test_only_so_many_are_asked_at_once_and_the_loop_is_free(site: Site, measurements: Measurements) -> None:
    site.pause = 0.3
    tokens = [token(metric=f"Background//m{number}", owner=f"uid-{number}") for number in range(3 * AT_ONCE)]
    begin = asyncio.get_running_loop().time()
    for one in tokens:
        await measurements.begin(one, NAMESPACE, provider(web={"url": site.url}))
    assert asyncio.get_running_loop().time() - begin < 0.2
    await until_answered(measurements, *tokens)
    assert site.most_at_once == AT_ONCE


async def test_the_next_measurement_of_a_metric_forgets_the_one_before(site: Site, measurements: Measurements) -> None:
    source = provider(web={"url": site.url})
    await answer_of(measurements, source, token("0"))
    await answer_of(measurements, source, token("0", metric="Background//other"))
    await answer_of(measurements, source, token("1"))
    assert set(measurements.read("uid").answers) == {token("1"), token("0", metric="Background//other")}
    measurements.forget("uid")
    assert measurements.read("uid").answers == {}


async def test_what_is_forgotten_on_its_way_never_comes_in(site: Site, measurements: Measurements) -> None:
    site.pause = 0.2
    await measurements.begin(token(), NAMESPACE, provider(web={"url": site.url}))
    await asyncio.sleep(0.05)
    measurements.forget("uid")
    await asyncio.sleep(0.3)
    assert measurements.read("uid").under_way == frozenset()
    assert measurements.read("uid").answers == {}


# ---- Prometheus ------------------------------------------------------------------------------------------------------
async def test_prometheus_is_asked_by_its_api(site: Site, measurements: Measurements, cluster: Cluster) -> None:
    cluster.add("prometheus", "127.0.0.1", token="secret")
    site.answer = {
        "status": "success",
        "data": {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1763884800.781, "0.97"]}]},
    }
    source = {"address": f"{site.url}/prefix/", "query": 'sum(rate(a{b="c"}[1m]))'}
    reference = {"name": "prometheus", "key": "token"}
    assert await answer_of(measurements, provider(prometheus={**source, "tokenSecretRef": reference})) == Answer([0.97])
    method, path, headers, _ = site.asked[0]
    assert method == "GET"
    assert unquote(path) == '/prefix/api/v1/query?query=sum(rate(a{b="c"}[1m]))'
    assert headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"resultType": "vector", "result": []}, []),
        ({"resultType": "vector", "result": [{"value": [1, "1"]}, {"value": [1, "+Inf"]}]}, [1.0, float("inf")]),
        ({"resultType": "scalar", "result": [1, "2.5"]}, 2.5),
    ],
)
def test_answers_of_prometheus(data: dict[str, Any], value: Any) -> None:
    assert prometheus_value(200, json.dumps({"status": "success", "data": data}).encode()) == value


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (
            400,
            {"status": "error", "errorType": "bad_data", "error": "invalid parameter"},
            "Prometheus answered 400: invalid parameter",
        ),
        (502, "<html>", "Prometheus answered 502 without JSON."),
        (200, [], "Prometheus answered 200: no reason"),
        (
            200,
            {"status": "success", "data": {"resultType": "matrix", "result": []}},
            "The query gives a matrix: let it give an instant vector or a scalar.",
        ),
        (
            200,
            {"status": "success", "data": {"resultType": "vector", "result": [{"histogram": []}]}},
            "Prometheus' answer has no numbers.",
        ),
    ],
)
def test_errors_of_prometheus(status: int, body: Any, error: str) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(Refused) as refused:
        prometheus_value(status, text.encode())
    assert str(refused.value) == error


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=p"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_is_checked_with_the_ca_that_is_named(
    measurements: Measurements, cluster: Cluster, tmp_path: Path, trusted: bool
) -> None:
    key, certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    site = Site()
    site.answer = {"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}
    runner = await started(site, context)
    cluster.add("ca", **{"ca.crt": certificate.read_text()})
    source: dict[str, Any] = {"address": site.url, "query": "1"}
    if trusted:
        source["caSecretRef"] = {"name": "ca", "key": "ca.crt"}
    answer = await answer_of(measurements, provider(prometheus=source))
    assert answer == Answer(1.0) if trusted else "certificate verify failed" in answer.error.lower()
    await runner.cleanup()
