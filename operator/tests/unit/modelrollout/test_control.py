"""Orders of people, in every phase: which act, which are spent and why, and what the next versions see of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from unit.modelrollout.world import NAME, PROJECT, STEPS, World

from slipway.api.modelrollout import HistoryEntry
from slipway.contracts.orders import LONGEST, Order, new_token, parse, version_before
from slipway.runtime.resources import HTTP_ROUTE, MODEL_ROLLOUT, MODEL_VERSION

V1, V2, V3, V4 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3, 4))
S1, S2, S3, S4 = (f"{NAME}-{number:010x}" for number in (1, 2, 3, 4))
GATED: list[dict[str, Any]] = [
    {"name": "first-users", "setWeight": 5},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "half", "setWeight": 50},
    {"name": "again", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]


def order(world: World, text: str, by: str = "dana", token: str = "") -> str:
    """Gives an order; what the operator answered."""
    world.annotate(order=f"{text} #{token or new_token()} by {by}")
    world.step()
    return answer(world)


def answer(world: World) -> str:
    assert world.status.orders, "no order was heard"
    last = world.status.orders[0]
    return f"{'yes' if last.obeyed else 'no'}: {last.message}"


def weights(world: World) -> dict[str, int]:
    return {service: weight for service, weight in world.weights().items() if weight}


# ---- phases ----------------------------------------------------------------------------------------------------------
def _waiting() -> World:
    world = World()
    world.step()
    return world


def _first_starts() -> World:
    world = World()
    world.unready.add(S1)
    world.add_version(1)
    world.run(3)
    return world


def _serving(**spec: Any) -> World:
    world = World(spec)
    world.serve_first()
    return world


def _starting() -> World:
    world = _serving(steps=GATED)
    world.unready.add(S2)
    world.add_version(2)
    world.run(3)
    return world


def _gate(**spec: Any) -> World:
    world = _serving(**{"steps": GATED, **spec})
    world.add_version(2)
    while not world.status.step or world.status.step.name != "approval":
        world.step()
    return world


def _analyzing() -> World:
    world = _serving()
    world.add_version(2)
    world.run_until("Analyzing")
    return world


def _paused() -> World:
    world = _gate()
    assert order(world, f"pause {V2}", by="eve").startswith("yes")
    return world


def _promoting() -> World:
    world = _serving(steps=[{"name": "everyone", "setWeight": 100}])
    world.add_version(2)
    while world.weights().get(S2) != 100:
        world.step()
    world.gateway.answering = False
    return world


def _promoted(**spec: Any) -> World:
    world = _serving(**spec)
    world.add_version(2)
    world.run(80)
    assert (world.status.stable, world.status.phase) == (V2, "Healthy")
    return world


def _rejected() -> World:
    world = _serving()
    world.add_version(2, failing=30)
    world.run(60)
    assert [each.name for each in world.status.rejected or []] == [V2]
    return world


def _held() -> World:
    world = _gate(rollback={"automatic": False})
    world.behaviour[S2].failing = 50
    world.run(20)
    assert world.condition("Stalled") is not None
    return world


_PLAYED: dict[Callable[[], World], World] = {}


def played(phase: Callable[[], World]) -> World:
    """A world of one's own in a phase, which is played only once."""
    if phase not in _PLAYED:
        _PLAYED[phase] = phase()
    return copy.deepcopy(_PLAYED[phase])


