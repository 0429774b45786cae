"""People control a rollout by the command line, under a steady client: pause, abort, retry, a manual gate, undo."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from slipway_demo.acts import FIRST_MONTHS, PROJECT, RATE, ROLLOUT, Play
from slipway_demo.client import upload
from slipway_demo.world import Obj, status

pytestmark = pytest.mark.timeout(1800)

STEPS: list[dict[str, Any]] = [
    {"name": "some", "setWeight": 20},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]
ROLLBACK = {"automatic": True, "keepPrevious": "1s", "window": {"versions": 2, "within": "1h"}}
"""The version before goes at once, so that an undo has to start it: only the window makes it skip the steps."""


def slipway(play: Play, *arguments: str, code: int = 0) -> str:
    """Runs `slipway rollout …`; what it printed."""
    command = [sys.executable, "-m", "slipway.cli.main", "rollout", *arguments, "-n", play.namespace]
    done = subprocess.run(
        [*command, "--kubeconfig", str(play.world.kubeconfig)], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def until(play: Play, ready: Callable[[Obj], bool], seconds: float = 120) -> Obj:
    """The rollout's status as soon as it is so."""
    return status(play.wait_for("ModelRollout", ROLLOUT, lambda rollout: ready(status(rollout)), seconds, every=0.2))


def waits(told: Obj) -> bool:
    """Whether the gate is reached, and the gateway sends the share that comes before it."""
    weights = [each.get("acceptedWeight") for each in told.get("versions", []) if each["role"] == "Candidate"]
    return bool((told.get("step") or {}).get("name") == "approval" and weights == [20])


def test_people_control_a_rollout_and_no_request_is_lost(play_in: Callable[[str], Play]) -> None:
    play = play_in("control")
    act = play.story.add("Control by people")
    upload(play.cluster, FIRST_MONTHS, prefix=play.prefix)
    play.apply()
    play.world.patch("ModelRollout", ROLLOUT, {"spec": {"steps": STEPS, "rollback": ROLLBACK}}, play.namespace)
    first = play.healthy(act, "version 1 serves", bool)
    play.start_client()
    play.world.wait("answers", lambda: play.counts().ok > RATE, timeout=60)

    play.world.patch("ModelProject", PROJECT, {"spec": {"training": {"seed": 8}}}, play.namespace)
    second = str(until(play, waits, 300)["candidate"])

    slipway(play, "pause", ROLLOUT)
    held = until(play, lambda told: bool(told.get("paused")))
    assert (held["phase"], held["weight"]) == ("Paused", 20)
    assert "paused it at" in slipway(play, "promote", ROLLOUT, code=1)
    slipway(play, "resume", ROLLOUT)

    slipway(play, "abort", ROLLOUT, "--wait")
    told = until(play, lambda told: told.get("phase") == "Healthy")
    assert [(each["name"], each["reason"]) for each in told["rejected"]] == [(second, "Aborted")]
    assert told["stable"] == first

    slipway(play, "retry", ROLLOUT, second)
    until(play, waits)
    slipway(play, "promote", ROLLOUT, "approval", "--wait")
    until(play, lambda told: told.get("stable") == second and told.get("phase") == "Healthy")
    until(play, lambda told: len(told.get("versions", [])) == 1)

    assert "within the rollback window" in slipway(play, "undo", ROLLOUT, "--wait")
    until(play, lambda told: told.get("phase") == "Healthy" and len(told.get("versions", [])) == 1)
    time.sleep(5)  # the version that was undone is newer, and must not come back
    told = status(play.get("ModelRollout", ROLLOUT))
    assert (told["stable"], told.get("candidate")) == (first, None)
    assert [(each["name"], each["reason"]) for each in told["rejected"]] == [(second, "Undone")]

    by = {each["by"] for each in told["orders"]}
    assert len(by) == 1
    assert [(each["order"], each["obeyed"]) for each in reversed(told["orders"])] == [
        ("pause", True),
        ("promote", False),
        ("resume", True),
        ("abort", True),
        ("retry", True),
        ("promote", True),
        ("undo", True),
    ]
    history = slipway(play, "history", ROLLOUT)
    assert f"{first} Promoted over {second} (Undone) by {by.pop()}" in history
    assert f"{second} RolledBack (Aborted) by" in history

    counts = play.stop_clients()
    assert counts.lost == 0, counts.losses
    assert counts.version_errors == 0
    assert counts.versions.keys() == {first, second}
