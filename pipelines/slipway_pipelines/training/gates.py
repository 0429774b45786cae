"""Gates: pure functions from what was measured to verdicts.

Every number is rounded to six decimals before it is compared, so that a verdict can be checked with the numbers that
its sentence shows. A gate that cannot be judged is Inconclusive and says what is missing; it is never Passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from slipway.api.common import LOWER_IS_BETTER
from slipway.api.modelproject import (
    Optimize,
    OptimizedMetric,
    ProjectTests,
    Requirement,
    Requirements,
    Scenario,
    Slice,
    WeightedSum,
)
from slipway.api.modelversion import Verdict
from slipway_pipelines.errors import shorten

Metrics = Mapping[str, float | None]
Word = Literal["Passed", "Failed", "Deferred", "Inconclusive"]
MESSAGE_LIMIT = 1024
_PRECISION = Decimal("0.000001")


@dataclass(frozen=True)
class Part:
    """Rows of the test split that a scenario or slice selects, and their metrics."""

    rows: int
    metrics: Metrics


@dataclass(frozen=True)
class Cost:
    """A latency or memory figure, or why there is none."""

    value: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Stable:
    """The version that serves, scored on the same test split; without metrics, `why` says why not."""

    name: str
    metrics: Metrics | None = None
    why: str = ""


@dataclass(frozen=True)
class Measurements:
    """Everything that gates look at. All metrics are of the test split."""

    metrics: Metrics
    baselines: Mapping[str, Metrics] = field(default_factory=dict)
    stable: Stable | None = None
    coverage: Mapping[str, float | None] = field(default_factory=dict)
    """By requirement."""
    costs: Mapping[tuple[str, str], Cost] = field(default_factory=dict)
    """By metric and `Model` or `Server`."""
    scenarios: Mapping[str, Part] = field(default_factory=dict)
    slices: Mapping[str, Part] = field(default_factory=dict)


def decimal(value: float | None) -> Decimal | None:
    """A measured number as it is compared and shown."""
    return None if value is None else Decimal(repr(float(value))).quantize(_PRECISION)


def text(value: Decimal) -> str:
    """A decimal string without trailing zeros, as `DecimalString` wants it."""
    plain = format(value, "f")
    shown = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if shown == "-0" else shown


def score(optimize: Optimize, metrics: Metrics) -> Decimal | None:
    """The project's single number; None where a metric of it is not defined."""
    if optimize.metric:
        return decimal(metrics[optimize.metric.name])
    assert optimize.weighted_sum, "the API has exactly one member"
    total = Decimal(0)
    for term in optimize.weighted_sum.terms:
        value = decimal(metrics[term.metric])
        if value is None:
            return None
        total += Decimal(term.weight) * value
    return total.quantize(_PRECISION)


def judge(requirements: Requirements, tests: ProjectTests, measured: Measurements, today: str) -> list[Verdict]:
    """Every gate's verdict; `today` is YYYY-MM-DD."""
    verdicts = [optimize_gate(requirements, measured)]
    verdicts += [requirement_gate(item, measured, today) for item in requirements.satisfy]
    verdicts += [scenario_gate(item, measured.scenarios[item.name]) for item in tests.scenarios]
    verdicts += [slice_gate(item, measured.slices[item.name], measured.metrics) for item in tests.slices]
    return verdicts


def passed(verdicts: list[Verdict]) -> bool:
    """Whether no gate failed."""
    return all(verdict.verdict != "Failed" for verdict in verdicts)


# ---- the number to optimize ------------------------------------------------------------------------------------------
def optimize_gate(requirements: Requirements, measured: Measurements) -> Verdict:
    """Better than the best baseline (not asked of a neutral first launch), and not much worse than what serves."""
    optimize = requirements.optimize
    what = optimize.metric.name if optimize.metric else "the weighted sum"
    own = score(optimize, measured.metrics)
    if own is None:
        return _verdict(
            "optimize", "Inconclusive", None, f"{what} is not defined on the test split: it needs rows of both classes."
        )
    neutral = requirements.ship.policy == "NeutralLaunch" and measured.stable is None
    findings = [*_against_baselines(optimize, measured, own, neutral), *_against_stable(optimize, measured, own)]
    word = _worst(found for found, _ in findings)
    sentence = f"{what} is {text(own)} on the test split: " + "; ".join(message for _, message in findings) + "."
    return _verdict("optimize", word, own, sentence)


