"""Scarce servers: what two versions may have together, and that never are both without any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law, some
from unit.modelrollout.world import NAME, PROJECT, World

from slipway.api.modelrollout import Replicas, Serving
from slipway.controllers.modelrollout import capacity
from slipway.controllers.modelrollout.state import State
from slipway.runtime.resources import COMPUTE_POOL, INFERENCE_SERVICE

V1, V2 = (f"{PROJECT}-{number:010x}" for number in (1, 2))
S1, S2 = (f"{NAME}-{number:010x}" for number in (1, 2))
CHECK = {"name": "success", "metric": "successPercent", "min": "99", "minimumRequests": 20, "window": "10s"}


def steps(*weights: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for weight in weights:
        found += [{"name": f"to-{weight}", "setWeight": weight}, {"name": f"rest-{weight}", "pause": {"for": "5s"}}]
    return found


def world_with(way: str, replicas: int, units: int, *weights: int) -> World:
    serving = {"capacity": way, "replicas": {"min": replicas, "max": replicas}}
    world = World({"serving": serving, "steps": steps(*weights), "checks": [CHECK]})
    world.units = units
    world.serve_first()
    assert world.endpoints(S1) == replicas
    return world


def declared(world: World) -> dict[str, int]:
    services = world.stores.list(INFERENCE_SERVICE, "flights")
    return {each["metadata"]["name"]: each["spec"]["predictor"]["maxReplicas"] for each in services}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "replicas", "units"),
    [("Surge", 1, 2), ("Surge", 3, 6), ("Partial", 1, 2), ("Partial", 4, 5), ("Recreate", 2, 2), ("Recreate", 4, 4)],
)
@pytest.mark.parametrize("weights", some([(10, 50, 100), (100,), (25, 50, 75, 100)], 1), ids=str)
def test_a_version_takes_over_in_the_room_that_there_is(
    way: str, replicas: int, units: int, weights: tuple[int, ...]
) -> None:
    world = world_with(way, replicas, units, *weights)
    world.add_version(2)
    for _ in range(300):
        world.step()
        if world.status.candidate or world.status.stable == V1:
            assert world.endpoints(S1) >= 1, "the stable version has no server"
            assert sum(declared(world).values()) <= units + (way == "Recreate" and S2 not in declared(world))
    assert world.status.stable == V2
    assert world.status.rejected is None
    assert declared(world) == {S2: replicas} or way == "Surge"
    assert world.endpoints(S2) == replicas


@pytest.mark.slow
@pytest.mark.parametrize(("way", "units"), [("Partial", 5), ("Recreate", 4)])
def test_a_rejected_version_gives_its_servers_back(way: str, units: int) -> None:
    world = world_with(way, 4, units, 25, 50, 100)
    world.add_version(2, failing=40)
    for _ in range(200):
        world.step()
        assert world.endpoints(S1) >= 1
    assert [each.name for each in world.status.rejected or ()] == [V2]
    assert declared(world) == {S1: 4}
    assert world.endpoints(S1) == 4


@pytest.mark.slow
def test_without_a_server_that_ends_the_new_version_waits_and_is_not_blamed() -> None:
    world = world_with("Recreate", 2, 2, 100)
    world.kserve_answering = False
    world.add_version(2)
    for _ in range(1000):
        world.step()
    assert S2 not in declared(world)
    assert world.status.rejected is None
    assert (world.condition("Progressing") or ())[:2] == ("True", "WaitingForCapacity")
    world.kserve_answering = True
    world.run(100)
    assert world.status.stable == V2


@pytest.mark.slow
def test_a_quota_makes_the_new_version_wait() -> None:
    gpus = {"limits": {"nvidia.com/gpu": "2"}}
    world = World({"serving": {"poolRef": {"name": "gpu"}, "resources": gpus}, "steps": steps(100), "checks": []})
    pool = {"resource": "nvidia.com/gpu", "nodeSelector": {"gpu": "yes"}, "quota": {"perProject": 3}}
    stored = world.put(COMPUTE_POOL, {"metadata": {"name": "gpu"}, "spec": pool})
    world.serve_first()
    world.add_version(2)
    for _ in range(1000):
        world.step()
    assert declared(world) == {S1: 1}
    assert world.condition("Progressing") == (
        "True",
        "WaitingForPool",
        f"The project holds 2 of its 3 nvidia.com/gpu in ComputePool gpu, and version {V2} needs 2: give some back, or"
        " choose spec.serving.capacity: Partial or Recreate.",
    )
    world.put(COMPUTE_POOL, {**stored, "spec": {**pool, "quota": {"perProject": 4}}})
    world.run(60)
    assert world.status.stable == V2


WAYS = st.sampled_from(["Surge", "Partial", "Recreate"])


@law
@examples(60, 300)
@given(WAYS, st.integers(2, 20), st.integers(1, 20), st.integers(0, 100), st.integers(0, 100), st.integers(0, 25))
def test_shares_never_exceed_the_room(way: str, most: int, least: int, weight: int, aimed: int, servers: int) -> None:
    serving = Serving.model_validate({"capacity": way, "replicas": {"min": min(least, most), "max": most}})
    state = State(stable="one", candidate="two", weight=weight)
    stable = capacity.of_stable(serving, state)
    wanted = capacity.of_candidate(serving, state, serving.replicas, max(weight, aimed))
    for size in (stable, wanted):
        assert 1 <= size.min <= size.max <= most
    if way != "Surge":
        assert stable.max + wanted.max <= most + (way == "Partial")
        assert stable.max >= min(most * (100 - weight) / 100, most - (way == "Recreate"))
    limit = capacity.room(serving, state, servers)
    given_ = capacity.at_most(wanted, limit)
    assert 1 <= given_.min <= given_.max <= wanted.max
    assert limit is None or given_.max <= max(1, limit)
    assert capacity.of_stable(serving, State(stable="one")) == serving.replicas
    assert isinstance(given_, Replicas)
