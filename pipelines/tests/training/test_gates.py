"""Verdicts, as a table: what was measured → word, value and what the sentence says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.api.modelproject import ProjectTests, Requirements
from slipway_pipelines.training.gates import Cost, Measurements, Part, Stable, judge, passed, score
from slipway_pipelines.training.metrics import QUALITY_METRICS

TODAY = "2026-11-23"


def metrics(**known: float) -> dict[str, float | None]:
    """All quality metrics, None but for those given."""
    return {**dict.fromkeys(QUALITY_METRICS), **known}


def requirements(**parts: Any) -> Requirements:
    return Requirements.model_validate(
        {"optimize": {"type": "Metric", "metric": {"name": "rocAuc", "minimumImprovement": "0.01"}}, **parts}
    )


BASELINES = {"majority": metrics(rocAuc=0.5), "logistic": metrics(rocAuc=0.65)}
MEASURED = Measurements(metrics(rocAuc=0.7), BASELINES)
NEUTRAL = {"ship": {"policy": "NeutralLaunch"}}
STABLE = Stable("delays-1", metrics(rocAuc=0.701))


@pytest.mark.parametrize(
    ("wanted", "measured", "word", "says"),
    [
        pytest.param({}, MEASURED, "Passed", "0.05 better than the best baseline (logistic: 0.65).", id="better"),
        pytest.param(
            {},
            replace(MEASURED, metrics=metrics(rocAuc=0.66)),
            "Passed",
            "rocAuc is 0.66 on the test split: 0.01 better than",
            id="exactly-the-minimum",
        ),
        pytest.param(
            {},
            replace(MEASURED, metrics=metrics(rocAuc=0.659999)),
            "Failed",
            "0.009999 better than the best baseline (logistic: 0.65), and at least 0.01 better is asked for",
            id="just-below-the-minimum",
        ),
        pytest.param({}, replace(MEASURED, metrics=metrics(rocAuc=0.6)), "Failed", "0.05 worse than", id="worse"),
        pytest.param(
            NEUTRAL,
            replace(MEASURED, metrics=metrics(rocAuc=0.6)),
            "Passed",
            "0.05 worse than the best baseline (logistic: 0.65), which ship.policy NeutralLaunch allows",
            id="neutral-launch",
        ),
        pytest.param(
            NEUTRAL,
            replace(MEASURED, metrics=metrics(rocAuc=0.6), stable=Stable("delays-1", metrics(rocAuc=0.6))),
            "Failed",
            "and at least 0.01 better is asked for; as good as delays-1, which serves",
            id="neutral-launch-is-over-once-a-version-serves",
        ),
        pytest.param(
            {},
            replace(MEASURED, stable=STABLE),
            "Passed",
            "0.001 worse than delays-1, which serves",
            id="regression-ok",
        ),
        pytest.param(
            {},
            replace(MEASURED, stable=Stable("delays-1", metrics(rocAuc=0.705001))),
            "Failed",
            "0.005001 worse than delays-1, which serves and has 0.705001 on the same rows, and at most 0.005 worse",
            id="regression",
        ),
        pytest.param(
            {},
            replace(MEASURED, stable=Stable("delays-1", why="its input wind is not in this dataset")),
            "Inconclusive",
            "cannot be compared with delays-1, which serves: its input wind is not in this dataset",
            id="stable-not-scored",
        ),
        pytest.param(
            {}, replace(MEASURED, metrics=metrics()), "Inconclusive", "needs rows of both classes", id="undefined"
        ),
        pytest.param({}, Measurements(metrics(rocAuc=0.7)), "Inconclusive", "there is no baseline", id="no-baseline"),
        pytest.param(
            {"optimize": {"type": "Metric", "metric": {"name": "logLoss", "minimumImprovement": "0.01"}}},
            Measurements(metrics(logLoss=0.5), {"a": metrics(logLoss=0.52), "b": metrics(logLoss=0.6)}),
            "Passed",
            "0.02 better than the best baseline (a: 0.52)",
            id="lower-is-better",
        ),
        pytest.param(
            {
                "optimize": {
                    "type": "WeightedSum",
                    "weightedSum": {
                        "terms": [{"metric": "rocAuc", "weight": "1"}, {"metric": "logLoss", "weight": "-0.5"}]
                    },
                }
            },
            Measurements(metrics(rocAuc=0.8, logLoss=0.4), {"a": metrics(rocAuc=0.7, logLoss=0.5)}),
            "Passed",
            "the weighted sum is 0.6 on the test split: 0.15 better than the best baseline (a: 0.45)",
            id="weighted-sum",
        ),
    ],
)
def test_optimize(wanted: dict[str, Any], measured: Measurements, word: str, says: str) -> None:
    (verdict,) = judge(requirements(**wanted), ProjectTests(), measured, TODAY)
    assert (verdict.name, verdict.verdict) == ("optimize", word)
    assert says in verdict.message


def deferred(until: str) -> dict[str, Any]:
    return {"name": "r", "metric": "accuracy", "min": "0.9", "deferred": {"until": until, "why": "After the launch"}}


@pytest.mark.parametrize(
    ("requirement", "word", "value", "says"),
    [
        pytest.param({"name": "r", "metric": "accuracy", "min": "0.8"}, "Passed", "0.8", "at least 0.8", id="min"),
        pytest.param({"name": "r", "metric": "accuracy", "min": "0.800001"}, "Failed", "0.8", "at least", id="min-no"),
        pytest.param({"name": "r", "metric": "logLoss", "max": "0.4"}, "Passed", "0.4", "at most 0.4", id="max"),
        pytest.param(
            {"name": "r", "metric": "logLoss", "max": "0.39"}, "Failed", "0.4", "and at most 0.39", id="max-no"
        ),
        pytest.param(
            {"name": "r", "metric": "recall", "min": "0"}, "Inconclusive", None, "both classes", id="undefined"
        ),
        pytest.param(
            {"name": "r", "metric": "coverage", "confidence": "0.6", "min": "0.9"},
            "Failed",
            "0.75",
            "coverage at confidence 0.6 is 0.75, and at least 0.9 is accepted",
            id="coverage",
        ),
        pytest.param(
            {"name": "r", "metric": "latencyP99Milliseconds", "max": "25"},
            "Passed",
            "12.5",
            "measured at the Server is 12.5",
            id="latency-is-measured-at-the-server",
        ),
        pytest.param(
            {"name": "r", "metric": "latencyP99Milliseconds", "measuredAt": "Model", "max": "1"},
            "Failed",
            "2",
            "measured at the Model is 2",
            id="latency-at-the-model",
        ),
        pytest.param(
            {"name": "r", "metric": "memoryMebibytes", "max": "512"},
            "Inconclusive",
            None,
            "memoryMebibytes measured at the Server cannot be judged: the server did not start.",
            id="not-measured",
        ),
        pytest.param(
            deferred("2026-11-24"),
            "Deferred",
            "0.8",
            "is 0.8; at least 0.9 counts from 2026-11-24 (After the launch)",
            id="deferred",
        ),
        pytest.param(deferred("2026-11-23"), "Failed", "0.8", "and at least 0.9 is accepted", id="no-longer-deferred"),
    ],
)
def test_requirement(requirement: dict[str, Any], word: str, value: str | None, says: str) -> None:
    measured = Measurements(
        metrics(rocAuc=0.7, accuracy=0.8, logLoss=0.4),
        BASELINES,
        coverage={"r": 0.75},
        costs={
            ("latencyP99Milliseconds", "Server"): Cost(12.5),
            ("latencyP99Milliseconds", "Model"): Cost(2),
            ("memoryMebibytes", "Server"): Cost(why="the server did not start"),
        },
    )
    verdict = judge(requirements(satisfy=[requirement]), ProjectTests(), measured, TODAY)[1]
    assert (verdict.name, verdict.verdict, verdict.value) == ("requirement/r", word, value)
    assert says in verdict.message


@pytest.mark.parametrize(
    ("kind", "test", "part", "word", "says"),
    [
        ("scenarios", {"min": "0.6"}, Part(80, metrics(recall=0.6)), "Passed", "recall on the 80 rows of t is 0.6"),
        ("scenarios", {"min": "0.7"}, Part(80, metrics(recall=0.6)), "Failed", "and at least 0.7 is accepted"),
        (
            "scenarios",
            {"min": "0.7"},
            Part(49, metrics(recall=1.0)),
            "Inconclusive",
            "selects 49 rows of the test split",
        ),
        ("scenarios", {"min": "0.7"}, Part(80, metrics()), "Inconclusive", "labels are all the same"),
        ("slices", {}, Part(80, metrics(recall=0.475)), "Passed", "0.5 overall: 5 % worse, and up to 5 %"),
        ("slices", {}, Part(80, metrics(recall=0.4)), "Failed", "20 % worse, and at most 5 % is accepted"),
        ("slices", {}, Part(80, metrics(recall=0.9)), "Passed", "80 % better"),
        ("slices", {}, Part(0, metrics()), "Inconclusive", "selects 0 rows"),
        ("slices", {"metric": "logLoss"}, Part(80, metrics(logLoss=0.44)), "Failed", "10 % worse"),
        ("slices", {"metric": "logLoss"}, Part(80, metrics(logLoss=0.3)), "Passed", "25 % better"),
        ("slices", {"metric": "f1"}, Part(80, metrics(f1=0.3)), "Inconclusive", "f1 is undefined or 0 overall"),
    ],
)
def test_scenarios_and_slices(kind: str, test: dict[str, Any], part: Part, word: str, says: str) -> None:
    tests = ProjectTests.model_validate({kind: [{"name": "t", "where": "origin = 'JFK'", "metric": "recall", **test}]})
    measured = Measurements(
        metrics(rocAuc=0.7, recall=0.5, logLoss=0.4, f1=0.0), BASELINES, scenarios={"t": part}, slices={"t": part}
    )
    verdict = judge(requirements(), tests, measured, TODAY)[1]
    assert (verdict.name, verdict.verdict) == (f"{kind[:-1]}/t", word)
    assert says in verdict.message


def test_only_a_failed_gate_keeps_a_version_from_users() -> None:
    wanted = requirements(satisfy=[deferred("2027-01-01"), {"name": "x", "metric": "recall", "min": "1"}])
    measured = Measurements(metrics(rocAuc=0.7, accuracy=0.1), BASELINES)
    verdicts = judge(wanted, ProjectTests(), measured, TODAY)
    assert [verdict.verdict for verdict in verdicts] == ["Passed", "Deferred", "Inconclusive"]
    assert passed(verdicts)
    worse = judge(wanted, ProjectTests(), replace(measured, metrics=metrics(rocAuc=0.1)), TODAY)
    assert not passed(worse)


def test_score_is_undefined_when_a_term_is() -> None:
    optimize = requirements(
        optimize={"type": "WeightedSum", "weightedSum": {"terms": [{"metric": "rocAuc", "weight": "1"}]}}
    ).optimize
    assert score(optimize, metrics()) is None
