"""Analysis under random orders of events: nothing is lost or measured twice, bad versions never stay, all ends."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law
from unit.modelrollout.test_properties import NUMBERS, Laws, Run
from unit.modelrollout.world import World

from slipway.adapters.measurements import Answer, Token
from slipway.api.rollout_analysis import AnalysisRun, MetricRun
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.runtime.controller import Plan
from slipway.runtime.resources import ANALYSIS_TEMPLATE

PROMETHEUS = {"prometheus": {"address": "http://p:9090", "query": "{{args.candidate-version}}"}}
ENDLESS = {"name": "up", "provider": PROMETHEUS, "successCondition": "result[0] > 0.5", "interval": "4s"}
LIMITS = {"failureLimit": 1, "inconclusiveLimit": 1, "consecutiveErrorLimit": 2}
COUNTED = {**ENDLESS, **LIMITS, "name": "counted", "count": 3}
ANALYSIS: dict[str, Any] = {
    "templates": [{"name": "endless"}],
    "prePromotion": {"templates": [{"name": "counted"}]},
    "postPromotion": {"templates": [{"name": "counted"}]},
}
STEPS = [
    {"name": "some", "setWeight": 10},
    {"name": "measure", "analyze": {"templates": [{"name": "counted"}]}},
    {"name": "more", "setWeight": 40},
    {"name": "rest", "pause": {"for": "8s"}},
    {"name": "everyone", "setWeight": 100},
]
GOOD, BAD = Answer([1.0]), Answer([0.0])
ANSWERS = st.sampled_from([GOOD, GOOD, BAD, Answer([float("nan")]), Answer(error="no answer"), Answer([])])
EVENTS = st.one_of(
    st.tuples(st.just("steps"), st.integers(1, 20)),
    st.tuples(st.just("steps"), st.integers(1, 20)),
    st.tuples(st.just("pass_time"), st.integers(1, 30)),
    st.tuples(st.just("new_version"), st.tuples(NUMBERS, st.just(0))),
    st.tuples(st.just("answers"), ANSWERS),
    st.tuples(st.just("latency"), st.integers(0, 9)),
    st.tuples(st.just("template_gone"), st.sampled_from(["endless", "counted"])),
    st.tuples(st.just("templates_back"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("killed_while_writing"), st.integers(0, 4)),
    st.tuples(st.just("status_lost"), st.none()),
    st.tuples(st.just("clock"), st.integers(-4000, 4000)),
    st.tuples(st.just("servers_flap"), st.tuples(NUMBERS, st.booleans())),
    st.tuples(st.just("gateway_away"), st.booleans()),
    st.tuples(st.just("promote"), st.sampled_from(["measure", "everyone", "promotion", "postPromotion", "rest"])),
    st.tuples(st.just("pin"), st.one_of(st.none(), st.integers(1, 9))),
)


def name_of(run: AnalysisRun, metric: MetricRun) -> tuple[str, ...]:
    return (run.kind, run.version, run.step or "", run.attempt or "", run.started_at, metric.name)


class AnalysisLaws(Laws):
    """The laws of rollouts, and those of measurements."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.taken: dict[tuple[str, ...], MetricRun] = {}
        self.asked: list[Token] = []

    def check(self, snapshot: Snapshot, plan: Plan) -> None:
        super().check(snapshot, plan)
        for written in (plan.status or {}).get("analysis", ()):
            run = AnalysisRun.model_validate(written)
            for metric in run.metrics:
                self._adds_one_at_most(run, metric)
        self._goes_no_further_than_verdicts_allow(plan)

    def _adds_one_at_most(self, run: AnalysisRun, metric: MetricRun) -> None:
        before = self.taken.get(name_of(run, metric))
        if before is not None:
            counts = [(m.successful, m.failed, m.inconclusive, m.error) for m in (before, metric)]
            grown = [after - earlier for earlier, after in zip(*counts, strict=True)]
            assert sum(grown) in (0, 1), "measurements were lost or counted twice"
            assert min(grown) >= 0
            assert before.phase == "Running" or sum(grown) == 0, "measured after the verdict"
        elif metric.taken:
            # What was never written counts as nothing: a run begins with no measurement.
            raise AssertionError("a run begins with measurements")
        self.taken[name_of(run, metric)] = metric

    def _goes_no_further_than_verdicts_allow(self, plan: Plan) -> None:
        status = plan.status or {}
        for written in status.get("analysis", ()):
            run = AnalysisRun.model_validate(written)
            current = run.version == status.get("candidate") and run.attempt == status.get("candidateSince")
            if run.kind == "PrePromotion" and current and status.get("weight") == 100:
                assert run.phase in ("Successful", "Skipped") or run.promoted
            if run.phase == "Failed" and not run.promoted and run.kind != "PostPromotion":
                stable = self.world.status.stable
                ready = stable is not None and self.world.endpoints(self.world.service(stable)) > 0
                assert not (current and ready), "a version that failed goes on"


class AnalysisRunner(Run):
    """Plays events in a world whose rollout is measured by templates."""

    def __init__(self) -> None:
        super().__init__(steps=STEPS, checks=[], analysis=ANALYSIS)
        self.laws = AnalysisLaws(self.world)
        self.laws.stable.add(self.names[1])
        self._templates_back(None)

    def _pass(self, crash_after: int | None = None) -> None:
        if crash_after is None:
            super()._pass()
        else:  # its status is not written, so it is none that the next one follows
            self.world.reconcile(crash_after, self.world.plan())
            self._due = 0.0

    def _templates_back(self, _: object) -> None:
        self.world.add_template("endless", {**ENDLESS, **LIMITS})
        self.world.add_template("counted", COUNTED)

    def _template_gone(self, name: object) -> None:
        self.world.remove(ANALYSIS_TEMPLATE, str(name))

    def _answers(self, answer: object) -> None:
        assert isinstance(answer, Answer)
        self.world.probes.values = {"up": [answer], "counted": [answer]}

    def _latency(self, seconds: object) -> None:
        self.world.probes.latency = int(str(seconds))

    def quiet_down(self) -> None:
        """All measurements are good, and a person lets go on whatever waits for one."""
        world = self.world
        world.gateway.answering = world.kserve_answering = True
        world.unready.clear()
        world.rate = 1000
        self._answers(GOOD)
        self._latency(0)
        self._templates_back(None)
        self._pin(None)
        for number in range(1200):
            stalled, status = world.condition("Stalled"), world.status
            if stalled is not None and stalled[0] == "True" and number % 20 == 0:
                step = status.step.name if status.step else "postPromotion"
                world.annotate(promote=f"{step}:{status.candidate or status.stable}")
            before = world.writes
            self._steps(1)
            if world.writes == before and status.phase == "Healthy" and number > 200:
                self._steps(100)
                return


@cache
def _first_version_serves() -> AnalysisRunner:
    return AnalysisRunner()


@law
@examples(6, 40)
@given(st.lists(EVENTS, max_size=25))
def test_nothing_is_lost_or_measured_twice_and_every_rollout_ends(events: list[tuple[str, object]]) -> None:
    run = _first_version_serves().copy()
    for event, argument in events:
        run.play(event, argument)
    run.quiet_down()
    world, status = run.world, run.world.status
    assert status.candidate is None, world.rollout["status"]
    assert not [each for each in status.analysis or () if each.phase == "Running"]
    assert world.weights() == {world.service(str(status.stable)): 100}
    run.look_in_vain()
