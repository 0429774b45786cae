"""Analysis by templates in a played world: what is measured when, what verdicts do, what people may do about them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from unit.modelrollout.world import NAME, NAMESPACE, PROJECT, World

from slipway.adapters.measurements import Answer
from slipway.api.rollout_analysis import AnalysisRun
from slipway.runtime.resources import ANALYSIS_TEMPLATE, INFERENCE_SERVICE, JOB, MODEL_ROLLOUT

Object = dict[str, Any]

V1, V2, V3 = (f"{PROJECT}-{number:010x}" for number in (1, 2, 3))
S1, S2 = (f"{NAME}-{number:010x}" for number in (1, 2))
PROMETHEUS: Object = {"prometheus": {"address": "http://prometheus:9090", "query": "up"}}
GOOD, BAD, DOWN = Answer([1.0]), Answer([0.0]), Answer(error="prometheus did not answer within 10 s.")
NOT_A_NUMBER = Answer([float("nan")])
SLOW: list[Object] = [
    {"name": "some", "setWeight": 10},
    {"name": "wait", "pause": {"for": "60s"}},
    {"name": "everyone", "setWeight": 100},
]
USE: Object = {"templates": [{"name": "answers"}]}
STEP: list[Object] = [
    {"name": "some", "setWeight": 10},
    {"name": "measure", "analyze": USE},
    {"name": "everyone", "setWeight": 100},
]


def metric(name: str = "up", **more: Any) -> Object:
    return {"name": name, "provider": PROMETHEUS, "successCondition": "result[0] > 0.5", **more}


def rollout(steps: list[Object], analysis: Object | None = None, **more: Any) -> World:
    spec = {"steps": steps, "checks": [], **({"analysis": analysis} if analysis else {}), **more}
    world = World(spec)
    world.serve_first()
    return world


def run_of(world: World, kind: str) -> AnalysisRun:
    return next(each for each in world.status.analysis or () if each.kind == kind)


def until(world: World, kind: str, phase: str, limit: int = 200) -> AnalysisRun:
    for _ in range(limit):
        world.step()
        found = [each for each in world.status.analysis or () if each.kind == kind]
        if found and found[0].phase == phase:
            return found[0]
    raise AssertionError(f"{kind} is not {phase}: {world.rollout['status']}")


# ---- in the background -----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_background_is_measured_from_the_first_request_to_the_promotion() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="10s"))
    world.add_version(2)
    while not world.weights().get(S2):
        world.step()
        assert not world.probes.asked, "measured before the first request"
    world.run_until("Healthy")
    run = run_of(world, "Background")
    assert (run.phase, run.version, world.status.stable) == ("Successful", V2, V2)
    assert 5 <= run.metrics[0].successful <= 8
    assert len(run.metrics[0].measurements) == 3
    asked = len(world.probes.asked)
    world.run(60)
    assert len(world.probes.asked) == asked, "measured after the promotion"


@pytest.mark.slow
def test_measurements_wait_for_the_starting_step() -> None:
    world = rollout(SLOW, {**USE, "startingStep": "everyone"})
    world.add_template("answers", metric(interval="5s"))
    world.add_version(2)
    while world.status.step is None or world.status.step.name != "everyone":
        world.step()
    assert not world.status.analysis


def test_a_failed_metric_rejects_the_version_with_its_sentence() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s", failureLimit=1))
    world.probes.values["up"] = [GOOD, BAD, GOOD, BAD]
    world.add_version(2)
    world.run_until("RollingBack")
    rejected = world.status.rejected
    assert rejected is not None
    assert (rejected[0].name, rejected[0].reason) == (V2, "AnalysisFailed")
    assert rejected[0].message == (
        f"The analysis in the background of version {V2} failed: Metric up: 2 measurements Failed, 1 forgiven:"
        " result[0] > 0.5 is not true of [0.0]."
    )
    assert world.weights() == {S1: 100}
    metrics = run_of(world, "Background").metrics[0]
    assert (metrics.successful, metrics.failed, metrics.phase) == (2, 2, "Failed")


def test_without_automatic_rollback_a_failed_metric_holds_the_version() -> None:
    world = rollout(SLOW, USE, rollback={"automatic": False})
    world.add_template("answers", metric(interval="5s"))
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    until(world, "Background", "Failed")
    world.run(100)
    assert (world.status.candidate, world.weights()[S2], world.status.phase) == (V2, 10, "Paused")
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[0] == "True"
    world.annotate(promote=f"wait:{V2}")
    world.run_until("Healthy")
    assert world.status.stable == V2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "more", "phase", "reason"),
    [
        (NOT_A_NUMBER, {}, "Inconclusive", "AnalysisInconclusive"),
        (DOWN, {"consecutiveErrorLimit": 2}, "Error", "AnalysisError"),
        (Answer([0.5]), {"failureCondition": "result[0] < 0.5"}, "Inconclusive", "AnalysisInconclusive"),
        (Answer([]), {"consecutiveErrorLimit": 0}, "Error", "AnalysisError"),
    ],
)
def test_no_verdict_holds_the_weight_until_a_person_promotes(
    answer: Answer, more: Object, phase: str, reason: str
) -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s", **more))
    world.probes.values["up"] = [answer]
    world.add_version(2)
    until(world, "Background", phase)
    world.run(200)
    assert (world.weights()[S2], world.status.phase, world.status.rejected) == (10, "Paused", None)
    for kind in ("Stalled", "Progressing"):
        condition = world.condition(kind)
        assert condition is not None
        assert condition[:2] == ("True" if kind == "Stalled" else "False", reason)
        assert f"slipway.dev/promote: wait:{V2}" in condition[2]
    world.annotate(promote=f"elsewhere:{V2}")
    world.run(3)
    assert world.events[-1] == "AnnotationIgnored"
    world.annotate(promote=f"wait:{V2}")
    world.run_until("Healthy")
    assert (world.status.stable, run_of(world, "Background").promoted) == (V2, True)
    assert world.condition("Stalled") is None


def test_a_dry_run_is_shown_and_decides_nothing() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s", dryRun=True), metric("other", interval="5s"))
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    world.run_until("Healthy")
    shown = {each.name: each for each in run_of(world, "Background").metrics}
    assert (world.status.stable, shown["up"].phase, shown["up"].dry_run) == (V2, "Failed", True)
    assert run_of(world, "Background").phase == "Successful"


def test_an_answer_that_takes_its_time_is_not_asked_for_twice() -> None:
    world = rollout(SLOW, USE)
    world.probes.latency = 7
    world.add_template("answers", metric(interval="10s"))
    world.add_version(2)
    world.run_until("Healthy")
    assert len(world.probes.asked) == len(set(world.probes.asked))
    assert 3 <= run_of(world, "Background").metrics[0].successful <= 5


def test_a_restart_begins_again_what_was_under_way_under_the_same_name() -> None:
    world = rollout(SLOW, USE)
    world.probes.latency = 4
    world.add_template("answers", metric(interval="10s"))
    world.add_version(2)
    while not world.probes.asked:
        world.step()
    world.restart_operator()
    world.run_until("Healthy")
    first, second, *_ = world.probes.asked
    assert first == second
    taken = run_of(world, "Background").metrics[0].taken
    assert len(set(world.probes.asked)) in (taken, taken + 1)


@pytest.mark.slow
def test_a_new_candidate_is_measured_from_the_beginning() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s"))
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    world.run_until("RollingBack")
    world.run(60)
    world.probes.values["up"] = [GOOD]
    world.add_version(3)
    world.run_until("Healthy")
    run = run_of(world, "Background")
    assert (world.status.stable, run.version, run.metrics[0].failed) == (V3, V3, 0)


def test_a_candidate_that_lost_its_servers_is_measured_anew() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s", failureLimit=3))
    world.probes.values["up"] = [BAD, GOOD]
    world.add_version(2)
    while not (world.status.analysis and world.status.analysis[0].metrics[0].taken > 2):
        world.step()
    world.unready.add(S2)
    world.run(3)
    world.unready.clear()
    world.run(8)
    run = run_of(world, "Background")
    assert run.metrics[0].taken <= 2
    world.run_until("Healthy")
    assert world.status.stable == V2


# ---- the gateway -----------------------------------------------------------------------------------------------------
def gateway(**more: Any) -> Object:
    return {"gateway": {"metric": "successPercent", "window": "20s", "minimumRequests": 50, **more}}


def test_the_gateway_compares_with_the_stable_version() -> None:
    world = rollout(SLOW, USE)
    condition = "result.value >= result.stable - 1.0 && result.stableRequests > result.requests"
    source = gateway(includeStable=True)
    world.add_template("answers", metric("answers", provider=source, successCondition=condition, interval="10s"))
    world.add_version(2, failing=10)
    world.run_until("RollingBack")
    assert world.status.rejected is not None
    assert '"value": 90.0' in world.status.rejected[0].message


@pytest.mark.slow
def test_too_few_requests_are_waited_for_and_then_inconclusive() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric("answers", provider=gateway(), successCondition="result.value > 99.0"))
    world.rate = 10
    world.add_version(2)
    run = until(world, "Background", "Inconclusive")
    assert run.metrics[0].measurements[0].message == "The version had 20 of 50 requests in 20s."
    world.run(100)
    assert world.weights()[S2] == 10


@pytest.mark.slow
def test_a_step_that_begins_a_new_window_makes_no_measurement_inconclusive() -> None:
    steps = [{"name": "a", "setWeight": 10}, {"name": "b", "pause": {"for": "25s"}}, *SLOW[1:]]
    world = rollout(steps, USE)
    world.add_template(
        "answers", metric("answers", provider=gateway(), successCondition="result.value > 99.0", interval="5s")
    )
    world.add_version(2)
    world.run_until("Healthy")
    found = run_of(world, "Background").metrics[0]
    assert (world.status.stable, found.inconclusive) == (V2, 0)
    assert found.successful > 3


# ---- steps -----------------------------------------------------------------------------------------------------------
def test_a_step_waits_for_its_own_measurements() -> None:
    world = rollout(STEP)
    world.add_template("answers", metric(interval="10s", count=3, initialDelay="5s"))
    world.add_version(2)
    world.run_until("Analyzing")
    assert world.weights()[S2] == 10
    run = until(world, "Step", "Successful")
    assert (run.step, run.metrics[0].successful) == ("measure", 3)
    world.run_until("Healthy")
    assert world.status.stable == V2


def test_a_step_that_fails_rejects_the_version() -> None:
    world = rollout(STEP)
    world.add_template("answers", metric())
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    world.run_until("RollingBack")
    assert world.status.rejected is not None
    assert world.status.rejected[0].message.startswith(
        f"The analysis of step measure of version {V2} failed: Metric up"
    )


def test_a_step_with_a_time_ends_metrics_without_end_but_never_without_a_success() -> None:
    steps = [STEP[0], {"name": "measure", "analyze": {**USE, "for": "20s"}}, STEP[2]]
    world = rollout(steps)
    world.add_template("answers", metric(interval="5s", consecutiveErrorLimit=1000))
    world.probes.values["up"] = [DOWN] * 8 + [GOOD]
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(35)
    assert world.status.phase == "Analyzing"
    world.run_until("Healthy")
    assert run_of(world, "Step").metrics[0].successful == 1


def test_two_steps_are_measured_apart() -> None:
    steps = [STEP[0], STEP[1], {"name": "again", "analyze": USE}, STEP[2]]
    world = rollout(steps)
    world.add_template("answers", metric())
    world.add_version(2)
    world.run_until("Healthy")
    assert [each.metric for each in world.probes.asked] == ["Step/measure/up", "Step/again/up"]


def test_a_step_without_verdict_is_promoted_by_its_name() -> None:
    world = rollout(STEP)
    world.add_template("answers", metric())
    world.probes.values["up"] = [NOT_A_NUMBER]
    world.add_version(2)
    until(world, "Step", "Inconclusive")
    world.run(5)
    world.annotate(promote="measure")
    world.run_until("Healthy")
    assert world.status.stable == V2


# ---- before and after the promotion ----------------------------------------------------------------------------------
def test_nothing_gets_all_requests_before_the_analysis_before_the_promotion_passed() -> None:
    world = rollout(STEP[::2], {"prePromotion": USE})
    world.add_template("answers", metric(interval="10s", count=3))
    world.add_version(2)
    until(world, "PrePromotion", "Running")
    while run_of(world, "PrePromotion").phase == "Running":
        assert world.weights()[S2] == 10
        world.step()
    world.run_until("Healthy")
    assert world.status.stable == V2


def test_a_failure_before_the_promotion_rejects_the_version() -> None:
    world = rollout(STEP[::2], {"prePromotion": USE})
    world.add_template("answers", metric())
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    world.run_until("RollingBack")
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})


@pytest.mark.slow
def test_a_failure_after_the_promotion_goes_back_to_the_previous_version() -> None:
    world = rollout(STEP[::2], {"postPromotion": USE})
    world.add_template("answers", metric(interval="10s", count=5))
    world.probes.values["up"] = [GOOD, GOOD, BAD]
    world.add_version(2)
    while world.status.stable != V2:
        world.step()
    world.add_version(3)
    while world.status.stable == V2:
        assert world.status.candidate is None, "a newer version begins while the last one is judged"
        world.step()
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})
    rejected = world.status.rejected
    assert rejected is not None
    assert (rejected[0].name, rejected[0].reason) == (V2, "AnalysisFailed")
    assert [each.outcome for each in world.status.history or ()][:2] == ["RolledBack", "Promoted"]
    assert {each.name: each.role for each in world.status.versions or ()}[V1] == "Stable"
    world.probes.values["up"] = [GOOD]
    world.run_until("Healthy")
    world.run(200)
    assert world.status.stable == V3
    assert run_of(world, "PostPromotion").phase == "Successful"


def test_the_previous_version_stays_warm_while_its_successor_is_judged() -> None:
    world = rollout(STEP[::2], {"postPromotion": USE}, rollback={"keepPrevious": "5s"})
    world.add_template("answers", metric(interval="20s", count=3))
    world.probes.values["up"] = [GOOD, GOOD, BAD]
    world.add_version(2)
    while world.status.stable != V2:
        world.step()
    until(world, "PostPromotion", "Failed")
    assert world.status.stable == V1
    assert world.get(INFERENCE_SERVICE, S1) is not None


def test_without_servers_to_go_back_to_the_new_version_stays() -> None:
    world = rollout(STEP[::2], {"postPromotion": USE}, rollback={"keepPrevious": "5s"})
    world.add_template("answers", metric(initialDelay="10s"))
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    while world.status.stable != V2:
        world.step()
    world.unready.add(S1)
    until(world, "PostPromotion", "Failed")
    world.run(20)
    assert (world.status.stable, world.weights()) == (V2, {S2: 100})
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[1] == "AnalysisFailed"
    assert f"the version before, {V1}, has no ready server" in stalled[2]
    world.unready.clear()
    world.run(3)
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})


def test_a_version_that_is_only_just_known_to_the_gateway_can_be_gone_back_to() -> None:
    world = World({"steps": STEP[::2], "checks": [], "analysis": {"postPromotion": USE}})
    world.add_version(1)
    world.run_until("Healthy")
    world.add_template("answers", metric())
    world.probes.values["up"] = [BAD]
    world.add_version(2)
    until(world, "PostPromotion", "Failed", limit=20)
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})


def test_a_person_who_goes_back_is_not_second_guessed() -> None:
    world = rollout(STEP[::2], {"postPromotion": USE, "prePromotion": USE})
    world.add_template("answers", metric())
    world.add_version(2)
    world.run_until("Healthy")
    world.run(5)
    world.probes.values["up"] = [BAD]
    asked = len(world.probes.asked)
    world.pin(V1)
    world.run(10)
    assert (world.status.stable, world.weights()) == (V1, {S1: 100})
    assert len(world.probes.asked) == asked


@pytest.mark.slow
def test_whoever_goes_back_to_servers_that_have_to_start_is_not_second_guessed_either() -> None:
    world = rollout(STEP[::2], {"prePromotion": USE})
    world.add_template("answers", metric())
    world.add_version(2)
    world.run_until("Healthy")
    world.run(5)
    world.probes.values["up"] = [BAD]
    asked = len(world.probes.asked)
    world.unready.add(S1)
    world.pin(V1)
    world.run(3)
    world.now -= timedelta(hours=1)
    world.run(3)
    world.unready.clear()
    world.run(30)
    assert (world.status.stable, len(world.probes.asked)) == (V1, asked)


def test_the_first_version_ever_is_not_measured() -> None:
    world = rollout(STEP, {**USE, "prePromotion": USE, "postPromotion": USE})
    world.run(5)
    assert (world.status.stable, world.status.analysis, world.probes.asked) == (V1, None, [])


# ---- Jobs ------------------------------------------------------------------------------------------------------------
JOB_METRIC: Object = {
    "name": "probe",
    "provider": {"job": {"image": "probe:1", "args": ["--at", "{{args.candidate-service}}"], "deadline": "90s"}},
}


@pytest.mark.parametrize(("exit_code", "stable"), [(0, V2), (1, V1)])
def test_a_job_decides_by_its_exit_code(exit_code: int, stable: str) -> None:
    world = rollout(STEP)
    world.add_template("answers", JOB_METRIC)
    world.add_version(2)
    while not world.stores.list(JOB, NAMESPACE):
        world.step()
    job = world.stores.list(JOB, NAMESPACE)[0]
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["args"] == ["--at", f"{S2}-predictor"]
    assert (pod["automountServiceAccountToken"], pod["securityContext"]["runAsNonRoot"]) == (False, True)
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert job["spec"]["activeDeadlineSeconds"] == 90
    world.restart_operator()
    world.run(20)
    assert len(world.stores.list(JOB, NAMESPACE)) == 1
    assert world.end_jobs(exit_code) == 1
    world.run_until("Healthy")
    assert world.status.stable == stable


def test_a_job_that_nothing_waits_for_is_deleted() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", JOB_METRIC)
    world.add_version(2)
    while not world.stores.list(JOB, NAMESPACE):
        world.step()
    world.pin(V1)
    world.run(3)
    assert world.stores.list(JOB, NAMESPACE) == []


# ---- templates and arguments -----------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "use", "sentence"),
    [
        (None, USE, "spec.analysis: There is no AnalysisTemplate answers: create it, or correct its name."),
        (
            {"args": [{"name": "least"}]},
            USE,
            "spec.analysis: AnalysisTemplate answers needs a value for argument least: add it to args.",
        ),
        (
            {"successCondition": "result[0] > {{args.least}}"},
            USE,
            "spec.analysis: AnalysisTemplate answers refers to argument least, which it does not declare: correct it"
            " there.",
        ),
        (
            {"args": [{"name": "least"}], "successCondition": "result[0] > {{args.least}}"},
            {**USE, "args": [{"name": "least", "value": "much"}]},
            "spec.analysis: AnalysisTemplate answers: a condition is none with the values of its arguments: 1:13:"
            " undeclared reference to 'much'.",
        ),
        (
            {"interval": "5s"},
            {"prePromotion": USE},
            "spec.analysis.prePromotion: metric up has an interval and no count, so it never ends: set count in its"
            " template.",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_told_before_it_is_needed(
    template: Object | None, use: Object, sentence: str
) -> None:
    world = rollout(SLOW, use)
    if template is not None:
        args = template.pop("args", [])
        world.add_template("answers", metric(**template), args=args)
    world.run(2)
    ready = world.condition("AnalysisReady")
    assert ready is not None
    assert (ready[0], ready[1], ready[2]) == ("False", "AnalysisInvalid", sentence)
    world.add_version(2)
    world.run(200)
    assert (world.status.candidate, world.status.phase) == (V2, "Paused")
    assert world.weights()[S2] == 10
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[1:] == ("AnalysisInvalid", sentence)
    world.remove(ANALYSIS_TEMPLATE, "answers")
    world.add_template("answers", metric())
    world.run_until("Healthy")
    assert world.status.stable == V2


def test_arguments_are_those_of_the_use_then_of_the_rollout_then_of_the_template_then_given() -> None:
    analysis = {
        "templates": [{"name": "shared", "clusterScope": True}],
        "args": [{"name": "b", "value": "rollout"}, {"name": "c", "value": "rollout"}],
    }
    text = "{{args.a}} {{ args.b }} {{args.c}} {{args.rollout}} {{args.stable-version}} {{args.candidate-service}}"
    provider = {"prometheus": {"address": "http://prometheus:9090", "query": text}}
    step = {"templates": [{"name": "shared", "clusterScope": True}], "args": [{"name": "c", "value": "step"}]}
    world = rollout([STEP[0], {"name": "measure", "analyze": step}, STEP[2]], analysis)
    args = [{"name": name, "value": "template"} for name in "abc"]
    world.add_template("shared", metric(provider=provider, interval="10s", count=1), args=args, cluster=True)
    seen: list[str] = []
    begin = world.probes.begin

    async def watch(token: Any, namespace: str, provider: Any) -> None:
        seen.append(provider.prometheus.query)
        await begin(token, namespace, provider)

    world.probes.begin = watch  # type: ignore[method-assign]
    world.add_version(2)
    world.run_until("Healthy")
    assert seen == [
        f"template rollout rollout {NAME} {V1} {S2}-predictor",
        f"template rollout step {NAME} {V1} {S2}-predictor",
    ]


def test_a_template_that_is_edited_on_the_way_keeps_what_was_counted() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s"))
    world.add_version(2)
    until(world, "Background", "Running")
    world.run(20)
    before = run_of(world, "Background").metrics[0].taken
    spec = {"args": [], "metrics": [metric(interval="5s"), metric("second", interval="5s")]}
    world.edit(ANALYSIS_TEMPLATE, "answers", {"spec": spec})
    world.run(8)
    metrics = {each.name: each.taken for each in run_of(world, "Background").metrics}
    assert metrics["up"] > before
    assert 0 < metrics["second"] <= 2


def test_a_lost_status_measures_anew() -> None:
    world = rollout(SLOW, USE)
    world.add_template("answers", metric(interval="5s"))
    world.add_version(2)
    until(world, "Background", "Running")
    world.run(10)
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.run_until("Healthy")
    assert (world.status.stable, run_of(world, "Background").phase) == (V2, "Successful")
