"""Versions that are good offline and fail in service: each is left by itself, and no client loses a request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journeys.parcels import CANARY, Parcels, Rollout

pytestmark = pytest.mark.timeout(1800)

ROLLBACK = {"automatic": True, "keepPrevious": "10m"}


@pytest.fixture(scope="module")
def rollout(parcels: Parcels) -> Iterator[Rollout]:
    """The first version serves, and a steady client asks it."""
    made = Rollout(parcels, "reactions", steps=CANARY)
    try:
        made.serves("first")
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def serving(rollout: Rollout) -> Iterator[None]:
    """Each test begins with one version for everyone, and one client."""
    rollout.back_to("first")
    rollout.client()
    yield
    rollout.stop()


def test_a_good_version_takes_over_step_by_step(rollout: Rollout, parcels: Parcels) -> None:
    rollout.pin("second")
    rollout.until("it has some requests", lambda told: told.get("weight") == 20)
    rollout.until("it has half of them", lambda told: told.get("weight") == 50)
    rollout.serves("second")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    assert counts.versions.keys() == {parcels.versions["first"], parcels.versions["second"]}


def test_errors_send_everyone_back(rollout: Rollout) -> None:
    rollout.client(strange=True)
    failing = rollout.pin("failing")
    rejection = rollout.rejected("failing")
    assert rejection["reason"] == "ChecksFailed"
    assert "Check success failed" in rejection["message"]
    rollout.back_to("first")

    counts = rollout.stop()
    assert counts.lost == 0, counts.losses
    assert 0 < counts.version_errors == counts.versions[failing]["version"]


def test_errors_are_hidden_where_they_are_asked_for_again(rollout: Rollout, parcels: Parcels) -> None:
    failing = parcels.versions["failing"]
    rollout.annotate(retry=f"{failing}:hidden")
    rollout.pin("failing", rollback={**ROLLBACK, "retryOnStable": True})
    rollout.until("it has requests", lambda told: told.get("weight"))
    rollout.until(
        "failed answers are asked for again", lambda _: rollout.condition("RetryOnStable").get("status") == "True", 30
    )
    rollout.client(strange=True)
    rejection = rollout.rejected("failing")
    assert "Check success failed" in rejection["message"]
    rollout.pin("first", rollback=ROLLBACK)
    rollout.serves("first")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses


def test_slowness_sends_everyone_back(rollout: Rollout) -> None:
    rollout.client(strange=True)
    rollout.pin("slow")
    rejection = rollout.rejected("slow")
    assert rejection["reason"] == "ChecksFailed"
    assert "Check latency failed" in rejection["message"]
    rollout.back_to("first")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses


def test_a_model_that_cannot_be_loaded_gets_no_request(rollout: Rollout, parcels: Parcels) -> None:
    parcels.overwrite_model("broken")
    broken = rollout.pin("broken", progressDeadline="30s")
    changed = "the file was changed after the model was registered"
    told = rollout.until("a person is told", lambda _: changed in rollout.condition("Stalled").get("message", ""), 25)
    assert not told.get("weight")
    assert rollout.condition("Stalled")["reason"] == "LoadFailed"
    rejection = rollout.rejected("broken")
    assert rejection["reason"] == "LoadFailed"
    rollout.pin("first", progressDeadline=None)
    rollout.serves("first")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    assert broken not in counts.versions
