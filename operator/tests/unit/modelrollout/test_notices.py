"""Alerts and events in a played world: who is told what, once, in order, and what is given up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from unit.modelrollout.test_hooks import S1, S2, STEPS, V1, V2, hook, run_to_end, served, stalled
from unit.modelrollout.world import NAME, World

from slipway.runtime.resources import MODEL_ROLLOUT

CHECK = {"name": "success", "metric": "successPercent", "min": "99", "minimumRequests": 5, "window": "10s"}
WAITING = [STEPS[0], {"name": "wait", "pause": {"until": "Promoted"}}, STEPS[2]]


def alert(name: str = "team", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "Webhook", "secretRef": {"name": name}, **more}


def told(world: World, name: str = "team") -> list[tuple[str, str]]:
    """Reasons and severities that a receiver got."""
    return [(each["reason"], each["severity"]) for each in world.receivers.bodies(name)]


# ---- what people are alerted to --------------------------------------------------------------------------------------
def test_a_promotion_is_told_from_start_to_end() -> None:
    world = served(alerts=[alert()])
    world.receivers.posts.clear()
    world.add_version(2)
    run_to_end(world)
    world.run(10)
    assert told(world) == [("Started", "info"), ("Promoted", "info")]
    body = world.receivers.bodies("team")[1]
    assert (body["version"], body["name"], body["namespace"]) == (V2, NAME, "flights")
    assert body["message"] == f"Version {V2} takes all requests."


def test_the_first_version_ever_is_told_too() -> None:
    world = served(alerts=[alert()])
    assert told(world) == [("Started", "info"), ("Promoted", "info")]
    assert world.receivers.bodies("team")[1]["version"] == V1


def test_a_rejection_is_told_with_version_and_step() -> None:
    world = served(alerts=[alert(severity="error")], checks=[CHECK], steps=WAITING)
    world.add_version(2, failing=100)
    world.run(40)
    assert told(world) == [("RolledBack", "error")]
    body = world.receivers.bodies("team")[0]
    assert (body["version"], body["step"], body["weight"]) == (V2, "wait", "10 %")


@pytest.mark.parametrize(
    ("severity", "reasons"),
    [
        ("info", ["Started", "WaitingForHook", "RolledBack"]),
        ("warning", ["WaitingForHook", "RolledBack"]),
        ("error", ["RolledBack"]),
    ],
)
def test_a_receiver_gets_its_severity_and_worse(severity: str, reasons: list[str]) -> None:
    world = served(hook("confirm-promotion"), hook("rollback"), alerts=[alert(severity=severity)])
    world.receivers.posts.clear()
    world.receivers.say["confirm-promotion"] = "403"
    world.add_version(2)
    world.run(30)
    world.receivers.say["rollback"] = "200"
    world.run(20)
    assert [reason for reason, _ in told(world)] == reasons


def test_a_muted_hook_alerts_nobody() -> None:
    muted = hook("pre-rollout", failureLimit=0, onFailure="Halt", muteAlert=True)
    world = served(hook("confirm-promotion", muteAlert=True), muted, alerts=[alert(severity="warning")])
    world.receivers.say.update({"confirm-promotion": "403", "pre-rollout": "500"})
    world.add_version(2)
    world.run(30)
    assert stalled(world) is not None
    world.receivers.say["pre-rollout"] = "200"
    world.run(60)
    assert world.weights()[S2] == 10
    assert told(world) == []


def test_a_halt_is_told_once() -> None:
    world = served(hook("rollout", failureLimit=0, onFailure="Halt"), alerts=[alert(severity="warning")])
    world.receivers.say["rollout"] = "500"
    world.add_version(2)
    world.run(120)
    assert told(world) == [("HookFailed", "warning")]


def test_lost_servers_of_both_versions_are_told() -> None:
    world = served(alerts=[alert(severity="warning")], steps=WAITING)
    world.add_version(2)
    world.run(15)
    world.unready.add(S2)
    world.run(3)
    assert told(world) == [("ServersLost", "error")]
    world.unready.add(S1)
    world.run(3)
    assert told(world)[1] == ("ServersNotReady", "error")


def test_the_same_outage_is_told_once_an_hour_however_often_it_flaps() -> None:
    world = served(alerts=[alert(severity="error")])
    for _ in range(5):
        world.unready.add(S1)
        world.run(5)
        world.unready.clear()
        world.run(5)
    assert told(world) == [("ServersNotReady", "error")]
    world.now += timedelta(hours=1)
    world.unready.add(S1)
    world.run(5)
    assert len(told(world)) == 2


@pytest.mark.slow
def test_a_version_that_is_tried_again_and_fails_again_is_news() -> None:
    world = served(alerts=[alert(severity="error")], checks=[CHECK], steps=WAITING)
    world.add_version(2, failing=100)
    world.run(60)
    world.annotate(retry=V2)
    world.run(60)
    assert told(world) == [("RolledBack", "error")] * 2
    tokens = {each.request.token for each in world.receivers.of("team")}
    assert len(tokens) == 2


# ---- once, in order, whatever happens --------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("say", ["500", "404", "timeout", "refused"])
def test_what_a_receiver_missed_is_delivered_in_order_when_it_is_back(say: str) -> None:
    world = served(hook("event"), alerts=[alert(), alert("other")])
    world.receivers.posts.clear()
    world.receivers.say.update({"team": say, "event": say})
    world.add_version(2)
    run_to_end(world)
    world.receivers.restart()
    world.run(100)
    assert told(world, "other") == [("Started", "info"), ("Promoted", "info")]
    assert {each.error for each in world.status.notices or () if each.to == "alert/team"} >= {None}
    waiting = [each for each in world.status.notices or () if each.delivered_at is None]
    assert {each.to for each in waiting} == {"alert/team", "hook/event"}
    before = world.writes
    world.run(60)
    assert world.writes <= before + 1, "a receiver that is away is no reason to write"
    world.receivers.say.clear()
    world.receivers.posts.clear()
    for _ in range(700):
        world.step()
        if all(each.delivered_at for each in world.status.notices or ()):
            break
    assert [reason for reason, _ in told(world)] == ["Started", "Promoted"]
    reasons = [each["metadata"]["eventReason"] for each in world.receivers.bodies("event")]
    assert reasons == ["Started", *["StepStarted"] * 3, "Promoted"]
    assert [each for each in world.status.notices or () if each.delivered_at is None] == []


def test_nothing_is_sent_before_it_is_written_down() -> None:
    world = served(alerts=[alert()])
    world.receivers.posts.clear()
    world.add_version(2)
    for _ in range(40):
        known = {each.token for each in world.status.notices or ()}
        world.step()
        assert {each.request.token for each in world.receivers.posts} <= known | {
            each.token for each in world.status.notices or () if each.delivered_at
        }


def test_a_restart_repeats_no_alert_that_was_delivered() -> None:
    world = served(alerts=[alert()])
    world.add_version(2)
    run_to_end(world)
    world.run(10)
    before = told(world)
    for _ in range(5):
        world.receivers.restart()
        world.run(5)
    assert told(world) == before


def test_a_post_rollout_hook_that_fails_is_told_and_not_repeated() -> None:
    world = served(hook("post-rollout"))
    world.receivers.say["post-rollout"] = "500"
    world.add_version(2)
    run_to_end(world)
    world.run(60)
    assert len(world.receivers.of("post-rollout")) == 1
    assert world.events.count("HookFailed") == 1
    assert world.status.notices is None


def test_a_post_rollout_hook_that_cannot_be_reached_is_tried_again_with_the_same_token() -> None:
    world = served(hook("post-rollout"))
    world.receivers.say["post-rollout"] = "timeout"
    world.add_version(2)
    run_to_end(world)
    world.run(60)
    world.receivers.say["post-rollout"] = "200"
    world.run(60)
    assert len(world.receivers.of("post-rollout")) > 2
    assert len({each.request.token for each in world.receivers.of("post-rollout")}) == 1
    assert world.status.notices is None


def test_a_rejection_is_told_to_post_rollout_hooks_as_flagger_does() -> None:
    world = served(hook("post-rollout"), checks=[CHECK], steps=WAITING)
    world.add_version(2, failing=100)
    world.run(60)
    (body,) = world.receivers.bodies("post-rollout")
    assert (body["phase"], body["candidate"]["name"], body["stable"]["name"]) == ("Failed", V2, V1)


# ---- bounds ----------------------------------------------------------------------------------------------------------
def test_a_long_queue_loses_its_oldest_and_says_so() -> None:
    steps = [*({"name": f"step-{i}", "pause": {"for": "1s"}} for i in range(30)), STEPS[2]]
    world = served(hook("event"), hook("event", name="second"), alerts=[alert()], steps=steps)
    world.receivers.say["event"] = world.receivers.say["second"] = "timeout"
    world.add_version(2)
    run_to_end(world)
    world.run(5)
    notices = world.status.notices or []
    assert len([each for each in notices if each.delivered_at is None]) <= 32
    assert len(notices) <= 64
    assert world.receivers.lost >= 30
    assert "NoticesDropped" in world.events
    assert told(world)[-1] == ("Promoted", "info"), "another receiver's queue holds nothing up"


def test_a_receiver_that_stays_away_for_a_day_is_given_up() -> None:
    world = served(alerts=[alert()], rollback={"keepPrevious": "48h"})
    world.receivers.say["team"] = "timeout"
    world.add_version(2)
    run_to_end(world)
    world.now += timedelta(hours=25)
    world.run(2)
    assert world.status.notices is None
    assert world.receivers.lost == 2
    assert world.events.count("NoticesDropped") == 1
    before = world.writes
    world.run(60)
    assert world.writes == before


def test_a_receiver_that_a_person_removes_is_forgotten_with_what_waits_for_it() -> None:
    world = served(alerts=[alert()])
    world.receivers.say["team"] = "timeout"
    world.add_version(2)
    run_to_end(world)
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"alerts": []}})
    world.run(2)
    assert world.status.notices is None
    assert world.receivers.lost == 0


@pytest.mark.slow
def test_nothing_is_written_once_everything_is_told() -> None:
    world = served(hook("event"), hook("post-rollout"), alerts=[alert()])
    world.add_version(2)
    run_to_end(world)
    world.run(40)
    before, posts = world.writes, len(world.receivers.posts)
    assert world.step().requeue_after != 1.0
    world.run(100)
    assert (world.writes, len(world.receivers.posts)) == (before, posts)
