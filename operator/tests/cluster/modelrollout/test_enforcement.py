"""Requests against the real Envoy Gateway: who is let in, who is not, and what model servers get to see of it."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cluster.modelrollout.realgateway import Backends, Running, Signer, count, running

from slipway.adapters import access, retry
from slipway.adapters import gateway as gw
from slipway.adapters.access import Credentials, Guarded, Issuer, Limit
from slipway.adapters.envoy_stats import parse
from slipway.api.modelrollout import Routing
from slipway.api.platform import GatewayParentRef
from slipway.contracts.callers import CLIENT_HEADER, SUBJECT_HEADER, carried
from slipway.contracts.sessions import HEADER as SESSION_HEADER
from slipway.contracts.sessions import Session
from slipway.contracts.sessions import parse as parse_session
from slipway.controllers.modelrollout.sessions import keep, told
from slipway.runtime.resources import Object

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NAMESPACE, NAME = "flights", "delays"
PARENT = GatewayParentRef(namespace="slipway-system", name="models")
ROUTED = gw.Routed(NAMESPACE, NAME, "flight-delays", PARENT, Routing(path="/delays"))
GUARDED = Guarded(NAMESPACE, NAME, "flight-delays")
PREDICT = f"/delays/v1/models/{NAME}:predict"
OLD, NEW, OTHER = "o" * 20, "n" * 20, "p" * 20
PLANNER = access.subject("crews", "planner")
AUDIENCE = access.audience(NAMESPACE, NAME)


def manifests(credentials: Credentials, issuer: Issuer | None, closed: str = "") -> list[Object]:
    """What the operator writes for two consumers: `site` with two keys and a limit, and a ServiceAccount."""
    route = access.guard(gw.weighted_route(ROUTED, [("delays-1", 50), ("delays-2", 50)]), credentials, closed=closed)
    pin = access.guard(gw.pin_route(ROUTED, "delays-1", "sesame"), credentials)
    keys = {"site.0": OLD, "site.1": NEW, "other.0": OTHER}
    encoded = {name: b64encode(value.encode()).decode() for name, value in keys.items()}
    limits = [
        Limit(CLIENT_HEADER, access.key_pattern("site"), 6, "Hour"),
        Limit(SUBJECT_HEADER, access.subject_pattern("crews", "planner"), 6, "Hour"),
    ]
    rules = [*access.key_rules(route), *access.key_rules(pin)]
    return [
        route,
        pin,
        access.keys_secret(GUARDED, encoded),
        *([access.keys_policy(GUARDED, rules)] if rules else []),
        access.policy(GUARDED, credentials, issuer, [PLANNER]),
        access.limits(GUARDED, limits),
    ]


STABLE, CANDIDATE = "backend/flights/delays-1/0/http", "backend/flights/delays-2/0/http"


def sticky_route(route: Object, session: Session, instead: str | None = None) -> Object:
    """What the operator makes of a weighted route while `delays-2` is the candidate."""
    rules = route["spec"]["rules"]
    kept = [
        keep("session-stable", rules[0], session, "delays-1", "delays-1"),
        keep("session-candidate", rules[0], session, "delays-2", "delays-2", instead),
    ]
    rules = [told(rules[0], session), *(told(each, None) for each in kept)]
    return {**route, "spec": {**route["spec"], "rules": rules}}


def cookies(service: str, request: web.Request, status: int = 200) -> web.Response:
    """Sets the cookie that the gateway asks for, as Slipway's servers do."""
    session = parse_session(request.headers.get(SESSION_HEADER, ""))
    headers = {"set-cookie": session.cookie(service)} if session and status < 500 else {}
    return web.json_response({"service": service}, status=status, headers=headers)


