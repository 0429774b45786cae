"""Answers of a candidate and the stable version, compared from the prediction log, and old predictions removed. Pure.

A comparison is asked for when a step that copies or analyzes has had its time. A Job makes it; until then, and with too
few pairs, checks that rest on it are Inconclusive, so that the step goes on. A step that copies is compared also where
no check asks for it, and then nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from slipway.adapters.jobs import manifest
from slipway.api.meta import parse_decimal, parse_time
from slipway.api.modelrollout import Check, CheckStatus
from slipway.api.reasons import Reason
from slipway.api.rollout_predictions import DELTA_METRICS, Comparison, SliceComparison
from slipway.api.rollout_steps import Step
from slipway.contracts.predictions import CompareResult, Deltas
from slipway.controllers.modelrollout.errands import Errand, offset, sweep_day
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.controllers.shared.work import clear
from slipway.runtime.conditions import Note, timestamp
from slipway.runtime.controller import Action, Create

LAG = timedelta(seconds=25)
"""How long after the end of its time a comparison begins: servers write every 15 seconds."""
AGAIN = timedelta(seconds=60)
"""After too few pairs a comparison is repeated, at the earliest after this, and with half as much time again."""
_LOOK = 5.0
_KEPT = 4
_FIELDS = {
    "decisionChangePercent": ("decision_change_percent", "The share of changed decisions is {} %"),
    "meanAbsoluteDelta": ("mean_absolute_delta", "The mean difference of probabilities is {}"),
    "worstDelta": ("worst_delta", "The greatest difference of probabilities is {}"),
    "populationStability": ("population_stability", "The population stability index is {}"),
    "coveragePercent": ("coverage_percent", "The model was sure enough of {} % of its answers"),
}


def from_log(check: Check) -> bool:
    """Whether a check rests on the prediction log."""
    return check.source == "PredictionLog"


# ---- asking ----------------------------------------------------------------------------------------------------------
def ask(snapshot: Snapshot, state: State, step: Step, undecided: bool, now: datetime) -> None:
    """Ask for the comparison of a step whose time is over, if it needs one that is not there.

    :param undecided: a check on the log is still Inconclusive
    """
    if snapshot.predictions is None or state.candidate is None or state.stable is None or state.position is None:
        return
    if step.mirror is None and not any(_needs_own(each, step, state) for each in snapshot.rollout.spec.checks):
        return
    before = _own(state)
    if before is not None:
        since, until = parse_time(before.since), parse_time(before.until)
        again = undecided and before.finished_at and now - until >= max(AGAIN, (until - since) / 2)
        if not again:
            return
    asked = (
        _repeated(before, now)
        if before is not None
        else Comparison(
            candidate=state.candidate,
            stable=state.stable,
            attempt=timestamp(state.candidate_since) if state.candidate_since else None,
            step=state.position.name,
            mirrored=step.mirror is not None,
            since=timestamp(state.position.started_at),
            until=timestamp(now),
        )
    )
    kept = [each for each in state.comparisons if _of_candidacy(each, state) and each.step != asked.step]
    state.comparisons = [*kept, asked][-_KEPT:]


def _repeated(before: Comparison, now: datetime) -> Comparison:
    """The same with more time; what was found stands until there is more."""
    return before.model_copy(update={"until": timestamp(now), "finished_at": None, "job": None})


def take_in(snapshot: Snapshot, state: State, now: datetime) -> None:
    """Write down what a Job found, and that old predictions are gone."""
    errand = snapshot.errands.compare
    for index, each in enumerate(state.comparisons):
        if errand is not None and not each.finished_at:
            state.comparisons[index] = _with_result(snapshot, state, each, errand, now)
            break
    log = snapshot.rollout.spec.prediction_log
    if log is None:
        state.swept_day = None
    elif state.swept_day is None:
        state.swept_day = sweep_day(snapshot.rollout, now)  # nothing is old yet
    elif snapshot.errands.sweep is not None and snapshot.errands.sweep.state.phase == "Complete":
        state.swept_day = sweep_day(snapshot.rollout, now)


def _with_result(snapshot: Snapshot, state: State, asked: Comparison, errand: Errand, now: datetime) -> Comparison:
    named = asked.model_copy(update={"job": errand.work.name})
    if errand.result is None:
        trouble = errand.state.message if errand.state.phase in ("Failed", "Pending") else None
        return named.model_copy(update={"message": trouble[:1024]}) if trouble else named
    update = {"finished_at": timestamp(now), **_numbers(snapshot, errand.result)}
    state.notes.append(Note("Normal", Reason.Compared, f"Version {asked.candidate}: {update['message']}"))
    return named.model_copy(update=update)


def _numbers(snapshot: Snapshot, result: CompareResult) -> dict[str, object]:
    overall = result.overall
    if overall is None:
        refusal = result.refusal
        return {"message": refusal.message[:1024] if refusal else "The Job compared nothing."}
    slices = [
        SliceComparison(
            name=each.name,
            pairs=each.pairs,
            decision_change_percent=each.decision_change_percent,
            mean_absolute_delta=each.mean_absolute_delta,
            worst_delta=each.worst_delta,
            rows=_rows(each),
            population_stability=each.population_stability,
            coverage_percent=each.candidate_coverage_percent,
        )
        for each in result.slices
    ]
    measured = [each for each in slices if each.decision_change_percent is not None]
    worst = max(measured, key=lambda each: parse_decimal(each.decision_change_percent or "0"), default=None)
    bucket = snapshot.predictions.store.bucket if snapshot.predictions else ""
    return {
        "message": _said(overall) + _coverage(overall),
        "pairs": overall.pairs,
        "unpaired_stable": overall.unpaired_stable,
        "unpaired_candidate": overall.unpaired_candidate,
        "agreement_percent": overall.agreement_percent,
        "decision_change_percent": overall.decision_change_percent,
        "mean_absolute_delta": overall.mean_absolute_delta,
        "worst_delta": overall.worst_delta,
        "rows": _rows(overall),
        "population_stability": overall.population_stability,
        "kolmogorov_smirnov": overall.kolmogorov_smirnov,
        "jensen_shannon": overall.jensen_shannon,
        "coverage_percent": overall.candidate_coverage_percent,
        "stable_coverage_percent": overall.stable_coverage_percent,
        "worst_slice": worst.name if worst is not None else None,
        "slices": slices or None,
        "report": f"s3://{bucket}/{result.page}" if result.page and bucket else None,
    }


def _rows(deltas: Deltas) -> int:
    return min(deltas.stable_rows, deltas.candidate_rows)


def _said(overall: Deltas) -> str:
    if not overall.pairs:
        counts = f"{overall.stable_rows} answers of the stable version and {overall.candidate_rows} of the candidate"
        return f"No request was answered by both versions; there are {counts}."
    return (
        f"{overall.decision_change_percent} % of {overall.pairs} requests got another decision; probabilities differ by"
        f" {overall.mean_absolute_delta} on average and {overall.worst_delta} at most."
    )


def _coverage(overall: Deltas) -> str:
    """A sentence where a version abstained, to follow another; empty where none did."""
    stable, candidate = overall.stable_coverage_percent, overall.candidate_coverage_percent
    if {stable, candidate} <= {None, "100"}:
        return ""
    found = [
        f"{share} % of the {whose}'s"
        for share, whose in ((candidate, "candidate"), (stable, "stable version"))
        if share
    ]
    return f" Models were sure enough of {' and '.join(found)} answers."


# ---- checks ----------------------------------------------------------------------------------------------------------
def verdict(snapshot: Snapshot, state: State, step: Step | None, check: Check) -> CheckStatus | None:
    """The verdict of a check on the log at the present step; None where it has nothing to say yet."""
    needs_own = step is not None and _needs_own(check, step, state)
    found = _own(state) if needs_own else _latest(state, check)
    if found is None and not needs_own:
        return None
    if snapshot.predictions is None:
        return _inconclusive(check, "Nothing is logged: see the condition PredictionLogAvailable.")
    if found is None or found.pairs is None:
        waiting = found.message if found is not None and found.message else "Answers are compared when the step ends."
        return _inconclusive(check, waiting)
    return _judged(check, found)


def _judged(check: Check, comparison: Comparison) -> CheckStatus:
    slices = [each for each in comparison.slices or () if each.name == check.slice]
    if check.slice is not None and not slices:
        return _inconclusive(check, f"The project has no slice {check.slice}: correct the check, or add it.")
    part = slices[0] if slices else comparison
    field, sentence = _FIELDS[check.metric]
    counted, what = (part.pairs, "pairs") if check.metric in DELTA_METRICS else (part.rows, "answers of each version")
    value: str | None = getattr(part, field)
    if value is None or (counted or 0) < check.minimum_pairs:
        return _inconclusive(check, f"{counted or 0} of {check.minimum_pairs} {what}.", counted or 0)
    over = f"{sentence.format(value)} over {counted} {what}"
    beyond = _beyond(check, parse_decimal(value))
    return CheckStatus(
        name=check.name,
        verdict="Failed" if beyond else "Success",
        value=value,
        requests=counted or 0,
        message=f"{over}{beyond}.",
    )


def _beyond(check: Check, value: Decimal) -> str:
    """How a value breaks its bound, to follow a clause; empty when it does not. Coverage has a least value."""
    if check.min is not None:
        return f", below the minimum of {check.min}" if value < parse_decimal(check.min) else ""
    return f", above the maximum of {check.max}" if value > parse_decimal(check.max or "0") else ""


def _inconclusive(check: Check, message: str, counted: int = 0) -> CheckStatus:
    return CheckStatus(name=check.name, verdict="Inconclusive", value=None, requests=counted, message=message[:1024])


def _needs_own(check: Check, step: Step, state: State) -> bool:
    """Whether a check wants a comparison of this very step: pairs need copies, distributions need both versions."""
    if not from_log(check):
        return False
    if step.mirror is not None:
        return True
    return step.analyze is not None and check.metric not in DELTA_METRICS and state.weight < 100


def _own(state: State) -> Comparison | None:
    """The comparison of the present step."""
    position = state.position
    if position is None:
        return None
    began = timestamp(position.started_at)
    return next(
        (
            each
            for each in state.comparisons
            if _of_candidacy(each, state) and each.step == position.name and each.since == began
        ),
        None,
    )


def _latest(state: State, check: Check) -> Comparison | None:
    """The last finished comparison of the candidate that can have what a check measures."""
    fitting = [
        each
        for each in state.comparisons
        if _of_candidacy(each, state) and each.finished_at and (each.mirrored or check.metric not in DELTA_METRICS)
    ]
    return fitting[-1] if fitting else None


def _of_candidacy(comparison: Comparison, state: State) -> bool:
    attempt = timestamp(state.candidate_since) if state.candidate_since else None
    return comparison.candidate == state.candidate and comparison.attempt == attempt


# ---- Jobs ------------------------------------------------------------------------------------------------------------
def jobs(snapshot: Snapshot, state: State, now: datetime) -> Iterator[Action]:
    """Make Jobs that are due, and clear away those that are to be made anew. Last of all actions: routes go first."""
    compare, sweep = snapshot.errands.compare, snapshot.errands.sweep
    waiting = next((each for each in state.comparisons if not each.finished_at), None)
    if compare is not None and waiting is not None and now >= parse_time(waiting.until) + LAG:
        yield from _run(compare, now)
    if sweep is not None and sweep.state.phase != "Complete":
        yield from _run(sweep, now)


def _run(errand: Errand, now: datetime) -> Iterator[Action]:
    if errand.state.phase == "Absent" and errand.delivered:
        yield Create(manifest(errand.work, errand.pod), owned=True)
    elif errand.retry_at is not None and errand.retry_at <= now and errand.result is None:
        yield clear(errand.work.owner.namespace, errand.work.name, errand.uid)


def next_look(snapshot: Snapshot, state: State, now: datetime) -> float | None:
    """Seconds until something of the log may be due; Jobs that change wake the rollout by themselves."""
    if snapshot.rollout.spec.prediction_log is None:
        return None
    busy = any(not each.finished_at for each in state.comparisons) or (
        snapshot.errands.sweep is not None and snapshot.errands.sweep.state.phase != "Complete"
    )
    if busy:
        return _LOOK
    began = now - offset(snapshot.rollout)
    midnight = began.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - began).total_seconds() + 1
