"""Steps beside weights: copies of requests, headers, numbers of servers, and an end without a promotion."""

from __future__ import annotations

from typing import Any

import pytest
from unit.modelrollout.world import CHECKS, NAME, PROJECT, World

from slipway.adapters.gateway import Aside
from slipway.runtime.resources import INFERENCE_SERVICE, MODEL_ROLLOUT

V1, V2, V3 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3))
S1, S2, S3 = (f"{NAME}-{number:010x}" for number in (1, 2, 3))
EVERYONE = {"name": "everyone", "setWeight": 100}
SHADOW = {"name": "shadow", "mirror": {"percent": 20, "for": "20s"}}
TESTERS = {"name": "testers", "setHeaderRoute": {"match": [{"name": "x-preview", "exact": "yes"}]}}
NOBODY = {"name": "nobody", "setHeaderRoute": {}}
APPROVAL = {"name": "approval", "pause": {"until": "Promoted"}}
PREVIEW = (("x-preview", "Exact", "yes"),)


def world_with(*steps: dict[str, Any], checks: list[dict[str, Any]] | None = None, **spec: Any) -> World:
    world = World({"steps": list(steps), "checks": CHECKS if checks is None else checks, **spec})
    world.serve_first()
    return world


def run_to(world: World, step: str, limit: int = 200) -> None:
    for _ in range(limit):
        world.step()
        if world.status.step is not None and world.status.step.name == step:
            return
    raise AssertionError(f"never at step {step}: {world.rollout['status']}")


# ---- mirror ----------------------------------------------------------------------------------------------------------
def test_copies_go_to_a_version_that_nobody_meets() -> None:
    world = world_with(SHADOW, EVERYONE)
    world.add_version(2)
    run_to(world, "shadow")
    assert world.weights() == {S1: 100, S2: 0}
    assert world.aside() == Aside(S2, copied=20)
    world.run(5)
    assert world.status.phase == "Analyzing"
    assert world.gateway.counted[-1].requests == {
        f"service/flights/{S1}-predictor/80/http": 100,
        f"service/flights/{S2}-predictor/80/http": 0,
        "httproute/flights/delays/rule/0-mirror-1": 20,
    }
    candidate = next(each for each in world.status.versions or () if each.role == "Candidate")
    assert candidate.observed_percent in (None, "0.00"), "copies are nobody's requests"


def test_a_version_that_answers_copies_well_goes_on_and_gets_no_more_of_them() -> None:
    world = world_with(SHADOW, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "approval")
    assert world.aside() is None
    assert {each.verdict for each in world.status.checks or ()} <= {"Success"}
    world.annotate(promote=f"approval:{V2}")
    world.run(5)
    assert world.status.stable == V2


@pytest.mark.parametrize(("failing", "slow"), [(30, 0), (0, 50)], ids=["errors", "slower than stable"])
def test_a_version_that_answers_copies_badly_is_rejected_before_any_user_met_it(failing: int, slow: int) -> None:
    world = world_with(SHADOW, EVERYONE)
    world.add_version(2, failing=failing, slow=slow)
    seen = set()
    for _ in range(30):
        world.step()
        seen.add(world.weights().get(S2, 0))
    assert seen == {0}
    (rejection,) = world.status.rejected or []
    assert (rejection.name, rejection.reason) == (V2, "ChecksFailed")
    assert world.aside() is None


def test_too_few_copies_are_no_success() -> None:
    checks = [{**CHECKS[0], "minimumRequests": 1000}]
    world = world_with(SHADOW, EVERYONE, checks=checks)
    world.add_version(2)
    world.run(120)
    assert (world.status.step.name if world.status.step else "") == "shadow"
    assert {each.verdict for each in world.status.checks or ()} == {"Inconclusive"}


def test_a_mirror_that_the_gateway_did_not_take_does_not_end() -> None:
    world = world_with(SHADOW, EVERYONE, checks=[])
    world.add_version(2)
    run_to(world, "shadow")
    world.gateway.answering = False
    world.run(60)
    assert (world.status.step.name if world.status.step else "") == "shadow"
    world.gateway.answering = True
    world.run(5)
    assert world.status.stable == V2


