"""Shadow with stored answers: what a new version would change is known, and decides, before a user meets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journeys.parcels import BUCKET, NAME, Parcels, Rollout
from slipway_demo.world import Obj

pytestmark = pytest.mark.timeout(1800)

SHADOW = {"shadow": {"percent": 100, "for": "20s"}}
DECISIONS = {"name": "decisions", "source": "PredictionLog", "metric": "decisionChangePercent", "max": "5"}
SUCCESS = {"name": "success", "metric": "successPercent", "min": "99", "minimumRequests": 20}


@pytest.fixture(scope="module")
def rollout(parcels: Parcels) -> Iterator[Rollout]:
    """The first version serves, every answer is stored."""
    log = {"samplePercent": 100, "retention": "24h"}
    made = Rollout(parcels, "predictions", strategy=SHADOW, checks=[DECISIONS, SUCCESS], predictionLog=log)
    try:
        made.serves("first")
        yield made
    finally:
        made.close()


def test_a_version_that_decides_alike_takes_over(rollout: Rollout, parcels: Parcels) -> None:
    rollout.client()
    second = rollout.pin("second")
    rollout.serves("second", 240)
    comparison = _comparison(rollout, second)
    assert comparison["pairs"] >= 100
    assert float(comparison["decisionChangePercent"]) < 5
    assert float(comparison["meanAbsoluteDelta"]) > 0
    _is_stored(parcels, "predictions", ["first", "second"])
    folder = str(comparison["report"]).removeprefix(f"s3://{BUCKET}/").rpartition("/")[0]
    stored = {item.object_name for item in parcels.store().list_objects(BUCKET, f"{folder}/", recursive=True)}
    assert {name.rpartition("/")[2] for name in stored if name} >= {"report.json"}

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses


def test_a_version_that_decides_differently_is_left_before_anyone_meets_it(rollout: Rollout, parcels: Parcels) -> None:
    rollout.back_to("first")
    rollout.client()
    rollout.client(strange=True)
    alarmist = rollout.pin("alarmist")
    rejection = rollout.rejected("alarmist", 240)
    assert rejection["reason"] == "ChecksFailed"
    assert "Check decisions failed" in rejection["message"]
    assert float(_comparison(rollout, alarmist)["decisionChangePercent"]) > 5
    rollout.back_to("first")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    assert counts.versions.keys() == {parcels.versions["first"]}


def _comparison(rollout: Rollout, candidate: str) -> Obj:
    told = rollout.until(
        "a comparison is there",
        lambda told: any(each["candidate"] == candidate and each.get("pairs") for each in told.get("comparisons", [])),
    )
    return next(dict(each) for each in reversed(told["comparisons"]) if each["candidate"] == candidate)


def _is_stored(parcels: Parcels, rollout: str, versions: list[str]) -> None:
    for version in versions:
        prefix = f"predictions/{NAME}/{rollout}/{parcels.versions[version]}/"
        files = [item.object_name for item in parcels.store().list_objects(BUCKET, prefix, recursive=True)]
        assert files
        assert all(str(file).endswith(".parquet") for file in files)
