"""What holds whatever happens, in whatever order: checked after every pass of the operator in a played world."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from math import ceil, inf
from typing import Any, Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.search import examples, law
from unit.modelrollout.step_lists import ANY, ENDING, Spec, judges
from unit.modelrollout.world import NAME, STEPS, World, version_of

from slipway.adapters.gateway import aside_of, weights_of
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.runtime.controller import Apply, Delete, Plan
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, MODEL_VERSION

PAUSED = [STEPS[0], {"name": "approval", "pause": {"until": "Promoted"}}, *STEPS[1:]]
TIMED = [STEPS[0], STEPS[1], {"name": "rest", "pause": {"for": "15s"}}, STEPS[4]]

Event = tuple[str, object]

NUMBERS = st.integers(2, 9)
VERBS = ["promote approval:", "promote-full ", "pause ", "resume ", "abort ", "retry ", "undo "]
WHICH = ["fitting", "fitting", "fitting", "candidate", "stable", "rejected"]


def common() -> list[st.SearchStrategy[Event]]:
    """What happens often; new objects, because Hypothesis counts an alternative that is named twice only once."""
    return [
        st.tuples(st.just("steps"), st.integers(1, 30)),
        st.tuples(st.just("new_version"), st.tuples(NUMBERS, st.sampled_from([0, 0, 60]))),
    ]


def order() -> st.SearchStrategy[Event]:
    which = st.one_of(st.sampled_from(WHICH), NUMBERS)
    return st.tuples(st.just("order"), st.tuples(st.sampled_from(VERBS), which, st.integers(0, 40)))


EVENTS = st.one_of(
    *common(),
    *common(),
    *common(),
    *common(),
    st.tuples(st.just("pass_time"), st.integers(1, 30)),
    st.tuples(st.just("reconcile"), st.none()),
    st.tuples(st.just("kserve_works"), st.none()),
    st.tuples(st.just("gateway_works"), st.none()),
    st.tuples(st.just("gateway_away"), st.booleans()),
    st.tuples(st.just("kserve_away"), st.booleans()),
    st.tuples(st.just("servers_flap"), st.tuples(NUMBERS, st.booleans())),
    st.tuples(st.just("kserve_doubts"), st.tuples(NUMBERS, st.booleans())),
    st.tuples(st.just("version_gone"), st.integers(1, 9)),
    st.tuples(st.just("traffic"), st.sampled_from([0, 3, 100])),
    st.tuples(st.just("status_lost"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("killed_while_writing"), st.integers(0, 4)),
    st.tuples(st.just("clock"), st.integers(-4000, 4000)),
    st.tuples(st.just("promote"), st.sampled_from(["approval", "approval:1", "approval:2", "watch"])),
    st.tuples(st.just("retry"), st.tuples(NUMBERS, st.integers(0, 3))),
    order(),
    st.tuples(st.just("pin"), st.one_of(st.none(), st.integers(1, 9))),
    st.tuples(st.just("edit_steps"), st.sampled_from([0, 1, 2])),
    st.tuples(st.just("set_steps"), ANY),
    st.tuples(st.just("room"), st.sampled_from([0, 1, 2, 1000])),
    st.tuples(st.just("route_edited"), st.none()),
    st.tuples(st.just("servers_deleted"), NUMBERS),
)


@dataclass
class Attempt:
    """A candidate on its way, to see that its weight only rises."""

    name: str = ""
    number: int = 0
    weight: int = 0
    since: str = ""


@dataclass
class Laws:
    """Judges every pass of the operator."""

    world: World
    attempt: Attempt = field(default_factory=Attempt)
    rejected: set[str] = field(default_factory=set)
    stable: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    """Versions that a person promoted whatever the checks say."""
    judging: bool = True
    """Whether every list of steps so far finds a failing version out."""

    def check(self, snapshot: Snapshot, plan: Plan) -> None:
        weights = {service: weight for each in plan.actions for service, weight in self._weights(each).items()}
        live = dict(snapshot.route.weights) if snapshot.route else {}
        self._sums_up(snapshot, plan, weights)
        self._raises_only_what_is_ready(snapshot, live, weights)
        self._arms_share_only_in_their_step(snapshot, plan, weights)
        self._rejected_get_nothing(plan, weights)
        self._what_the_route_rejects_gets_nothing(snapshot, plan, weights)
        self._keeps_what_serves(plan)
        self._rises_until_the_end(plan)
        self._orders_act_once(snapshot, plan)
        self._pauses_hold(snapshot, plan)
        self._bad_versions_do_not_become_stable(plan)
        self._gives_nothing_aside_but_to_ready_candidates(snapshot, plan)
        self._has_full_size_before_all_requests(snapshot, plan, live, weights)
        self._shows_the_steps_in_order(snapshot, plan)

    def _weights(self, action: object) -> dict[str, int]:
        if isinstance(action, Apply) and action.manifest["metadata"]["name"] == NAME:
            return weights_of(action.manifest)
        return {}

    def _sums_up(self, snapshot: Snapshot, plan: Plan, weights: dict[str, int]) -> None:
        assert not weights or sum(weights.values()) == 100, weights
        stable = (plan.status or {}).get("stable")
        assert not stable or weights, "a route stays empty though there is a stable version"
        for action in plan.actions:
            assert not (isinstance(action, Delete) and action.key == HTTP_ROUTE.key(NAME, snapshot.namespace))

    def _raises_only_what_is_ready(self, snapshot: Snapshot, live: dict[str, int], weights: dict[str, int]) -> None:
        for service in list(weights)[1:]:
            server = snapshot.servers[service]
            if weights[service] > live.get(service, 0):
                assert server.ready
                assert snapshot.route is not None
                assert snapshot.route.acceptance.accepted
                assert snapshot.pins[service].acceptance.accepted
            assert weights[service] == 0 or server.alive, "requests for a version without servers"

    def _arms_share_only_in_their_step(self, snapshot: Snapshot, plan: Plan, weights: dict[str, int]) -> None:
        """Behind the stable version and the candidate stand arms of the experiment that is under way, and nobody."""
        status = plan.status or {}
        newest = (status.get("experiments") or [{}])[0]
        arms = {each["version"]: each for each in newest.get("versions", ())[2:] if each["state"] != "Left"}
        under_way = newest.get("phase") in ("Starting", "Running")
        roles = {each["name"]: each["role"] for each in status.get("versions", ())}
        assert len([each for each in status.get("experiments", ()) if each["phase"] in ("Starting", "Running")]) < 2
        for service in list(weights)[2:]:
            name = snapshot.servers[service].version
            assert under_way
            assert status["step"]["name"] == newest["step"]
            assert roles[name] == "Arm"
            assert weights[service] in (0, arms[name]["percent"])
        if sum(list(weights.values())[2:]):
            assert next(iter(weights.values())) > 0, "nothing is left to compare with"

    def _rejected_get_nothing(self, plan: Plan, weights: dict[str, int]) -> None:
        rejected = {each["name"] for each in (plan.status or {}).get("rejected", ())}
        for name in rejected:
            assert weights.get(self.world.service(name), 0) == 0, "requests for a rejected version"
        retried = (self.world.rollout["metadata"].get("annotations") or {}).get("slipway.dev/retry", "").split(":")[0]
        status = plan.status or {}
        lifted = {each["version"] for each in status.get("orders", ())} | {(status.get("undo") or {}).get("to", "")}
        assert self.rejected - {retried} - lifted <= rejected, "a rejection was forgotten"
        self.rejected = rejected

    def _what_the_route_rejects_gets_nothing(self, snapshot: Snapshot, plan: Plan, weights: dict[str, int]) -> None:
        """Also when the operator ended before it wrote the status."""
        used = {(plan.status or {}).get("candidate"), (plan.status or {}).get("stable")}
        for name in snapshot.route.rejected if snapshot.route else ():
            assert name not in used or not weights.get(self.world.service(name)), "a rejected version came back"

    def _orders_act_once(self, snapshot: Snapshot, plan: Plan) -> None:
        """What an order says it did is said once, about the version that it names, and at most once for each token."""
        before = {(each.token, each.at) for each in snapshot.rollout.status.orders or ()}
        for each in (plan.status or {}).get("orders", ()):
            if (each["token"], each["at"]) not in before:
                assert each["token"] not in {token for token, _ in before}, "an order was heard twice"
                before_that = {each.name for each in snapshot.rollout.status.rejected or ()}
                about = {
                    snapshot.rollout.status.candidate,
                    snapshot.rollout.status.stable,
                    *before_that,
                    *self.rejected,
                }
                assert not each["obeyed"] or each["version"] in about, "an order acted on another version"

    def _pauses_hold(self, snapshot: Snapshot, plan: Plan) -> None:
        before, after = snapshot.rollout.status, plan.status or {}
        if before.paused is not None and after.get("paused") and after.get("candidate") == before.candidate:
            assert after.get("weight", 0) <= (before.weight or 0), "a paused version got more requests"
            assert after.get("stable") == before.stable, "a paused version was promoted"

    def _keeps_what_serves(self, plan: Plan) -> None:
        for action in plan.actions:
            if isinstance(action, Delete) and action.key.type == INFERENCE_SERVICE:
                assert not self.world.gateway.in_force.get(action.key.name), "servers with requests are deleted"
                assert action.key.name not in self.world.weights(), "servers in the route are deleted"

    def _rises_until_the_end(self, plan: Plan) -> None:
        status = plan.status or {}
        since = status.get("candidateSince", "")
        now = Attempt(status.get("candidate", ""), status.get("attempts", 0), status.get("weight", 0), since)
        if (now.name, now.number, now.since) == (self.attempt.name, self.attempt.number, self.attempt.since):
            assert now.weight >= self.attempt.weight, "a candidate's weight fell"
        self.attempt = now

    def _bad_versions_do_not_become_stable(self, plan: Plan) -> None:
        stable = (plan.status or {}).get("stable")
        orders = (plan.status or {}).get("orders", ())
        # Remembered here, as the route remembers it, though the status may be lost.
        self.full |= {each["version"] for each in orders if each["order"] == "promote-full" and each["obeyed"]}
        if stable and self.stable and stable not in self.stable and self.judging and stable not in self.full:
            assert self.world.behaviour[self.world.service(stable)].failing == 0, "a failing version was promoted"
        if stable:
            self.stable.add(stable)

    def _gives_nothing_aside_but_to_ready_candidates(self, snapshot: Snapshot, plan: Plan) -> None:
        """Copies and headers: only for the candidate, begun when it is ready, copies only while it has no users."""
        status = plan.status or {}
        for action in plan.actions:
            if not (isinstance(action, Apply) and action.manifest["metadata"]["name"] == NAME):
                continue
            if action.manifest["kind"] != "HTTPRoute":
                continue
            aside = aside_of(action.manifest)
            if aside is None:
                continue
            server, before = snapshot.servers[aside.service], snapshot.route.aside if snapshot.route else None
            assert server.alive, "copies or headers for a version without servers"
            assert server.version == status.get("candidate")
            assert not aside.copied or weights_of(action.manifest)[aside.service] == 0, "copies beside users' requests"
            if before is None or before.headers != aside.headers or before.copied < aside.copied:
                assert server.ready
                assert snapshot.pins[aside.service].acceptance.accepted

    def _has_full_size_before_all_requests(
        self, snapshot: Snapshot, plan: Plan, live: dict[str, int], weights: dict[str, int]
    ) -> None:
        full = snapshot.rollout.spec.serving.replicas
        stable = (plan.status or {}).get("stable")
        for action in plan.actions:
            if isinstance(action, Apply) and action.manifest["kind"] == "InferenceService":
                predictor = action.manifest["spec"]["predictor"]
                least, most = predictor["minReplicas"], predictor["maxReplicas"]
                assert 1 <= least <= most <= full.max
                if version_of(action.manifest) == stable:
                    assert (least, most) == (full.min, full.max), "the stable version is scaled"
        for service, weight in weights.items():
            if weight == 100 and live and live.get(service, 0) < 100 and len(live) > 1 and len(weights) > 1:
                obj = self.world.get(INFERENCE_SERVICE, service)
                assert obj is not None
                assert obj["spec"]["predictor"]["minReplicas"] >= full.min, "all requests before full size"

    def _shows_the_steps_in_order(self, snapshot: Snapshot, plan: Plan) -> None:
        shown = (plan.status or {}).get("plan") or ()
        assert [each["name"] for each in shown] == [each.name for each in snapshot.steps]
        order = [("Done", "Running", "Waiting").index(each["state"]) for each in shown]
        assert order == sorted(order)
        assert order.count(1) <= 1


class Run:
    """Plays events in a world and checks the laws after each pass."""

    def __init__(self, **spec: Any) -> None:
        spec = {"rollback": {"keepPrevious": "60s"}, "serving": {"replicas": {"min": 2, "max": 4}}, **spec}
        self.world = World(spec)
        self.laws = Laws(self.world)
        self.names: dict[int, str] = {1: self.world.serve_first()}
        self.heard = 0
        self.laws.stable.add(self.names[1])
        self._known, self._due = -1, 0.0

    def play(self, event: str, argument: object) -> None:
        handler: Callable[[object], None] = getattr(self, f"_{event}")
        handler(argument)
        self._pass()

    def _pass(self, crash_after: int | None = None) -> None:
        self._known = self.world.changes
        snapshot = self.world.observe()
        plan = self.world.controller.plan(snapshot, self.world.now)
        self.laws.check(snapshot, plan)
        self.world.reconcile(crash_after, plan)
        look = inf if plan.requeue_after is None else plan.requeue_after
        self._due = 0.0 if crash_after is not None else self.world.gateway.clock + look

    def _is_woken(self) -> bool:
        """Whether the queue runs the rollout: somebody wrote since the last look, or it asked for another one."""
        return self._known != self.world.changes or self.world.gateway.clock >= self._due

    def _steps(self, seconds: object) -> None:
        """Everybody works, and the operator looks when its queue would."""
        for _ in range(int(str(seconds))):
            self.world.let_kserve_work()
            self.world.let_gateway_work()
            self.world.pass_time(1)
            if self._is_woken():
                self._pass()

    def _pass_time(self, seconds: object) -> None:
        self.world.pass_time(int(str(seconds)))

    def _reconcile(self, _: object) -> None:
        pass

    def _kserve_works(self, _: object) -> None:
        self.world.let_kserve_work()

    def _gateway_works(self, _: object) -> None:
        self.world.let_gateway_work()

    def _gateway_away(self, away: object) -> None:
        self.world.gateway.answering = not away

    def _kserve_away(self, away: object) -> None:
        self.world.kserve_answering = not away

    def _servers_flap(self, argument: object) -> None:
        assert isinstance(argument, tuple)
        number, ready = argument
        if number in self.names:
            service = self.world.service(self.names[number])
            (self.world.unready.discard if ready else self.world.unready.add)(service)

    def _kserve_doubts(self, argument: object) -> None:
        assert isinstance(argument, tuple)
        number, doubt = argument
        if number in self.names:
            service = self.world.service(self.names[number])
            (self.world.doubted.add if doubt else self.world.doubted.discard)(service)

    def _new_version(self, argument: object) -> None:
        assert isinstance(argument, tuple)
        number, failing = argument
        if number not in self.names:
            self.names[number] = self.world.add_version(number, failing=failing)

    def _version_gone(self, number: object) -> None:
        name = self.names.get(int(str(number)))
        if name and name != self.world.status.stable:
            self.world.remove(MODEL_VERSION, name)

    def _traffic(self, rate: object) -> None:
        self.world.rate = int(str(rate))

    def _status_lost(self, _: object) -> None:
        self.world.put(MODEL_ROLLOUT, {**self.world.rollout, "status": {}})
        self.laws.attempt = Attempt()

    def _restart(self, _: object) -> None:
        self.world.restart_operator()

    def _killed_while_writing(self, actions: object) -> None:
        self._pass(crash_after=int(str(actions)))

    def _clock(self, seconds: object) -> None:
        self.world.now += timedelta(seconds=int(str(seconds)))

    def _promote(self, value: object) -> None:
        self.world.annotate(promote=str(value))

    def _retry(self, argument: object) -> None:
        assert isinstance(argument, tuple)
        number, nonce = argument
        self.world.annotate(retry=f"{self.names.get(number, 'none')}:{nonce}")

    def _order(self, argument: object) -> None:
        assert isinstance(argument, tuple)
        verb, which, token = argument
        status = self.world.status
        if which == "fitting":
            which = {"retry ": "rejected", "undo ": "stable"}.get(verb, "candidate")
        rejected = [each.name for each in status.rejected or ()]
        known = {"candidate": status.candidate, "stable": status.stable, "rejected": rejected[0] if rejected else None}
        name = known[which] if which in known else self.names.get(which)
        # Some tokens come again, most do not.
        self.heard += 1
        unique = f"token{token}" if token < 8 else f"unique{self.heard}"
        self.world.annotate(order=f"{verb}{name or 'none'} #{unique} by dana")

    def _pin(self, number: object) -> None:
        self.world.pin(self.names.get(int(str(number))) if number is not None else None)

    def _edit_steps(self, which: object) -> None:
        steps = (STEPS, PAUSED, TIMED)[int(str(which))]
        self._set_steps({"steps": steps, "strategy": None})

    def _set_steps(self, spec: object) -> None:
        assert isinstance(spec, dict)
        self.laws.judging &= judges(spec)
        self.world.edit(MODEL_ROLLOUT, NAME, {"spec": spec})

    def _room(self, servers: object) -> None:
        self.world.room = int(str(servers))

    def _route_edited(self, _: object) -> None:
        """Somebody takes the host names off the route."""
        route = self.world.get(HTTP_ROUTE, NAME)
        if route is not None:
            spec = {name: value for name, value in route["spec"].items() if name != "hostnames"}
            self.world.put(HTTP_ROUTE, {**route, "spec": spec})

    def _servers_deleted(self, number: object) -> None:
        """Somebody deletes a version's InferenceService: a candidate begins anew, perhaps within the same second."""
        if number in self.names:
            self.laws.attempt = Attempt()
            self.world.remove(INFERENCE_SERVICE, self.world.service(self.names[int(str(number))]))

    def calm(self, last: Spec) -> None:
        """Nothing happens any more but requests: everything that can end must end."""
        world = self.world
        world.gateway.answering = world.kserve_answering = True
        world.unready.clear()
        world.doubted.clear()
        world.rate = 1000
        world.named_rate = 100
        world.room = 1000
        self._set_steps(last)
        for number in range(900):
            if world.status.paused is not None:
                world.annotate(order=f"resume {world.status.candidate} #calm{number} by dana")
            self._steps(1)
            if not self._is_woken() and not self._skip_to_next_look():
                return

    def _skip_to_next_look(self) -> bool:
        """With nobody at work, time goes by at once; False when nothing is ever looked at again."""
        world, changes = self.world, self.world.changes
        world.let_kserve_work()
        world.let_gateway_work()
        if world.changes == changes and self._due < inf:
            world.pass_time(max(0, ceil(self._due - world.gateway.clock) - 1))
        return world.changes != changes or self._due < inf

    def look_in_vain(self) -> None:
        """Looks that nobody asked for, as after a restart, change nothing."""
        before = self.world.writes
        for _ in range(5):
            self.world.pass_time(10)
            self._pass()
        assert self.world.writes == before, "something is written though nothing happens"

    def copy(self) -> Self:
        """The same at the same moment. Types stay the same objects, as they are compared all the time."""
        return copy.deepcopy(self, {id(each): each for each in self.world.stores.types})