NOBODY = "no version is on its way."
EVE = "eve paused it at"
TABLE: list[tuple[Callable[[], World], str, str]] = [
    # nothing serves
    *((_waiting, f"{verb} {V2}", f"no: {NOBODY}") for verb in ("promote-full", "pause", "resume", "abort")),
    (_waiting, f"promote approval:{V2}", f"no: {NOBODY}"),
    (_waiting, f"retry {V2}", "no: it is not among the rejected versions."),
    (_waiting, f"undo {V2}", "no: what users rely on is no version yet."),
    # the first version ever starts
    (_first_starts, f"pause {V1}", "yes: "),
    (_first_starts, f"abort {V1}", f"yes: Version {V1} gets no requests any more."),
    (_first_starts, f"undo {V1}", "no: what users rely on is no version yet."),
    # a later version starts
    (_starting, f"promote approval:{V2}", "no: no step waits for a person now."),
    (_starting, f"promote-full {V2}", "yes: "),
    (_starting, f"pause {V2}", "yes: Version flight-delays-0000000002 is held at 0 %"),
    (_starting, f"resume {V2}", "no: nobody paused it."),
    (_starting, f"abort {V2}", "yes: "),
    (_starting, f"undo {V1}", "no: no earlier version is known that may serve again"),
    # a step waits for a person
    (_gate, f"promote approval:{V2}", f"yes: Step approval of version {V2} is over."),
    (_gate, f"promote again:{V2}", f"no: what waits is step approval of version {V2}."),
    (_gate, f"promote half:{V2}", f"no: what waits is step approval of version {V2}."),
    (_gate, f"promote approval:{V1}", f"no: the version on its way is {V2}."),
    (_gate, f"promote-full {V2}", "yes: "),
    (_gate, f"promote-full {V3}", f"no: the version on its way is {V2}."),
    (_gate, f"pause {V2}", "yes: Version flight-delays-0000000002 is held at 5 %"),
    (_gate, f"pause {V1}", f"no: the version on its way is {V2}."),
    (_gate, f"resume {V2}", "no: nobody paused it."),
    (_gate, f"abort {V2}", f"yes: Version {V2} gets no requests any more: all of them go to {V1}."),
    (_gate, f"abort {V1}", f"no: the version on its way is {V2}."),
    (_gate, f"retry {V2}", "no: it is not among the rejected versions."),
    (_gate, f"undo {V1} to {V2}", f"no: version {V2} is on its way: promote-full"),
    (_gate, f"undo {V2} to {V1}", f"no: what users rely on is {V1}."),
    # checks run
    (_analyzing, f"promote watch:{V2}", "no: no step waits for a person now."),
    (_analyzing, f"promote-full {V2}", "yes: "),
    (_analyzing, f"pause {V2}", "yes: "),
    (_analyzing, f"abort {V2}", "yes: "),
    # a person paused it
    (_paused, f"promote approval:{V2}", f"no: {EVE}"),
    (_paused, f"promote-full {V2}", f"no: {EVE}"),
    (_paused, f"pause {V2}", f"no: {EVE}"),
    (_paused, f"resume {V2}", f"yes: Version {V2} goes on from 5 %."),
    (_paused, f"resume {V1}", f"no: the version on its way is {V2}."),
    (_paused, f"abort {V2}", "yes: "),
    # all requests, not yet accepted
    (_promoting, f"promote everyone:{V2}", "no: no step waits for a person now."),
    (_promoting, f"promote-full {V2}", "yes: "),
    (_promoting, f"pause {V2}", "yes: Version flight-delays-0000000002 is held at 100 %"),
    (_promoting, f"abort {V2}", "yes: "),
    # done
    (_promoted, f"promote everyone:{V2}", f"no: {NOBODY}"),
    (_promoted, f"promote-full {V2}", f"no: {NOBODY}"),
    (_promoted, f"pause {V2}", f"no: {NOBODY}"),
    (_promoted, f"resume {V2}", f"no: {NOBODY}"),
    (_promoted, f"abort {V2}", f"no: {NOBODY}"),
    (_promoted, f"undo {V2}", f"yes: {V1} takes over from {V2} without steps. Version {V1} is still warm."),
    (_promoted, f"undo {V2} to {V1}", f"yes: {V1} takes over from {V2} without steps."),
    (_promoted, f"undo {V2} to {V2}", f"no: version {V2} is what users rely on."),
    (_promoted, f"undo {V2} to {V3}", f"no: project {PROJECT} has no ModelVersion {V3}."),
    (_promoted, f"undo {V1}", f"no: what users rely on is {V2}."),
    # rejected by its checks
    (_rejected, f"retry {V2}", f"yes: Version {V2} may be tried again."),
    (_rejected, f"retry {V1}", "no: it is not among the rejected versions."),
    (_rejected, f"abort {V2}", f"no: {NOBODY}"),
    (_rejected, f"undo {V1} to {V2}", f"no: version {V2} was rejected here: Check success"),
    # its checks fail, and it is held
    (_held, f"promote approval:{V2}", "no: check success fails."),
    (_held, f"promote-full {V2}", "no: check success fails."),
    (_held, f"abort {V2}", "yes: "),
]


