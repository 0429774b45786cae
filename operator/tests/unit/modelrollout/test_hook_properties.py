"""Laws of hooks and alerts under random answers, restarts and events, on top of those of every rollout."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law
from unit.modelrollout.receivers import Post
from unit.modelrollout.test_hooks import EVERY, hook
from unit.modelrollout.test_properties import Laws
from unit.modelrollout.world import PROJECT, STEPS, World

from slipway.runtime.controller import Call

pytestmark = pytest.mark.timeout(600)

SAYS = st.sampled_from(["200", "200", "204", "302", "403", "500", "timeout", "refused", "never"])
RECEIVERS = st.sampled_from([*EVERY, "load-test", "team", "ops"])
EVENTS = st.one_of(
    st.tuples(st.just("say"), st.tuples(RECEIVERS, SAYS)),
    st.tuples(st.just("steps"), st.integers(1, 40)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("crash"), st.integers(0, 5)),
    st.tuples(st.just("version"), st.tuples(st.integers(2, 5), st.sampled_from([0, 0, 60]))),
    st.tuples(st.just("flap"), st.tuples(st.integers(1, 5), st.booleans())),
    st.tuples(st.just("retry"), st.tuples(st.integers(2, 5), st.integers(0, 2))),
)
WALK = [
    STEPS[0],
    STEPS[1],
    {"name": "load-test", "webhook": {"url": "http://a.flights.svc", "interval": "5s"}},
    STEPS[4],
]
BOUNDS = examples(5, 40)


class Run:
    """Plays events and checks the laws after each pass."""

    def __init__(self) -> None:
        hooks = [hook(each) for each in EVERY]
        alerts = [{"name": name, "type": "Webhook", "secretRef": {"name": name}} for name in ("team", "ops")]
        self.world = World({"steps": WALK, "checks": [], "hooks": hooks, "alerts": alerts})
        self.world.receivers.say["rollback"] = "404"
        self.world.serve_first()
        self.laws = Laws(self.world)
        self.laws.stable.update(self.name(number) for number in range(1, 6))  # no checks: hooks judge here
        self.retries = 0

    @staticmethod
    def name(number: int) -> str:
        return f"{PROJECT}-{number:010x}"

    def play(self, event: str, argument: object) -> None:
        getattr(self, f"_{event}")(argument)

    def _say(self, argument: tuple[str, str]) -> None:
        self.world.receivers.say[argument[0]] = argument[1]

    def _steps(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.let_kserve_work()
            self.world.let_gateway_work()
            self.world.pass_time(1)
            self._pass()

    def _restart(self, _: object) -> None:
        self.world.receivers.restart()
        self.world.gateway.restart_operator()

    def _crash(self, actions: int) -> None:
        self._pass(crash_after=actions)
        self.world.receivers.restart()

    def _version(self, argument: tuple[int, int]) -> None:
        if self.world.behaviour.get(self.world.service(self.name(argument[0]))) is None:
            self.world.add_version(argument[0], failing=argument[1])

    def _flap(self, argument: tuple[int, bool]) -> None:
        service = self.world.service(self.name(argument[0]))
        (self.world.unready.discard if argument[1] else self.world.unready.add)(service)

    def _retry(self, argument: tuple[int, int]) -> None:
        self.world.annotate(retry=f"{self.name(argument[0])}:{argument[1]}")

    def _pass(self, crash_after: int | None = None) -> None:
        snapshot = self.world.observe()
        plan = self.world.controller.plan(snapshot, self.world.now)
        self.laws.check(snapshot, plan)
        calls = [each for each in plan.actions if isinstance(each, Call)]
        assert plan.actions[len(plan.actions) - len(calls) :] == tuple(calls), "the world is told last"
        status = plan.status or {}
        assert len(status.get("notices", ())) <= 64
        assert len(status.get("hooks", ())) <= len(EVERY) + len(WALK)
        self.world.reconcile(crash_after, plan)

    def calm(self) -> None:
        """Everything answers yes but the rollback hook."""
        self.world.unready.clear()
        self.world.receivers.say = {"rollback": "404"}
        quiet = 0
        for _ in range(150):
            before = (self.world.writes, len(self.world.receivers.posts))
            self._steps(10)
            quiet = quiet + 1 if before == (self.world.writes, len(self.world.receivers.posts)) else 0
            waits = any(each.delivered_at is None for each in self.world.status.notices or ())
            if quiet > 7 and not waits:
                return


def question(post: Post) -> tuple[str, ...]:
    """What a call is about: two posts with the same question must have the same token."""
    body = post.request.body
    candidate = (body.get("candidate") or {}).get("name", "")
    if post.type == "alert":
        return (post.receiver, body["reason"], body.get("version", ""), body.get("step", ""), body["at"])
    if post.type == "event":
        said = body["metadata"]
        return (post.type, said["eventReason"], said["eventMessage"], said["timestamp"], candidate)
    if post.type == "confirm-traffic-increase":
        return (post.type, candidate, post.request.key)
    return (post.type, post.receiver, candidate, post.request.key.partition(".")[0])


@law
@BOUNDS
@given(st.lists(EVENTS, max_size=25))
def test_laws_hold_and_the_rollout_ends_or_waits_at_a_gate(events: list[tuple[str, object]]) -> None:
    run = Run()
    for event, argument in events:
        run.play(event, argument)
        status = run.world.status
        if status.candidate is not None and status.phase not in ("RollingBack",):
            progressing = run.world.condition("Progressing")
            assert progressing is not None
            assert progressing[2], "a rollout that waits says for what"
    run.calm()
    status = run.world.status
    assert status.candidate is None, run.world.rollout["status"]
    assert [each for each in status.notices or () if each.delivered_at is None] == []
    before, posts = run.world.writes, len(run.world.receivers.posts)
    run._steps(60)
    assert (run.world.writes, len(run.world.receivers.posts)) == (before, posts)


@law
@BOUNDS
@given(st.lists(EVENTS, max_size=25))
def test_no_question_is_posted_with_two_tokens_and_no_token_stands_for_two(events: list[tuple[str, object]]) -> None:
    run = Run()
    for event, argument in events:
        run.play(event, argument)
    run.calm()
    tokens: dict[tuple[str, ...], set[str]] = defaultdict(set)
    questions: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for post in run.world.receivers.posts:
        if post.type == "rollout":
            continue  # each interval asks anew
        tokens[question(post)].add(post.request.token)
        questions[post.request.token].add(question(post))
    assert {asked: found for asked, found in tokens.items() if len(found) > 1} == {}
    assert {token: found for token, found in questions.items() if len(found) > 1} == {}


@law
@BOUNDS
@given(st.lists(EVENTS, max_size=25))
def test_an_alert_that_a_receiver_took_is_not_sent_again(events: list[tuple[str, object]]) -> None:
    run = Run()
    for event, argument in events:
        if event != "crash" and event != "restart":  # what was taken and not yet noted then may be repeated, as is said
            run.play(event, argument)
    run.calm()
    taken: set[str] = set()
    for post in run.world.receivers.posts:
        if post.type == "alert":
            assert post.request.token not in taken
            if post.answer is not None and post.answer.result == "Ok":
                taken.add(post.request.token)
