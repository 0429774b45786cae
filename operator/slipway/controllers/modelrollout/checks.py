"""Verdicts on a candidate, from what the gateway counted. Too few requests are Inconclusive, never Success."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from slipway.adapters.envoy_stats import WindowStats
from slipway.api.analysis import GatewayProvider
from slipway.api.meta import parse_decimal, parse_duration
from slipway.api.modelrollout import Check, CheckStatus, CompareToStable
from slipway.controllers.modelrollout import comparison
from slipway.controllers.modelrollout.comparison import Share

_CENT = Decimal("0.01")
NOTHING = WindowStats()


def window_of(check: Check) -> float:
    """Length of a check's window in seconds."""
    return parse_duration(check.window).total_seconds()


def applies(check: Check, weight: int) -> bool:
    """Whether a check can be measured: with all requests on the candidate there is nothing to compare with."""
    return check.min is not None or weight < 100


def judge(check: Check, candidate: WindowStats, stable: WindowStats, weight: int) -> CheckStatus:
    """The verdict of one check at the candidate's present weight; pure."""
    requests, value = measure(check, candidate)
    if value is None or requests < check.minimum_requests:
        message = f"{requests} of {check.minimum_requests} requests in the last {check.window}."
        return CheckStatus(name=check.name, verdict="Inconclusive", value=None, requests=requests, message=message)
    said = f"{_what(check)} is {_text(value)} % over {requests} requests"
    if check.min is not None and value < parse_decimal(check.min):
        return _status(check, "Failed", value, requests, f"{said}, below the minimum of {check.min} %.")
    if check.compare_to_stable is None or weight == 100:
        return _status(check, "Success", value, requests, f"{said}.")
    stable_requests, stable_value = measure(check, stable)
    if check.compare_to_stable.confidence and stable_requests >= check.minimum_requests:
        verdict, compared = _within(check.compare_to_stable, _bad(check, candidate), _bad(check, stable))
        return _status(check, verdict, value, requests, f"{said}; {compared}")
    return _compare(check, check.compare_to_stable, value, requests, said, stable_requests, stable_value)


def _compare(
    check: Check,
    to: CompareToStable,
    value: Decimal,
    requests: int,
    said: str,
    stable_requests: int,
    stable: Decimal | None,
) -> CheckStatus:
    allowed = to.max_drop or "0"
    if stable is None or stable_requests < check.minimum_requests:
        message = (
            f"{said}; the stable version had {stable_requests} of {check.minimum_requests} requests to compare with."
        )
        return _status(check, "Inconclusive", value, requests, message)
    compared = f"{said}, that of the stable version {_text(stable)} %"
    if stable - value > parse_decimal(allowed):
        return _status(check, "Failed", value, requests, f"{compared}: more than {allowed} points worse.")
    return _status(check, "Success", value, requests, f"{compared}.")


def _within(to: CompareToStable, candidate: Share, stable: Share) -> tuple[str, str]:
    """The verdict where a confidence is asked for, and its sentence: only an interval wholly on one side decides."""
    confidence = float(to.confidence or 95)
    if to.max_ratio is not None:
        low, high = comparison.ratio(candidate, stable, confidence)
        allowed, what = to.max_ratio, "times the stable version's share of bad answers"
    else:
        low, high = (100 * each for each in comparison.difference(candidate, stable, confidence))
        allowed, what = to.max_drop or "0", "points worse than the stable version"
    verdict = "Failed" if low > float(allowed) else "Success" if high <= float(allowed) else "Inconclusive"
    return verdict, f"with {to.confidence} % confidence {low:.2f} to {high:.2f} {what}; allowed: {allowed}."


def _bad(check: Check, stats: WindowStats) -> Share:
    """Answers that do not count as good ones."""
    if check.metric == "successPercent":
        return Share(stats.failed, stats.requests)
    return Share(stats.timed - stats.below.get(check.bound or 0, 0), stats.timed)


def measure(check: Check | GatewayProvider, stats: WindowStats) -> tuple[int, Decimal | None]:
    """Requests that could be measured, and the percentage; None without requests."""
    if check.metric == "successPercent":
        return stats.requests, _percent(stats.requests - stats.failed, stats.requests)
    return stats.timed, _percent(stats.below.get(check.bound or 0, 0), stats.timed)


def _percent(part: int, whole: int) -> Decimal | None:
    return Decimal(100 * part) / whole if whole else None


def _text(value: Decimal) -> str:
    return str(value.quantize(_CENT))


def _what(check: Check) -> str:
    if check.metric == "successPercent":
        return "The share of answers without 5xx"
    return f"The share of answers within {check.bound} ms"


def _status(check: Check, verdict: str, value: Decimal, requests: int, message: str) -> CheckStatus:
    return CheckStatus.model_validate(
        {"name": check.name, "verdict": verdict, "value": _text(value), "requests": requests, "message": message}
    )


def covered(check: Check, stats: WindowStats, at_least: float) -> bool:
    """Whether enough of the window was really watched for a Success to count: a restart begins it anew."""
    return stats.seconds + SLACK >= min(window_of(check), at_least)


SLACK = 2.5
"""Samples are a second apart, and the first and the last one may each miss almost one."""


def observed_percent(requests: Mapping[str, int]) -> Mapping[str, Decimal]:
    """Shares of requests that the versions really got, by name; empty before the first request."""
    total = sum(requests.values())
    return {name: (Decimal(100 * count) / total).quantize(_CENT) for name, count in requests.items() if total}
