"""Comparisons in a rollout: when they are made, what checks say about them, and that nothing else waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law
from unit.modelrollout.test_predictionlog import LOGGING, allow_logging
from unit.modelrollout.world import NAME, NAMESPACE, PROJECT, World, text

from slipway.adapters.artifacts import Location
from slipway.adapters.jobs import Work
from slipway.api.modelrollout import CheckStatus
from slipway.api.rollout_predictions import Comparison
from slipway.contracts.jobs import Contract, Refusal
from slipway.contracts.predictions import CompareRequest, CompareResult, Deltas, SliceDeltas, SweepRequest
from slipway.controllers.modelrollout.errands import Office
from slipway.controllers.shared.work import Runner
from slipway.runtime.controller import Create
from slipway.runtime.resources import JOB, MODEL_PROJECT, PLATFORM, Object

A = TypeVar("A", bound=Contract)

_A_DAY = timedelta(days=1)
V2 = f"{PROJECT}-{2:010x}"
SHADOW: list[Object] = [{"name": "copies", "mirror": {"percent": 100, "for": "20s"}}, {"name": "all", "setWeight": 100}]
STABILITY: Object = {"name": "stable", "source": "PredictionLog", "metric": "populationStability", "max": "0.2"}
COVERAGE: Object = {"metric": "coveragePercent", "max": None}
DECISIONS: Object = {
    "name": "decisions",
    "source": "PredictionLog",
    "metric": "decisionChangePercent",
    "max": "2",
    "minimumPairs": 100,
}


class Store:
    """The artifact store as the mailbox shows it; while `away`, nothing is known."""

    def __init__(self) -> None:
        self.away = False
        self.requests: dict[str, bytes] = {}
        self.results: dict[str, CompareResult] = {}

    def delivered(self, _: Location, work: Work) -> bool:
        if not self.away:
            self.requests[work.name] = work.request
        return work.name in self.requests

    def answer(self, _: Location, work: Work, model: type[A]) -> A | None:
        found = None if self.away else self.results.get(work.name)
        return found if isinstance(found, model) else None


class LoggingWorld(World):
    """A world with a prediction log: Jobs are made, and answer what the test says."""

    def __init__(self, *, steps: list[Object] | None = None, checks: list[Object] | None = None, **spec: Any) -> None:
        super().__init__({**LOGGING, "steps": steps or SHADOW, "checks": checks or [], **spec})
        self.store = Store()
        self.controller._office = Office(self.store, Runner("runner"))
        tests = {"slices": [{"name": "evenings", "where": "hour >= 18", "metric": "accuracy"}]}
        task = {"type": "BinaryClassification", "statement": "Late?", "target": "late", "leadTime": "0s"}
        optimize = {"type": "Metric", "metric": {"name": "rocAuc"}}
        project = {"task": task, "requirements": {"optimize": optimize}, "tests": tests}
        self.put(MODEL_PROJECT, {"metadata": {"name": PROJECT, "namespace": NAMESPACE}, "spec": project})
        allow_logging(self)

    def execute(self, action: object) -> None:
        if not isinstance(action, Create):
            super().execute(action)
            return
        owner = {"kind": "ModelRollout", "apiVersion": "slipway.dev/v1alpha1", "name": NAME, "uid": self._uid}
        meta = {**action.manifest["metadata"], "ownerReferences": [owner]}
        assert self.get(JOB, meta["name"]) is None
        self.put(JOB, {**action.manifest, "metadata": meta})

    def jobs(self, stage: str = "compare") -> list[Object]:
        found = self.stores.list(JOB, NAMESPACE)
        return [job for job in found if job["metadata"]["labels"]["slipway.dev/stage"] == stage]

    def asked(self, job: Mapping[str, Any]) -> CompareRequest:
        return CompareRequest.model_validate_json(self.store.requests[job["metadata"]["name"]])

    def end(self, job: Mapping[str, Any], result: CompareResult | None, condition: str = "Complete") -> None:
        name = job["metadata"]["name"]
        if result is not None:
            self.store.results[name] = result
        conditions = [{"type": condition, "status": "True", "lastTransitionTime": text(self.now)}]
        self.put(JOB, {**job, "status": {"conditions": conditions}})

    def until_jobs(self, count: int = 1, limit: int = 200) -> Object:
        """Run until so many comparisons were begun; the newest."""
        for _ in range(limit):
            if len(self.jobs()) >= count:
                return max(self.jobs(), key=lambda job: str(job["metadata"]["creationTimestamp"]))
            self.step()
        raise AssertionError(f"{len(self.jobs())} Jobs after {limit} s: {self.rollout['status']}")

    def check(self, name: str = "decisions") -> CheckStatus:
        return next(each for each in self.status.checks or () if each.name == name)

    @property
    def comparison(self) -> Comparison:
        found = self.status.comparisons
        assert found is not None
        return found[-1]


def result(
    *,
    pairs: int = 1000,
    changed: str = "1",
    stability: str = "0.01",
    evenings: str = "1",
    coverage: str | None = "100",
) -> CompareResult:
    """What a Job may find."""
    values: dict[str, Any] = {
        "pairs": pairs,
        "stable_rows": 1000,
        "candidate_rows": 1000,
        "unpaired_stable": 1000 - pairs,
        "decision_change_percent": changed if pairs else None,
        "agreement_percent": "99" if pairs else None,
        "mean_absolute_delta": "0.01" if pairs else None,
        "worst_delta": "0.3" if pairs else None,
        "population_stability": stability,
        "candidate_coverage_percent": coverage,
        "stable_coverage_percent": "100",
    }
    part = {**values, "decision_change_percent": evenings if pairs else None}
    page = "jobs/flights/x/report.html"
    return CompareResult(overall=Deltas(**values), slices=[SliceDeltas(name="evenings", **part)], page=page)


@pytest.fixture
def world() -> LoggingWorld:
    one = LoggingWorld(checks=[DECISIONS])
    one.serve_first()
    one.add_version(2)
    return one


# ---- when ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_step_that_copies_is_compared_when_its_time_is_over(world: LoggingWorld) -> None:
    world.run_until("Analyzing")
    began = world.status.step
    assert began is not None
    world.run(15)
    assert world.jobs() == []
    assert world.check().verdict == "Inconclusive"
    job = world.until_jobs()
    request = world.asked(job)
    assert (request.stable, request.candidate) == (f"{PROJECT}-{1:010x}", V2)
    assert request.candidate_prefix == f"predictions/{NAMESPACE}/{NAME}/{V2}/"
    assert request.since == began.started_at
    assert [each.where for each in request.slices] == ["hour >= 18"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][0] == "compare"
    condition = world.condition("Progressing")
    assert condition is not None
    assert "comparison of its answers" in condition[2]
    world.run(60)
    assert world.status.candidate == V2  # it waits for the verdict
    assert len(world.jobs()) == 1


def test_a_good_comparison_lets_the_version_go_on_and_stays_in_the_status(world: LoggingWorld) -> None:
    world.end(world.until_jobs(), result())
    world.run_until("Healthy")
    assert world.status.stable == V2
    found = world.comparison
    assert (found.pairs, found.decision_change_percent, found.worst_delta, found.worst_slice) == (
        1000,
        "1",
        "0.3",
        "evenings",
    )
    assert found.report == "s3://slipway/jobs/flights/x/report.html"
    assert found.message == (
        "1 % of 1000 requests got another decision; probabilities differ by 0.01 on average and 0.3 at most."
    )
    assert "Compared" in world.events


def test_too_many_changed_decisions_reject_the_version(world: LoggingWorld) -> None:
    world.end(world.until_jobs(), result(changed="2.01"))
    world.run(3)
    (rejection,) = world.status.rejected or ()
    assert (rejection.name, rejection.reason) == (V2, "ChecksFailed")
    assert "The share of changed decisions is 2.01 % over 1000 pairs, above the maximum of 2." in rejection.message
    assert world.weights() == {f"{NAME}-{1:010x}": 100}


@pytest.mark.slow
def test_without_automatic_rollback_the_version_is_held() -> None:
    world = LoggingWorld(checks=[DECISIONS], rollback={"automatic": False, "keepPrevious": "24h"})
    world.serve_first()
    world.add_version(2)
    world.end(world.until_jobs(), result(changed="50"))
    world.run(120)
    assert (world.status.candidate, world.status.phase) == (V2, "Paused")
    assert len(world.jobs()) == 1


@pytest.mark.slow
def test_too_few_pairs_are_inconclusive_and_compared_again_ever_more_seldom(world: LoggingWorld) -> None:
    world.end(world.until_jobs(), result(pairs=99))
    world.run(12)  # numbers are written every ten seconds
    assert (world.check().verdict, world.check().message) == ("Inconclusive", "99 of 100 pairs.")
    spans = []
    for number in range(2, 6):
        job = world.until_jobs(number, limit=2000)
        request = world.asked(job)
        spans.append(request.until)
        world.end(job, result(pairs=99))
    assert len(set(spans)) == 4
    assert len({world.asked(job).since for job in world.jobs()}) == 1
    assert world.status.candidate == V2
    world.end(world.until_jobs(6, limit=2000), result(pairs=100))
    world.run_until("Healthy")
    assert world.status.stable == V2


@pytest.mark.slow
@pytest.mark.parametrize("answer", [result(pairs=0), CompareResult(refusal=Refusal(reason="X", message="Too much."))])
def test_no_pair_or_a_refusal_never_promotes(world: LoggingWorld, answer: CompareResult) -> None:
    for number in range(1, 4):
        world.end(world.until_jobs(number, limit=2000), answer)
        world.run(10)
    assert world.status.candidate == V2
    assert world.check().verdict == "Inconclusive"
    assert world.weights()[f"{NAME}-{2:010x}"] == 0


@pytest.mark.slow
def test_a_step_without_such_checks_does_not_wait_and_is_compared_all_the_same() -> None:
    world = LoggingWorld()
    world.serve_first()
    world.add_version(2)
    world.run_until("Healthy")
    assert world.status.stable == V2
    world.end(world.until_jobs(), result())
    world.run(15)
    assert world.comparison.pairs == 1000
    writes = world.writes
    world.run(120)
    assert world.writes == writes


def test_nothing_is_compared_without_a_log() -> None:
    world = LoggingWorld(predictionLog=None)
    world.serve_first()
    world.add_version(2)
    world.run_until("Healthy")
    world.run(60)
    assert world.jobs() == []
    assert world.status.comparisons is None


@pytest.mark.slow
def test_without_credentials_checks_say_that_nothing_is_logged(world: LoggingWorld) -> None:
    platform = world.get(PLATFORM, "default")
    assert platform is not None
    s3 = {k: v for k, v in platform["spec"]["artifacts"]["s3"].items() if k != "predictionLogSecretRef"}
    world.edit(PLATFORM, "default", {"spec": {"artifacts": {"s3": s3}}})
    world.run(120)
    assert world.jobs() == []
    assert world.check().message == "Nothing is logged: see the condition PredictionLogAvailable."
    assert world.status.candidate == V2


# ---- checks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "answer", "verdict", "says"),
    [
        ({"metric": "meanAbsoluteDelta", "max": "0.01"}, {}, "Success", "0.01 over 1000 pairs."),
        ({"metric": "meanAbsoluteDelta", "max": "0.009"}, {}, "Failed", "above the maximum of 0.009."),
        ({"metric": "worstDelta", "max": "0.3"}, {}, "Success", "0.3 over 1000 pairs."),
        ({"metric": "worstDelta", "max": "0.2"}, {}, "Failed", "above the maximum of 0.2."),
        ({"metric": "populationStability", "max": "0.1"}, {"pairs": 0}, "Success", "1000 answers of each version."),
        ({"metric": "populationStability", "max": "0.1"}, {"stability": "0.3"}, "Failed", "above the maximum of 0.1."),
        ({"slice": "evenings"}, {"evenings": "3"}, "Failed", "3 % over 1000 pairs, above the maximum of 2."),
        ({"slice": "evenings"}, {"changed": "3"}, "Success", "1 % over 1000 pairs."),
        ({"slice": "unknown"}, {}, "Inconclusive", "no slice unknown"),
        ({**COVERAGE, "min": "90"}, {"coverage": "90"}, "Success", "90 % of its answers over 1000 answers of each"),
        ({**COVERAGE, "min": "90"}, {"coverage": "89.9"}, "Failed", "below the minimum of 90."),
        ({**COVERAGE, "min": "90"}, {"coverage": None}, "Inconclusive", "1000 of 100 answers of each version."),
        ({**COVERAGE, "min": "90", "slice": "evenings"}, {"coverage": "95"}, "Success", "95 % of its answers"),
        ({"minimumPairs": 1001}, {}, "Inconclusive", "1000 of 1001 pairs."),
    ],
)
def test_verdicts(change: Object, answer: dict[str, Any], verdict: str, says: str) -> None:
    hold = {"automatic": False, "keepPrevious": "24h"}  # so that a failed check can be looked at
    world = LoggingWorld(checks=[{**DECISIONS, **change}], rollback=hold, steps=[*SHADOW[:1], _PAUSE, *SHADOW[1:]])
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    seen: list[CheckStatus] = []
    job = world.until_jobs()
    world.end(job, result(**answer))
    for _ in range(12):
        world.step()
        seen += [each for each in world.status.checks or () if each.verdict == verdict and says in each.message]
    assert seen, world.rollout["status"]


_PAUSE: Object = {"name": "look", "pause": {"until": "Promoted"}}


def test_distributions_are_compared_in_every_analysis_and_pairs_only_of_copies() -> None:
    steps: list[Object] = [
        *SHADOW[:1],
        {"name": "some", "setWeight": 20},
        {"name": "watch", "analyze": {"for": "20s"}},
        *SHADOW[1:],
    ]
    world = LoggingWorld(steps=steps, checks=[DECISIONS, STABILITY])
    world.serve_first()
    world.add_version(2)
    world.end(world.until_jobs(), result())
    second = world.until_jobs(2)
    assert world.status.step is not None
    assert world.status.step.name == "watch"
    world.end(second, result(pairs=0, stability="0.3"))
    world.run(3)
    (rejection,) = world.status.rejected or ()
    assert "population stability index is 0.3" in rejection.message
    assert "decisions" not in rejection.message  # the pairs of the copies stand
    assert [(each.step, each.mirrored) for each in world.status.comparisons or ()] == [
        ("copies", True),
        ("watch", False),
    ]


def test_the_next_candidate_is_not_judged_by_the_last_ones_comparison(world: LoggingWorld) -> None:
    world.end(world.until_jobs(), result())
    world.run_until("Healthy")
    world.add_version(3)
    world.run_until("Analyzing")
    world.step()
    assert world.check().verdict == "Inconclusive"
    job = world.until_jobs(2)
    assert world.asked(job).candidate == f"{PROJECT}-{3:010x}"
    assert len(world.status.comparisons or ()) == 1


ANSWERS = st.tuples(st.sampled_from([0, 99, 100, 1000]), st.sampled_from(["0", "2", "2.000001", "50"]))


@law
@examples(4, 40)
@given(st.lists(ANSWERS, min_size=1, max_size=3), st.sets(st.integers(0, 40), max_size=20))
def test_only_enough_pairs_within_the_bound_ever_promote(answers: list[tuple[int, str]], away: set[int]) -> None:
    """Whatever Jobs answer and whenever the store is away, and the candidate has no request meanwhile."""
    world = LoggingWorld(checks=[DECISIONS])
    world.serve_first()
    world.add_version(2)
    for number, (pairs, changed) in enumerate(answers, start=1):
        for second in range(2000):
            world.store.away = second in away
            assert world.weights().get(f"{NAME}-{2:010x}", 0) == 0
            assert world.status.stable != V2
            if len(world.jobs()) == number:
                break
            world.step()
        newest = max(world.jobs(), key=lambda job: str(job["metadata"]["creationTimestamp"]))
        world.end(newest, result(pairs=pairs, changed=changed))
        if pairs >= 100:
            world.store.away = False
            world.run_until("Healthy")
            assert (world.status.stable == V2) == (changed in ("0", "2"))
            return
    world.run(30)
    assert world.status.candidate == V2


# ---- trouble ---------------------------------------------------------------------------------------------------------
def test_a_store_that_is_away_holds_up_nothing_but_the_comparison(world: LoggingWorld) -> None:
    world.store.away = True
    world.run(100)
    assert world.jobs() == []
    world.behaviour[f"{NAME}-{2:010x}"].failing = 100
    assert world.status.candidate == V2
    world.store.away = False
    world.end(world.until_jobs(), result())
    world.run_until("Healthy")


def test_a_rollback_needs_no_store() -> None:
    success: Object = {
        "name": "success",
        "metric": "successPercent",
        "min": "99",
        "minimumRequests": 20,
        "window": "30s",
    }
    steps: list[Object] = [{"name": "some", "setWeight": 50}, {"name": "watch", "analyze": {"for": "60s"}}, *SHADOW[1:]]
    world = LoggingWorld(steps=steps, checks=[STABILITY, success])
    world.serve_first()
    world.store.away = True
    world.add_version(2, failing=50)
    world.run(40)
    (rejection,) = world.status.rejected or ()
    assert rejection.reason == "ChecksFailed"


@pytest.mark.slow
def test_a_job_that_failed_is_made_anew(world: LoggingWorld) -> None:
    job = world.until_jobs()
    world.end(job, None, "Failed")
    world.run(20)
    assert "failed as often as it may" in world.check().message
    uid = world.jobs()[0]["metadata"]["uid"]
    world.run(320)
    assert world.jobs()[0]["metadata"]["uid"] != uid
    world.end(world.jobs()[0], result())
    world.run_until("Healthy")


def test_a_restart_begins_no_second_comparison(world: LoggingWorld) -> None:
    world.run_until("Analyzing")
    for _ in range(60):
        world.let_kserve_work()
        world.let_gateway_work()
        world.pass_time(1)
        world.reconcile(crash_after=len(world.plan().actions) if world.jobs() else None)
    assert len(world.jobs()) == 1


# ---- sweep -----------------------------------------------------------------------------------------------------------
def test_old_predictions_are_removed_once_a_day() -> None:
    world = LoggingWorld()
    world.serve_first()
    assert world.jobs("sweep") == []  # on the first day nothing is old
    log = world.status.prediction_log
    assert log is not None
    days = set()
    for _ in range(3):
        world.now = world.now.replace(hour=7) + _A_DAY
        world.run(3)
        (job,) = [each for each in world.jobs("sweep") if "status" not in each]
        request = SweepRequest.model_validate_json(world.store.requests[job["metadata"]["name"]])
        assert request.folder == f"predictions/{NAMESPACE}/{NAME}/"
        days.add(request.before)
        world.end(job, None)
        world.run(10)
    assert days == {"2026-10-25", "2026-10-26", "2026-10-27"}  # 720 hours before
    assert len(world.jobs("sweep")) == 3
    assert world.plan().requeue_after is not None


def test_what_is_logged_no_more_is_still_removed() -> None:
    world = LoggingWorld(predictionLog={"enabled": False, "samplePercent": 100, "retention": "24h"})
    world.serve_first()
    world.now += _A_DAY
    world.run(3)
    assert len(world.jobs("sweep")) == 1
