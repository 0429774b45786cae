"""What must not count against a version, and what must not come back: clocks, outages, crashes, rivals, edits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law, some
from unit.modelrollout.test_properties import Run
from unit.modelrollout.world import NAME, NAMESPACE, PROJECT, STEPS, World

from slipway.adapters.gateway import weights_of
from slipway.runtime.controller import Plan
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, PLATFORM, POD, Object

V1, V2, V3 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3))
S1, S2, S3 = (f"{NAME}-{number:010x}" for number in (1, 2, 3))
TIMED: list[Object] = [
    {"name": "first-users", "setWeight": 5},
    {"name": "watch", "analyze": {"for": "10s"}},
    {"name": "rest", "pause": {"for": "6s"}},
    {"name": "quarter", "setWeight": 25},
    {"name": "everyone", "setWeight": 100},
]
MINUTE: dict[str, Any] = {"progressDeadline": "60s"}


@pytest.fixture
def world() -> World:
    one = World({"rollback": {"keepPrevious": "20s"}, "steps": TIMED, **MINUTE})
    one.serve_first()
    return one


def stalled(world: World) -> tuple[str, str]:
    found = world.condition("Stalled")
    return (found[1], found[2]) if found is not None else ("", "")


# ---- the clock -------------------------------------------------------------------------------------------------------
def bad(world: World) -> None:
    world.add_version(2, failing=60)


def good(world: World) -> None:
    world.add_version(2)


def never_ready(world: World) -> None:
    world.unready.add(S2)
    world.add_version(2)


def going(world: World) -> None:
    """A version that was rejected is on its way out, and a previous one is warm."""
    world.add_version(2)
    world.run_until("Healthy")
    world.add_version(3, failing=60)


STORIES: list[Callable[[World], None]] = [good, bad, never_ready, going]
Seen = list[tuple[str | None, str | None, str | None, int | None, list[tuple[str, str]], list[str]]]


@cache
def _served() -> Run:
    return Run(steps=TIMED, rollback={"keepPrevious": "20s"}, **MINUTE)


def history_of(story: Callable[[World], None], steps: dict[int, int], seconds: int = 110) -> Seen:
    """What a story looks like second by second, with the clock set by so many seconds at these moments."""
    world, seen = _served().copy().world, []
    story(world)
    for second in range(seconds):
        world.now += timedelta(seconds=steps.get(second, 0))
        world.step()
        status = world.status
        rejected = [(each.name, each.reason) for each in status.rejected or ()]
        objects = [each["metadata"]["name"] for each in world.stores.list(INFERENCE_SERVICE, NAMESPACE)]
        step = status.step.name if status.step else None
        seen.append((status.phase, status.stable, step, status.weight, rejected, objects))
    return seen


@cache
def undisturbed(story: Callable[[World], None]) -> Seen:
    return history_of(story, {})


@law
@examples(8, 60)
@given(
    st.sampled_from(STORIES),
    st.dictionaries(st.integers(0, 90), st.integers(-5 * 3600, 5 * 3600), min_size=1, max_size=3),
)
def test_a_clock_that_steps_changes_nothing(story: Callable[[World], None], steps: dict[int, int]) -> None:
    assert history_of(story, steps) == undisturbed(story)


def test_a_clock_that_stepped_while_the_operator_was_away_makes_no_version_late(world: World) -> None:
    never_ready(world)
    world.run(10)
    world.now += timedelta(hours=3)
    world.restart_operator()
    world.run(50)
    assert world.status.candidate == V2
    world.run(20)
    assert [each.name for each in world.status.rejected or ()] == [V2]


# ---- outages ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_version_of_which_kserve_says_nothing_waits_and_is_not_rejected(world: World) -> None:
    world.kserve_answering = False
    world.add_version(2)
    world.run(30)
    assert stalled(world) == ("", "")
    world.run(300)
    reason, message = stalled(world)
    assert reason == "KServeSilent"
    assert "look whether KServe's controller runs" in message
    assert world.status.candidate == V2
    world.kserve_answering = True
    world.run(90)
    assert world.status.stable == V2


@pytest.mark.slow
def test_servers_that_answer_while_kserve_does_not_call_them_ready_are_no_fault_of_the_version(world: World) -> None:
    world.doubted.add(S2)
    world.add_version(2)
    world.run(300)
    reason, message = stalled(world)
    assert reason == "KServeSilent"
    assert "`kubectl describe inferenceservice" in message
    world.doubted.clear()
    world.run(90)
    assert world.status.stable == V2


def test_an_operator_that_looks_again_after_an_outage_gives_the_version_what_is_left_of_its_time(world: World) -> None:
    never_ready(world)
    world.run(20)
    world.pass_time(600)  # the same process, without the Lease
    world.step()
    assert world.status.candidate == V2
    world.unready.clear()
    world.run(90)
    assert world.status.stable == V2


def test_what_an_excuse_takes_is_not_given_anew(world: World) -> None:
    """A server that comes up for a moment, again and again, is late all the same."""
    world.add_version(2)
    world.unready.add(S2)
    for second in range(140):
        crashing = second % 10
        (world.unready.discard if crashing == 0 else world.unready.add)(S2)
        world.doubted.add(S2)
        world.step()
    assert [each.name for each in world.status.rejected or ()] == [V2]


def failing_download(world: World) -> None:
    ended = {"terminated": {"exitCode": 1, "message": "connection refused"}}
    labels = {"serving.kserve.io/inferenceservice": S2}
    meta = {"name": f"{S2}-predictor-x", "namespace": NAMESPACE, "labels": labels}
    containers = [{"name": "storage-initializer", "state": ended}]
    world.put(POD, {"metadata": meta, "status": {"initContainerStatuses": containers}})


def tell_of_store(world: World, ready: bool) -> None:
    said = {"name": "artifacts", "ready": ready, "message": "http://store:8333 refuses the connection."}
    platform = world.stores.get(PLATFORM.key("default"))
    assert platform is not None
    world.put(PLATFORM, {**platform, "status": {"connections": [said]}})


@pytest.mark.slow
def test_a_model_that_cannot_be_downloaded_because_the_store_is_away_is_not_late(world: World) -> None:
    never_ready(world)
    world.step()
    failing_download(world)
    tell_of_store(world, ready=False)
    world.run(200)
    assert world.status.candidate == V2
    assert stalled(world)[0] == "PlatformUnavailable"
    assert "refuses the connection" in stalled(world)[1]
    tell_of_store(world, ready=True)
    world.run(30)
    assert (world.status.candidate, stalled(world)[0]) == (V2, "ArtifactUnavailable")
    world.run(40)
    (rejection,) = world.status.rejected or []
    assert rejection.reason == "ArtifactUnavailable"


def test_a_version_whose_servers_somebody_deletes_begins_anew_without_blame(world: World) -> None:
    world.add_version(2)
    for _ in range(4):
        world.run_until("Analyzing")
        world.remove(INFERENCE_SERVICE, S2)
        world.reconcile()
        assert world.weights().get(S2, 0) == 0
    world.run(150)
    assert world.status.stable == V2


@pytest.mark.slow
def test_the_gateway_may_be_away_at_any_step(world: World) -> None:
    world.add_version(2)
    weights = []
    for second in range(700):
        world.gateway.answering = second % 100 >= 90
        world.step()
        weights.append(world.weights().get(S2, 100 if world.status.stable == V2 else 0))
    assert weights == sorted(weights)
    assert (world.status.stable, world.status.rejected) == (V2, None)


# ---- crashes ---------------------------------------------------------------------------------------------------------
def test_a_version_that_was_rejected_right_before_a_crash_does_not_come_back(world: World) -> None:
    world.add_version(2, failing=60)
    plan = until_rejected(world)
    world.reconcile(crash_after=1, plan=plan)  # the route is written, and the status is not
    assert world.weights() == {S1: 100}
    world.behaviour[S2].failing = 0
    for _ in range(60):
        world.step()
        assert world.weights() == {S1: 100}
    (rejection,) = world.status.rejected or []
    assert rejection.name == V2


def until_rejected(world: World) -> Plan:
    for _ in range(60):
        world.let_kserve_work()
        world.let_gateway_work()
        world.pass_time(1)
        plan = world.plan()
        if (plan.status or {}).get("rejected"):
            return plan
        world.reconcile(plan=plan)
    raise AssertionError("nothing was rejected")


# ---- rivals ----------------------------------------------------------------------------------------------------------
def add_rival(world: World, *, older: bool, routed: bool, path: str = "/delays") -> None:
    """Another rollout, in another namespace, whose route is there or not."""
    meta: Object = {"name": "rival", "namespace": "other"}
    if older:
        meta["creationTimestamp"] = "2020-01-01T00:00:00Z"
    routing = {**world.rollout["spec"]["routing"], "path": path}
    spec = {**world.rollout["spec"], "routing": routing}
    world.put(MODEL_ROLLOUT, {"metadata": dict(meta), "spec": spec})
    if routed:
        labels = {"slipway.dev/modelrollout": "rival"}
        rules = [{"name": "model", "matches": [{"path": {"type": "PathPrefix", "value": path}}]}]
        route = {"hostnames": routing["hostnames"], "rules": rules}
        world.put(HTTP_ROUTE, {"metadata": {**meta, "labels": labels}, "spec": route})


@pytest.mark.parametrize(
    ("we_serve", "older", "routed", "taken"),
    [
        (False, True, False, True),
        (False, False, False, False),
        (False, True, True, True),
        (False, False, True, True),
        (True, True, False, False),
        (True, False, False, False),
        (True, True, True, True),
        (True, False, True, False),
    ],
)
def test_requests_belong_to_whoever_has_a_route_for_them_then_to_the_older(
    we_serve: bool, older: bool, routed: bool, taken: bool
) -> None:
    world = World()
    if we_serve:
        world.serve_first()
    add_rival(world, older=older, routed=routed)
    world.add_version(1)
    world.run(30)
    assert (stalled(world)[0] == "PathTaken") is taken
    assert (world.get(HTTP_ROUTE, NAME) is not None) is (we_serve or not taken)
    if taken and not we_serve:
        assert world.stores.list(INFERENCE_SERVICE, NAMESPACE) == [], "servers that nobody can reach"
        assert "other/rival" in stalled(world)[1]
        assert "choose another path" in stalled(world)[1]
        world.stores.of(MODEL_ROLLOUT).remove(rollout_of(world, "rival"))
        world.run(30)
        assert world.status.phase == "Healthy", "it goes on when the other one is gone"


def rollout_of(world: World, name: str) -> Object:
    found = world.stores.get(MODEL_ROLLOUT.key(name, "other"))
    assert found is not None
    return {**found, "metadata": {**found["metadata"], "resourceVersion": str(world.changes + 1)}}


@pytest.mark.slow
def test_rollouts_with_other_urls_do_not_know_of_each_other(world: World) -> None:
    add_rival(world, older=True, routed=True, path="/delays/more")
    world.add_version(2)
    world.run(90)
    assert (world.status.stable, stalled(world)) == (V2, ("", ""))


def test_a_path_that_is_taken_keeps_users_where_they_are_and_a_bad_version_still_goes_back(world: World) -> None:
    add_rival(world, older=False, routed=True, path="/other")
    world.add_version(2)
    world.run_until("Analyzing")
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"routing": {"hostnames": ["models.example.com"], "path": "/other"}}})
    world.step()
    assert stalled(world)[0] == "PathTaken"
    assert world.weights() == {S1: 95, S2: 5}
    world.behaviour[S2].failing = 100
    world.run(10)
    route = world.get(HTTP_ROUTE, NAME)
    assert route is not None
    assert weights_of(route) == {S1: 100}
    assert route["spec"]["rules"][0]["matches"][0]["path"]["value"] == "/delays"


# ---- edits -----------------------------------------------------------------------------------------------------------
EDITS: dict[str, Object] = {
    "steps": {"steps": STEPS},
    "strategy": {"steps": None, "strategy": {"canary": {"weights": [10, 50], "analyze": {"for": "10s"}}}},
    "resources": {"serving": {"resources": {"limits": {"memory": "2Gi"}}}},
    "replicas": {"serving": {"replicas": {"min": 2, "max": 3}}},
    "capacity": {"serving": {"replicas": {"min": 2, "max": 2}, "capacity": "Partial"}},
    "hostnames": {"routing": {"hostnames": ["other.example.com"], "path": "/delays"}},
    "path": {"routing": {"hostnames": ["models.example.com"], "path": "/moved"}},
    "checks": {"checks": []},
    "deadline": {"progressDeadline": "1s"},
    "rollback": {"rollback": {"automatic": False, "keepPrevious": "1s"}},
}
MOMENTS = ["Starting", "first-users", "watch", "rest", "quarter", "everyone", "Healthy"]


@pytest.mark.parametrize("moment", some(MOMENTS[2:] + MOMENTS[:2], 1))
@pytest.mark.parametrize("edit", EDITS)
def test_the_spec_may_be_edited_at_any_moment(world: World, edit: str, moment: str) -> None:
    world.add_version(2)
    world.step()
    while moment not in (world.status.phase, world.status.step.name if world.status.step else ""):
        world.step()
    before, weight = world.status.stable, world.weights().get(S2, 0)
    world.edit(MODEL_ROLLOUT, NAME, {"spec": EDITS[edit]})
    seen = [weight]
    for _ in range(50):
        world.step()
        assert world.weights().get(S1, 100 if world.status.stable == V2 else -1) >= 0
        seen.append(100 if world.status.stable == V2 else world.weights().get(S2, 0))
    assert seen == sorted(seen), f"the weight fell; {before} served"
    assert (world.status.stable, world.status.rejected) == (V2, None)
    assert (world.condition("Ready") or ("",))[0] == "True"


# ---- deletion --------------------------------------------------------------------------------------------------------
def test_servers_of_a_deleted_rollout_stay_as_long_as_its_route(world: World) -> None:
    world.add_version(2)
    world.run_until("Analyzing")
    meta = {**world.rollout["metadata"], "deletionTimestamp": "2020-01-01T00:00:00Z"}
    world.put(MODEL_ROLLOUT, {**world.rollout, "metadata": meta})
    held = world.get(HTTP_ROUTE, NAME)
    assert held is not None
    for _ in range(30):  # somebody's finalizer keeps the route
        world.pass_time(1)
        plan = world.plan()
        assert [action.key.name for action in plan.actions] == [NAME]  # type: ignore[union-attr]
        world.put(MODEL_ROLLOUT, {**world.rollout, "status": plan.status})
    assert world.condition("Ready") == (
        "False",
        "Deleting",
        f"Clients get 404 from now on. Still there: HTTPRoute {NAME}.",
    )
    world.reconcile()
    assert world.get(HTTP_ROUTE, NAME) is None
    services = len(world.stores.list(INFERENCE_SERVICE, NAMESPACE))
    seconds = 0
    while world.plan().finalizer != "drop":
        world.pass_time(1)
        world.reconcile()
        seconds += 1
        assert seconds >= 5 or len(world.stores.list(INFERENCE_SERVICE, NAMESPACE)) == services
        assert seconds < 20
    assert world.stores.list(HTTP_ROUTE, NAMESPACE) == world.stores.list(INFERENCE_SERVICE, NAMESPACE) == []


def arrive(phase: str) -> World:
    """A world whose rollout is in a phase."""
    approval = {"name": "approval", "pause": {"until": "Promoted"}}
    scaled = {"name": "scaled", "setScale": {"replicas": 2}}
    before = {"Paused": [approval], "Progressing": [scaled]}.get(phase, [])
    steps = [TIMED[0], TIMED[1], *before, *(TIMED[-1:] if phase != "Promoting" else [])]
    world = World({"steps": steps, "serving": {"replicas": {"min": 1, "max": 2}}, "rollback": {"keepPrevious": "60s"}})
    if phase in ("Waiting", "Starting"):
        if phase == "Starting":
            world.unready.add(S1)
            world.add_version(1)
    else:
        world.serve_first()
        world.room = 1 if phase == "Progressing" else 1000
        world.add_version(2, failing=60 if phase == "RollingBack" else 0)
    for _ in range(200):
        world.step()
        if world.status.phase == phase and (phase != "Healthy" or world.status.stable == V2):
            return world
    raise AssertionError(f"{phase} was never seen")


@pytest.mark.parametrize(
    "phase",
    ["Waiting", "Starting", "Progressing", "Paused", "Analyzing", "RollingBack", "Promoting", "Healthy"],
)
def test_deletion_in_every_phase_leaves_nothing_and_takes_no_server_from_users(phase: str) -> None:
    world = arrive(phase)
    meta = {**world.rollout["metadata"], "deletionTimestamp": world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    world.put(MODEL_ROLLOUT, {**world.rollout, "metadata": meta})
    for second in range(40):
        used = world.weights()  # while the route is there, whoever it names answers
        world.let_kserve_work()
        world.pass_time(1)
        if second == 7:
            world.restart_operator()
        plan = world.reconcile()
        services = {each["metadata"]["name"] for each in world.stores.list(INFERENCE_SERVICE, NAMESPACE)}
        assert set(used) <= services
        if plan.finalizer == "drop":
            break
        assert (world.condition("Ready") or ("", ""))[1] == "Deleting"
    assert plan.finalizer == "drop"
    assert world.stores.list(HTTP_ROUTE, NAMESPACE) == world.stores.list(INFERENCE_SERVICE, NAMESPACE) == []
