"""Several versions side by side for a time: who takes part, who leaves, what is counted, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from unit.modelrollout.test_access import SITE, Guards
from unit.modelrollout.test_outputs import LABEL, PROBABILITY, answering
from unit.modelrollout.test_step_kinds import APPROVAL, EVERYONE, S1, S2, S3, V1, V2, V3, run_to, world_with
from unit.modelrollout.world import NAME, NAMESPACE, PROJECT, Behaviour, World

from slipway.api.rollout_experiment import ExperimentStatus, ExperimentVersion
from slipway.runtime.resources import COMPUTE_POOL, HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, MODEL_VERSION, Object

V4, V5 = (f"{PROJECT}-{number:010x}" for number in (4, 5))
S4 = f"{NAME}-{4:010x}"
ARM_B: Object = {"name": "b", "modelVersionRef": {"name": V2}, "percent": 10}
ARM_C: Object = {"name": "c", "modelVersionRef": {"name": V3}, "percent": 20}


def experiment(*arms: Object, **more: Any) -> Object:
    return {"name": "compare", "experiment": {"for": "30s", "candidatePercent": 20, "arms": list(arms), **more}}


def world_of_four(*steps: Object, arms: tuple[Object, ...] = (ARM_B, ARM_C), **spec: Any) -> World:
    """V1 serves, V2 and V3 exist and were stopped before, V4 is about to be rolled out."""
    world = world_with(*(steps or (experiment(*arms), APPROVAL, EVERYONE)), **spec)
    world.pin(V1)
    world.add_version(2)
    world.add_version(3)
    world.add_version(4)
    world.pin(V4)
    return world


def present(world: World) -> ExperimentStatus:
    found = world.status.experiments
    assert found, world.rollout["status"]
    return found[0]


def row(world: World, name: str) -> ExperimentVersion:
    return next(each for each in present(world).versions if each.name == name)


def until(world: World, holds: Callable[[], bool], limit: int = 200) -> None:
    for _ in range(limit):
        world.step()
        assert not world.weights() or sum(world.weights().values()) == 100
        if holds():
            return
    raise AssertionError(world.rollout["status"])


def running(world: World) -> None:
    until(world, lambda: bool(world.status.experiments) and present(world).phase == "Running")


def services(world: World) -> set[str]:
    return {each["metadata"]["name"] for each in world.stores.list(INFERENCE_SERVICE, NAMESPACE)}


# ---- the way ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_four_versions_share_requests_for_a_time_and_are_reported() -> None:
    world = world_of_four()
    running(world)
    assert world.weights() == {S1: 50, S4: 20, S2: 10, S3: 20}
    assert world.status.phase == "Analyzing"
    assert world.condition("Ready") == (
        "True",
        "Progressing",
        f"Version {V1} takes 50 %, version {V4} 20 %, version {V2} 10 %, version {V3} 20 %.",
    )
    world.run(12)
    roles = {each.name: (each.role, each.desired_weight, each.observed_percent) for each in world.status.versions or ()}
    assert roles[V2] == ("Arm", 10, "10.00")
    run_to(world, "approval")
    report = present(world)
    assert (report.phase, report.candidate, report.winner) == ("Completed", V4, None)
    assert (
        report.message == "No version is better than the stable one; no difference that can be told (95 % confidence)."
    )
    counted = {each.name: each.counted.requests for each in report.versions if each.counted}
    assert counted["stable"] == 5 * counted["b"] == 5 * counted["c"] // 2
    assert 28 * 10 <= counted["b"] <= 31 * 10, "what was counted is what was answered in its time"
    assert {each.verdict for each in report.versions} == {None, "NoDifference"}
    assert {each.state for each in report.versions} == {"Completed"}
    assert world.weights() == {S1: 80, S4: 20}, "the candidate keeps its share for the steps that follow"
    assert {"ExperimentStarted", "ExperimentEnded"} <= set(world.events)
    world.run(30)
    assert services(world) == {S1, S4}, "arms are drained and removed"
    assert report == present(world), "a report does not change any more"


def test_an_arm_has_servers_pin_route_and_reference_before_it_has_requests() -> None:
    world = world_of_four()
    seen: list[dict[str, int]] = []
    until(
        world,
        lambda: (
            seen.append(world.weights()) or present(world).phase == "Running" if world.status.experiments else False
        ),
    )
    last = [each for each in seen if each != seen[-1]][-1]
    assert last == {S1: 80, S4: 20, S2: 0, S3: 0}, "all get their shares at once, from a reference without weight"
    assert world.get(HTTP_ROUTE, f"{NAME}-pin-{S2.removeprefix(NAME + '-')}") is not None


def test_an_arm_has_its_share_of_the_servers() -> None:
    world = world_of_four(serving={"replicas": {"min": 3, "max": 10}})
    running(world)
    sizes = {
        each["metadata"]["name"]: (each["spec"]["predictor"]["minReplicas"], each["spec"]["predictor"]["maxReplicas"])
        for each in world.stores.list(INFERENCE_SERVICE, NAMESPACE)
    }
    assert sizes == {S1: (3, 10), S4: (3, 10), S2: (1, 1), S3: (1, 2)}


def test_the_newest_versions_that_take_no_part_yet_are_found() -> None:
    arms = tuple({"name": name, "policy": "NewestPassing", "percent": 10} for name in ("b", "c", "d"))
    world = world_of_four(arms=arms)
    running(world)
    assert {each.name: each.version for each in present(world).versions} == {
        "stable": V1,
        "candidate": V4,
        "b": V3,
        "c": V2,
        "d": None,
    }
    assert (row(world, "d").state, row(world, "d").message) == ("Left", "No further version passed its gates.")


def test_a_version_that_is_kept_warm_takes_part_and_stays_warm() -> None:
    steps = [{"name": "everyone", "setWeight": 100}]
    world = world_with(*steps, checks=[])
    world.add_version(2)
    until(world, lambda: world.status.stable == V2)
    arm = {**ARM_B, "modelVersionRef": {"name": V1}}
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": [experiment(arm), APPROVAL, EVERYONE]}})
    kept = next(each.keep_until for each in world.status.versions or () if each.name == V1)
    world.add_version(3)
    running(world)
    assert world.weights() == {S2: 70, S3: 20, S1: 10}
    run_to(world, "approval")
    assert [(each.role, each.keep_until) for each in world.status.versions or () if each.name == V1] == [
        ("Previous", kept)
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (f"{PROJECT}-unknown", f"Project {PROJECT} has no ModelVersion {PROJECT}-unknown: name one that exists."),
        (V1, f"{V1} is the stable version, which takes part anyway: name another version."),
        (V4, f"{V4} is the candidate, which takes part anyway: name another version."),
        (V5, f"{V5} did not pass its gates: name a version that did."),
    ],
)
def test_who_cannot_take_part_is_told_why_and_the_others_go_on(name: str, sentence: str) -> None:
    world = world_of_four(arms=({**ARM_B, "modelVersionRef": {"name": name}}, ARM_C))
    world.add_version(5, passed=False)
    running(world)
    assert (row(world, "b").state, row(world, "b").message) == ("Left", sentence)
    assert world.weights() == {S1: 60, S4: 20, S3: 20}
    assert "ArmLeft" in world.events


def test_an_experiment_without_arms_still_shows_the_candidate_to_users_for_its_time() -> None:
    world = world_of_four(arms=({**ARM_B, "modelVersionRef": {"name": "unknown"}},))
    running(world)
    world.run(20)
    assert present(world).phase == "Running"
    assert world.weights() == {S1: 80, S4: 20}
    run_to(world, "approval")
    assert row(world, "candidate").verdict == "NoDifference"


def test_a_version_that_breaks_readers_takes_no_part() -> None:
    world = Guards([SITE], steps=[experiment(ARM_B, ARM_C), APPROVAL, EVERYONE])
    for number in (1, 2, 3, 4):
        answering(world, number, [LABEL] if number == 2 else [LABEL, PROBABILITY])
        world.pin(V1)
        world.run_until("Healthy")
    world.pin(V4)
    running(world)
    assert row(world, "b").state == "Left"
    assert "breaks readers of site: probability is gone" in (row(world, "b").message or "")
    assert world.weights() == {S1: 60, S4: 20, S3: 20}


# ---- waiting ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_nobody_gets_a_share_before_all_arms_are_ready() -> None:
    world = world_of_four()
    world.unready.add(S3)
    world.run(60)
    assert present(world).phase == "Starting"
    assert world.weights() == {S1: 100, S4: 0, S2: 0}
    assert "arm c to be ready" in (world.condition("Progressing") or ("", "", ""))[2]
    world.unready.clear()
    running(world)
    assert world.weights()[S3] == 20


@pytest.mark.slow
def test_an_arm_that_does_not_come_is_not_waited_for_for_ever() -> None:
    world = world_of_four(progressDeadline="40s")
    world.unready.add(S3)
    running(world)
    assert (row(world, "c").message or "").startswith("Its servers were not ready within 40s.")
    assert world.weights() == {S1: 70, S4: 20, S2: 10}
    world.run(30)
    assert S3 not in services(world)
    assert V3 not in {each.name for each in world.status.rejected or ()}


GPU = {"poolRef": {"name": "gpu"}, "resources": {"limits": {"nvidia.com/gpu": "1"}}}


def world_with_pool(units: int, **spec: Any) -> World:
    """As `world_of_four`, with so many units for all; the stable version and the candidate have one each."""
    world = World({"steps": [experiment(ARM_B, ARM_C), APPROVAL, EVERYONE], "serving": GPU, **spec})
    allow(world, units)
    world.serve_first()
    world.pin(V1)
    for number in (2, 3, 4):
        world.add_version(number)
    world.pin(V4)
    return world


def allow(world: World, units: int) -> None:
    spec = {"resource": "nvidia.com/gpu", "quota": {"perProject": units}}
    world.put(COMPUTE_POOL, {**(world.get(COMPUTE_POOL, "gpu") or {"metadata": {"name": "gpu"}}), "spec": spec})


def test_arms_wait_for_room_in_the_pool_one_after_the_other() -> None:
    world = world_with_pool(3)
    world.run(20)
    assert services(world) == {S1, S4, S2}
    assert present(world).phase == "Starting"
    allow(world, 4)
    running(world)
    assert services(world) == {S1, S4, S2, S3}


def test_arms_that_find_no_room_in_a_pool_are_left_out() -> None:
    world = world_with_pool(3, progressDeadline="20s")
    running(world)
    assert row(world, "c").message == (
        "Its servers were not ready within 20s. The project holds 3 of its 3 nvidia.com/gpu in ComputePool gpu, and"
        f" version {V3} needs 1: give some back, or ask for more."
    )
    assert world.weights() == {S1: 70, S4: 20, S2: 10}


def test_an_arm_without_room_beside_the_candidate_is_left_out() -> None:
    world = world_of_four({"name": "half", "setWeight": 85}, APPROVAL, EVERYONE)
    run_to(world, "approval")
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": [{**experiment(ARM_B, ARM_C), "name": "approval"}, EVERYONE]}})
    running(world)
    assert world.weights() == {S1: 5, S4: 85, S2: 10}
    assert row(world, "c").message == "Its 20 % find no room beside 85 % of the candidate."


def test_shares_that_the_gateway_did_not_take_do_not_count() -> None:
    world = world_of_four()
    until(world, lambda: world.weights().get(S2) == 0)
    until(world, lambda: world.weights().get(S2) == 10)
    world.gateway.answering = False
    world.run(50)
    assert present(world).phase == "Starting"
    world.gateway.answering = True
    running(world)


# ---- who fails -------------------------------------------------------------------------------------------------------
def test_a_failing_arm_loses_its_share_to_the_stable_version_and_is_rejected() -> None:
    world = world_of_four()
    running(world)
    world.behaviour[S3] = Behaviour(failing=50)
    until(world, lambda: row(world, "c").state == "Left")
    assert world.weights() == {S1: 70, S4: 20, S2: 10}
    assert present(world).phase == "Running"
    assert [(each.name, each.reason) for each in world.status.rejected or ()] == [(V3, "ChecksFailed")]
    run_to(world, "approval")
    assert row(world, "b").verdict == "NoDifference"
    assert (row(world, "c").verdict, row(world, "c").value is not None) == (None, True)
    assert world.status.candidate == V4


def test_a_failing_arm_stays_where_nothing_is_rolled_back() -> None:
    world = world_of_four(rollback={"automatic": False})
    running(world)
    world.behaviour[S3] = Behaviour(failing=50)
    run_to(world, "approval")
    assert (row(world, "c").verdict, world.status.rejected) == ("Worse", None)


def test_an_arm_without_servers_leaves_at_once() -> None:
    world = world_of_four()
    running(world)
    world.unready.add(S2)
    world.step()
    assert world.weights() == {S1: 60, S4: 20, S3: 20}
    assert row(world, "b").message == "None of its servers is ready any more: look at its pods."
    assert world.status.rejected is None
    world.unready.clear()
    world.run(15)
    assert world.weights() == {S1: 60, S4: 20, S3: 20}, "it does not come back"


def test_an_arm_whose_record_is_deleted_leaves() -> None:
    world = world_of_four()
    running(world)
    world.remove(MODEL_VERSION, V2)
    world.step()
    assert S2 not in world.weights()
    assert row(world, "b").message == "Its record was deleted."


def test_a_failing_candidate_ends_it_and_all_requests_go_to_the_stable_version() -> None:
    world = world_of_four()
    running(world)
    world.behaviour[S4] = Behaviour(failing=50)
    until(world, lambda: world.status.candidate is None)
    assert world.weights() == {S1: 100}
    assert present(world).phase == "Aborted"
    assert present(world).message == f"It ended early: version {V4} is no candidate any more."
    assert row(world, "b").counted is not None
    world.run(40)
    assert services(world) == {S1}


def test_a_candidate_that_loses_its_servers_begins_anew_and_so_does_the_experiment() -> None:
    world = world_of_four()
    running(world)
    world.unready.add(S4)
    world.step()
    assert world.weights() == {S1: 100, S4: 0}
    world.unready.clear()
    running(world)
    assert [each.phase for each in world.status.experiments or ()] == ["Running", "Aborted"]
    assert world.weights() == {S1: 50, S4: 20, S2: 10, S3: 20}


# ---- people ----------------------------------------------------------------------------------------------------------
def order(world: World, verb: str, version: str = V4) -> None:
    world.annotate(order=f"{verb} {version} #token{world.writes} by dana")


def test_an_abort_sends_everybody_home() -> None:
    world = world_of_four()
    running(world)
    order(world, "abort")
    world.step()
    assert world.weights() == {S1: 100}
    world.run(40)
    assert services(world) == {S1}


@pytest.mark.slow
def test_a_pause_holds_the_shares_and_failing_arms_leave_all_the_same() -> None:
    world = world_of_four()
    running(world)
    order(world, "pause")
    world.run(60)
    assert world.weights() == {S1: 50, S4: 20, S2: 10, S3: 20}
    world.behaviour[S2] = Behaviour(failing=50)
    until(world, lambda: row(world, "b").state == "Left")
    order(world, "resume")
    run_to(world, "approval")


def test_whoever_wants_no_further_steps_ends_it() -> None:
    world = world_of_four()
    running(world)
    order(world, "promote-full")
    seen = []
    until(world, lambda: seen.append(world.weights()) or world.status.stable == V4)
    assert all(set(each) <= {S1, S4} for each in seen), "arms have no requests from then on"
    assert present(world).message == f"It ended early: version {V4} takes no further steps."


def test_an_undo_ends_it() -> None:
    world = world_with(EVERYONE, checks=[])
    world.add_version(2)
    until(world, lambda: world.status.stable == V2)
    world.add_version(4)
    world.add_version(3)
    arm = {**ARM_B, "modelVersionRef": {"name": V1}}
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": [experiment(arm, ARM_C), APPROVAL, EVERYONE]}})
    running(world)
    order(world, "undo", V2)
    until(world, lambda: world.status.stable == V1, limit=10)
    assert set(world.weights()) == {S1}
    assert present(world).phase == "Aborted"


@pytest.mark.parametrize(
    "steps",
    [
        [{"name": "some", "setWeight": 20}, APPROVAL, EVERYONE],
        [{"name": "compare", "pause": {"until": "Promoted"}}, EVERYONE],
        [{**experiment(ARM_B, ARM_C), "name": "another"}, APPROVAL, EVERYONE],
    ],
    ids=["another list", "another action of that name", "another name"],
)
def test_an_edited_list_ends_it(steps: list[Object]) -> None:
    world = world_of_four()
    running(world)
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": steps}})
    world.step()
    ended = [each for each in world.status.experiments or () if each.step == "compare"]
    assert [each.phase for each in ended] == ["Aborted"]
    assert ended[0].message == "It ended early: the steps were changed."
    assert world.weights().get(S4) == 20
    if steps[0]["name"] == "another":
        running(world)
        assert row(world, "b").state == "Running", "the same versions take part in the next one"
    else:
        assert world.weights().get(S2, 0) == 0


def test_an_arm_that_is_taken_out_of_the_step_leaves_and_new_ones_wait_for_the_next_time() -> None:
    world = world_of_four(arms=(ARM_B,))
    running(world)
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"steps": [experiment(ARM_C), APPROVAL, EVERYONE]}})
    world.step()
    assert world.weights() == {S1: 80, S4: 20}
    assert row(world, "b").message == "It was taken out of the step."
    assert {each.name for each in present(world).versions} == {"stable", "candidate", "b"}


def test_a_pinned_arm_becomes_the_candidate() -> None:
    world = world_of_four()
    running(world)
    world.pin(V2)
    until(world, lambda: world.status.candidate == V2)
    assert world.weights()[S1] == 100
    assert (world.status.experiments or [])[-1].phase == "Aborted"
    running(world)
    assert row(world, "b").message == f"{V2} is the candidate, which takes part anyway: name another version."
    assert world.weights() == {S1: 60, S2: 20, S3: 20}


def test_a_deleted_rollout_takes_arms_along() -> None:
    world = world_of_four()
    running(world)
    obj = world.rollout
    world.put(MODEL_ROLLOUT, {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-11-23T08:00:00Z"}})
    world.run(30)
    assert services(world) == set()


# ---- accidents -------------------------------------------------------------------------------------------------------
def test_a_lost_status_begins_anew_with_the_same_arms() -> None:
    world = world_of_four()
    running(world)
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.step()
    assert sum(world.weights().values()) == 100
    assert world.status.candidate == V4, "an arm is not taken for the candidate"
    assert world.status.weight == 20
    assert present(world).phase == "Starting"
    running(world)
    assert world.weights() == {S1: 50, S4: 20, S2: 10, S3: 20}


def test_another_operator_adds_to_what_was_counted() -> None:
    world = world_of_four()
    running(world)
    world.run(15)
    before = row(world, "b").counted
    world.restart_operator()
    run_to(world, "approval")
    after, earlier = row(world, "b").counted, row(world, "b").earlier
    assert before is not None
    assert after is not None
    assert earlier == before
    assert before.requests < after.requests
    assert after.requests >= 190, "but for what nobody watched or wrote"


def test_numbers_are_not_written_each_second() -> None:
    world = world_of_four({**experiment(ARM_B, ARM_C), "name": "compare"}, APPROVAL, EVERYONE, checks=[])
    running(world)
    world.run(3)
    before = world.writes
    world.run(20)
    assert world.writes - before <= 4


@pytest.mark.parametrize("seconds", [-4000, 4000])
def test_the_clock_may_step(seconds: int) -> None:
    world = world_of_four()
    running(world)
    world.now += timedelta(seconds=seconds)
    run_to(world, "approval")
    assert present(world).phase == "Completed"


def test_too_few_requests_tell_nothing() -> None:
    world = world_of_four()
    world.rate = 10
    run_to(world, "approval")
    assert present(world).winner is None
    assert (present(world).message or "").startswith("Too few requests to tell a difference: candidate, b")
    assert row(world, "b").verdict == "TooFewRequests"


def test_the_better_version_wins() -> None:
    world = world_of_four(checks=[])
    world.rate = 1000
    for service, failing in ((S1, 5), (S4, 5), (S2, 20)):
        world.behaviour[service] = Behaviour(failing=failing)
    run_to(world, "approval")
    assert present(world).winner == "c"
    assert present(world).message == ("c is better than the stable version, the candidate and b (95 % confidence).")
    assert [row(world, name).verdict for name in ("candidate", "b", "c")] == ["NoDifference", "Worse", "Better"]
    assert float(row(world, "c").difference_low or 0) > 0


def test_users_stay_on_the_version_that_they_have_met() -> None:
    routing = {
        "hostnames": ["models.example.com"],
        "path": "/delays",
        "stickiness": {"cookie": "delays", "for": "1h"},
    }
    world = world_of_four(routing=routing)
    running(world)
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    rules = {
        each["name"]: [backend["name"] for backend in each["backendRefs"]]
        for each in route["spec"]["rules"]
        if each["name"].startswith("session-")
    }
    predictors = {"stable": S1, "candidate": S4, "b": S2, "c": S3}
    assert rules == {f"session-{name}": [f"{service}-predictor"] for name, service in predictors.items()}
    world.unready.add(S2)
    world.step()
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    assert "session-b" not in {each["name"] for each in route["spec"]["rules"]}