@pytest.mark.parametrize(
    ("phase", "text", "said"), TABLE, ids=lambda each: each.__name__.strip("_") if callable(each) else str(each)[:40]
)
def test_every_order_in_every_phase(phase: Callable[[], World], text: str, said: str) -> None:
    world = played(phase)
    before = weights(world)
    heard = order(world, text)
    assert heard.startswith(said), heard
    last = (world.status.orders or [])[0]
    assert (last.by, last.version) == ("dana", parse(f"{text} #0000 by dana").version)
    if heard.startswith("no"):
        assert "AnnotationIgnored" in world.events
        world.gateway.answering = True
        world.step()
        assert weights(world) == before, "an order that was spent changed weights"


# ---- what orders do --------------------------------------------------------------------------------------------------
def test_a_step_is_promoted_and_only_this_step() -> None:
    world = _gate()
    order(world, f"promote approval:{V2}")
    world.run(30)
    assert (world.status.phase, world.weights()[S2]) == ("Paused", 50)
    order(world, f"promote again:{V2}", by="eve")
    world.run(5)
    assert world.status.stable == V2
    assert [(each.order, each.by) for each in world.status.orders or []] == [("promote", "eve"), ("promote", "dana")]


def test_a_pause_holds_the_weight_whatever_the_step_says_until_it_is_resumed() -> None:
    world = _analyzing()
    order(world, f"pause {V2}")
    world.run(120)
    assert (world.status.phase, world.weights()[S2], world.status.stable) == ("Paused", 5, V1)
    assert world.status.paused is not None
    assert world.status.paused.by == "dana"
    progressing = world.condition("Progressing")
    assert progressing is not None
    assert progressing == ("Unknown", "Paused", f"dana paused version {V2} at 5 %: resume it, or abort it.")
    order(world, f"resume {V2}")
    world.run(60)
    assert world.status.stable == V2
    assert world.status.paused is None


def test_a_pause_holds_all_requests_back_from_becoming_stable() -> None:
    world = _promoting()
    order(world, f"pause {V2}")
    world.gateway.answering = True
    world.run(30)
    assert (world.status.stable, world.status.candidate, world.weights()[S2]) == (V1, V2, 100)
    order(world, f"resume {V2}")
    world.run(2)
    assert world.status.stable == V2


def test_checks_of_a_paused_version_go_on_and_may_reject_it() -> None:
    world = _paused()
    world.behaviour[S2].failing = 50
    world.run(20)
    assert [each.reason for each in world.status.rejected or []] == ["ChecksFailed"]
    assert (world.weights(), world.status.paused) == ({S1: 100}, None)


def test_a_paused_version_without_requests_is_not_replaced_by_a_newer_one() -> None:
    world = _starting()
    order(world, f"pause {V2}")
    world.add_version(3)
    world.unready.clear()
    world.run(30)
    assert (world.status.candidate, world.weights().get(S2, 0)) == (V2, 0)
    order(world, f"resume {V2}")
    world.run(3)
    assert world.status.candidate == V3


def test_a_pause_is_not_for_the_next_version() -> None:
    world = _paused()
    order(world, f"abort {V2}")
    world.add_version(3)
    world.run(20)
    assert (world.status.candidate, world.status.paused, world.weights()[S3]) == (V3, None, 5)


def test_an_abort_sends_all_requests_back_in_the_same_look_and_says_who() -> None:
    world = _gate()
    heard = order(world, f"abort {V2}")
    assert heard.startswith("yes")
    assert world.weights() == {S1: 100}
    (rejection,) = world.status.rejected or []
    assert (rejection.reason, rejection.message) == ("Aborted", "dana aborted it at 5 % in step approval.")
    last = (world.status.history or [])[0]
    assert (last.name, last.outcome, last.by, last.reason, last.from_) == (V2, "RolledBack", "dana", "Aborted", V1)
    world.run(60)
    assert (world.status.phase, world.status.candidate) == ("Healthy", None)
    ready = world.condition("Ready")
    assert ready is not None
    assert "dana aborted it" in ready[2]


