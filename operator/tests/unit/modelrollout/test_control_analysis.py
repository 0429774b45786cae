"""Orders of people to rollouts that are measured by templates."""

from __future__ import annotations

import pytest
from unit.modelrollout.test_analysis import (
    BAD,
    GOOD,
    NOT_A_NUMBER,
    S2,
    SLOW,
    USE,
    V1,
    V2,
    metric,
    rollout,
    run_of,
    until,
)
from unit.modelrollout.test_control import answer, order
from unit.modelrollout.world import NAME, World

from slipway.runtime.resources import MODEL_ROLLOUT


def undecided(**analysis: object) -> World:
    """Version 2 waits at 10 % for a person: its analysis came to no verdict."""
    world = rollout(SLOW, {**USE, **analysis})
    world.add_template("answers", metric(interval="5s", consecutiveErrorLimit=0, inconclusiveLimit=0))
    world.probes.values["up"] = [NOT_A_NUMBER]
    world.add_version(2)
    for _ in range(200):
        world.step()
        if world.condition("Stalled") is not None:
            return world
    raise AssertionError(world.rollout["status"])


def test_an_analysis_without_verdict_is_let_pass_by_the_order_that_names_its_step() -> None:
    world = undecided()
    step = world.status.step
    assert step is not None
    assert order(world, f"promote elsewhere:{V2}") == f"no: what waits is {step.name} of version {V2}."
    assert order(world, f"promote {step.name}:{V1}").startswith("no: what waits is")
    world.run(30)
    assert world.weights()[S2] == 10
    assert order(world, f"promote {step.name}:{V2}") == f"yes: Version {V2} goes on from {step.name} without a verdict."
    world.run_until("Healthy")
    assert (world.status.stable, run_of(world, "Background").promoted) == (V2, True)


def test_a_paused_version_is_not_let_pass() -> None:
    world = undecided()
    step = world.status.step
    assert step is not None
    order(world, f"pause {V2}")
    assert order(world, f"promote {step.name}:{V2}").startswith("no: dana paused it at")
    order(world, f"resume {V2}")
    world.run(30)
    assert world.weights()[S2] == 10, "there is still no verdict"


def test_promote_full_lets_it_pass_and_measures_before_the_promotion_all_the_same() -> None:
    world = undecided(prePromotion={"templates": [{"name": "last"}]})
    world.add_template("last", metric("last", count=2, interval="5s"))
    world.probes.values["last"] = [GOOD]
    assert order(world, f"promote-full {V2}").startswith("yes")
    world.run_until("Healthy")
    assert world.status.stable == V2
    assert run_of(world, "PrePromotion").phase == "Successful"


def test_an_undo_does_not_wait_for_the_analysis_after_the_promotion() -> None:
    world = rollout(SLOW, {"postPromotion": USE})
    world.add_template("answers", metric(count=50, interval="5s"))
    world.add_version(2)
    until(world, "PostPromotion", "Running")
    world.run(10)
    assert order(world, f"undo {V2}").startswith("yes")
    world.run(3)
    assert (world.status.stable, world.status.candidate) == (V1, None)
    world.run(60)
    assert world.status.stable == V1


@pytest.mark.slow
def test_nothing_goes_back_to_a_version_that_was_undone() -> None:
    world = rollout(SLOW, rollback={"keepPrevious": "5s"})
    world.add_version(2)
    world.run(100)
    assert world.status.stable == V2
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"analysis": {"postPromotion": USE}}})
    world.add_template("answers", metric(count=5, interval="5s"))
    world.probes.values["up"] = [BAD]
    assert order(world, f"undo {V2}").endswith("by the steps.")
    world.run(200)
    assert answer(world).startswith("yes")
    assert (world.status.stable, [each.name for each in world.status.rejected or []]) == (V1, [V2])