CONTROLLED = st.one_of(
    order(),
    order(),
    order(),
    order(),
    order(),
    *common(),
    st.tuples(st.just("steps"), st.integers(20, 60)),
    st.tuples(st.just("status_lost"), st.none()),
    st.tuples(st.just("killed_while_writing"), st.integers(0, 4)),
    st.tuples(st.just("gateway_away"), st.booleans()),
    st.tuples(st.just("edit_steps"), st.sampled_from([0, 1, 2])),
    st.tuples(st.just("pin"), st.one_of(st.none(), st.integers(1, 9))),
)
"""What people do, mostly."""

BOUNDS = examples(15, 100)
LONG = examples(200, 200)
"""For histories that are longer, too: minutes."""
QUICK = [{**step, "analyze": {"for": "8s"}} if "analyze" in step else step for step in STEPS]
LAST: Spec = {"steps": QUICK, "strategy": None}


@cache
def _first_version_serves() -> Run:
    return Run()


@cache
def _second_version_has_users() -> Run:
    run = Run()
    for event, argument in (("new_version", (2, 0)), ("steps", 12)):
        run.play(event, argument)
    assert run.world.status.weight
    return run


@cache
def _third_version_waits() -> Run:
    """Two versions served, and a third one waits for a person."""
    run = Run()
    for event, argument in (("new_version", (2, 0)), ("steps", 75), ("edit_steps", 1), ("new_version", (3, 0))):
        run.play(event, argument)
    run.play("steps", 6)
    return run


