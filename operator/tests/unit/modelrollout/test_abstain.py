"""Abstention in a rollout: what servers are told, and what is said of versions without a baseline."""

from __future__ import annotations

from typing import Any

import pytest
from unit.modelrollout.test_predictionlog import environment
from unit.modelrollout.world import PROJECT, World

from slipway.runtime.resources import MODEL_VERSION

V1, V2 = f"{PROJECT}-{1:010x}", f"{PROJECT}-{2:010x}"
BASELINE: dict[str, Any] = {"serving": {"abstain": {"below": "0.7", "fallback": "Baseline"}}}


def told(world: World) -> dict[str, Any]:
    prefix = "SLIPWAY_ABSTAIN_"
    return {name.removeprefix(prefix): value for name, value in environment(world).items() if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("serving", "expected"),
    [
        ({}, {}),
        ({"abstain": {"below": "0.7"}}, {"BELOW": "0.7", "FALLBACK": "None"}),
        (BASELINE["serving"], {"BELOW": "0.7", "FALLBACK": "Baseline"}),
    ],
)
def test_servers_are_told(serving: dict[str, Any], expected: dict[str, str]) -> None:
    world = World({"serving": serving})
    world.serve_first()
    assert told(world) == expected


def give_baseline(world: World, name: str) -> None:
    version = world.get(MODEL_VERSION, name)
    assert version is not None
    world.put(MODEL_VERSION, {**version, "spec": {**version["spec"], "baselineDigest": f"sha256:{'a' * 64}"}})


def test_a_version_without_a_baseline_is_named_while_it_has_requests() -> None:
    world = World(BASELINE)
    world.serve_first()
    condition = world.condition("BaselineAvailable")
    assert condition is not None
    assert condition[:2] == ("False", "DependencyMissing")
    assert f"Servers of {V1} abstain" in condition[2]
    world.add_version(2)
    give_baseline(world, V2)
    world.run_until("Healthy")
    assert world.status.stable == V2
    world.run(2)
    assert world.condition("BaselineAvailable") is None


def test_nothing_is_said_of_baselines_that_nobody_falls_back_to() -> None:
    world = World({"serving": {"abstain": {"below": "0.7", "fallback": "None"}}})
    world.serve_first()
    assert world.condition("BaselineAvailable") is None
