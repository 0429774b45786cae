"""Rollouts from end to end in a played world: what people see and what clients get."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from unit.modelrollout.world import CHECKS, NAME, NAMESPACE, PROJECT, STEPS, World

from slipway.adapters.gateway import PIN_HEADER, token_of
from slipway.runtime.controller import Delete
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, MODEL_VERSION, PLATFORM, POD

V1, V2, V3 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3))
S1, S2, S3 = (f"{NAME}-{number:010x}" for number in (1, 2, 3))
APPROVAL: list[dict[str, Any]] = [
    {"name": "first-users", "setWeight": 5},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]


@pytest.fixture
def world() -> World:
    one = World()
    one.serve_first()
    return one


def weights_seen(world: World, seconds: int) -> list[int]:
    """The candidate's weights in the route, each once, in their order."""
    seen: list[int] = []
    for _ in range(seconds):
        world.step()
        weight = world.weights().get(S2, -1)
        if not seen or seen[-1] != weight:
            seen.append(weight)
    return seen


# ---- the way up ------------------------------------------------------------------------------------------------------
def test_nothing_is_made_before_a_version_passes() -> None:
    world = World()
    world.add_version(1, passed=False)
    world.run(5)
    assert world.status.phase == "Waiting"
    assert world.stores.list(INFERENCE_SERVICE, NAMESPACE) == []
    assert world.get(HTTP_ROUTE, NAME) is None
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[:2] == ("False", "WaitingForVersion")


def test_the_first_version_takes_everything_as_soon_as_it_is_ready() -> None:
    world = World()
    world.add_version(1)
    world.unready.add(S1)
    world.run(5)
    assert (world.status.phase, world.weights()) == ("Starting", {})
    world.unready.clear()
    world.run(3)
    assert (world.status.phase, world.status.stable, world.weights()) == ("Healthy", V1, {S1: 100})
    assert world.status.url == "http://models.example.com/delays/v1/models/delays:predict"


def test_a_good_version_goes_through_the_steps_in_order(world: World) -> None:
    world.add_version(2)
    assert weights_seen(world, 70) == [-1, 0, 5, 25, 100]
    assert (world.status.stable, world.status.candidate, world.status.phase) == (V2, None, "Healthy")
    assert [each.role for each in world.status.versions or ()] == ["Stable", "Previous"]
    assert [each.outcome for each in world.status.history or ()] == ["Promoted", "Promoted"]
    assert world.events.count("StepStarted") == len(STEPS)


def test_a_reference_is_added_only_after_the_pin_route_is_in_force(world: World) -> None:
    world.add_version(2)
    world.gateway.answering = False
    world.run(60)
    assert world.get(HTTP_ROUTE, f"{NAME}-pin-{S2.removeprefix(NAME + '-')}") is not None
    assert world.weights() == {S1: 100}
    world.gateway.answering = True
    world.run(3)
    assert world.weights() == {S1: 100, S2: 0} or world.weights() == {S1: 95, S2: 5}


def test_no_weight_is_raised_before_the_last_one_is_accepted(world: World) -> None:
    steps = [{"name": "a", "setWeight": 10}, {"name": "b", "setWeight": 50}, {"name": "c", "setWeight": 100}]
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": steps, "checks": []}})
    world.add_version(2)
    while not world.weights().get(S2):
        world.step()
    world.gateway.answering = False
    world.run(30)
    assert world.weights()[S2] == 10
    versions = {each.name: each for each in world.status.versions or ()}
    assert (versions[V2].desired_weight, versions[V2].accepted_weight) == (10, 0)
    world.gateway.answering = True
    world.run(5)
    assert world.status.stable == V2


def test_no_weight_is_raised_on_a_route_that_the_gateway_has_not_seen_again(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    world.gateway.answering = False
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    world.put(HTTP_ROUTE, {**route, "spec": {**route["spec"], "hostnames": ["elsewhere.example.com"]}})
    world.run(60)
    assert world.weights()[S2] == 5
    world.gateway.answering = True
    world.run(3)
    assert world.weights()[S2] == 25


@pytest.mark.slow
def test_no_weight_is_raised_while_kserve_calls_the_servers_not_ready(world: World) -> None:
    world.add_version(2)
    while world.weights().get(S2) != 5:
        world.step()
    world.doubted.add(S2)
    world.run(120)
    assert world.weights()[S2] == 5
    world.doubted.clear()
    world.run(2)
    assert world.weights()[S2] == 25


@pytest.mark.slow
def test_too_few_requests_never_end_an_analysis(world: World) -> None:
    checks = [{**each, "minimumRequests": 50} for each in CHECKS]
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"checks": checks}})
    world.rate = 20  # one request a second for the candidate: 30 in a window
    world.add_version(2)
    world.run(200)
    assert (world.status.phase, world.weights()[S2]) == ("Analyzing", 5)
    assert {each.verdict for each in world.status.checks or ()} == {"Inconclusive"}
    progressing = world.condition("Progressing")
    assert progressing is not None
    assert "too few for a verdict" in progressing[2]
    world.rate = 1000
    world.run(60)
    assert world.status.stable == V2