START = st.sampled_from([_first_version_serves, _second_version_has_users])


@law
@BOUNDS
@given(START, st.lists(EVENTS, min_size=2, max_size=20), st.one_of(st.just(LAST), ENDING))
def test_laws_hold_and_every_rollout_ends(start: Callable[[], Run], events: list[Event], last: Spec) -> None:
    play_to_the_end(start().copy(), events, last)


@pytest.mark.slow
@LONG
@given(START, st.lists(EVENTS, min_size=20, max_size=60), st.one_of(st.just(LAST), ENDING))
def test_laws_hold_in_long_histories(start: Callable[[], Run], events: list[Event], last: Spec) -> None:
    play_to_the_end(start().copy(), events, last)


STATUS_LOST_AFTER_A_FULL_PROMOTION: list[Event] = [
    ("order", ("abort ", "fitting", 30)),
    ("new_version", (6, 60)),
    ("order", ("promote-full ", "fitting", 30)),
    ("status_lost", None),
    ("steps", 42),
]


@law
@BOUNDS
@example(STATUS_LOST_AFTER_A_FULL_PROMOTION)
@given(st.lists(CONTROLLED, min_size=2, max_size=20))
def test_laws_hold_whatever_people_order(events: list[Event]) -> None:
    play_to_the_end(_third_version_waits().copy(), events, LAST)


@pytest.mark.slow
@LONG
@given(st.lists(CONTROLLED, min_size=20, max_size=60))
def test_laws_hold_whatever_people_order_for_long(events: list[Event]) -> None:
    play_to_the_end(_third_version_waits().copy(), events, LAST)


def play_to_the_end(run: Run, events: list[Event], last: Spec) -> None:
    for event, argument in events:
        run.play(event, argument)
    run.calm(last)
    world, status = run.world, run.world.status
    assert status.candidate is None, world.rollout["status"]
    assert {each.role for each in status.versions or ()} == {"Stable"}
    assert [version_of(each) for each in world.stores.list(INFERENCE_SERVICE, "flights")] == [status.stable]
    assert world.weights() == {world.service(str(status.stable)): 100}
    run.look_in_vain()


@law
@BOUNDS
@given(START, st.lists(EVENTS, max_size=20))
def test_plans_are_pure_and_settle(start: Callable[[], Run], events: list[Event]) -> None:
    run = start().copy()
    for event, argument in events:
        run.play(event, argument)
    snapshot, now = run.world.observe(), run.world.now
    first, second = run.world.controller.plan(snapshot, now), run.world.controller.plan(snapshot, now)
    assert first == second
