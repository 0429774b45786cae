"""The arithmetic of metrics and of comparisons, by tables and against what statistics promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import comb, inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.adapters.envoy_stats import WindowStats
from slipway.adapters.measurements import Answer
from slipway.api.analysis import Metric
from slipway.api.modelrollout import Check
from slipway.api.rollout_analysis import AnalysisRun, MetricRun
from slipway.controllers.modelrollout import checks, metrics
from slipway.controllers.modelrollout.comparison import Share, difference, quantile, ratio, wilson

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
PROMETHEUS = {"prometheus": {"address": "http://p:9090", "query": "up"}}
WORDS = {"S": [1.0], "F": [0.0], "I": [0.5]}


def metric(**more: Any) -> Metric:
    conditions = {"successCondition": "result[0] > 0.9", "failureCondition": "result[0] < 0.1"}
    return Metric.model_validate({"name": "m", "provider": PROMETHEUS, **conditions, **more})


def play(one: Metric, letters: str) -> MetricRun:
    """S, F, I and E: measurements in their order, until there is a verdict."""
    run = metrics.begin(one, NOW)
    for letter in letters:
        if run.phase != "Running":
            break
        answer = Answer(WORDS[letter]) if letter != "E" else Answer(error="no answer")
        run = metrics.add(one, run, metrics.interpret(one, answer, NOW), NOW)
    return run


@pytest.mark.parametrize(
    ("more", "letters", "phase", "taken"),
    [
        ({}, "S", "Successful", 1),
        ({}, "F", "Failed", 1),
        ({}, "I", "Inconclusive", 1),
        ({}, "EEEE", "Running", 4),
        ({}, "EEEEE", "Error", 5),
        ({}, "EEEES", "Successful", 5),
        ({"consecutiveErrorLimit": 0}, "E", "Error", 1),
        ({"interval": "5s"}, "S" * 50, "Running", 50),
        ({"interval": "5s", "count": 3}, "SSS", "Successful", 3),
        ({"interval": "5s", "count": 3}, "SES", "Running", 3),
        ({"interval": "5s", "count": 3}, "SESS", "Successful", 4),
        ({"interval": "5s", "count": 3}, "SSF", "Failed", 3),
        ({"interval": "5s", "count": 3, "failureLimit": 1}, "SFS", "Successful", 3),
        ({"interval": "5s", "count": 3, "failureLimit": 1}, "FF", "Failed", 2),
        ({"interval": "5s", "failureLimit": 2}, "FSFSF", "Failed", 5),
        ({"interval": "5s", "inconclusiveLimit": 1}, "ISSI", "Inconclusive", 4),
        ({"interval": "5s", "consecutiveErrorLimit": 1}, "ESESEE", "Error", 6),
        # Forgiven, but nothing was ever good: never a success.
        ({"interval": "5s", "count": 2, "inconclusiveLimit": 2}, "II", "Inconclusive", 2),
        ({"interval": "5s", "count": 2, "failureLimit": 2}, "FF", "Inconclusive", 2),
        ({"count": 1, "failureLimit": 1}, "F", "Inconclusive", 1),
    ],
)
def test_limits(more: dict[str, Any], letters: str, phase: str, taken: int) -> None:
    run = play(metric(**more), letters)
    assert (run.phase, run.taken) == (phase, taken)
    assert (run.due_at is None) == (phase != "Running")


@settings(deadline=None)
@given(st.text("SFIE", max_size=40), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(1, 12))
def test_no_order_loses_or_doubles_a_measurement_and_every_metric_with_a_count_ends(
    letters: str, failures: int, inconclusive: int, errors: int, count: int
) -> None:
    limits = {"failureLimit": failures, "inconclusiveLimit": inconclusive, "consecutiveErrorLimit": errors}
    one = metric(interval="5s", count=count, **limits)
    run = play(one, letters)
    seen = letters[: run.taken]
    assert [run.successful, run.failed, run.inconclusive, run.error] == [seen.count(each) for each in "SFIE"]
    assert run.phase != "Running" or run.taken == len(letters)
    if run.phase == "Successful":
        assert seen.count("S") >= 1
        assert seen.count("F") <= failures
    assert (run.phase == "Failed") == (seen.count("F") > failures)
    # Whatever comes, it ends after so many measurements.
    assert play(one, letters + "SE" * (count + errors + 1)).phase != "Running"


@pytest.mark.parametrize(
    ("conditions", "value", "phase"),
    [
        ({"successCondition": "result > 1.0"}, 2.0, "Successful"),
        ({"successCondition": "result > 1.0"}, 1.0, "Failed"),
        ({"failureCondition": "result > 1.0"}, 2.0, "Failed"),
        ({"failureCondition": "result > 1.0"}, 1.0, "Successful"),
        ({"successCondition": "result > 1.0", "failureCondition": "result < 0.0"}, 0.5, "Inconclusive"),
        ({"successCondition": "result > 1.0", "failureCondition": "result > 0.0"}, 2.0, "Failed"),
        ({"successCondition": "result.ok"}, {"ok": True}, "Successful"),
        ({"successCondition": "result.ok"}, {"ok": "yes"}, "Error"),
        ({"successCondition": "result.ok"}, {}, "Error"),
        ({"successCondition": "result.all(each, each < 2.0)"}, [1.0, 1.5], "Successful"),
        ({"successCondition": "result[0] > 1.0"}, [], "Error"),
        ({"failureCondition": "result > 1.0"}, float("nan"), "Inconclusive"),
        ({"failureCondition": "result[0] > 1.0"}, [float("nan")], "Inconclusive"),
        ({"successCondition": "size(result) == 0 || result[0] < 5.0"}, [], "Successful"),
        ({"successCondition": "result > 1"}, 2**80, "Error"),
    ],
)
def test_conditions(conditions: dict[str, str], value: Any, phase: str) -> None:
    one = Metric.model_validate({"name": "m", "provider": PROMETHEUS, **conditions})
    assert metrics.interpret(one, Answer(value), NOW).phase == phase


@pytest.mark.parametrize(
    ("more", "seconds", "due"),
    [
        ({"initialDelay": "30s"}, 29, False),
        ({"initialDelay": "30s"}, 30, True),
        ({}, 0, True),
        ({"initialDelay": "30s"}, -10, True),  # the clock was set back: nobody waits longer than the delay
        ({"initialDelay": "30s"}, -1, False),
    ],
)
def test_the_first_measurement_waits_for_its_delay(more: dict[str, str], seconds: int, due: bool) -> None:
    one = metric(**more)
    assert metrics.is_due(one, metrics.begin(one, NOW), NOW + timedelta(seconds=seconds)) is due


@pytest.mark.parametrize(
    ("letter", "more", "wait"), [("S", {"interval": "20s"}, 20), ("E", {"interval": "20s"}, 20), ("E", {}, 10)]
)
def test_the_next_measurement_waits_for_the_interval(letter: str, more: dict[str, str], wait: int) -> None:
    one = metric(**more)
    run = play(one, letter)
    assert not metrics.is_due(one, run, NOW + timedelta(seconds=wait - 1))
    assert metrics.is_due(one, run, NOW + timedelta(seconds=wait))


def test_the_worst_metric_that_counts_is_the_verdict_of_the_run() -> None:
    run = AnalysisRun(kind="Background", version="v", started_at="x", phase="Running")

    def verdict(*found: tuple[str, bool]) -> str:
        pairs = [
            (metric(dryRun=dry), MetricRun.model_validate({"name": "m", "phase": phase, "dryRun": dry}))
            for phase, dry in found
        ]
        return metrics.conclude(run, pairs).phase

    assert verdict(("Successful", False), ("Successful", False)) == "Successful"
    assert verdict(("Successful", False), ("Running", False)) == "Running"
    assert verdict(("Inconclusive", False), ("Running", False)) == "Inconclusive"
    assert verdict(("Inconclusive", False), ("Error", False)) == "Error"
    assert verdict(("Error", False), ("Failed", False)) == "Failed"
    assert verdict(("Successful", False), ("Failed", True)) == "Successful"
    assert verdict(("Successful", False), ("Running", True)) == "Running"
    assert verdict(("Failed", True)) == "Successful"


# ---- comparisons -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17:873-890, 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    assert difference(Share(*one), Share(*other), 95) == pytest.approx((low, high), abs=5e-5)


SHARES = st.integers(1, 5000).flatmap(lambda n: st.builds(Share, st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(SHARES, SHARES, st.sampled_from([80.0, 90.0, 95.0, 99.0]))
def test_intervals_hold_what_was_measured_and_widen_with_confidence(
    one: Share, other: Share, confidence: float
) -> None:
    low, high = difference(one, other, confidence)
    assert -1 - 1e-9 <= low <= one.value - other.value + 1e-9
    assert one.value - other.value - 1e-9 <= high <= 1 + 1e-9
    swapped = difference(other, one, confidence)
    assert (-swapped[1], -swapped[0]) == pytest.approx((low, high), abs=1e-9)
    low, high = ratio(one, other, confidence)
    assert 0 <= low <= high
    if other.part:
        assert low - 1e-9 <= one.value / other.value <= high + 1e-9
    else:
        assert high == inf
    wide, wider = difference(one, other, 80), difference(one, other, 99)
    assert wider[0] <= wide[0] + 1e-12
    assert wide[1] <= wider[1] + 1e-12


@pytest.mark.parametrize(("p1", "p2"), [(0.02, 0.01), (0.1, 0.1), (0.3, 0.05), (0.01, 0.01)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(p1: float, p2: float) -> None:
    """By enumeration of every outcome of 150 and 300 requests."""
    n1, n2 = 150, 300

    def chances(p: float, n: int) -> list[tuple[int, float]]:
        found = [(k, comb(n, k) * p**k * (1 - p) ** (n - k)) for k in range(n + 1)]
        return [(k, chance) for k, chance in found if chance > 1e-7]

    by_difference = by_ratio = 0.0
    for k1, c1 in chances(p1, n1):
        for k2, c2 in chances(p2, n2):
            low, high = difference(Share(k1, n1), Share(k2, n2), 95)
            by_difference += c1 * c2 * (low <= p1 - p2 <= high)
            low, high = ratio(Share(k1, n1), Share(k2, n2), 95)
            by_ratio += c1 * c2 * (low <= p1 / p2 <= high)
    assert by_difference > 0.93
    assert by_ratio > 0.93


def test_wilsons_interval_ends_exactly_at_0_and_1() -> None:
    assert wilson(Share(0, 20), quantile(95))[0] == 0.0
    assert wilson(Share(20, 20), quantile(95))[1] == 1.0


def check(**to: str) -> Check:
    found = {"name": "a", "metric": "successPercent", "compareToStable": to, "minimumRequests": 100}
    return Check.model_validate(found)


@pytest.mark.parametrize(
    ("to", "candidate", "stable", "verdict"),
    [
        # Without confidence, the measured values are compared, as ever.
        ({"maxDrop": "1"}, (1000, 15), (9000, 45), "Success"),
        ({"maxDrop": "1"}, (1000, 16), (9000, 45), "Failed"),
        ({"maxDrop": "1", "confidence": "95"}, (1000, 0), (9000, 45), "Success"),
        ({"maxDrop": "1", "confidence": "95"}, (1000, 15), (9000, 45), "Inconclusive"),
        ({"maxDrop": "1", "confidence": "95"}, (1000, 22), (9000, 45), "Inconclusive"),
        ({"maxDrop": "1", "confidence": "95"}, (1000, 40), (9000, 45), "Failed"),
        ({"maxDrop": "1", "confidence": "80"}, (1000, 22), (9000, 45), "Failed"),
        ({"maxDrop": "1", "confidence": "95"}, (99, 99), (9000, 45), "Inconclusive"),
        ({"maxDrop": "1", "confidence": "95"}, (1000, 900), (99, 0), "Inconclusive"),
        ({"maxRatio": "2", "confidence": "95"}, (1000, 5), (9000, 45), "Inconclusive"),
        ({"maxRatio": "2", "confidence": "95"}, (10000, 50), (90000, 450), "Success"),
        ({"maxRatio": "2", "confidence": "95"}, (1000, 40), (9000, 45), "Failed"),
        ({"maxRatio": "2", "confidence": "95"}, (1000, 0), (9000, 0), "Inconclusive"),
    ],
)
def test_a_confidence_decides_only_where_the_interval_lies_on_one_side(
    to: dict[str, str], candidate: tuple[int, int], stable: tuple[int, int], verdict: str
) -> None:
    found = checks.judge(check(**to), WindowStats(*candidate), WindowStats(*stable), 10)
    assert (found.verdict, found.name) == (verdict, "a")


def test_the_sentence_has_the_interval() -> None:
    found = checks.judge(check(maxDrop="1", confidence="95"), WindowStats(1000, 40), WindowStats(9000, 45), 10)
    assert found.message == (
        "The share of answers without 5xx is 96.00 % over 1000 requests; with 95 % confidence 2.44 to 4.91 points worse"
        " than the stable version; allowed: 1."
    )
