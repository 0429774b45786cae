"""Strategies are short for steps: what each one stands for, and that nothing else knows them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from unit.modelrollout.world import CHECKS, NAME, PROJECT, World

from slipway.api.modelrollout import ModelRolloutSpec
from slipway.controllers.modelrollout.strategy import expand, told
from slipway.runtime.resources import MODEL_ROLLOUT

V1, V2 = (f"{PROJECT}-{number:010x}" for number in (1, 2))
S1, S2 = (f"{NAME}-{number:010x}" for number in (1, 2))
PREVIEW = [{"name": "x-preview", "exact": "yes"}]

TABLE: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "canary with checks",
        {"canary": {"weights": [5, 25], "analyze": {"for": "10m"}}},
        ["setWeight: 5", "analyze: {for: 10m}", "setWeight: 25", "analyze: {for: 10m}", "setWeight: 100"],
    ),
    (
        "canary by hand",
        {"canary": {"weights": [5], "pause": {"until": "Promoted"}}},
        ["setWeight: 5", "pause: {until: Promoted}", "setWeight: 100"],
    ),
    ("shadow", {"shadow": {"percent": 20, "for": "1h"}}, ["mirror: {percent: 20, for: 1h}", "setWeight: 100"]),
    (
        "shadow, then canary",
        {"shadow": {"for": "1h", "then": {"weights": [5], "pause": {"for": "1m"}}}},
        ["mirror: {percent: 100, for: 1h}", "setWeight: 5", "pause: {for: 1m}", "setWeight: 100"],
    ),
    (
        "blue/green by hand",
        {"blueGreen": {"preview": PREVIEW}},
        [
            "setHeaderRoute: {match: [{name: x-preview, exact: yes}]}",
            "pause: {until: Promoted}",
            "setWeight: 100",
        ],
    ),
    (
        "blue/green by itself",
        {"blueGreen": {"autoPromote": True, "after": "30m"}},
        ["pause: {for: 30m}", "setWeight: 100"],
    ),
    ("blue/green at once", {"blueGreen": {"autoPromote": True}}, ["setWeight: 100"]),
    (
        "a/b by percent",
        {"ab": {"percent": 50, "for": "24h", "onEnd": "Promote"}},
        ["setWeight: 50", "analyze: {for: 24h}", "setWeight: 100"],
    ),
    (
        "a/b by header, only to learn",
        {"ab": {"header": PREVIEW, "for": "24h", "onEnd": "Stop"}},
        [
            "setHeaderRoute: {match: [{name: x-preview, exact: yes}]}",
            "pause: {for: 24h}",
            "stop: {message: The time of the comparison, 24h, is over.}",
        ],
    ),
    (
        "a/b, then a person",
        {"ab": {"percent": 50, "for": "24h", "onEnd": "Pause"}},
        ["setWeight: 50", "pause: {for: 24h}", "pause: {until: Promoted}", "setWeight: 100"],
    ),
    (
        "progressive",
        {"progressive": {"stepWeight": 20, "interval": "2m"}},
        [
            *("setWeight: 20", "analyze: {for: 2m}", "setWeight: 40", "analyze: {for: 2m}"),
            *("setWeight: 50", "analyze: {for: 2m}", "setWeight: 100"),
        ],
    ),
    (
        "progressive to the top",
        {"progressive": {"stepWeight": 50, "maxWeight": 100, "interval": "2m"}},
        ["setWeight: 50", "analyze: {for: 2m}", "setWeight: 100", "analyze: {for: 2m}"],
    ),
]


def spec(**parts: Any) -> ModelRolloutSpec:
    return ModelRolloutSpec.model_validate({"projectRef": {"name": "p"}, "routing": {"path": "/p"}, **parts})


@pytest.mark.parametrize(("strategy", "does"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_a_strategy_stands_for(strategy: dict[str, Any], does: list[str]) -> None:
    assert [told(step) for step in expand(spec(strategy=strategy))] == does


@pytest.mark.parametrize("strategy", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_steps_have_names_of_their_own_and_are_the_same_each_time(strategy: dict[str, Any]) -> None:
    steps = expand(spec(strategy=strategy))
    assert len({step.name for step in steps}) == len(steps)
    assert steps == expand(spec(strategy=strategy))


def test_the_longest_strategy_has_no_more_steps_than_one_may_write() -> None:
    stages = list(range(1, 16))
    longest = spec(strategy={"shadow": {"for": "1h", "then": {"weights": stages, "pause": {"for": "1m"}}}})
    assert len(expand(longest)) == 32
    assert len(expand(spec(strategy={"progressive": {"stepWeight": 2, "maxWeight": 30, "interval": "1m"}}))) == 31


def test_written_steps_are_taken_as_they_are() -> None:
    steps = [{"name": "a", "setWeight": 5}, {"name": "b", "setWeight": 100}]
    assert [step.wire() for step in expand(spec(steps=steps))] == steps


def test_long_steps_are_told_in_short() -> None:
    match = [{"name": f"x-{number}", "exact": "v" * 200} for number in range(3)]
    (step,) = expand(spec(steps=[{"name": "a", "setHeaderRoute": {"match": match}}]))
    assert len(told(step)) == 256
    assert told(step).endswith("…")


# ---- in a rollout ----------------------------------------------------------------------------------------------------
def playing(strategy: dict[str, Any], **parts: Any) -> World:
    world = World({"checks": CHECKS, **parts})
    world.serve_first()
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": None, "strategy": strategy}})
    return world


def test_the_plan_shows_how_far_the_candidate_is() -> None:
    world = playing({"canary": {"weights": [10], "analyze": {"for": "10s"}}})
    world.step()
    plan = world.status.plan or []
    assert [(each.name, each.state) for each in plan] == [
        ("weight-10", "Waiting"),
        ("analyze-10", "Waiting"),
        ("everyone", "Waiting"),
    ]
    world.add_version(2)
    world.run_until("Analyzing")
    assert [each.state for each in world.status.plan or []] == ["Done", "Running", "Waiting"]
    world.run(60)
    assert world.status.stable == V2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_strategy_comes_to_its_end(strategy: dict[str, Any]) -> None:
    """A good version, clients, and a person who says yes to whatever waits."""
    world = playing(json.loads(re.sub(r'"(for|after|interval)": "\w+"', r'"\1": "20s"', json.dumps(strategy))))
    world.add_version(2)
    for _ in range(60):
        world.run(5)
        if world.status.phase == "Paused" and world.status.step is not None:
            world.annotate(promote=f"{world.status.step.name}:{V2}")
    stops = strategy.get("ab", {}).get("onEnd") == "Stop"
    assert (world.status.candidate, world.status.stable) == (None, V1 if stops else V2)
    assert world.weights() == {S1 if stops else S2: 100}


@pytest.mark.parametrize(
    "strategy",
    [
        {"canary": {"weights": [10], "pause": {"for": "1h"}}},
        {"shadow": {"for": "1h"}},
        {"blueGreen": {"preview": PREVIEW}},
        {"ab": {"header": PREVIEW, "for": "1h", "onEnd": "Pause"}},
        {"progressive": {"stepWeight": 10, "interval": "1h"}},
    ],
    ids=["canary", "shadow", "blueGreen", "ab", "progressive"],
)
def test_under_every_strategy_a_bad_version_is_rejected(strategy: dict[str, Any]) -> None:
    world = playing(strategy)
    world.add_version(2, failing=50)
    world.run(30)
    (rejection,) = world.status.rejected or []
    assert (rejection.name, rejection.reason) == (V2, "ChecksFailed")
    assert world.weights() == {S1: 100}
    assert world.aside() is None
