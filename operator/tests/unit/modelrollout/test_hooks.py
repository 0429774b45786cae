"""Hooks in a played world: what each gate holds up, what its answers do, and what a restart repeats."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.search import some
from unit.modelrollout.world import NAME, PROJECT, World

from slipway.runtime.resources import INFERENCE_SERVICE, MODEL_ROLLOUT

V1, V2, V3 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3))
S1, S2 = (f"{NAME}-{number:010x}" for number in (1, 2))
STEPS = [
    {"name": "some", "setWeight": 10},
    {"name": "rest", "pause": {"for": "5s"}},
    {"name": "everyone", "setWeight": 100},
]
CONFIRMING = ("confirm-rollout", "confirm-traffic-increase", "confirm-promotion")
COUNTING = ("pre-rollout", "rollout")
EVERY = (*CONFIRMING, *COUNTING, "post-rollout", "rollback", "event")


def hook(type_: str, **more: Any) -> dict[str, Any]:
    """A hook that is called like its type; interval 5 s."""
    return {"name": type_, "type": type_, "url": f"http://gates.flights.svc/{type_}", "interval": "5s", **more}


def served(*hooks: dict[str, Any], **spec: Any) -> World:
    """A world in which the first version serves and the hooks are declared."""
    world = World({"steps": STEPS, "checks": [], "hooks": list(hooks), **spec})
    world.receivers.say["rollback"] = "404"
    world.serve_first()
    return world


def run_to_end(world: World, seconds: int = 300) -> None:
    for _ in range(seconds):
        world.step()
        if world.status.candidate is None and world.status.phase == "Healthy":
            return
    raise AssertionError(f"no end: {world.rollout['status']}")


def stalled(world: World) -> tuple[str, str, str] | None:
    return world.condition("Stalled")


# ---- all of them -----------------------------------------------------------------------------------------------------
def test_all_eight_are_called_in_order_when_every_answer_is_yes() -> None:
    world = served(*(hook(each) for each in EVERY))
    world.receivers.posts.clear()
    world.add_version(2)
    run_to_end(world)
    world.run(20)
    assert world.status.stable == V2
    first = list(dict.fromkeys(each.type for each in world.receivers.posts))
    assert set(first) == set(EVERY)
    order = [each for each in first if each not in ("event", "rollback")]
    wanted = [
        "confirm-rollout",
        "pre-rollout",
        "confirm-traffic-increase",
        "rollout",
        "confirm-promotion",
        "post-rollout",
    ]
    assert order in (wanted, [*wanted[:2], "rollout", "confirm-traffic-increase", *wanted[4:]])
    reasons = {each["metadata"]["eventReason"] for each in world.receivers.bodies("event")}
    assert {"Started", "StepStarted", "Promoted"} <= reasons
    assert world.receivers.bodies("post-rollout")[0]["phase"] == "Succeeded"
    assert world.status.hooks is None
    assert world.status.notices is None, "everything was delivered"


def test_the_first_version_ever_passes_no_gate() -> None:
    world = World({"steps": STEPS, "checks": [], "hooks": [hook(each) for each in EVERY]})
    world.receivers.say.update(dict.fromkeys(EVERY, "500"))
    world.add_version(1)
    world.run(10)
    assert (world.status.stable, world.status.phase) == (V1, "Healthy")
    assert {each.type for each in world.receivers.posts} == {"event"}


def test_going_back_to_a_warm_version_asks_nobody() -> None:
    world = served()
    world.add_version(2)
    run_to_end(world)
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"hooks": [hook(each) for each in EVERY]}})
    world.receivers.say.update(dict.fromkeys(EVERY, "timeout"))
    world.pin(V1)
    world.run(10)
    assert world.status.stable == V1
    assert {each.type for each in world.receivers.posts} <= {"event", "post-rollout"}


def test_without_hooks_nothing_is_called_or_remembered() -> None:
    world = served()
    world.add_version(2)
    run_to_end(world)
    assert world.receivers.posts == []
    assert (world.status.hooks, world.status.notices) == (None, None)


# ---- each gate, each answer ------------------------------------------------------------------------------------------
HELD = {
    "confirm-rollout": None,
    "pre-rollout": 0,
    "confirm-traffic-increase": 0,
    "rollout": 10,
    "confirm-promotion": 10,
}


@pytest.mark.slow
@pytest.mark.parametrize("say", some(["403", "500", "302", "timeout", "refused", "never"], 1))
@pytest.mark.parametrize("type_", CONFIRMING)
def test_confirm_hooks_wait_for_2xx_whatever_else_they_answer(type_: str, say: str) -> None:
    world = served(hook(type_))
    world.receivers.say[type_] = say
    world.add_version(2)
    world.run(200)
    assert world.status.candidate == V2
    assert world.weights().get(S2) == HELD[type_]
    assert world.status.rejected is None
    assert (world.get(INFERENCE_SERVICE, S2) is None) == (type_ == "confirm-rollout")
    progressing = world.condition("Progressing")
    assert progressing is not None
    assert "HookNotSent" in progressing[1] if say == "refused" else "to confirm" in progressing[2]
    world.receivers.say[type_] = "204"
    if say != "never":
        world.run(130)
        assert world.status.stable == V2


@pytest.mark.parametrize("say", ["403", "500", "timeout"])
@pytest.mark.parametrize("type_", COUNTING)
def test_failures_count_and_reject(type_: str, say: str) -> None:
    world = served(hook(type_, failureLimit=2))
    world.receivers.say[type_] = say
    world.add_version(2)
    run_to_end(world)
    (rejection,) = world.status.rejected or ()
    assert (rejection.name, rejection.reason) == (V2, "HookFailed")
    assert "failed 3 times" in rejection.message
    assert len(world.receivers.of(type_)) == 3
    assert world.weights().get(S2, 0) == 0
    assert world.events.count("HookFailed") == 3


@pytest.mark.parametrize("type_", COUNTING)
def test_a_failing_hook_halts_where_it_is_told_to_and_lets_go_again(type_: str) -> None:
    world = served(hook(type_, failureLimit=1, onFailure="Halt"))
    world.receivers.say[type_] = "500"
    world.add_version(2)
    world.run(120)
    assert (world.status.candidate, world.status.phase) == (V2, "Paused")
    assert world.weights()[S2] == HELD[type_]
    condition = stalled(world)
    assert condition is not None
    assert condition[:2] == ("True", "HookFailed")
    assert "failed 2 times: it answered 500." in condition[2]
    asked = [each.at for each in world.receivers.of(type_)]
    assert min(b - a for a, b in pairwise(asked)) >= 5
    world.receivers.say[type_] = "200"
    run_to_end(world, 60)
    assert world.status.stable == V2


@pytest.mark.parametrize("type_", COUNTING)
def test_an_ignored_failure_holds_nothing_up(type_: str) -> None:
    world = served(hook(type_, onFailure="Ignore"))
    world.receivers.say[type_] = "500"
    world.add_version(2)
    run_to_end(world, 60)
    assert world.status.stable == V2
    assert world.events.count("HookFailed") == 1


@pytest.mark.parametrize("type_", COUNTING)
def test_without_automatic_rollback_failures_halt_unless_told_otherwise(type_: str) -> None:
    world = served(hook(type_, failureLimit=0), rollback={"automatic": False})
    world.receivers.say[type_] = "500"
    world.add_version(2)
    world.run(60)
    assert world.status.candidate == V2
    assert stalled(world) is not None
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"hooks": [hook(type_, failureLimit=0, onFailure="Reject")]}})
    run_to_end(world)
    assert (world.status.rejected or [])[0].name == V2


@pytest.mark.parametrize("type_", [*COUNTING, "rollback"])
def test_what_cannot_be_sent_is_no_failure_of_the_version(type_: str) -> None:
    world = served(hook(type_, **({"failureLimit": 0} if type_ in COUNTING else {})))
    world.receivers.say[type_] = "refused"
    world.add_version(2)
    world.run(60)
    assert world.status.candidate == V2
    condition = stalled(world)
    assert condition is not None
    assert condition[1] == "HookNotSent"
    assert "is not allowed" in condition[2]
    world.receivers.say[type_] = "404" if type_ == "rollback" else "200"
    run_to_end(world, 60)
    assert world.status.stable == V2


@pytest.mark.parametrize("say", ["404", "500", "timeout", "never"])
def test_a_rollback_hook_that_does_not_say_yes_changes_nothing(say: str) -> None:
    world = served(hook("rollback"))
    world.receivers.say["rollback"] = say
    world.add_version(2)
    run_to_end(world, 60)
    assert world.status.stable == V2


@pytest.mark.parametrize("when", ["Starting", "Paused", "waiting"])
def test_a_rollback_hook_that_says_yes_rejects(when: str) -> None:
    extra = [hook("confirm-rollout")] if when == "waiting" else []
    pause = [{"name": "approval", "pause": {"until": "Promoted"}}, *STEPS[2:]]
    world = served(hook("rollback"), *extra, steps=[STEPS[0], *pause])
    world.receivers.say["confirm-rollout"] = "403"
    if when == "Starting":
        world.unready.add(S2)
    world.add_version(2)
    world.run(20)
    assert world.status.candidate == V2
    world.receivers.say["rollback"] = "200"
    run_to_end(world, 30)
    (rejection,) = world.status.rejected or ()
    assert rejection.reason == "RollbackRequested"
    assert world.weights() == {S1: 100}


def test_a_hook_does_not_send_requests_to_a_version_without_servers() -> None:
    world = served(hook("rollback"), steps=[STEPS[0], {"name": "wait", "pause": {"until": "Promoted"}}, STEPS[2]])
    world.add_version(2)
    world.run(15)
    assert world.weights()[S2] == 10
    world.unready.add(S1)
    world.run(2)
    world.receivers.say["rollback"] = "200"
    world.run(20)
    assert world.weights()[S2] == 10
    condition = stalled(world)
    assert condition is not None
    assert "no ready server to go back to" in condition[2]
    world.unready.clear()
    run_to_end(world, 30)
    assert (world.status.rejected or [])[0].name == V2


@pytest.mark.parametrize("say", ["500", "timeout", "refused", "never"])
def test_a_dead_receiver_never_holds_a_rollback_up(say: str) -> None:
    check = {"name": "success", "metric": "successPercent", "min": "99", "minimumRequests": 5, "window": "10s"}
    told = [hook(each) for each in ("rollback", "event", "post-rollout", "confirm-promotion")]
    alerts = [{"name": "team", "type": "Slack", "secretRef": {"name": "slack"}}]
    wait = [STEPS[0], {"name": "wait", "analyze": {"for": "1h"}}, STEPS[2]]
    world = served(*told, checks=[check], alerts=alerts, steps=wait)
    world.receivers.say.update(dict.fromkeys(("event", "post-rollout", "confirm-promotion", "slack"), say))
    world.receivers.say["rollback"] = "never"
    world.add_version(2, failing=100)
    for _ in range(60):
        plan = world.step()
        kinds = [type(each).__name__ for each in plan.actions]
        assert kinds == sorted(kinds, key=lambda kind: kind == "Call"), "weights first, then the world is told"
        if world.status.rejected:
            break
    assert (world.status.rejected or [])[0].reason == "ChecksFailed"
    assert world.weights() == {S1: 100}


# ---- once, and again -------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_pauses_between_questions_double_up_to_a_minute_and_are_never_short() -> None:
    world = served(hook("confirm-promotion"))
    world.receivers.say["confirm-promotion"] = "403"
    world.add_version(2)
    world.run(400)
    at = [each.at for each in world.receivers.of("confirm-promotion")]
    pauses = [b - a for a, b in pairwise(at)]
    assert pauses[:4] == [6, 11, 21, 41]
    assert set(pauses[4:]) == {61}


@pytest.mark.slow
def test_a_rollback_hook_is_asked_at_its_interval_however_often_it_says_no() -> None:
    world = served(hook("rollback"), hook("confirm-promotion"))
    world.receivers.say["confirm-promotion"] = "403"
    world.add_version(2)
    world.run(200)
    at = [each.at for each in world.receivers.of("rollback")]
    assert {b - a for a, b in pairwise(at)} == {6}


def test_a_question_has_the_same_token_after_a_restart() -> None:
    world = served(hook("confirm-traffic-increase"))
    world.receivers.say["confirm-traffic-increase"] = "403"
    world.add_version(2)
    world.run(20)
    world.receivers.restart()
    world.run(20)
    tokens = {each.request.token for each in world.receivers.posts}
    assert len(tokens) == 1
    assert len(world.receivers.posts) > 1


@pytest.mark.parametrize("type_", ["confirm-rollout", "pre-rollout"])
def test_a_gate_that_was_passed_is_not_asked_again_after_a_restart(type_: str) -> None:
    steps = [STEPS[0], {"name": "wait", "pause": {"until": "Promoted"}}, STEPS[2]]
    world = served(hook(type_), steps=steps)
    if type_ == "confirm-rollout":
        world.unready.add(S2)
    else:
        world.receivers.say["rest"] = "403"
    world.add_version(2)
    world.run(15)
    assert [each.state for each in world.status.hooks or ()] == ["Passed"]
    world.receivers.restart()
    world.unready.clear()
    world.run(20)
    world.unready.add(S2)
    world.run(3)
    world.unready.clear()
    world.run(20)
    assert world.status.attempts == 1, "its servers were lost, and it has begun anew"
    assert len(world.receivers.of(type_)) == 1


def test_failures_are_remembered_over_restarts() -> None:
    world = served(hook("pre-rollout", failureLimit=2))
    world.receivers.say["pre-rollout"] = "500"
    world.add_version(2)
    failures = 0
    for _ in range(100):
        world.step()
        counted = sum(each.failures for each in world.status.hooks or ())
        if counted > failures:
            failures = counted
            world.receivers.restart()
    assert (world.status.rejected or [])[0].name == V2
    assert len(world.receivers.of("pre-rollout")) == 3
    assert {each.request.token for each in world.receivers.posts} == {world.receivers.posts[0].request.token}


def test_each_interval_of_a_step_is_a_question_of_its_own_to_a_rollout_hook() -> None:
    steps = [STEPS[0], {"name": "rest", "pause": {"for": "60s"}}, STEPS[2]]
    world = served(hook("rollout"), steps=steps)
    world.add_version(2)
    run_to_end(world)
    in_rest = [each.request for each in world.receivers.of("rollout") if each.request.body["step"] == "rest"]
    assert len(in_rest) >= 8
    assert len({each.token for each in in_rest}) == len(in_rest)
    weights = [each.request.body["weight"] for each in world.receivers.of("rollout")]
    assert weights == sorted(weights)


def test_a_version_that_is_tried_again_is_asked_about_with_new_tokens() -> None:
    world = served(hook("pre-rollout", failureLimit=0))
    world.receivers.say["pre-rollout"] = "500"
    world.add_version(2)
    run_to_end(world)
    world.annotate(retry=V2)
    world.receivers.say["pre-rollout"] = "200"
    world.run(2)
    run_to_end(world)
    assert world.status.stable == V2
    tokens = [each.request.token for each in world.receivers.of("pre-rollout")]
    assert len(set(tokens)) == len(tokens) == 2


def test_a_newer_version_replaces_one_that_waits_to_be_confirmed() -> None:
    world = served(hook("confirm-rollout"))
    world.receivers.say["confirm-rollout"] = "403"
    world.add_version(2)
    world.run(20)
    world.add_version(3)
    world.run(5)
    assert world.status.candidate == V3
    world.receivers.say["confirm-rollout"] = "200"
    run_to_end(world, 120)
    assert world.status.stable == V3
    assert world.get(INFERENCE_SERVICE, S2) is None


@pytest.mark.slow
def test_the_time_that_people_take_to_confirm_is_not_the_servers() -> None:
    world = served(hook("confirm-rollout"), progressDeadline="30s")
    world.receivers.say["confirm-rollout"] = "403"
    world.unready.add(S2)
    world.add_version(2)
    world.run(200)
    assert world.status.candidate == V2
    world.receivers.say["confirm-rollout"] = "200"
    while world.get(INFERENCE_SERVICE, S2) is None:
        world.step()
    world.run(25)
    assert world.status.candidate == V2
    world.run(15)
    assert (world.status.rejected or [])[0].reason == "ProgressDeadlineExceeded"


def test_what_an_endpoint_is_told() -> None:
    world = served(hook("pre-rollout", metadata={"suite": "smoke"}, secretRef={"name": "gates"}, retries=2))
    world.add_version(2)
    run_to_end(world)
    (post,) = world.receivers.of("pre-rollout")
    body = dict(post.request.body)
    assert body.pop("token") == post.request.token
    assert body.pop("checksum") == f"{2:010x}" + "a" * 54
    assert body == {
        "name": NAME,
        "namespace": "flights",
        "phase": "Starting",
        "hook": "pre-rollout",
        "type": "pre-rollout",
        "step": "",
        "weight": 0,
        "stable": {
            "name": V1,
            "digest": f"sha256:{1:010x}" + "a" * 54,
            "url": f"http://{S1}-predictor.flights.svc",
        },
        "candidate": {
            "name": V2,
            "digest": f"sha256:{2:010x}" + "a" * 54,
            "url": f"http://{S2}-predictor.flights.svc",
        },
        "metadata": {"suite": "smoke"},
    }
    assert (post.request.secret, post.request.retries) == ("gates", 2)


# ---- the step --------------------------------------------------------------------------------------------------------
def webhook_step(**more: Any) -> list[dict[str, Any]]:
    call = {"url": "http://tests.flights.svc/load", "interval": "5s", **more}
    return [STEPS[0], {"name": "load-test", "webhook": call}, STEPS[2]]


def test_a_webhook_step_waits_until_its_endpoint_says_yes() -> None:
    world = served(steps=webhook_step(failureLimit=100))
    world.receivers.say["load-test"] = "503"
    world.add_version(2)
    world.run(60)
    assert (world.status.step and world.status.step.name, world.weights()[S2]) == ("load-test", 10)
    assert len({each.request.token for each in world.receivers.of("load-test")}) == 1
    world.receivers.say["load-test"] = "200"
    run_to_end(world, 30)
    assert world.status.stable == V2


@pytest.mark.parametrize(("on_failure", "ends"), [("Reject", "rejected"), ("Ignore", "promoted"), ("Halt", "held")])
def test_a_webhook_step_fails_the_candidate_after_its_limit(on_failure: str, ends: str) -> None:
    world = served(steps=webhook_step(failureLimit=2, onFailure=on_failure))
    world.receivers.say["load-test"] = "500"
    world.add_version(2)
    world.run(80)
    found = "held" if world.status.candidate else "rejected" if world.status.rejected else "promoted"
    assert found == ends
    if ends == "rejected":
        assert "step load-test failed 3 times" in (world.status.rejected or [])[0].message


def test_a_webhook_step_that_was_done_is_not_repeated_by_a_restart() -> None:
    steps = [*webhook_step()[:2], {"name": "wait", "pause": {"until": "Promoted"}}, STEPS[2]]
    world = served(steps=steps)
    world.add_version(2)
    world.run(20)
    world.receivers.restart()
    world.run(20)
    assert len(world.receivers.of("load-test")) == 1


# ---- with people -----------------------------------------------------------------------------------------------------
def test_a_persons_word_is_not_lost_while_a_rollout_hook_is_asked() -> None:
    steps = [STEPS[0], {"name": "approval", "pause": {"until": "Promoted"}}, STEPS[2]]
    world = served(hook("rollout"), steps=steps)
    world.add_version(2)
    world.run(15)
    world.receivers.say["rollout"] = "never"
    world.annotate(promote="approval")
    world.run(3)
    assert world.status.step is not None
    assert world.status.step.name == "everyone"


def test_a_pin_ends_what_waits_at_a_gate() -> None:
    world = served(hook("confirm-promotion"))
    world.receivers.say["confirm-promotion"] = "never"
    world.add_version(2)
    world.run(30)
    assert world.weights()[S2] == 10
    world.pin(V1)
    world.run(3)
    assert world.weights() == {S1: 100}
    assert world.status.candidate is None


def test_the_stable_version_gives_no_server_up_for_one_that_is_not_confirmed() -> None:
    serving = {"capacity": "Recreate", "replicas": {"min": 2, "max": 2}}
    world = served(hook("confirm-rollout"), serving=serving)
    world.receivers.say["confirm-rollout"] = "403"
    world.add_version(2)
    world.run(60)
    service = world.get(INFERENCE_SERVICE, S1)
    assert service is not None
    assert service["spec"]["predictor"]["maxReplicas"] == 2
    world.receivers.say["confirm-rollout"] = "200"
    run_to_end(world)
    assert world.status.stable == V2
