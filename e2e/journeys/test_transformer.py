"""A transformer and its model on a real cluster: they change as one, and the caller's name reaches the model server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from journeys.parcels import CANARY, NAME, SMALL, TEAM, Parcels, Rollout
from slipway_demo.world import Obj

pytestmark = pytest.mark.timeout(1200)

PACKAGE = TEAM.parent / "transformer" / "prepare"
KEY, SECRET = "p" * 32, "prepared-key"
CALLS = 30


@pytest.fixture(scope="module")
def rollout(parcels: Parcels) -> Iterator[Rollout]:
    """The first version serves, behind a transformer."""
    transformer = {
        "image": parcels.cluster.build_team_image("prepare", PACKAGE),
        "env": [{"name": "VERSION", "value": "{version}"}],
        "resources": SMALL,
    }
    made = Rollout(parcels, "prepared", serving={"resources": SMALL, "transformer": transformer}, steps=CANARY)
    try:
        made.serves("first")
        yield made
    finally:
        made.close()


def ask(rollout: Rollout, **headers: str) -> tuple[str, dict[str, Any]]:
    """The version that answers a parcel of a depot in capitals, as the gateway says it, and the answer."""
    parcel = {"depot": "NORTH", "kilometres": 120.0, "hour": 9}
    request = urllib.request.Request(
        f"{rollout.url}/v1/models/{rollout.name}:predict",
        data=json.dumps({"instances": [parcel]}).encode(),
        headers={"content-type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.headers["x-slipway-version"]), json.load(answer)


def test_a_pair_takes_over_as_one(rollout: Rollout, parcels: Parcels) -> None:
    rollout.client()
    second = rollout.pin("second")
    rollout.until("some of the requests meet it", lambda told: (told.get("step") or {}).get("name") == "watch-some")
    met = [ask(rollout) for _ in range(40)]
    assert {version for version, _ in met} == {parcels.versions["first"], second}
    for version, answer in met:
        assert answer["preparedBy"] == version, "a version's transformer asks no other version's model"
        assert len(answer["predictions"]) == 1
    rollout.serves("second")

    counts = rollout.stop()
    assert (counts.lost, counts.version_errors) == (0, 0), counts.losses
    assert counts.versions.keys() == {parcels.versions["first"], second}


def test_who_called_is_counted_behind_a_transformer(rollout: Rollout, parcels: Parcels) -> None:
    meta = {"namespace": NAME, "name": SECRET}
    parcels.world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"apiKey": KEY}})
    site = {
        "name": "site",
        "apiKey": {"secretRefs": [{"name": SECRET}]},
        "purpose": "A journey.",
        "contact": "journeys@example.com",
    }
    rollout.pin("second", consumers=[site])

    def admitted(_: Obj) -> bool:
        """Whether the gateway turns others away, and the site not."""
        try:
            ask(rollout)
        except urllib.error.HTTPError as refused:
            return refused.code == 401
        return False

    rollout.until("others are turned away", admitted)
    for _ in range(CALLS):
        ask(rollout, **{"x-api-key": KEY})
    rollout.until("the site is counted", lambda told: _requests(told) >= CALLS)


def _requests(told: Obj) -> int:
    return sum(each.get("requests") or 0 for each in told.get("consumers") or () if each["name"] == "site")
