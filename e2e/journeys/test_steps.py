"""Shadow, header route and blue/green on a real gateway: what clients meet, and that they lose nothing."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

import pytest

from slipway_demo.acts import FIRST_MONTHS, NEWCOMER, PROJECT, RATE, ROLLOUT, TRAINING_SECONDS, Play
from slipway_demo.client import upload
from slipway_demo.story import Node
from slipway_demo.world import Obj, status

pytestmark = pytest.mark.timeout(2400)

FLIGHT = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400.0, "weekday": 4, "dep_hour": 17}
SHADOW = {"shadow": {"percent": 50, "for": "15s"}}
BLUE_GREEN = {"blueGreen": {"preview": [{"name": "x-preview", "exact": "yes"}]}}


def test_shadow_then_blue_green_then_a_version_that_fails_on_copies(play_in: Callable[[str], Play]) -> None:
    play = play_in("steps")
    act = play.story.add("Steps beside weights")
    upload(play.cluster, FIRST_MONTHS, prefix=play.prefix)
    play.apply()
    first = play.healthy(act, "version 1 serves", bool)
    play.start_client()
    play.world.wait("answers", lambda: play.counts().ok > RATE, timeout=60)

    second = _shadowed(play, act, first)
    third = _previewed(play, act, second)
    fourth = _failed_on_copies(play, act, third)

    counts = play.stop_clients()
    assert counts.lost == 0, counts.losses
    assert counts.version_errors == 0, "a client met the version that fails"
    assert counts.versions.keys() == {first, second, third}
    assert fourth not in counts.versions


def _shadowed(play: Play, act: Node, stable: str) -> str:
    """Version 2 is judged on copies, while clients only meet the stable version."""
    _set_strategy(play, SHADOW)
    play.world.patch("ModelProject", PROJECT, {"spec": {"training": {"seed": 8}}}, play.namespace)
    with act.add("version 2 gets copies").running() as line:
        rollout = play.wait_for("ModelRollout", ROLLOUT, _is_judged_on_copies, TRAINING_SECONDS)
        told = status(rollout)
        line.set(str(told["checks"]))
        assert told["weight"] == 0
        assert [(each["name"], each["state"]) for each in told["plan"]] == [
            ("shadow", "Running"),
            ("everyone", "Waiting"),
        ]
        assert play.counts().versions.keys() == {stable}
    return play.healthy(act, "version 2 serves", lambda name: name != stable)


def _previewed(play: Play, act: Node, stable: str) -> str:
    """Version 3 answers those who ask for it, then everyone."""
    _set_strategy(play, BLUE_GREEN)
    play.world.patch("ModelProject", PROJECT, {"spec": {"training": {"seed": 9}}}, play.namespace)
    with act.add("version 3 stands by").running() as line:
        rollout = play.wait_for("ModelRollout", ROLLOUT, lambda o: _step(o) == "approval", TRAINING_SECONDS)
        third = str(status(rollout)["candidate"])
        line.set(third)
    assert {_ask(play, **{"x-preview": "yes"}) for _ in range(20)} == {third}
    assert {_ask(play, **{"x-preview": "no"}) for _ in range(20)} == {stable}
    assert third not in play.counts().versions
    play.world.annotate("ModelRollout", ROLLOUT, play.namespace, promote=f"approval:{third}")
    return play.healthy(act, "version 3 serves", lambda name: name == third)


def _failed_on_copies(play: Play, act: Node, stable: str) -> str:
    """Version 4 fails on a carrier that it never saw: on copies only."""
    _set_strategy(play, SHADOW)
    play.start_client(newcomer=NEWCOMER)
    parameters = {"spec": {"training": {"parameters": {"unknown_carriers": "error"}}}}
    play.world.patch("ModelProject", PROJECT, parameters, play.namespace)
    with act.add("version 4 is rejected on copies").running() as line:
        rollout = play.wait_for("ModelRollout", ROLLOUT, lambda o: bool(status(o).get("rejected")), TRAINING_SECONDS)
        (rejection,) = status(rollout)["rejected"]
        line.set(str(rejection["message"]))
        assert rejection["reason"] == "ChecksFailed"
    play.healthy(act, "version 3 serves as before", lambda name: name == stable)
    return str(rejection["name"])


def _set_strategy(play: Play, strategy: Obj) -> None:
    # Without the strategy before: a merge patch would keep its member.
    play.world.patch("ModelRollout", ROLLOUT, {"spec": {"steps": None, "strategy": _only(strategy)}}, play.namespace)


def _only(strategy: Obj) -> Obj:
    return {**dict.fromkeys(("shadow", "blueGreen")), **strategy}


def _step(rollout: Obj) -> str:
    return str((status(rollout).get("step") or {}).get("name", ""))


def _is_judged_on_copies(rollout: Obj) -> bool:
    checks = status(rollout).get("checks") or []
    return _step(rollout) == "shadow" and bool(checks) and all(each["requests"] > 0 for each in checks)


def _ask(play: Play, **headers: str) -> str:
    """The version that answers."""
    request = urllib.request.Request(
        f"{play.url()}/v1/models/{ROLLOUT}:predict",
        data=json.dumps({"instances": [FLIGHT]}).encode(),
        headers={"content-type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.headers["x-slipway-version"])