def test_an_abort_waits_for_no_gateway() -> None:
    world = _promoting()
    order(world, f"abort {V2}")
    assert world.weights() == {S1: 100}


def test_nobody_is_sent_to_a_stable_version_without_servers_by_an_abort() -> None:
    world = _gate()
    world.unready.add(S1)
    world.run(2)
    assert order(world, f"abort {V2}") == f"no: version {V1} has no ready server for the requests of {V2}."
    assert world.weights()[S2] == 5


def test_promote_full_skips_the_steps_but_no_rule_of_weights() -> None:
    world = _gate()
    world.gateway.answering = False
    order(world, f"promote-full {V2}")
    world.run(1)
    assert world.weights()[S2] == 100, "it was accepted at 5 % before"
    world.run(10)
    assert world.status.stable == V1, "the gateway has not accepted that"
    world.gateway.answering = True
    world.run(3)
    assert world.status.stable == V2
    last = (world.status.history or [])[0]
    assert (last.outcome, last.by) == ("Promoted", "dana")


def test_promote_full_does_not_raise_a_version_that_is_not_ready() -> None:
    world = _gate()
    world.doubted.add(S2)
    order(world, f"promote-full {V2}")
    world.run(20)
    assert world.weights()[S2] == 5
    world.doubted.clear()
    world.run(4)
    assert world.status.stable == V2


@pytest.mark.parametrize("started", [True, False], ids=["at a step", "at the start"])
def test_promote_full_of_a_scaled_version_waits_for_all_its_servers(started: bool) -> None:
    steps = [{"name": "one", "setScale": {"replicas": 1}}, *GATED]
    world = _serving(serving={"replicas": {"min": 3, "max": 3}}, steps=steps)
    world.add_version(2)
    if started:
        world.run(12)
        assert (world.endpoints(S2), weights(world)) == (1, {S1: 95, S2: 5})
    else:
        world.step()
    world.room = 2
    order(world, f"promote-full {V2}")
    world.run(15)
    assert weights(world).get(S2, 0) < 100
    world.room = 1000
    world.run(15)
    assert world.status.stable == V2


def test_promote_full_at_the_start_is_for_this_version_only() -> None:
    world = _starting()
    order(world, f"promote-full {V2}")
    world.unready.clear()
    world.run(8)
    assert world.status.stable == V2
    world.add_version(3)
    world.run(30)
    assert (world.status.phase, world.weights()[S3]) == ("Paused", 5)


def test_a_version_that_fails_after_promote_full_is_rejected() -> None:
    world = _gate()
    world.gateway.answering = False
    order(world, f"promote-full {V2}")
    world.behaviour[S2].failing = 50
    world.run(20)
    assert [each.name for each in world.status.rejected or []] == [V2]
    assert world.weights() == {S1: 100}


# ---- undo ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_an_undo_of_a_warm_version_takes_no_steps_and_stays() -> None:
    world = _promoted()
    order(world, f"undo {V2}")
    world.run(3)
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})
    (rejection,) = world.status.rejected or []
    assert (rejection.name, rejection.reason) == (V2, "Undone")
    assert "dana went back from it" in rejection.message
    last = (world.status.history or [])[0]
    assert (last.name, last.from_, last.by, last.reason) == (V1, V2, "dana", "Undone")
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[1] == "Undone"
    world.run(200)
    assert (world.status.stable, world.status.candidate, world.status.undo) == (V1, None, None)


def test_an_undone_version_may_be_retried_by_the_steps() -> None:
    world = _promoted()
    order(world, f"undo {V2}")
    world.run(10)
    order(world, f"retry {V2}")
    world.run(12)
    assert world.weights()[S2] == 5
    world.run(60)
    assert world.status.stable == V2


