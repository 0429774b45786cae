"""The flights journey: the demo's four acts, and what must be true at their end."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

import pytest

from slipway_demo.acts import ROLLOUT, Play
from slipway_demo.chain import Chain
from slipway_demo.install import Installed
from slipway_demo.main import ACTS
from slipway_demo.story import Story
from slipway_demo.world import status

pytestmark = [pytest.mark.flights, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def played(installed: Installed, story: Story) -> Play:
    """The whole story. An act that does not come to its end raises."""
    play = Play(installed, story)
    play.clear()
    try:
        for title, method in ACTS:
            act = story.add(title)
            with act.running(), Chain(installed.world, play.namespace, act.add("objects")):
                getattr(play, method)(act)
    finally:
        play.stop_clients()
    return play


def test_no_request_was_lost(played: Play) -> None:
    counts = played.facts.counts
    assert counts.sent > 1000
    assert counts.lost == 0, counts.losses


def test_every_error_is_of_the_failing_version(played: Play) -> None:
    counts = played.facts.counts
    third = played.facts.versions[-1][0]
    assert counts.version_errors > 0
    assert counts.version_errors == counts.versions[third]["version"]
    assert counts.ok + counts.version_errors == counts.sent


def test_the_broken_rules_are_sentences(played: Play) -> None:
    told = played.facts.broken_rules
    assert any("carrier" in sentence for sentence in told)
    assert any("plausible-mean" in sentence and "avg(arr_delay)" in sentence for sentence in told)
    assert all("2013-04.parquet" in sentence for sentence in told)


def test_the_failing_version_is_remembered_and_the_second_serves(played: Play) -> None:
    told = status(played.get("ModelRollout", ROLLOUT))
    second, third = played.facts.versions[1][0], played.facts.versions[2][0]
    assert told["stable"] == second
    assert third in [entry["name"] for entry in told["rejected"]]
    assert played.facts.versions[0][0] in [entry["name"] for entry in told["history"]]


def test_every_version_has_its_digests_and_verdicts(played: Play) -> None:
    versions = played.world.objects("ModelVersion", played.namespace)
    assert len(versions) == 3
    for version in versions:
        spec = version["spec"]
        assert all(str(digest).startswith("sha256:") for name, digest in spec["digests"].items() if name != "image")
        assert {verdict["name"] for verdict in spec["verdicts"]} >= {
            "optimize",
            "requirement/fast",
            "requirement/small",
        }
        assert spec["passed"] is True


def test_training_ran_on_the_gpu_pool(played: Play) -> None:
    pods = played.world.core.list_namespaced_pod(played.namespace, label_selector="slipway.dev/trainingrun").items
    trained = [pod for pod in pods if pod.spec.containers[0].args[0] == "train"]
    nodes = {node.metadata.name for node in played.world.core.list_node(label_selector="slipway.dev/pool=gpu").items}
    assert trained
    assert {pod.spec.node_name for pod in trained} <= nodes


def test_a_prediction_leads_back_to_data_and_code(played: Play) -> None:
    flight = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400.0, "weekday": 4, "dep_hour": 17}
    request = urllib.request.Request(
        f"{played.url()}/v1/models/{ROLLOUT}:predict",
        data=json.dumps({"instances": [flight]}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        body = json.load(answer)
        served = answer.headers["x-slipway-version"]
        request_id = answer.headers["x-request-id"]
    assert body["modelVersion"] == served
    assert 0 <= body["predictions"][0]["probability"] <= 1
    command = [sys.executable, "-m", "slipway.cli.main", "why", request_id, "-n", played.namespace]
    told = subprocess.run(
        [*command, "--kubeconfig", str(played.world.kubeconfig)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    version = played.get("ModelVersion", served)
    assert version is not None
    for expected in (
        served,
        version["spec"]["datasetVersionRef"]["name"],
        version["spec"]["digests"]["code"],
        "flights.train:train",
    ):
        assert expected in told
