"""What an experiment's numbers say, and how often they say something that is not so."""

from __future__ import annotations

import random
from typing import Any

import pytest

from slipway.adapters.envoy_stats import BOUNDS
from slipway.api.rollout_experiment import Counted, Experiment, ExperimentStatus, ExperimentVersion
from slipway.controllers.modelrollout.experiment_report import Conclusion, conclude, listed, quantile


def experiment(**more: Any) -> Experiment:
    arm = {"name": "b", "policy": "NewestPassing", "percent": 10}
    return Experiment.model_validate({"for": "1h", "candidatePercent": 10, "arms": [arm], **more})


def found(numbers: dict[str, tuple[int, int]], left: str = "", **more: Any) -> Conclusion:
    """The report on requests and failures of each version; `left` went before the end."""
    versions = [
        ExperimentVersion(
            name=name,
            version=f"m-{name}",
            percent=20,
            state="Left" if name == left else "Running",
            counted=Counted(requests=requests, failed=failed, timed=requests, below=[requests - failed] * len(BOUNDS)),
        )
        for name, (requests, failed) in numbers.items()
    ]
    begun = "2026-11-23T08:00:00Z"
    run = ExperimentStatus(step="compare", candidate="m", phase="Running", begun_at=begun, versions=versions)
    return conclude(run, experiment(**more))


GOOD, FAIR, BAD, FEW = (10_000, 10), (10_000, 200), (10_000, 900), (99, 0)


@pytest.mark.parametrize(
    ("numbers", "winner", "message"),
    [
        (
            {"stable": FAIR, "candidate": FAIR, "b": FAIR},
            None,
            "No version is better than the stable one; no difference that can be told (95 % confidence).",
        ),
        (
            {"stable": FAIR, "candidate": BAD, "b": GOOD},
            "b",
            "b is better than the stable version and the candidate (95 % confidence).",
        ),
        (
            {"stable": FAIR, "candidate": GOOD, "b": BAD},
            "candidate",
            "The candidate is better than the stable version and b (95 % confidence).",
        ),
        (
            {"stable": GOOD, "candidate": FAIR, "b": BAD},
            "stable",
            "The stable version is better than the candidate and b (95 % confidence).",
        ),
        (
            {"stable": BAD, "candidate": FAIR, "b": FAIR},
            None,
            "candidate and b are better than the stable version; which one is best cannot be told (95 % confidence).",
        ),
        (
            {"stable": FAIR, "candidate": FEW, "b": FEW},
            None,
            "Too few requests to tell a difference: candidate and b.",
        ),
        (
            {"stable": FEW, "candidate": GOOD, "b": BAD},
            None,
            "Too few requests to tell a difference: stable, candidate and b.",
        ),
        (
            {"stable": FAIR, "candidate": FEW, "b": GOOD},
            None,
            "b is better than the stable version; candidate had too few requests (95 % confidence).",
        ),
        (
            {"stable": (0, 0), "candidate": (0, 0), "b": (0, 0)},
            None,
            "Too few requests to tell a difference: stable, candidate and b.",
        ),
    ],
)
def test_what_can_be_told(numbers: dict[str, tuple[int, int]], winner: str | None, message: str) -> None:
    report = found(numbers)
    assert (report.winner, report.message) == (winner, message)


def test_whoever_left_is_not_compared() -> None:
    report = found({"stable": FAIR, "candidate": FAIR, "b": GOOD}, left="b")
    assert report.winner is None
    rows = {each.name: each for each in report.versions}
    assert (rows["b"].verdict, rows["b"].value, rows["b"].state) == (None, "99.90", "Left")


def test_differences_are_in_points_of_the_metric() -> None:
    rows = {each.name: each for each in found({"stable": FAIR, "candidate": BAD, "b": GOOD}).versions}
    assert [each.value for each in rows.values()] == ["98.00", "91.00", "99.90"]
    low, high = float(rows["b"].difference_low or 0), float(rows["b"].difference_high or 0)
    assert low < 1.9 < high
    assert (rows["candidate"].verdict, rows["stable"].verdict) == ("Worse", None)


def test_shares_of_fast_answers_are_compared_too() -> None:
    report = found(
        {"stable": FAIR, "candidate": BAD, "b": GOOD}, metric="shareBelowMilliseconds", bound=100, minimumRequests=1000
    )
    assert (report.winner, report.versions[2].value) == ("b", "99.90")


def test_equal_versions_seldom_look_different() -> None:
    """All that is said together is right at least as often as the confidence says, though five are compared."""
    chance, wrong = random.Random(7), 0
    for _ in range(200):
        names = ("stable", "candidate", "b", "c", "d")
        report = found({name: (2000, sum(chance.random() < 0.02 for _ in range(2000))) for name in names})
        wrong += any(each.verdict in ("Better", "Worse") for each in report.versions) or report.winner is not None
    assert wrong <= 10


@pytest.mark.parametrize(
    ("below", "part", "milliseconds"),
    [
        ([0] * 12, 0.5, None),
        ([100] * 12, 0.5, "0.5"),
        ([0, 0, 0, 100, *[100] * 8], 0.5, "17.5"),
        ([0, 0, 50, 50, 100, *[100] * 7], 0.5, "10.0"),
        ([0, 0, 50, 50, 100, *[100] * 7], 0.95, "47.5"),
        ([*[0] * 11, 40], 0.5, None),
    ],
    ids=["none", "fast", "one bound", "on a bound", "the slow ones", "beyond the last bound"],
)
def test_times_lie_between_bounds(below: list[int], part: float, milliseconds: str | None) -> None:
    timed = 100 if any(below) else 0
    assert quantile(Counted(requests=100, timed=timed, below=below), part) == milliseconds


def test_lists_are_told_as_people_do() -> None:
    assert [listed(["a", "b", "c"][:count]) for count in range(4)] == ["none", "a", "a and b", "a, b and c"]