def test_a_restarted_operator_begins_its_windows_anew(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(17)
    world.gateway.restart_operator()
    world.run(15)
    assert world.weights()[S2] == 5, "promoted on a window that was not watched"
    world.run(10)
    assert world.weights()[S2] == 25


def test_the_clock_stepping_forward_does_not_shorten_an_analysis(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    world.now += timedelta(hours=1)
    world.run(10)
    assert world.weights()[S2] == 5


def test_numbers_do_not_cost_a_write_each_second(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(6)
    before = world.writes
    world.run(10)
    assert world.writes - before <= 2


# ---- the way back ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("failing", "slow", "word"), [(30, 0, "success"), (0, 50, "fast")], ids=["errors", "slower than stable"]
)
def test_a_bad_version_loses_its_requests_at_once(world: World, failing: int, slow: int, word: str) -> None:
    world.add_version(2, failing=failing, slow=slow)
    world.run_until("Analyzing")
    # 5 requests a second at 5 %: the verdict needs 20.
    world.run(6)
    assert world.weights() == {S1: 100}
    (rejection,) = world.status.rejected or []
    assert (rejection.name, rejection.reason) == (V2, "ChecksFailed")
    assert f"Check {word}" in rejection.message
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[0] == "True"
    assert "was rejected" in ready[2]
    assert "RolledBack" in world.events


@pytest.mark.slow
def test_a_rejected_version_is_never_selected_again_until_a_person_says_so(world: World) -> None:
    world.add_version(2, failing=30)
    world.run(120)
    assert (world.status.phase, world.status.candidate) == ("Healthy", None)
    world.behaviour[S2].failing = 0
    world.annotate(retry=V2)
    world.run(3)
    assert world.status.candidate == V2
    world.run(80)
    assert world.status.stable == V2


def test_the_same_retry_acts_once(world: World) -> None:
    world.add_version(2, failing=30)
    world.run(60)
    world.annotate(retry=V2)
    world.run(60)
    assert [each.name for each in world.status.rejected or ()] == [V2]
    assert world.status.candidate is None
    world.annotate(retry=f"{V2}:again")
    world.step()
    assert world.status.candidate == V2


def test_servers_are_removed_in_the_order_that_loses_nothing(world: World) -> None:
    world.add_version(2, failing=30)
    world.run_until("RollingBack")
    pin, order = f"{NAME}-pin-{S2.removeprefix(NAME + '-')}", []
    for _ in range(40):
        plan = world.step()
        order += [str(action.key) for action in plan.actions if isinstance(action, Delete)]
        if world.get(HTTP_ROUTE, pin) is not None:
            assert world.get(INFERENCE_SERVICE, S2) is not None
    assert order == [f"HTTPRoute {NAMESPACE}/{pin}", f"InferenceService {NAMESPACE}/{S2}"]


def test_without_automatic_rollback_a_failing_version_is_held(world: World) -> None:
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"rollback": {"automatic": False}}})
    world.add_version(2, failing=30)
    world.run(60)
    assert (world.status.phase, world.weights()[S2]) == ("Paused", 5)
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[1] == "ChecksFailed"
    assert f"pin {V1}" in stalled[2]
    world.pin(V1)
    world.step()
    assert world.weights() == {S1: 100}
    assert world.status.rejected is None


def test_nobody_is_sent_back_to_a_stable_version_without_servers(world: World) -> None:
    world.add_version(2, failing=30)
    world.run_until("Analyzing")
    world.unready.add(S1)
    world.run(10)
    assert world.weights()[S2] == 5
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert "no ready server" in stalled[2]


