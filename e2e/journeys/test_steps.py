"""Blue/green, header route and copies on a real gateway: what clients meet, and that they lose nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journeys.parcels import Parcels, Rollout
from slipway_demo.world import Obj

pytestmark = pytest.mark.timeout(1800)

BLUE_GREEN = {"blueGreen": {"preview": [{"name": "x-preview", "exact": "yes"}]}}
AB = {"ab": {"header": [{"name": "x-group", "exact": "b"}], "for": "10s", "onEnd": "Pause"}}
SHADOW = {"shadow": {"percent": 50, "for": "15s"}}


@pytest.fixture(scope="module")
def rollout(parcels: Parcels) -> Iterator[Rollout]:
    """The first version serves."""
    made = Rollout(parcels, "steps", strategy=BLUE_GREEN)
    try:
        made.serves("first")
        yield made
    finally:
        made.close()


def test_blue_green_shows_a_version_to_some_and_then_changes_over(rollout: Rollout, parcels: Parcels) -> None:
    first = parcels.versions["first"]
    rollout.client()
    second = rollout.pin("second", strategy=BLUE_GREEN)
    rollout.until("it stands by", lambda told: _step(told) == "approval")
    assert {rollout.ask(**{"x-preview": "yes"}) for _ in range(20)} == {second}
    assert {rollout.ask(**{"x-preview": "no"}) for _ in range(20)} == {first}
    assert second not in rollout.counts().versions
    rollout.annotate(promote=f"approval:{second}")
    rollout.serves("second")
    rollout.client()  # and goes on when everyone has changed over

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    assert counts.versions.keys() == {first, second}


def test_a_header_chooses_between_two_versions_for_a_time(rollout: Rollout, parcels: Parcels) -> None:
    rollout.back_to("first")
    rollout.client()
    third = rollout.pin("third", strategy=AB)
    rollout.until("group b is compared", lambda told: _step(told) == "compare")
    assert {rollout.ask(**{"x-group": "b"}) for _ in range(40)} == {third}
    assert {rollout.ask(**{"x-group": "a"}) for _ in range(20)} == {parcels.versions["first"]}
    rollout.until("its time is over", lambda told: _step(told) == "decision")
    assert third not in rollout.counts().versions
    rollout.annotate(promote=f"decision:{third}")
    rollout.serves("third")
    rollout.client()

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses


def test_a_version_that_fails_on_copies_is_met_by_nobody(rollout: Rollout, parcels: Parcels) -> None:
    rollout.back_to("first")
    rollout.client()
    rollout.client(strange=True)
    rollout.pin("failing", strategy=SHADOW)
    told = rollout.until("it is judged on copies", lambda told: _step(told) == "shadow")
    assert not told.get("weight")
    assert [(each["name"], each["state"]) for each in told["plan"]] == [("shadow", "Running"), ("everyone", "Waiting")]
    assert rollout.rejected("failing")["reason"] == "ChecksFailed"
    rollout.back_to("first")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    assert counts.versions.keys() == {parcels.versions["first"]}


def _step(told: Obj) -> str:
    return str((told.get("step") or {}).get("name", ""))
