"""What each error means, and the status that reports it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slipway.runtime import errors
from slipway.runtime.client import to_error
from slipway.runtime.controller import Plan
from slipway.runtime.queue import Done, Failed
from slipway.runtime.reconcile import QUIET_CAP, Verdict, judge, named, no_later, with_error
from slipway.runtime.resources import Object

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "failures", "expected"),
    [
        (errors.UserError("Bad", "is bad.", "spec.x"), 0, Verdict(Done(), "Bad", "spec.x: is bad.", terminal=True)),
        (errors.MissingDependency("Gone", "no."), 0, Verdict(Failed(cap=QUIET_CAP), "Gone", "no.")),
        (errors.Unavailable("away"), 0, Verdict(Failed(cap=QUIET_CAP), "Unavailable")),
        (errors.Unavailable("away"), 2, Verdict(Failed(cap=QUIET_CAP), "Unavailable", "away")),
        (errors.Unavailable("busy", retry_after=7), 0, Verdict(Failed(7, QUIET_CAP), "Unavailable")),
        (errors.Conflict(409, "Conflict", "changed"), 5, Verdict(Failed(cap=QUIET_CAP), "Conflict")),
        (errors.Fenced("no"), 5, Verdict(Failed(), "Fenced")),
    ],
)
def test_verdicts(error: Exception, failures: int, expected: Verdict) -> None:
    assert judge(error, failures) == expected


def test_a_defect_says_nothing_of_its_details() -> None:
    verdict = judge(ZeroDivisionError("secret"), 0)
    assert verdict.reason == "InternalError"
    assert "secret" not in verdict.message


def live() -> Object:
    ready = {"type": "Ready", "status": "True", "reason": "Fine", "message": "", "observedGeneration": 1}
    stalled = {"type": "Stalled", "status": "True", "reason": "Old", "message": ""}
    return {"metadata": {"name": "x", "generation": 2}, "status": {"conditions": [ready, stalled], "kept": 1}}


def test_an_error_replaces_the_ready_condition_and_keeps_the_rest() -> None:
    status = with_error(live(), None, "Ready", judge(errors.MissingDependency("Gone", "no."), 0), NOW)
    assert status["kept"] == 1
    (ready,) = status["conditions"]  # an earlier Stalled is over: this error may pass by itself
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "Gone", 2)


def test_a_users_error_is_also_stalled_and_the_plans_status_counts_if_there_is_one() -> None:
    status = with_error(live(), {"planned": 2}, "Succeeded", judge(errors.UserError("Bad", "no."), 0), NOW)
    assert status["planned"] == 2
    assert [each["type"] for each in status["conditions"]] == ["Stalled", "Succeeded"]


@pytest.mark.parametrize(
    ("code", "reason", "message", "expected"),
    [
        (404, "NotFound", "no", errors.NotFound),
        (409, "AlreadyExists", "no", errors.AlreadyExists),
        (409, "Conflict", "no", errors.Conflict),
        (422, "Invalid", "no", errors.Invalid),
        (403, "Forbidden", "no", errors.Forbidden),
        (403, "Forbidden", 'admission webhook "x" denied the request: no', errors.Invalid),
        (410, "Expired", "no", errors.Expired),
        (500, "InternalError", "no", errors.Unavailable),
        (401, "Unauthorized", "no", errors.Unavailable),
        (418, "Teapot", "no", errors.ApiError),
    ],
)
def test_answers_of_the_api_become_our_errors(code: int, reason: str, message: str, expected: type[Exception]) -> None:
    assert type(to_error(code, reason, message)) is expected


def test_a_server_may_ask_for_patience() -> None:
    error = to_error(429, "TooManyRequests", "busy", "13")
    assert isinstance(error, errors.Unavailable)
    assert error.retry_after == 13.0


def test_two_controllers_of_one_name_are_refused() -> None:
    class Same: ...

    with pytest.raises(ValueError, match="two controllers are called Same"):
        named([Same(), Same()])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("requeue", "outcome", "cap"),
    [
        (1.0, Failed(cap=QUIET_CAP), 1.0),
        (0.2, Failed(cap=QUIET_CAP), 1.0),
        (60.0, Failed(cap=QUIET_CAP), QUIET_CAP),
        (None, Failed(cap=QUIET_CAP), QUIET_CAP),
    ],
)
def test_what_is_watched_is_looked_at_as_soon_though_an_action_failed(
    requeue: float | None, outcome: Failed, cap: float
) -> None:
    assert no_later(outcome, Plan(requeue_after=requeue)) == Failed(cap=cap)


def test_a_user_s_mistake_is_not_retried_for_a_plan() -> None:
    assert no_later(Done(), Plan(requeue_after=1.0)) == Done()
    assert no_later(Failed(7, QUIET_CAP), None) == Failed(7, QUIET_CAP)