async def at_once(gateway: Running, headers: dict[str, str], times: int) -> Counter[int]:
    """Status codes of requests of which twenty are under way at any time."""
    codes = Counter[int]()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        for _ in range(times // 20):
            answers = await asyncio.gather(*(gateway.ask(session, PREDICT, headers) for _ in range(20)))
            codes.update(status for status, _ in answers)
    return codes


async def two_versions() -> Backends:
    backends = Backends()
    for service in ("delays-1", "delays-2"):
        await backends.start(service)
    return backends


async def test_keys_and_tokens_let_declared_consumers_in_and_nobody_else(tmp_path: Path) -> None:
    backends = await two_versions()
    signer = Signer(tmp_path, "https://kubernetes.default.svc")

    stranger = Signer(tmp_path / "stranger", signer.issuer)

    def bearer(subject: str, audience: str = AUDIENCE, seconds: int = 600) -> dict[str, str]:
        return {"authorization": f"Bearer {signer.token(subject, audience, seconds)}"}

    spoofed = {"x-slipway-consumer": "other.0", "x-slipway-subject": access.subject("crews", "boss")}
    admitted = {
        "old key": ({"x-api-key": OLD}, "site.0"),
        "new key": ({"x-api-key": NEW}, "site.1"),
        "key and a lie": ({"x-api-key": OLD, **spoofed}, "site.0"),
        "token": (bearer(PLANNER), PLANNER),
        "token and a lie": ({**bearer(PLANNER), **spoofed}, PLANNER),
        "pin and key": ({"x-slipway-pin": "sesame", "x-api-key": OTHER}, "other.0"),
        "pin and token": ({"x-slipway-pin": "sesame", **bearer(PLANNER)}, PLANNER),
    }
    denied = {
        "nothing": ({}, 401),
        "a lie": (spoofed, 401),
        "wrong key": ({"x-api-key": "x" * 20}, 401),
        "empty key": ({"x-api-key": ""}, 401),
        "pin alone": ({"x-slipway-pin": "sesame"}, 401),
        "no token": ({"authorization": "Bearer nonsense"}, 401),
        "token of another issuer's key": ({"authorization": f"Bearer {stranger.token(PLANNER, AUDIENCE)}"}, 401),
        "token that is over": (bearer(PLANNER, seconds=-600), 401),
        "undeclared account": (bearer(access.subject("crews", "other")), 403),
        "token for the API server": (bearer(PLANNER, "https://kubernetes.default.svc"), 403),
    }
    issuer = Issuer(signer.issuer, signer.keys())
    async with running(tmp_path, NAMESPACE, manifests("Both", issuer), backends) as gateway:
        async with aiohttp.ClientSession() as session:
            for case, (headers, status) in denied.items():
                assert (await gateway.ask(session, PREDICT, headers))[0] == status, case
            for case, (headers, caller) in admitted.items():
                status, body = await gateway.ask(session, PREDICT, headers)
                assert status == 200, case
                seen = body["headers"]
                named = {seen.get("x-slipway-consumer"), seen.get("x-slipway-subject")} - {None}
                assert named == {caller}, case
                assert "authorization" not in seen, case
                assert "x-api-key" not in seen, case
        # Both keys of a consumer share a bucket: three requests of six are gone.
        assert await count(gateway, PREDICT, {"x-api-key": NEW}, 10) == {200: 3, 429: 7}
        assert await count(gateway, PREDICT, {"x-api-key": OTHER}, 10) == {200: 10}
        clusters = {each for each in parse(await gateway.statistics()).healthy if "delays" in each}
        merged = {"backend/flights/delays-1/0/http", "backend/flights/delays-2/0/http"}
        assert clusters == merged, "no policy gave a route clusters of its own"
    await backends.close()


async def test_a_transformer_is_told_who_called_in_a_header_that_it_passes_on(tmp_path: Path) -> None:
    """Whatever the caller says itself; and not where an explainer is asked, which asks the model many times."""
    backends = Backends()
    for part in ("transformer", "explainer"):
        await backends.start(f"delays-1-{part}")
    signer = Signer(tmp_path, "https://kubernetes.default.svc")
    routed = replace(ROUTED, transformed=True, explained=True)
    route = access.guard(gw.weighted_route(routed, [("delays-1", 100)]), "Both", passed_on=True)
    objects = [
        route,
        access.keys_secret(GUARDED, {"site.0": b64encode(OLD.encode()).decode()}),
        access.policy(GUARDED, "Both", Issuer(signer.issuer, signer.keys()), [PLANNER]),
        access.keys_policy(GUARDED, access.key_rules(route)),
    ]
    key, token = {"x-api-key": OLD}, {"authorization": f"Bearer {signer.token(PLANNER, AUDIENCE)}"}
    lie = {CLIENT_HEADER: "other.0", SUBJECT_HEADER: access.subject("crews", "boss")}
    callers = {
        "key": (key, "site.0"),
        "key and lies": ({**key, **lie, "authorization": "SlipwayConsumer other.0"}, "site.0"),
        "token": (token, PLANNER),
        "token and lies": ({**token, **lie}, PLANNER),
    }
    async with (
        running(tmp_path / "gateway", NAMESPACE, objects, backends) as gateway,
        aiohttp.ClientSession() as session,
    ):
        for case, (headers, caller) in callers.items():
            status, body = await gateway.ask(session, PREDICT, headers)
            assert (status, body["service"]) == (200, "delays-1-transformer"), case
            assert carried(body["headers"]["authorization"]) == caller, case
            status, body = await gateway.ask(session, PREDICT.replace(":predict", ":explain"), headers)
            assert (status, body["service"]) == (200, "delays-1-explainer"), case
            assert "authorization" not in body["headers"], case
        assert (await gateway.ask(session, PREDICT, {"authorization": "SlipwayConsumer site.0"}))[0] == 401
    await backends.close()


async def test_clients_stay_on_the_version_that_they_have_met(tmp_path: Path) -> None:
    """A candidate with a fifth of the requests: new clients are split by the weights, and each stays where it was."""
    backends = await two_versions()
    backends.behave = cookies
    session = Session("s" * 32, "delays", 3600, "/delays")
    route = sticky_route(gw.weighted_route(ROUTED, [("delays-1", 80), ("delays-2", 20)]), session)
    met = Counter[str]()
    async with running(tmp_path, NAMESPACE, [route], backends) as gateway:
        for _ in range(150):
            # An address is no host name: cookies of one are kept only by jars that say so.
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
                answers = [(await gateway.ask(client, PREDICT, {}))[1]["service"] for _ in range(6)]
            assert len(set(answers)) == 1, "one client, one version"
            met[answers[0]] += 1
        assert 10 <= met["delays-2"] <= 50, "a fifth of new clients"
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            plain = Counter([(await gateway.ask(client, PREDICT, {}))[1]["service"] for _ in range(60)])
            lie = {"cookie": "delays=delays-2", SESSION_HEADER: "x; name=delays; seconds=9; path=/"}
            lied = Counter([(await gateway.ask(client, PREDICT, lie))[1]["service"] for _ in range(60)])
    assert set(plain) == set(lied) == {"delays-1", "delays-2"}, "without the cookie, weights decide"
    await backends.close()


async def test_keys_alone(tmp_path: Path) -> None:
    backends = await two_versions()
    async with running(tmp_path, NAMESPACE, manifests("Keys", None), backends) as gateway:
        assert await count(gateway, PREDICT, {}, 1) == {401: 1}
        assert await count(gateway, PREDICT, {"x-api-key": "x" * 20}, 1) == {401: 1}
        assert await count(gateway, PREDICT, {"x-slipway-pin": "sesame"}, 1) == {401: 1}
        assert await count(gateway, PREDICT, {"x-api-key": OLD}, 1) == {200: 1}
        assert await count(gateway, PREDICT, {"x-api-key": NEW}, 1) == {200: 1}
    await backends.close()


async def test_a_closed_route_is_no_route(tmp_path: Path) -> None:
    backends = await two_versions()
    async with running(tmp_path, NAMESPACE, manifests("Keys", None, closed="nobody knows"), backends) as gateway:
        assert await count(gateway, PREDICT, {"x-api-key": OLD}, 2) == {404: 2}
    await backends.close()


# ---- a bad candidate -------------------------------------------------------------------------------------------------
def failing(service: str, request: web.Request) -> web.Response:
    return cookies(service, request, 500 if service == "delays-2" else 200)


async def test_without_the_patch_clients_see_a_failing_candidate(tmp_path: Path) -> None:
    backends = await two_versions()
    backends.behave = failing
    route = gw.weighted_route(ROUTED, [("delays-1", 80), ("delays-2", 20)])
    async with running(tmp_path, NAMESPACE, [route], backends) as gateway:
        codes = await at_once(gateway, {}, 400)
    assert codes[200] + codes[500] == 400
    assert 40 < codes[500] < 120
    await backends.close()


async def test_with_the_patch_clients_do_not_see_a_failing_candidate_and_its_failures_count(tmp_path: Path) -> None:
    """Clients without a cookie, clients of the candidate, callers with a key and with a token, two host names."""
    backends = await two_versions()
    backends.behave = failing
    signer = Signer(tmp_path, "https://kubernetes.default.svc")
    session = Session("s" * 32, "delays", 3600, "/delays")
    routed = replace(ROUTED, routing=Routing(path="/delays", hostnames=["a.example.com", "b.example.com"]))
    plain = sticky_route(gw.weighted_route(routed, [("delays-1", 80), ("delays-2", 20)]), session, instead="delays-1")
    route = access.guard(plain, "Both")
    issuer = Issuer(signer.issuer, signer.keys())
    objects = [
        route,
        access.keys_secret(GUARDED, {"site.0": b64encode(OLD.encode()).decode()}),
        access.policy(GUARDED, "Both", issuer, [PLANNER]),
        access.keys_policy(GUARDED, access.key_rules(route)),
        retry.policy(NAMESPACE, NAME, PARENT, ("http",), route),
    ]
    key = {"x-api-key": OLD, "host": "a.example.com"}
    bearer = {"authorization": f"Bearer {signer.token(PLANNER, AUDIENCE)}", "host": "b.example.com"}
    cookie = {"cookie": f"other=1; delays={session.value('delays-2')}"}
    async with running(tmp_path / "gateway", NAMESPACE, objects, backends) as gateway:
        for headers in (key, bearer):
            assert await at_once(gateway, headers, 200) == {200: 200}
            assert await at_once(gateway, {**headers, **cookie}, 40) == {200: 40}
        counters = parse(await gateway.statistics()).counters
        hidden = counters[STABLE].repeated
        # All requests of its own clients, and about a fifth of the others.
        assert 80 + 40 < hidden < 80 + 120
        assert (counters[CANDIDATE].answered, counters[STABLE].failed) == (0, 0)
    await backends.close()


async def test_a_patch_that_finds_no_route_changes_nothing_else(tmp_path: Path) -> None:
    backends = await two_versions()
    route = gw.weighted_route(ROUTED, [("delays-1", 80), ("delays-2", 20)])
    other = gw.weighted_route(replace(ROUTED, rollout="gone"), [("delays-1", 80), ("delays-2", 20)])
    patch = retry.policy(NAMESPACE, "gone", PARENT, ("http", "nowhere"), other)
    async with running(tmp_path, NAMESPACE, [route, patch], backends) as gateway:
        assert await count(gateway, PREDICT, {}, 20) == {200: 20}
    await backends.close()