Finding = tuple[Word, str]


def _against_baselines(optimize: Optimize, measured: Measurements, own: Decimal, neutral: bool) -> Iterator[Finding]:
    scores = {name: score(optimize, metrics) for name, metrics in measured.baselines.items()}
    known = {name: value for name, value in scores.items() if value is not None}
    if not known:
        yield "Inconclusive", "there is no baseline on which it is defined, to compare it with"
        return
    lower = _lower_is_better(optimize)
    best = min(known, key=lambda name: known[name] if lower else -known[name])
    gain = _gain(lower, own, known[best])
    least = Decimal(_goal(optimize).minimum_improvement)
    told = f"{_by(gain)} the best baseline ({best}: {text(known[best])})"
    if gain >= least:
        yield "Passed", told
    elif neutral:
        yield "Passed", f"{told}, which ship.policy NeutralLaunch allows the first version"
    else:
        yield "Failed", f"{told}, and at least {text(least)} better is asked for"


def _against_stable(optimize: Optimize, measured: Measurements, own: Decimal) -> Iterator[Finding]:
    stable = measured.stable
    if stable is None:
        return
    theirs = score(optimize, stable.metrics) if stable.metrics is not None else None
    if theirs is None:
        why = stable.why or "the metric is not defined for it"
        yield "Inconclusive", f"it cannot be compared with {stable.name}, which serves: {why}"
        return
    gain = _gain(_lower_is_better(optimize), own, theirs)
    told = f"{_by(gain)} {stable.name}, which serves and has {text(theirs)} on the same rows"
    allowed = Decimal(_goal(optimize).allowed_regression)
    if gain >= -allowed:
        yield "Passed", told
    else:
        yield "Failed", f"{told}, and at most {text(allowed)} worse is accepted"


def _lower_is_better(optimize: Optimize) -> bool:
    """A weighted sum is better when greater: its weights have the signs."""
    return optimize.metric is not None and optimize.metric.name in LOWER_IS_BETTER


def _goal(optimize: Optimize) -> OptimizedMetric | WeightedSum:
    """The union's member, which has the two margins."""
    member = optimize.metric or optimize.weighted_sum
    assert member, "the API has exactly one member"
    return member


def _gain(lower_is_better: bool, own: Decimal, other: Decimal) -> Decimal:
    return other - own if lower_is_better else own - other


def _by(gain: Decimal) -> str:
    if gain == 0:
        return "as good as"
    return f"{text(abs(gain))} {'better' if gain > 0 else 'worse'} than"


# ---- requirements ----------------------------------------------------------------------------------------------------
def requirement_gate(requirement: Requirement, measured: Measurements, today: str) -> Verdict:
    """The bound holds, or is deferred until a day that has not come."""
    name = f"requirement/{requirement.name}"
    value, where, why = _requirement_value(requirement, measured)
    deferred = requirement.deferred
    if deferred and today < deferred.until:
        state = f"{where} is {text(value)}" if value is not None else f"{where} was not measured ({why})"
        return _verdict(
            name,
            "Deferred",
            value,
            f"{state}; {_bound(requirement)} counts from {deferred.until} ({deferred.why}).",
        )
    if value is None:
        return _verdict(name, "Inconclusive", None, f"{where} cannot be judged: {why}.")
    return _bounded(name, where, value, requirement)


def _requirement_value(requirement: Requirement, measured: Measurements) -> tuple[Decimal | None, str, str]:
    """Value, what it is in words, and why there is none."""
    metric = requirement.metric
    if metric == "coverage":
        where = f"coverage at confidence {requirement.confidence}"
        return decimal(measured.coverage.get(requirement.name)), where, "the test split has no rows"
    if metric.startswith("latency") or metric == "memoryMebibytes":
        at = requirement.measured_at or "Server"
        cost = measured.costs.get((metric, at), Cost(why="it was not measured"))
        return decimal(cost.value), f"{metric} measured at the {at}", cost.why
    return decimal(measured.metrics[metric]), f"{metric} on the test split", "it needs rows of both classes"