def test_after_an_undo_only_a_newer_version_is_news() -> None:
    world = _serving(steps=GATED)
    world.unready.add(S2)
    world.add_version(2)
    world.run(3)
    world.add_version(3)  # replaces version 2, which was never rejected
    world.run(10)
    order(world, f"promote-full {V3}")
    world.run(5)
    assert world.status.stable == V3
    world.unready.clear()
    order(world, f"undo {V3} to {V1}")
    world.run(100)
    assert (world.status.stable, world.status.candidate) == (V1, None), "version 2 is older than what was undone"
    world.add_version(4)
    world.run(10)
    assert world.status.candidate == V4


def test_an_undo_of_a_cold_version_takes_the_steps() -> None:
    world = _promoted(rollback={"keepPrevious": "5s"})
    world.run(60)
    assert order(world, f"undo {V2}") == f"yes: {V1} takes over from {V2} by the steps."
    world.run(15)
    assert world.weights() == {S2: 95, S1: 5}
    assert "rejected" not in world.rollout["status"], "it still serves"
    world.run(60)
    assert world.status.stable == V1
    assert [each.name for each in world.status.rejected or []] == [V2]


@pytest.mark.parametrize(
    ("window", "steps"),
    [
        ({"versions": 1}, False),
        ({"within": "10m"}, False),
        ({"within": "30s"}, True),
        ({"versions": 3, "within": "10m"}, False),
        ({"versions": 3, "within": "30s"}, True),
    ],
    ids=str,
)
def test_a_cold_version_in_the_window_takes_no_steps(window: dict[str, Any], steps: bool) -> None:
    world = _promoted(rollback={"keepPrevious": "5s", "window": window})
    world.run(60)
    assert S1 not in {each.service for each in world.status.versions or ()}
    heard = order(world, f"undo {V2}")
    assert heard.endswith("by the steps." if steps else "is within the rollback window."), heard
    world.run(9)
    assert world.status.stable == (V2 if steps else V1)


@pytest.mark.parametrize(("versions", "steps"), [(1, True), (2, False)])
def test_the_window_counts_versions(versions: int, steps: bool) -> None:
    world = _promoted(rollback={"keepPrevious": "5s", "window": {"versions": versions}})
    world.add_version(3)
    world.run(100)
    assert world.status.stable == V3
    world.pin(V1)
    world.run(9)
    assert world.status.stable == (V3 if steps else V1)


def test_the_window_is_for_going_back_not_for_new_versions() -> None:
    world = _promoted(rollback={"window": {"versions": 5, "within": "1000h"}})
    world.add_version(3)
    world.run(12)
    assert world.weights()[S3] == 5


def test_an_undo_ends_what_is_on_its_way_without_rejecting_it() -> None:
    world = _promoted()
    world.add_version(3)
    world.run_until("Analyzing")
    assert order(world, f"undo {V2}").startswith("yes")
    assert S3 not in world.weights()
    world.run(3)
    assert (world.status.stable, [each.name for each in world.status.rejected or []]) == (V1, [V2])
    assert world.status.candidate == V3, "it is newer than what was undone: it begins anew, by the steps"
    assert world.weights().get(S3, 0) == 0


def test_two_undos_go_back_twice() -> None:
    world = _promoted()
    world.add_version(3)
    world.run(100)
    order(world, f"undo {V3}")
    world.run(5)
    assert world.status.stable == V2
    order(world, f"undo {V2}")
    world.run(100)
    assert world.status.stable == V1
    assert order(world, f"undo {V1}").startswith("no: no earlier version is known")


def test_an_undo_can_be_undone_by_name() -> None:
    world = _promoted()
    order(world, f"undo {V2}")
    world.run(5)
    assert order(world, f"undo {V1} to {V2}").startswith("yes")
    world.run(5)
    assert (world.status.stable, [each.name for each in world.status.rejected or []]) == (V2, [V1])


def test_an_aborted_undo_stays_where_it_was() -> None:
    world = _promoted(rollback={"keepPrevious": "5s"})
    world.run(60)
    order(world, f"undo {V2}")
    world.run(15)
    order(world, f"abort {V1}")
    assert world.weights() == {S2: 100}
    world.run(60)
    assert (world.status.stable, world.status.undo) == (V2, None)
    assert [(each.name, each.reason) for each in world.status.rejected or []] == [(V1, "Aborted")]


