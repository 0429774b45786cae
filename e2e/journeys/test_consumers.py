"""Callers on a real gateway: let in or not, told of changed answers, kept on a version, spared a bad one."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import pytest

from slipway_demo.acts import FIRST_MONTHS, NEWCOMER, PROJECT, RATE, ROLLOUT, TRAINING_SECONDS, Play
from slipway_demo.client import upload
from slipway_demo.story import Node
from slipway_demo.world import Obj, condition, status

pytestmark = pytest.mark.timeout(2400)

FLIGHT = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400.0, "weekday": 4, "dep_hour": 17}
SPACE = "consumers"
OPERATOR = "system:serviceaccount:slipway-system:slipway-operator"
KEY, NEW_KEY, LIMITED = "k" * 32, "n" * 32, "l" * 32
HALF: list[dict[str, Any]] = [
    {"name": "half", "setWeight": 50},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]
Answer = tuple[int, dict[str, str]]


# ---- calls -----------------------------------------------------------------------------------------------------------
def ask(play: Play, headers: Mapping[str, str]) -> Answer:
    """One prediction: status and the answer's headers, names in lower case; 0 where there was no answer."""
    body = json.dumps({"instances": [FLIGHT]}).encode()
    url = f"{play.url()}/v1/models/{ROLLOUT}:predict"
    request = urllib.request.Request(url, body, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code), {name.lower(): value for name, value in error.headers.items()}
    except OSError:
        return 0, {}


@contextmanager
def calling(play: Play, key: list[str]) -> Iterator[Counter[int]]:
    """Ask ten times a second with the key that stands in the list, until the end; status codes."""
    codes = Counter[int]()
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.1):
            codes[ask(play, {"x-api-key": key[0]})[0]] += 1

    thread = threading.Thread(target=run, name="consumer", daemon=True)
    thread.start()
    try:
        yield codes
    finally:
        over.set()
        thread.join(30)


# ---- objects ---------------------------------------------------------------------------------------------------------
def make_key(play: Play, name: str, key: str) -> None:
    meta = {"namespace": play.namespace, "name": name}
    play.world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"apiKey": key}})


def consumers(*site_keys: str) -> list[Obj]:
    about = {"purpose": "A journey.", "contact": "journeys@example.com"}
    return [
        {
            "name": "site",
            "apiKey": {"secretRefs": [{"name": each} for each in site_keys]},
            "criticality": "High",
            **about,
        },
        {"name": "crews", "serviceAccountRef": {"namespace": SPACE, "name": "planner"}, **about},
        {
            "name": "limited",
            "apiKey": {"secretRefs": [{"name": "limited-key"}]},
            "rateLimit": {"requests": 5, "per": "Hour"},
            "criticality": "Low",
            **about,
        },
    ]


def change(play: Play, spec: Obj) -> None:
    play.world.patch("ModelRollout", ROLLOUT, {"spec": spec}, play.namespace)


def token(play: Play, account: str, audience: str) -> str:
    arguments = ("create", "token", account, "-n", play.namespace, "--audience", audience)
    return play.cluster.kubectl(*arguments).strip()


def until(play: Play, ready: Callable[[Obj], bool], seconds: float = 180) -> Obj:
    """The rollout as soon as it is so."""
    return play.wait_for("ModelRollout", ROLLOUT, ready, seconds, every=0.3)


def is_true(rollout: Obj, kind: str) -> bool:
    return str(condition(rollout, kind).get("status")) == "True"


def silent_copy(play: Play, version: str) -> str:
    """A record of the same model whose answers are said to lack their probability: what a retrained one could be.

    Only the operator may write records; an administrator of the cluster can speak for it.
    """
    record = play.get("ModelVersion", version) or {}
    digest = token_hex(32)
    spec = record["spec"]
    kept = [each for each in spec["outputs"] if each["name"] != "probability"]
    assert len(kept) == len(spec["outputs"]) - 1
    copy = {
        "apiVersion": record["apiVersion"],
        "kind": record["kind"],
        "metadata": {
            "namespace": play.namespace,
            "name": f"{PROJECT}-{digest[:10]}",
            "labels": record["metadata"].get("labels") or {},
        },
        "spec": {**spec, "outputs": kept, "digests": {**spec["digests"], "model": f"sha256:{digest}"}},
    }
    play.cluster.kubectl("create", "-f", "-", f"--as={OPERATOR}", input=json.dumps(copy))
    return str(copy["metadata"]["name"])


