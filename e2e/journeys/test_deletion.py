"""Whatever is deleted first: what exists to run goes, records and data stay, unless deletionPolicy says otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slipway_demo.acts import DATASET, FIRST_MONTHS, PROJECT, ROLLOUT, Play
from slipway_demo.client import upload

pytestmark = pytest.mark.timeout(1200)

FEATURES = "flight-features"
MAKERS = {
    "ModelProject": PROJECT,
    "Dataset": DATASET,
    "FeatureSet": FEATURES,
    "ModelRollout": ROLLOUT,
}
RUNTIME = (
    ("InferenceService", "serving.kserve.io/v1beta1"),
    ("HTTPRoute", "gateway.networking.k8s.io/v1"),
    ("Job", "batch/v1"),
)


@pytest.mark.parametrize(
    "order",
    [
        ("ModelProject", "Dataset", "FeatureSet", "ModelRollout"),
        ("ModelRollout", "FeatureSet", "Dataset", "ModelProject"),
    ],
    ids=["project-first", "project-last"],
)
def test_makers_go_and_records_stay(play_in: Callable[[str], Play], order: tuple[str, ...]) -> None:
    play = play_in("gone-" + ("first" if order[0] == "ModelProject" else "last"))
    act = play.story.add(f"Deletion: {order[0]} first")
    upload(play.cluster, FIRST_MONTHS, prefix=play.prefix)
    play.apply()
    stable = play.healthy(act, "version 1 serves", bool)
    versions = {v["metadata"]["name"] for v in play.world.objects("DatasetVersion", play.namespace)}

    for kind in order:
        play.world.delete(kind, MAKERS[kind], play.namespace)
    for kind, name in MAKERS.items():
        play.world.wait(
            f"{kind} {name} is gone",
            lambda kind=kind, name=name: play.get(kind, name) is None,  # type: ignore[misc]
            timeout=180,
            state=play.state,
        )
    for kind, api_version in RUNTIME:
        play.world.wait(
            f"no {kind} of them is left",
            lambda kind=kind, api_version=api_version: (
                [  # type: ignore[misc]
                    o
                    for o in play.world.objects(kind, play.namespace, api_version)
                    if not o["metadata"]["name"].startswith(("airlines-", "weather-"))
                ]
                == []
            ),
            timeout=120,
        )
    assert {v["metadata"]["name"] for v in play.world.objects("DatasetVersion", play.namespace)} == versions
    record = play.get("ModelVersion", stable)
    assert record is not None
    assert record["spec"]["passed"] is True
    assert "deletionTimestamp" not in record["metadata"]
