"""Conditions: transition times, what is carried over, and which transitions are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from slipway.runtime.conditions import MAX_MESSAGE, Conditions, Note, is_true, timestamp, transitions
from slipway.runtime.resources import Object

THEN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW = THEN + timedelta(hours=1)


def live(*conditions: Object, generation: int = 2) -> Object:
    return {"metadata": {"name": "x", "generation": generation}, "status": {"conditions": list(conditions)}}


def earlier(status: str, kind: str = "Ready") -> Object:
    conditions = Conditions({"metadata": {"name": "x", "generation": 1}}, THEN)
    conditions.set(kind, status, "Before", "as it was")  # type: ignore[arg-type]
    return conditions.list()[0]


def test_the_transition_time_changes_only_with_the_status() -> None:
    same, other = Conditions(live(earlier("True")), NOW), Conditions(live(earlier("True")), NOW)
    same.true("Ready", "StillSo", "another reason")
    other.false("Ready", "NoMore")
    assert same.list()[0]["lastTransitionTime"] == timestamp(THEN)
    assert same.list()[0]["reason"] == "StillSo"
    assert other.list()[0]["lastTransitionTime"] == timestamp(NOW)


def test_the_generation_that_was_observed_is_the_live_one() -> None:
    conditions = Conditions(live(earlier("True")), NOW)
    conditions.true("Ready", "Fine")
    assert conditions.list()[0]["observedGeneration"] == 2


def test_what_is_not_stated_is_gone_unless_it_is_carried() -> None:
    old = [earlier("True", kind) for kind in ("Ready", "Stalled", "Progressing")]
    conditions = Conditions(live(*old), NOW)
    conditions.true("Ready", "Fine")
    conditions.carry("Progressing", "NeverThere")
    assert [each["type"] for each in conditions.list()] == ["Progressing", "Ready"]
    assert conditions.list()[0] == old[2]
    conditions.carry_all()
    assert [each["type"] for each in conditions.list()] == ["Progressing", "Ready", "Stalled"]


def test_a_carried_condition_does_not_overrule_a_stated_one() -> None:
    conditions = Conditions(live(earlier("True")), NOW)
    conditions.false("Ready", "Now")
    conditions.carry_all()
    assert conditions.list()[0]["status"] == "False"


def test_booleans_are_statuses_and_long_messages_are_cut() -> None:
    conditions = Conditions(live(), NOW)
    conditions.set("Ready", False, "Long", "x" * 5000)
    assert conditions.list()[0]["status"] == "False"
    assert len(conditions.list()[0]["message"]) == MAX_MESSAGE


def test_times_are_utc_whatever_the_clocks_zone() -> None:
    assert timestamp(datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))) == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(("observed", "current"), [(2, True), (1, False)])
def test_a_condition_of_an_older_spec_does_not_count(observed: int, current: bool) -> None:
    condition = {"type": "Ready", "status": "True", "observedGeneration": observed}
    assert is_true(live(condition), "Ready") is current
    assert is_true(live(condition), "Ready", current=False) is True


def condition(status: str, kind: str = "Ready") -> Object:
    return {"type": kind, "status": status, "reason": "Because", "message": "of this"}


@pytest.mark.parametrize(
    ("before", "after", "kind", "told"),
    [
        (None, "True", "Ready", "Normal"),
        (None, "False", "Ready", None),
        (None, "Unknown", "Ready", None),
        ("False", "True", "Ready", "Normal"),
        ("Unknown", "True", "Ready", "Normal"),
        ("True", "False", "Ready", "Warning"),
        ("True", "Unknown", "Ready", None),
        ("Unknown", "False", "Ready", None),
        ("True", "True", "Ready", None),
        ("False", "False", "Ready", None),
        (None, "True", "Stalled", "Warning"),
        ("True", "False", "Stalled", None),
    ],
)
def test_transitions_that_people_want_to_hear_of(before: str | None, after: str, kind: str, told: str | None) -> None:
    old = [condition(before, kind)] if before else []
    expected = (Note("Normal" if told == "Normal" else "Warning", "Because", "of this"),) if told else ()
    assert transitions(old, [condition(after, kind)]) == expected