# ---- the journey -----------------------------------------------------------------------------------------------------
def test_consumers_are_let_in_told_kept_and_spared_a_bad_version(play_in: Callable[[str], Play]) -> None:
    play = play_in(SPACE)
    act = play.story.add("Consumers")
    upload(play.cluster, FIRST_MONTHS, prefix=play.prefix)
    play.apply()
    for name, key in (("site-key", KEY), ("site-key-2", NEW_KEY), ("limited-key", LIMITED)):
        make_key(play, name, key)
    for account in ("planner", "stranger"):
        meta = {"namespace": play.namespace, "name": account}
        play.world.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    change(play, {"consumers": consumers("site-key")})
    first = play.healthy(act, "version 1 serves", bool)
    until(play, lambda rollout: is_true(rollout, "AccessEnforced") and is_true(rollout, "Ready"))

    with act.add("undeclared callers are turned away, declared ones are not").running():
        _denied_and_admitted(play, first)
    with act.add("a key is changed under load").running():
        _rotated(play)
    with act.add("who asks too much is held back").running():
        codes = Counter(ask(play, {"x-api-key": LIMITED})[0] for _ in range(12))
        assert codes == {200: 5, 429: 7}
    with act.add("what they did is in the status").running() as line:
        told = until(play, lambda rollout: _usage(rollout)["site"][0] >= 20, 120)
        line.set(str(_usage(told)))
        requests, errors, seen = _usage(told)["crews"]
        assert (requests, errors) == (1, 0)
        assert seen

    second = _changed_answers(play, act, first)
    _kept(play, act, first, second)
    _spared(play, act, second)


def _denied_and_admitted(play: Play, version: str) -> None:
    audience = f"slipway.dev/{play.namespace}/{ROLLOUT}"
    denied = {
        "nothing": ({}, 401),
        "unknown key": ({"x-api-key": "x" * 32}, 401),
        "nonsense": ({"authorization": "Bearer nonsense"}, 401),
        "undeclared account": ({"authorization": f"Bearer {token(play, 'stranger', audience)}"}, 403),
        "token for something else": ({"authorization": f"Bearer {token(play, 'planner', 'other')}"}, 403),
    }
    for case, (headers, code) in denied.items():
        assert ask(play, headers)[0] == code, case
    for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {token(play, 'planner', audience)}"}):
        code, answered = ask(play, headers)
        assert (code, answered.get("x-slipway-version")) == (200, version)


def _rotated(play: Play) -> None:
    """Both keys, then the client changes, then the new one alone: the client sees nothing."""
    key = [KEY]
    with calling(play, key) as codes:
        change(play, {"consumers": consumers("site-key", "site-key-2")})
        play.world.wait("the new key is valid", lambda: ask(play, {"x-api-key": NEW_KEY})[0] == 200, timeout=60)
        key[0] = NEW_KEY
        time.sleep(2)
        change(play, {"consumers": consumers("site-key-2")})
        play.world.wait("the old key is not", lambda: ask(play, {"x-api-key": KEY})[0] == 401, timeout=60)
        time.sleep(2)
    assert set(codes) == {200}, codes
    assert codes[200] > 20


def _usage(rollout: Obj) -> dict[str, tuple[int, int, str]]:
    rows = status(rollout).get("consumers") or [{"name": name} for name in ("site", "crews")]
    return {each["name"]: (each.get("requests", 0), each.get("errors", 0), each.get("lastSeen", "")) for each in rows}


def _changed_answers(play: Play, act: Node, first: str) -> str:
    """A version that answers in another form waits, without a request, until a person has said that it is fine."""
    routing = {"stickiness": {"cookie": "journey", "for": "1h"}}
    change(play, {"steps": HALF, "routing": routing})
    with act.add("a version that breaks readers waits").running() as line:
        second = silent_copy(play, first)
        held = until(play, lambda rollout: condition(rollout, "Stalled").get("reason") == "OutputsIncompatible", 300)
        message = str(condition(held, "Stalled")["message"])
        line.set(message)
        assert "breaks readers of site, crews: probability is gone" in message
        assert status(held)["weight"] == 0
        events = play.world.objects("Event", play.namespace, "events.k8s.io/v1")
        notes = [each["note"] for each in events if each["reason"] == "OutputsIncompatible"]
        assert any("Tell site (journeys@example.com), crews" in each for each in notes), notes
    with act.add("a person accepts it").running():
        play.world.annotate("ModelRollout", ROLLOUT, play.namespace, **{"accept-outputs": second})
        until(play, lambda rollout: _weights_in_force(rollout, second) == 50)
    return second