def test_a_version_that_loses_its_servers_loses_its_requests_and_starts_anew_but_not_for_ever(world: World) -> None:
    world.add_version(2)
    for attempt in (1, 2):
        world.run_until("Analyzing")
        world.unready.add(S2)
        world.step()
        assert (world.weights()[S2], world.status.phase, world.status.attempts) == (0, "Starting", attempt)
        world.unready.clear()
    world.run_until("Analyzing")
    world.unready.add(S2)
    world.step()
    (rejection,) = world.status.rejected or []
    assert rejection.reason == "ServersUnstable"


# ---- starts that fail ------------------------------------------------------------------------------------------------
def test_a_version_that_does_not_start_is_rejected_at_the_deadline_with_the_reason(world: World) -> None:
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"progressDeadline": "60s"}})
    world.unready.add(S2)
    world.add_version(2)
    world.step()
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    labels = {"serving.kserve.io/inferenceservice": S2}
    meta = {"name": f"{S2}-predictor-x", "namespace": NAMESPACE, "labels": labels}
    world.put(POD, {"metadata": meta, "status": {"conditions": [unschedulable]}})
    world.run(30)
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[:2] == ("True", "Unschedulable")
    assert "spec.serving.poolRef" in stalled[2]
    assert world.status.candidate == V2
    world.run(40)
    (rejection,) = world.status.rejected or []
    assert rejection.reason == "Unschedulable"
    assert "within 60s" in rejection.message
    assert world.weights() == {S1: 100}


# ---- people ----------------------------------------------------------------------------------------------------------
def test_a_pause_ends_when_a_person_promotes_this_step(world: World) -> None:
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": APPROVAL}})
    world.add_version(2)
    world.run(100)
    assert (world.status.phase, world.weights()[S2]) == ("Paused", 5)
    world.annotate(promote="everyone")
    world.run(5)
    assert world.weights()[S2] == 5
    assert "AnnotationIgnored" in world.events
    world.annotate(promote=f"approval:{V2}")
    world.run(5)
    assert world.status.stable == V2


@pytest.mark.slow
@pytest.mark.parametrize("value", ["approval", f"approval:{V2}"])
def test_what_promoted_one_version_never_promotes_the_next(world: World, value: str) -> None:
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": APPROVAL}})
    world.annotate(promote=value)  # before any step waits: spent
    world.add_version(2)
    world.run(100)
    assert world.status.phase == "Paused"
    world.annotate(promote="approval:")
    world.run(5)
    assert world.status.stable == V2
    world.add_version(3)
    world.run(100)
    assert (world.status.phase, world.weights()[S3]) == ("Paused", 5)


def test_pinning_the_previous_version_brings_it_back_without_steps(world: World) -> None:
    world.add_version(2)
    world.run(80)
    world.pin(V1)
    world.run(3)
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})


def test_pinning_a_version_that_is_not_warm_takes_the_steps(world: World) -> None:
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"rollback": {"keepPrevious": "5s"}}})
    world.add_version(2)
    world.run(120)
    assert world.get(INFERENCE_SERVICE, S1) is None
    world.pin(V1)
    world.run(20)
    assert world.weights() == {S2: 95, S1: 5}


@pytest.mark.parametrize(
    ("version", "reason"), [("nowhere", "DependencyMissing"), (V3, "GatesFailed"), (V2, "RolledBack")]
)
def test_pins_that_cannot_be_followed_are_told(world: World, version: str, reason: str) -> None:
    world.add_version(2, failing=50)
    world.add_version(3, passed=False)
    world.run(60)
    world.pin(version)
    world.run(2)
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[1] == reason
    assert "spec.version.modelVersionRef" in stalled[2]
    assert world.weights() == {S1: 100}


# ---- several versions ------------------------------------------------------------------------------------------------
def test_a_newer_version_replaces_a_candidate_without_requests(world: World) -> None:
    world.unready.add(S2)
    world.add_version(2)
    world.run(5)
    world.add_version(3)
    world.run(5)
    assert world.status.candidate == V3
    assert world.status.rejected is None


@pytest.mark.slow
def test_a_candidate_with_requests_is_finished_before_a_newer_version_starts(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    world.add_version(3)
    world.run(10)
    assert world.status.candidate == V2
    world.run(200)
    assert world.status.stable == V3


@pytest.mark.slow
def test_the_previous_version_goes_when_its_time_is_over(world: World) -> None:
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"rollback": {"keepPrevious": "60s"}}})
    world.add_version(2)
    world.run(80)
    assert world.get(INFERENCE_SERVICE, S1) is not None
    world.run(80)
    assert world.get(INFERENCE_SERVICE, S1) is None
    assert [each.role for each in world.status.versions or ()] == ["Stable"]