@pytest.mark.slow
def test_an_undo_to_a_version_that_fails_ends() -> None:
    world = _promoted(rollback={"keepPrevious": "5s"})
    world.run(60)
    world.behaviour[S1].failing = 40
    order(world, f"undo {V2}")
    world.run(60)
    assert (world.status.stable, world.status.undo, world.status.candidate) == (V2, None, None)
    assert [(each.name, each.reason) for each in world.status.rejected or []] == [(V1, "ChecksFailed")]


def test_an_undo_ends_when_its_version_is_deleted() -> None:
    world = _promoted(rollback={"keepPrevious": "5s"})
    world.run(60)
    order(world, f"undo {V2}")
    world.remove(MODEL_VERSION, V1)
    world.run(30)
    assert (world.status.stable, world.status.undo, world.status.candidate) == (V2, None, None)
    assert world.weights() == {S2: 100}


def test_an_undo_acts_also_on_a_pinned_version_and_the_pin_does_not_act_again() -> None:
    world = _promoted()
    world.pin(V2)
    world.run(3)
    order(world, f"undo {V2}")
    world.run(100)
    assert world.status.stable == V1
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert f"{V2} was rejected here: dana went back from it" in stalled[2]
    order(world, f"retry {V2}")
    world.run(12)
    assert world.weights()[S2] == 5, "a pinned version that was undone takes the steps"


def test_an_undo_does_not_act_against_another_pin_nor_outlives_it() -> None:
    world = _promoted(rollback={"keepPrevious": "5s"})
    world.run(60)
    world.add_version(3)
    world.pin(V3)
    world.step()
    assert order(world, f"undo {V2} to {V1}").startswith(f"no: spec.version pins {V3}")
    order(world, f"abort {V3}")
    assert order(world, f"undo {V2} to {V1}").startswith("yes")
    world.run(15)
    assert world.status.candidate == V1
    world.add_version(4)
    world.pin(V4)
    world.run(2)
    assert (world.status.candidate, world.status.undo) == (V4, None)