# ---- tests -----------------------------------------------------------------------------------------------------------
def scenario_gate(scenario: Scenario, part: Part) -> Verdict:
    """The bound holds on the scenario's rows."""
    name = f"scenario/{scenario.name}"
    missing = _too_little(scenario, part)
    if missing:
        return _verdict(name, "Inconclusive", None, missing)
    value = decimal(part.metrics[scenario.metric])
    assert value is not None, "_too_little has looked"
    return _bounded(name, f"{scenario.metric} on the {part.rows} rows of {scenario.name}", value, scenario)


def slice_gate(part_of: Slice, part: Part, overall: Metrics) -> Verdict:
    """The metric on the slice is at most `maxDropPercent` of the overall value worse than overall."""
    name = f"slice/{part_of.name}"
    missing = _too_little(part_of, part)
    if missing:
        return _verdict(name, "Inconclusive", None, missing)
    value, whole = decimal(part.metrics[part_of.metric]), decimal(overall[part_of.metric])
    assert value is not None, "_too_little has looked"
    if whole is None or whole == 0:
        return _verdict(
            name,
            "Inconclusive",
            value,
            f"{part_of.metric} is undefined or 0 overall, so no percentage of it can be taken.",
        )
    lower = part_of.metric in LOWER_IS_BETTER
    drop = (_gain(lower, whole, value) / whole * 100).quantize(Decimal("0.01"))
    told = (
        f"{part_of.metric} is {text(value)} on the {part.rows} rows of {part_of.name} and {text(whole)} overall: "
        f"{text(abs(drop))} % {'worse' if drop > 0 else 'better'}"
    )
    if drop <= part_of.max_drop_percent:
        return _verdict(name, "Passed", value, f"{told}, and up to {part_of.max_drop_percent} % worse is accepted.")
    return _verdict(
        name,
        "Failed",
        value,
        f"{told}, and at most {part_of.max_drop_percent} % is accepted: improve the model there, or raise "
        "maxDropPercent.",
    )


def _too_little(test: Scenario | Slice, part: Part) -> str | None:
    """Why a scenario or slice cannot be judged, or None."""
    if part.rows < test.minimum_rows:
        return (
            f"`{test.where}` selects {part.rows} rows of the test split and {test.minimum_rows} are needed: "
            "collect more such data, widen the condition, or lower minimumRows."
        )
    if part.metrics[test.metric] is None:
        return (
            f"{test.metric} is not defined on the {part.rows} rows that `{test.where}` selects, whose labels are all "
            "the same: widen the condition, or choose another metric."
        )
    return None


# ---- words -----------------------------------------------------------------------------------------------------------
def _bounded(name: str, what: str, value: Decimal, bounds: Requirement | Scenario) -> Verdict:
    holds = value >= Decimal(bounds.min) if bounds.min is not None else value <= Decimal(bounds.max or "0")
    if holds:
        return _verdict(name, "Passed", value, f"{what} is {text(value)}; {_bound(bounds)} is accepted.")
    return _verdict(
        name,
        "Failed",
        value,
        f"{what} is {text(value)}, and {_bound(bounds)} is accepted: improve the model, or revisit the bound.",
    )


def _bound(bounds: Requirement | Scenario) -> str:
    return f"at least {bounds.min}" if bounds.min is not None else f"at most {bounds.max}"


def _worst(words: Iterator[Word]) -> Word:
    found = set(words)
    order: tuple[Word, ...] = ("Failed", "Inconclusive")
    return next((word for word in order if word in found), "Passed")


def _verdict(name: str, word: Word, value: Decimal | None, message: str) -> Verdict:
    sentence = shorten(message, MESSAGE_LIMIT)
    return Verdict(name=name, verdict=word, value=None if value is None else text(value), message=sentence)