def test_a_version_on_copies_is_finished_before_a_newer_one_starts() -> None:
    world = world_with(SHADOW, EVERYONE)
    world.add_version(2)
    run_to(world, "shadow")
    world.add_version(3)
    world.run(5)
    assert world.status.candidate == V2


def test_a_version_with_users_gets_no_copies_though_the_edited_list_says_so() -> None:
    world = world_with({"name": "some", "setWeight": 20}, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "approval")
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": [{**SHADOW, "name": "approval"}, EVERYONE]}})
    for _ in range(4):
        world.step()
        assert world.aside() is None
    assert world.status.stable == V2


def test_the_mirror_goes_with_the_servers() -> None:
    world = world_with(SHADOW, EVERYONE)
    world.add_version(2)
    run_to(world, "shadow")
    world.unready.add(S2)
    world.step()
    assert world.aside() is None
    assert world.status.attempts == 1


# ---- headers ---------------------------------------------------------------------------------------------------------
def test_requests_with_the_header_meet_the_version_until_its_candidacy_ends() -> None:
    world = world_with(TESTERS, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "approval")
    assert world.weights() == {S1: 100, S2: 0}
    assert world.aside() == Aside(S2, headers=PREVIEW)
    world.annotate(promote=f"approval:{V2}")
    world.run(5)
    assert (world.status.stable, world.aside()) == (V2, None)


def test_requests_with_the_header_count_for_the_checks() -> None:
    world = world_with(TESTERS, APPROVAL, EVERYONE)
    world.add_version(2, failing=50)
    world.run(20)
    assert [each.name for each in world.status.rejected or ()] == [V2]
    assert world.aside() is None


def test_an_empty_match_takes_the_header_route_away() -> None:
    world = world_with(TESTERS, {"name": "look", "pause": {"for": "5s"}}, NOBODY, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "look")
    assert world.aside() == Aside(S2, headers=PREVIEW)
    run_to(world, "approval")
    assert world.aside() is None


def test_the_header_route_stays_under_weights_and_copies() -> None:
    world = world_with(TESTERS, SHADOW, {"name": "some", "setWeight": 20}, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "shadow")
    assert world.aside() == Aside(S2, copied=20, headers=PREVIEW)
    run_to(world, "approval")
    assert world.aside() == Aside(S2, headers=PREVIEW)
    assert world.weights() == {S1: 80, S2: 20}


def test_pinning_the_stable_version_takes_the_header_route_away() -> None:
    world = world_with(TESTERS, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "approval")
    world.pin(V1)
    world.step()
    assert (world.aside(), world.weights()) == (None, {S1: 100})


def test_a_lost_status_begins_the_steps_anew_and_keeps_the_header_only_where_they_say_so() -> None:
    world = world_with(TESTERS, APPROVAL, EVERYONE)
    world.add_version(2)
    run_to(world, "approval")
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    run_to(world, "approval")
    assert world.aside() == Aside(S2, headers=PREVIEW)


