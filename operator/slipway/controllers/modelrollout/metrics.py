"""The arithmetic of a metric: what a result says, what counts add up to, when the next measurement is due. Pure.

The rules are those of Argo Rollouts: a limit is what is forgiven, so one more decides; errors count apart and only in a
row; `count` counts measurements without Error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from slipway.adapters import cel
from slipway.adapters.measurements import Answer, has_nan
from slipway.api.analysis import Metric
from slipway.api.meta import parse_duration, parse_time
from slipway.api.rollout_analysis import AnalysisRun, Measurement, MetricRun
from slipway.runtime.conditions import timestamp

_KEPT = 3
_AFTER_ERROR = "10s"
"""When a metric without interval is measured again after an Error."""


def begin(metric: Metric, now: datetime) -> MetricRun:
    """A metric that was not measured yet."""
    delay = _seconds(metric.initial_delay)
    return MetricRun(name=metric.name, phase="Running", dry_run=metric.dry_run, due_at=timestamp(now + delay))


def is_endless(metric: Metric) -> bool:
    """Whether it goes on for as long as there is time."""
    return metric.interval is not None and metric.count is None


def is_due(metric: Metric, run: MetricRun, now: datetime) -> bool:
    """Whether the next measurement begins. A clock that was set back makes nobody wait longer than a delay."""
    if run.phase != "Running" or run.due_at is None:
        return False
    longest = _seconds((metric.interval or _AFTER_ERROR) if run.taken else metric.initial_delay)
    due = parse_time(run.due_at)
    return now >= due or due - now > longest + timedelta(seconds=1)


def overdue(run: MetricRun, now: datetime) -> timedelta:
    """For how long the next measurement has been due; a due time that lies ahead has only just come."""
    return max(timedelta(), now - parse_time(run.due_at)) if run.due_at else timedelta()


def interpret(metric: Metric, answer: Answer, now: datetime) -> Measurement:
    """What an answer says by the metric's conditions."""
    at = timestamp(now)
    if answer.error:
        return Measurement(at=at, phase="Error", message=answer.error[:512])
    value = _text(answer.value)
    if metric.provider.job is not None:
        return _by_exit_code(answer.value, at)
    if has_nan(answer.value):
        message = "The value is no number: nothing was counted."
        return Measurement(at=at, phase="Inconclusive", value=value, message=message)
    try:
        failed = metric.failure_condition is not None and cel.holds(metric.failure_condition, answer.value)
        passed = metric.success_condition is None or cel.holds(metric.success_condition, answer.value)
    except cel.ConditionError as error:
        return Measurement(
            at=at, phase="Error", value=value, message=f"A condition cannot be evaluated: {error}."[:512]
        )
    if failed or (not passed and metric.failure_condition is None):
        condition = metric.failure_condition if failed else metric.success_condition
        word = "is true" if failed else "is not true"
        return Measurement(at=at, phase="Failed", value=value, message=f"{condition} {word} of {value}."[:512])
    if not passed:
        message = f"Neither successCondition nor failureCondition is true of {value}."
        return Measurement(at=at, phase="Inconclusive", value=value, message=message[:512])
    return Measurement(at=at, phase="Successful", value=value)


def _by_exit_code(code: int, at: str) -> Measurement:
    if code == 0:
        return Measurement(at=at, phase="Successful", value="0")
    return Measurement(at=at, phase="Failed", value=str(code), message=f"The Job ended with exit code {code}.")


def add(metric: Metric, run: MetricRun, measurement: Measurement, now: datetime) -> MetricRun:
    """The counts with one more measurement, and the verdict that they add up to."""
    phase = measurement.phase
    counted = run.model_copy(
        update={
            "successful": run.successful + (phase == "Successful"),
            "failed": run.failed + (phase == "Failed"),
            "inconclusive": run.inconclusive + (phase == "Inconclusive"),
            "error": run.error + (phase == "Error"),
            "consecutive_error": run.consecutive_error + 1 if phase == "Error" else 0,
            "measurements": [measurement, *run.measurements][:_KEPT],
        }
    )
    verdict, message = _verdict(metric, counted, measurement)
    due = None if verdict != "Running" else timestamp(now + _seconds(metric.interval or _AFTER_ERROR))
    return counted.model_copy(update={"phase": verdict, "message": message, "due_at": due})


def _verdict(metric: Metric, run: MetricRun, last: Measurement) -> tuple[str, str | None]:
    why = f": {last.message}" if last.message else "."
    if run.failed > metric.failure_limit:
        return "Failed", f"{_times(run.failed)} Failed, {metric.failure_limit} forgiven{why}"
    if run.inconclusive > metric.inconclusive_limit:
        return "Inconclusive", f"{_times(run.inconclusive)} Inconclusive, {metric.inconclusive_limit} forgiven{why}"
    if run.consecutive_error > metric.consecutive_error_limit:
        limit = metric.consecutive_error_limit
        return "Error", f"{_times(run.consecutive_error)} Error in a row, {limit} forgiven{why}"
    wanted = metric.count or (None if is_endless(metric) else 1)
    if wanted is None or run.taken - run.error < wanted:
        return "Running", None
    if not run.successful:
        return "Inconclusive", f"None of {_times(run.taken)} was Successful{why}"
    return "Successful", None


def close(metric: Metric, run: MetricRun) -> MetricRun:
    """An endless metric whose time is over: Successful with at least one Successful measurement, else it goes on."""
    if run.phase == "Running" and is_endless(metric) and run.successful:
        return run.model_copy(update={"phase": "Successful", "due_at": None})
    return run


_ORDER = ("Failed", "Error", "Inconclusive", "Running")


def conclude(run: AnalysisRun, found: Sequence[tuple[Metric, MetricRun]]) -> AnalysisRun:
    """The run with these metrics: the worst verdict that counts is its own; it is Successful when all are.

    Metrics of a dry run are waited for, if they have an end, and decide nothing.
    """
    counting = [each for metric, each in found if not metric.dry_run]
    phase = next((word for word in _ORDER if any(each.phase == word for each in counting)), "Successful")
    if phase == "Successful" and any(each.phase == "Running" and not is_endless(metric) for metric, each in found):
        phase = "Running"
    worst = next((each for each in counting if each.phase == phase and each.message), None)
    message = f"Metric {worst.name}: {worst.message}"[:1024] if worst else None
    return run.model_copy(update={"metrics": [each for _, each in found], "phase": phase, "message": message})


def _times(count: int) -> str:
    return "1 measurement" if count == 1 else f"{count} measurements"


def _text(value: Any) -> str:
    text = json.dumps(value, separators=(", ", ": "))
    return text if len(text) <= 256 else f"{text[:255]}…"


def _seconds(text: str | None) -> timedelta:
    return parse_duration(text) if text else timedelta()
