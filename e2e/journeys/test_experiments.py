"""A/B/n on a real gateway: four versions answer users side by side for a time, one stays, and no request is lost."""

from __future__ import annotations

import pytest

from journeys.parcels import Parcels, Rollout
from slipway_demo.world import Obj

pytestmark = pytest.mark.timeout(1800)


def test_several_versions_are_compared_and_the_new_one_takes_over(parcels: Parcels) -> None:
    arms = [
        {"name": "third", "modelVersionRef": {"name": parcels.versions["third"]}, "percent": 25},
        {"name": "alarmist", "modelVersionRef": {"name": parcels.versions["alarmist"]}, "percent": 25},
    ]
    compare = {"for": "20s", "candidatePercent": 25, "arms": arms, "minimumRequests": 50}
    steps = [{"name": "compare", "experiment": compare}, {"name": "everyone", "setWeight": 100}]
    rollout = Rollout(parcels, "experiments", steps=steps, rollback={"automatic": True, "keepPrevious": "1s"})
    try:
        rollout.serves("first")
        rollout.client()
        second = rollout.pin("second")
        told = rollout.until("four versions share the requests", lambda told: _experiment(told)["phase"] == "Running")
        assert {each["desiredWeight"] for each in told["versions"]} == {25}
        rollout.serves("second", 240)

        told = rollout.until("the others' servers are gone", lambda told: len(told["versions"]) == 1)
        report = _experiment(told)
        assert report["phase"] == "Completed"
        assert [each["name"] for each in report["versions"]] == ["stable", "candidate", "third", "alarmist"]
        assert all(each["counted"]["requests"] >= 50 for each in report["versions"])
        assert all(float(each["value"]) == 100 for each in report["versions"])
        assert all(each["verdict"] == "NoDifference" for each in report["versions"][1:])

        counts = rollout.stop()
        assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
        assert counts.versions.keys() == {parcels.versions[name] for name in ("first", "second", "third", "alarmist")}
        assert counts.versions[second]["ok"] > 50
    finally:
        rollout.close()


def _experiment(told: Obj) -> Obj:
    return dict((told.get("experiments") or [{"phase": ""}])[0])