def _weights_in_force(rollout: Obj, version: str) -> int:
    found = [each.get("acceptedWeight") for each in status(rollout).get("versions", []) if each["name"] == version]
    return int(found[0] or 0) if found else 0


def _kept(play: Play, act: Node, first: str, second: str) -> None:
    """Each client meets one version; clients of the candidate go on without a failure when it is promoted."""
    key = {"x-api-key": NEW_KEY}
    with act.add("clients are kept on the version that they have met").running() as line:
        met: dict[str, list[dict[str, str]]] = {first: [], second: []}
        for _ in range(40):
            code, answered = ask(play, key)
            assert code == 200
            cookie = answered["set-cookie"].partition(";")[0]
            met[answered["x-slipway-version"]].append({**key, "cookie": cookie})
        line.set(", ".join(f"{name}: {len(clients)}" for name, clients in met.items()))
        assert all(met.values()), "half of new clients go to each version"
        for version, clients in met.items():
            for client in clients[:5]:
                assert {ask(play, client)[1]["x-slipway-version"] for _ in range(10)} == {version}
    with act.add("the candidacy ends, and no request of a kept client is lost").running():
        clients = [met[first][0], met[second][0]]
        codes = Counter[int]()
        play.world.annotate("ModelRollout", ROLLOUT, play.namespace, promote=f"approval:{second}")
        deadline = time.monotonic() + 120
        while status(play.get("ModelRollout", ROLLOUT)).get("stable") != second:
            assert time.monotonic() < deadline, play.state()
            codes.update(ask(play, client)[0] for client in clients)
        codes.update(ask(play, client)[0] for client in clients for _ in range(20))
        assert set(codes) == {200}, codes
        assert {ask(play, client)[1]["x-slipway-version"] for client in clients} == {second}


def _spared(play: Play, act: Node, second: str) -> None:
    """A version fails on a carrier that it never saw: it is rolled back, and clients see none of its failures."""
    rollback = {"automatic": True, "keepPrevious": "1s", "retryOnStable": True}
    steps = [
        {"name": "some", "setWeight": 25},
        {"name": "watch", "analyze": {"for": "120s"}},
        {"name": "everyone", "setWeight": 100},
    ]
    # The steady client has no key: everybody may call now.
    change(play, {"consumers": None, "rollback": rollback, "steps": steps, "routing": {"stickiness": None}})
    play.healthy(act, "version 2 serves everybody", lambda name: name == second)
    play.world.wait("no caller needs a key", lambda: all(ask(play, {})[0] == 200 for _ in range(10)), timeout=60)
    play.start_client()
    play.world.wait("answers", lambda: play.counts().ok > RATE, timeout=60)
    with act.add("a bad version takes its first requests").running() as line:
        training = {"training": {"parameters": {"unknown_carriers": "error"}}}
        play.world.patch("ModelProject", PROJECT, {"spec": training}, play.namespace)
        rollout = until(play, lambda each: is_true(each, "RetryOnStable"), TRAINING_SECONDS)
        third = str(status(rollout)["candidate"])
        assert status(rollout)["weight"] == 25
        line.set(third)
    with act.add(f"a carrier that it never saw ({NEWCOMER}) begins to fly; it is rolled back").running() as line:
        play.start_client(newcomer=NEWCOMER)
        rollout = until(play, lambda each: third in [one["name"] for one in status(each).get("rejected") or ()])
        (rejected,) = [one for one in status(rollout)["rejected"] if one["name"] == third]
        line.set(str(rejected["message"]))
        assert rejected["reason"] == "ChecksFailed"
    play.healthy(act, "version 2 serves everybody again", lambda name: name == second)
    counts = play.stop_clients()
    assert (counts.version_errors, counts.lost) == (0, 0), (counts.versions, counts.losses)
    assert third in counts.versions, "clients met it where it did not fail"
    left = play.world.objects("EnvoyPatchPolicy", "slipway-system", "gateway.envoyproxy.io/v1alpha1")
    assert not [each for each in left if play.namespace in each["metadata"]["name"]]