# ---- scale -----------------------------------------------------------------------------------------------------------
def bounds(world: World, service: str = S2) -> tuple[int, int]:
    obj = world.get(INFERENCE_SERVICE, service)
    assert obj is not None
    predictor = obj["spec"]["predictor"]
    return predictor["minReplicas"], predictor["maxReplicas"]


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({"replicas": 1}, (1, 1)),
        ({"replicas": 8}, (8, 8)),
        ({"percent": 50}, (2, 4)),
        ({"percent": 30}, (2, 3)),
        ({"percent": 1}, (1, 1)),
        ({"matchWeight": True}, (1, 1)),
    ],
)
def test_a_list_that_begins_with_a_scale_starts_with_it(scale: dict[str, Any], expected: tuple[int, int]) -> None:
    replicas = {"replicas": {"min": 4, "max": 8}}
    world = world_with({"name": "small", "setScale": scale}, APPROVAL, EVERYONE, serving=replicas)
    assert bounds(world, S1) == (4, 8)
    world.add_version(2)
    world.unready.add(S2)
    world.run(3)
    assert bounds(world) == expected
    world.unready.clear()
    run_to(world, "approval")
    assert bounds(world) == expected
    obj = world.get(INFERENCE_SERVICE, S2)
    assert obj is not None
    assert obj["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"


def test_the_version_has_full_size_before_it_takes_all_requests() -> None:
    world = world_with(
        {"name": "small", "setScale": {"replicas": 1}},
        {"name": "some", "setWeight": 10},
        APPROVAL,
        EVERYONE,
        serving={"replicas": {"min": 3, "max": 3}},
    )
    world.add_version(2)
    run_to(world, "approval")
    assert (bounds(world), world.endpoints(S2)) == ((1, 1), 1)
    world.room = 2
    world.annotate(promote=f"approval:{V2}")
    world.run(20)
    assert (bounds(world), world.endpoints(S2), world.weights()[S2]) == ((3, 3), 2, 10)
    progressing = world.condition("Progressing")
    assert progressing is not None
    assert "1 more of its servers to be ready" in progressing[2]
    world.room = 3
    world.run(5)
    assert (world.status.stable, bounds(world)) == (V2, (3, 3))


def test_servers_come_before_the_requests_that_they_are_for() -> None:
    world = world_with(
        {"name": "grow", "setScale": {"matchWeight": True}},
        {"name": "half", "setWeight": 50},
        APPROVAL,
        EVERYONE,
        serving={"replicas": {"min": 4, "max": 8}},
    )
    world.add_version(2)
    world.room = 1
    world.run(20)
    assert (bounds(world), world.weights()[S2]) == ((2, 4), 0)
    world.room = 1000
    run_to(world, "approval")
    assert (bounds(world), world.endpoints(S2), world.weights()[S2]) == ((2, 4), 2, 50)


def test_servers_that_do_not_come_in_time_reject_the_version() -> None:
    world = world_with(
        {"name": "small", "setScale": {"replicas": 1}},
        {"name": "some", "setWeight": 10},
        EVERYONE,
        serving={"replicas": {"min": 3, "max": 3}},
        progressDeadline="60s",
    )
    world.add_version(2)
    run_to(world, "some")
    world.room = 1
    world.run(90)
    (rejection,) = world.status.rejected or []
    assert rejection.reason == "ProgressDeadlineExceeded"
    assert "2 of its servers were missing for 60s" in rejection.message
    assert world.weights() == {S1: 100}


def test_the_first_version_and_the_way_back_do_not_wait_for_a_scale() -> None:
    steps = ({"name": "small", "setScale": {"replicas": 1}}, EVERYONE)
    world = world_with(*steps, serving={"replicas": {"min": 3, "max": 3}})
    assert bounds(world, S1) == (3, 3)
    world.add_version(2)
    world.run(40)
    assert world.status.stable == V2
    world.room = 2  # a node has gone
    world.step()
    world.pin(V1)
    world.run(5)
    assert (world.status.stable, bounds(world, S1)) == (V1, (3, 3))


# ---- stop ------------------------------------------------------------------------------------------------------------
def test_a_stop_ends_the_rollout_without_a_promotion_or_a_failure() -> None:
    world = world_with(SHADOW, {"name": "end", "stop": {"message": "It was a trial."}})
    world.add_version(2)
    world.run(80)
    assert (world.status.phase, world.status.stable, world.status.candidate) == ("Healthy", V1, None)
    (entry,) = [each for each in world.status.rejected or () if each.name == V2]
    assert (entry.reason, entry.message) == ("Stopped", "It was a trial.")
    assert [each.outcome for each in world.status.history or ()] == ["Stopped", "Promoted"]
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[:2] == ("True", "Healthy")
    assert "RolledBack" not in world.events
    world.annotate(retry=V2)
    world.run(2)
    assert world.status.candidate == V2