# ---- once, and only what was meant -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "",
        "promote",
        "approval",
        f"promote approval:{V2}",
        f"promote approval:{V2} by dana",
        f"promote approval:{V2} #3f2a91",
        f"promote approval:{V2} #3f2a91 by ",
        f"promote approval:{V2} #3F2A91 by dana",
        f"promote approval:{V2} #3f2 by dana",
        f"promote {V2} #3f2a91 by dana",
        f"promote approval: {V2} #3f2a91 by dana",
        f"pause approval:{V2} #3f2a91 by dana",
        f"pause {V2} to {V1} #3f2a91 by dana",
        f"halt {V2} #3f2a91 by dana",
        f"abort {V2}- #3f2a91 by dana",
        f"abort {V2.upper()} #3f2a91 by dana",
        f"abort  {V2} #3f2a91 by dana",
        f"abort {V2} #3f2a91 by dana\n",
        f"abort {V2} #3f2a91 by {'d' * 300}",
        f"abort {V2} #3f2a91 by dana{' ' * LONGEST}dana",
        "#" * 5000,
    ],
    ids=lambda text: text[:50],
)
def test_what_is_no_order_is_spent(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$|`\.$"):
        parse(text)
    world = _gate()
    world.annotate(order=text)
    world.run(5)
    assert (world.status.phase, world.weights()[S2]) == ("Paused", 5)
    assert world.status.orders is None
    assert world.events.count("AnnotationIgnored") == 1


@pytest.mark.parametrize(
    "order",
    [
        Order("promote", V2, "3f2a91", "dana@example.com", step="approval"),
        Order("undo", V2, "3f2a91", "system:serviceaccount:argocd:controller", target=V1),
        Order("undo", V2, "3f2a91", "Dana by Night"),
        Order("abort", V2, "0c0d4d03", "dana"),
    ],
    ids=str,
)
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    assert parse(str(order)) == order


def test_no_order_acts_twice() -> None:
    """Not when the annotation is taken away and set again, nor when another one stood there in between."""
    world = _gate()
    first = f"pause {V2} #00aa11 by dana"
    world.annotate(order=first)
    world.run(2)
    order(world, f"resume {V2}")
    world.annotate(order=first)
    world.run(2)
    assert world.status.paused is None
    meta = {**world.rollout["metadata"], "annotations": {}}
    world.put(MODEL_ROLLOUT, {**world.rollout, "metadata": meta})
    world.run(2)
    world.annotate(order=first)
    world.run(2)
    assert world.status.paused is None
    assert len([each for each in world.status.orders or [] if each.token == "00aa11"]) == 1


def test_an_order_that_was_spent_does_not_act_when_its_moment_comes() -> None:
    world = _serving(steps=GATED)
    world.annotate(order=f"promote approval:{V2} #00aa11 by dana")
    world.step()
    world.add_version(2)
    world.run(60)
    assert (world.status.phase, world.weights()[S2]) == ("Paused", 5)


@pytest.mark.parametrize("verb", ["promote approval:", "promote-full ", "pause ", "abort "])
def test_no_order_acts_after_the_status_was_lost(verb: str) -> None:
    world = _gate()
    world.annotate(order=f"{verb}{V2} #00aa11 by dana")
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.run(10)
    assert (world.status.candidate, world.weights()[S2], world.status.orders) == (V2, 5, None)


def test_a_pause_outlives_a_lost_status() -> None:
    world = _analyzing()
    order(world, f"pause {V2}")
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.run(100)
    assert (world.status.phase, world.weights()[S2]) == ("Paused", 5)
    assert world.status.paused is not None
    assert world.status.paused.by == "dana"


def test_a_pause_before_the_first_request_outlives_a_lost_status() -> None:
    world = _starting()
    order(world, f"pause {V2}")
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.unready.clear()
    world.run(60)
    assert (world.status.candidate, world.status.phase, world.weights().get(S2, 0)) == (V2, "Paused", 0)


@pytest.mark.slow
def test_an_undo_outlives_a_lost_status() -> None:
    world = _promoted(rollback={"keepPrevious": "5s"})
    world.run(60)
    order(world, f"undo {V2}")
    world.run(15)
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.run(100)
    assert world.status.stable == V1
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.run(20)
    assert (world.status.stable, world.status.candidate) == (V1, None)
    assert [(each.name, each.reason) for each in world.status.rejected or []] == [(V2, "Undone")]


@pytest.mark.slow
def test_what_a_vandal_writes_into_the_routes_memory_is_nothing() -> None:
    world = _analyzing()
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.edit(HTTP_ROUTE, NAME, {"annotations": {"slipway.dev/orders": "{"}})
    world.run(80)
    assert world.status.stable == V2


def test_a_long_legacy_annotation_does_not_break_the_status() -> None:
    world = _gate()
    world.annotate(promote="x" * 3000, retry="y" * 3000)
    world.run(3)
    assert world.status.handled is not None
    assert len(world.status.handled.promote or "") == 512


def test_the_records_are_bounded() -> None:
    world = _gate()
    for _ in range(30):
        order(world, f"pause {V2}")
        order(world, f"resume {V2}")
    assert len(world.status.orders or []) == 20


def entry(name: str, outcome: str = "Promoted") -> HistoryEntry:
    return HistoryEntry.model_validate({"name": name, "outcome": outcome, "at": "2026-11-23T08:00:00Z"})


@pytest.mark.parametrize(
    ("history", "unwanted", "before"),
    [
        ([], (), None),
        ([entry("c")], (), None),
        ([entry("c"), entry("b"), entry("a")], (), "b"),
        ([entry("c"), entry("x", "RolledBack"), entry("b")], (), "b"),
        ([entry("c"), entry("b"), entry("a")], ("b",), "a"),
        ([entry("c"), entry("b"), entry("c"), entry("a")], ("b",), "a"),
        ([entry("c"), entry("b")], ("b",), None),
    ],
)
def test_the_version_before(history: list[HistoryEntry], unwanted: tuple[str, ...], before: str | None) -> None:
    assert version_before("c", history, unwanted) == before


def test_steps_of_the_example_are_the_ones_that_are_skipped() -> None:
    world = _analyzing()
    order(world, f"promote-full {V2}")
    world.run(3)
    assert world.status.stable == V2
    assert world.events.count("StepStarted") < len(STEPS)