def test_a_version_whose_record_is_deleted_goes_no_further(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    world.remove(MODEL_VERSION, V2)
    world.step()
    assert world.weights() == {S1: 100}
    assert world.status.rejected is None


# ---- what happens around ---------------------------------------------------------------------------------------------
def test_a_lost_status_is_rebuilt_from_the_route_and_not_from_the_first_step(world: World) -> None:
    world.add_version(2)
    while world.weights().get(S2) != 25:
        world.step()
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.step()
    assert (world.status.stable, world.status.candidate, world.weights()[S2]) == (V1, V2, 25)
    world.run(60)
    assert world.status.stable == V2


def test_rejections_outlive_a_lost_status(world: World) -> None:
    world.add_version(2, failing=30)
    world.run(60)
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    for _ in range(10):
        world.step()
        assert [each.name for each in world.status.rejected or ()] == [V2]
        assert world.status.candidate is None


def test_steps_that_are_edited_on_the_way_keep_the_weight(world: World) -> None:
    world.add_version(2)
    while world.weights().get(S2) != 25:
        world.step()
    steps = [{"name": "tenth", "setWeight": 10}, {"name": "half", "setWeight": 50}, {"name": "all", "setWeight": 100}]
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": steps}})
    seen = weights_seen(world, 20)
    assert seen == [25, 50, 100, -1][: len(seen)] or seen == [50, 100]


def test_a_rollback_does_not_wait_for_a_missing_platform(world: World) -> None:
    world.add_version(2, failing=30)
    world.run_until("Analyzing")
    world.run(3)
    world.remove(PLATFORM, "default")
    # Statistics are at the port that every gateway has by default.
    world.run(6)
    assert world.weights() == {S1: 100}
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[1] == "DependencyMissing"


def test_a_new_rollout_at_a_taken_url_gets_no_route() -> None:
    world = World()
    older = {"name": "elder", "namespace": "other", "creationTimestamp": "2020-01-01T00:00:00Z"}
    world.put(MODEL_ROLLOUT, {**world.rollout, "metadata": older, "status": {}})
    world.add_version(1)
    world.run(30)
    assert world.stores.list(HTTP_ROUTE, NAMESPACE) == []
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[:2] == ("False", "PathTaken")
    assert "choose another path" in ready[2]


def test_hand_made_changes_of_the_route_are_put_back(world: World) -> None:
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    world.put(HTTP_ROUTE, {**route, "spec": {**route["spec"], "hostnames": ["elsewhere.example.com"]}})
    world.run(2)
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    assert route["spec"]["hostnames"] == ["models.example.com"]


def test_a_deleted_rollout_takes_its_route_away_first(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    meta = {**world.rollout["metadata"], "deletionTimestamp": world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    world.put(MODEL_ROLLOUT, {**world.rollout, "metadata": meta})
    plan = world.step()
    assert plan.finalizer == "keep"
    assert world.get(HTTP_ROUTE, NAME) is None
    assert len(world.stores.list(INFERENCE_SERVICE, NAMESPACE)) == 2
    for _ in range(8):
        plan = world.step()
    assert plan.finalizer == "drop"
    assert world.stores.list(INFERENCE_SERVICE, NAMESPACE) == []
    assert world.stores.list(HTTP_ROUTE, NAMESPACE) == []


def test_pin_routes_have_values_that_nobody_can_guess_and_keep_them(world: World) -> None:
    world.add_version(2)
    world.run(6)
    pins = [each for each in world.stores.list(HTTP_ROUTE, NAMESPACE) if "-pin-" in each["metadata"]["name"]]
    tokens = [token_of(each) for each in pins]
    assert len(set(tokens)) == 2
    assert all(len(token) == 32 for token in tokens)
    for pin in pins:
        (match,) = pin["spec"]["rules"][0]["matches"]
        assert [header["name"] for header in match["headers"]] == [PIN_HEADER]
    world.run(5)
    again = [each for each in world.stores.list(HTTP_ROUTE, NAMESPACE) if "-pin-" in each["metadata"]["name"]]
    assert [token_of(each) for each in again] == tokens


def test_a_healthy_rollout_writes_nothing(world: World) -> None:
    before = world.writes
    plans = [world.step() for _ in range(60)]
    assert world.writes == before
    assert {plan.requeue_after for plan in plans} == {None}
