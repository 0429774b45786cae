"""What an experiment found: each version against the stable one, and whether one is better than all others. Pure.

All intervals hold together with the confidence that the experiment asks for: each one of n comparisons gets a
confidence of `100 - (100 - confidence) / n` (Bonferroni). It is computed once, when the time is over; whoever looks
again and again until there is a difference finds one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from slipway.adapters.envoy_stats import BOUNDS, Counters
from slipway.api.rollout_experiment import Counted, Experiment, ExperimentStatus, ExperimentVersion
from slipway.controllers.modelrollout import comparison
from slipway.controllers.modelrollout.comparison import Interval, Share

STABLE = "stable"
Verdict = Literal["Better", "Worse", "NoDifference", "TooFewRequests"]


@dataclass(frozen=True)
class Conclusion:
    """A report: versions with numbers, the one that is better than all others, and a sentence."""

    versions: list[ExperimentVersion]
    winner: str | None
    message: str


def timed(version: ExperimentVersion) -> ExperimentVersion:
    """The version with its times, as far as they are known."""
    counted = version.counted or Counted()
    return version.model_copy(
        update={"median_milliseconds": quantile(counted, 0.5), "p95_milliseconds": quantile(counted, 0.95)}
    )


def quantile(counted: Counted, part: float) -> str | None:
    """Milliseconds within which this part of answers came, as if they lay evenly between two bounds.

    None without answers, or where it lies beyond the last bound.
    """
    wanted, lower, before = part * counted.timed, 0, 0
    for bound, below in zip(BOUNDS, counted.below, strict=False):
        if counted.timed and below >= wanted:
            inside = (wanted - before) / (below - before) if below > before else 1.0
            return f"{lower + (bound - lower) * inside:.1f}"
        lower, before = bound, below
    return None


def with_counts(version: ExperimentVersion, now: Counters | None, anew: bool) -> ExperimentVersion:
    earlier = version.counted if anew else version.earlier
    counted = _sum(earlier, now or Counters())
    return version.model_copy(update={"counted": counted, "earlier": earlier})


def _sum(earlier: Counted | None, now: Counters) -> Counted:
    before = Counters()
    if earlier is not None:
        below = (*earlier.below, *before.below)[: len(before.below)]
        before = Counters(earlier.requests, earlier.failed, earlier.timed, below)
    total = before + now
    return Counted(requests=total.answered, failed=total.failed, timed=total.timed, below=list(total.below))


def conclude(run: ExperimentStatus, experiment: Experiment) -> Conclusion:
    """The report at the end."""
    good = {
        each.name: share
        for each in run.versions
        if each.state != "Left"
        and (share := _good(experiment, each.counted or Counted())).whole >= experiment.minimum_requests
    }
    compared = _Compared(good, float(experiment.confidence))
    versions = [_row(experiment, each, compared) for each in run.versions]
    winner, sentence = _winner(versions, compared)
    suffix = f" ({experiment.confidence} % confidence)." if compared.told else "."
    return Conclusion(versions, winner, sentence + suffix)


def _good(experiment: Experiment, counted: Counted) -> Share:
    if experiment.metric == "successPercent":
        return Share(counted.requests - counted.failed, counted.requests)
    within = dict(zip(BOUNDS, counted.below, strict=False)).get(experiment.bound or 0, 0)
    return Share(within, counted.timed)


class _Compared:
    """Differences between versions that have enough requests, in points."""

    def __init__(self, good: dict[str, Share], confidence: float) -> None:
        self.good = good
        pairs = len(good) * (len(good) - 1) // 2
        self._confidence = 100 - (100 - confidence) / max(1, pairs)

    @property
    def told(self) -> bool:
        """Whether anything can be said about a difference."""
        return STABLE in self.good and len(self.good) > 1

    def difference(self, one: str, other: str) -> Interval:
        """By how many points `one` is better than `other`; -inf to inf where that cannot be told."""
        if one not in self.good or other not in self.good:
            return -inf, inf
        low, high = comparison.difference(self.good[one], self.good[other], self._confidence)
        return 100 * low, 100 * high

    def beats(self, one: str, other: str) -> bool:
        """Whether `one` is better for sure."""
        return self.difference(one, other)[0] > 0


def _row(experiment: Experiment, version: ExperimentVersion, compared: _Compared) -> ExperimentVersion:
    share = _good(experiment, version.counted or Counted())
    update: dict[str, object] = {"value": f"{100 * share.value:.2f}"} if share.whole else {}
    if version.state != "Left":
        update["state"] = "Completed"
        if version.name != STABLE:
            update |= _against_stable(version.name, compared)
        elif version.name not in compared.good:
            update["verdict"] = "TooFewRequests"
    return timed(version.model_copy(update=update))


def _against_stable(name: str, compared: _Compared) -> dict[str, object]:
    if name not in compared.good or STABLE not in compared.good:
        return {"verdict": "TooFewRequests"}
    low, high = compared.difference(name, STABLE)
    verdict: Verdict = "Better" if low > 0 else "Worse" if high < 0 else "NoDifference"
    return {"verdict": verdict, "difference_low": f"{low:.2f}", "difference_high": f"{high:.2f}"}


def _winner(versions: Sequence[ExperimentVersion], compared: _Compared) -> tuple[str | None, str]:
    """The one that is better than each other that took part to the end, and a sentence without a full stop."""
    lacking = [each.name for each in versions if each.verdict == "TooFewRequests"]
    names = [each.name for each in versions if each.state == "Completed"]
    if not compared.told:
        return None, f"Too few requests to tell a difference: {listed(lacking or names)}"
    too_few = f"; {listed(lacking)} had too few requests" if lacking else ""
    for name in compared.good:
        if all(compared.beats(name, other) for other in compared.good if other != name):
            return (None if lacking else name), f"{_named(name)} is better than {_rest(name, compared)}{too_few}"
    better = [each.name for each in versions if each.verdict == "Better"]
    if not better:
        return None, f"No version is better than the stable one; no difference that can be told{too_few}"
    verb = "is" if len(better) == 1 else "are"
    return None, f"{listed(better)} {verb} better than the stable version; which one is best cannot be told{too_few}"


def _rest(name: str, compared: _Compared) -> str:
    return listed([_named(each, within=True) for each in compared.good if each != name])


def _named(name: str, *, within: bool = False) -> str:
    words = {STABLE: "the stable version", "candidate": "the candidate"}.get(name, name)
    return words if within else words[0].upper() + words[1:] if words != name else words


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
