"""What a deletion takes along, what it leaves, and that it always ends."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from unit.controllers.things import PROJECT, dataset, everything, live, month, project
from unit.controllers.world import NS, World, ready

from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    JOB,
    MODEL_PROJECT,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    NAMESPACE,
    PLATFORM,
    TRAINING_RUN,
    Object,
)


@pytest.fixture
async def world() -> World:
    """A whole project whose dataset goes with its data."""
    made = World()
    everything(made)
    made.put(DATASET, dataset(deletionPolicy="Delete"))
    month(made, 1)
    await live(made)
    return made


def terminate(world: World) -> None:
    """Somebody deletes the namespace: nothing can be made in it any more."""
    namespace = copy.deepcopy(world.get(NAMESPACE, NS))
    namespace["metadata"]["deletionTimestamp"] = "2026-11-23T08:00:00Z"
    world.api.put(NAMESPACE, namespace)


async def test_delete_takes_records_and_data_along(world: World) -> None:
    assert any(key.startswith("datasets/") for key in world.artifacts.objects)
    await world.delete(DATASET, "flights")
    await live(world)
    assert world.all(DATASET) == []
    assert world.all(DATASET_VERSION) == []
    assert not any(key.startswith("datasets/") for key in world.artifacts.objects)
    assert any("-delete-data-" in name for name in world.jobs_made)
    assert len(world.all(MODEL_VERSION)) == 1


async def test_a_namespace_that_ends_needs_no_job(world: World) -> None:
    terminate(world)
    made = len(world.jobs_made)
    for type_, name in ((DATASET, "flights"), (FEATURE_SET, "history"), (MODEL_PROJECT, PROJECT)):
        await world.delete(type_, name)
        await world.settle()
    assert [world.all(type_) for type_ in (DATASET, DATASET_VERSION, FEATURE_SET, MODEL_PROJECT)] == [[], [], [], []]
    assert not any(key.startswith("datasets/") for key in world.artifacts.objects)
    assert len(world.jobs_made) == made


async def test_without_a_platform_the_data_is_left_and_an_event_says_where(world: World) -> None:
    await world.delete(PLATFORM, "default")
    await world.delete(DATASET, "flights")
    await world.settle()
    assert world.all(DATASET) == []
    notes = [event["note"] for event in world.api.events if event["reason"] == "DataLeft"]
    assert any(f"datasets/{NS}/flights/" in note for note in notes)


def version_with(world: World, name: str, parts: list[str], policy: str) -> Object:
    """A record whose manifest names some partitions."""
    folder = f"datasets/{NS}/flights/versions/{name}"
    source = {"key": "raw/a", "etag": "e", "size": 1}
    found = [
        {"key": f"datasets/{NS}/flights/parts/{part}", "digest": "d", "rows": 1, "source": source} for part in parts
    ]
    manifest = {"namespace": NS, "dataset": "flights", "columns": [], "key": ["id"], "parts": found}
    for part in found:
        world.artifacts.objects[str(part["key"])] = b"rows"
    world.artifacts.objects[f"{folder}/manifest.json"] = json.dumps(manifest).encode()
    world.artifacts.objects[f"{folder}/report.json"] = b"{}"
    digest = "sha256:" + name[0] * 64
    spec: dict[str, Any] = {
        "projectRef": {"name": PROJECT},
        "datasetRef": {"name": "flights"},
        "digest": digest,
        "sourceDigest": digest,
        "verdict": "Passed",
        "rows": 1,
        "partitions": 1,
        "manifest": f"s3://slipway/{folder}/manifest.json",
        "report": f"s3://slipway/{folder}/report.json",
        "deletionPolicy": policy,
    }
    return world.put(DATASET_VERSION, {"metadata": {"name": name, "namespace": NS}, "spec": spec})


async def test_a_version_takes_along_only_the_partitions_that_no_other_has(world: World) -> None:
    version_with(world, "aaaa", ["shared", "own"], "Delete")
    version_with(world, "bbbb", ["shared", "other"], "Retain")
    await world.settle()
    await world.delete(DATASET_VERSION, "aaaa")
    await live(world)
    assert DATASET_VERSION.key("aaaa", NS) not in world.api.objects
    left = {key.rpartition("/")[2] for key in world.artifacts.objects if "/parts/" in key}
    assert left == {"shared", "other"}
    assert not any("/versions/aaaa/" in key for key in world.artifacts.objects)
    assert any("/versions/bbbb/" in key for key in world.artifacts.objects)


async def test_a_retained_version_leaves_its_data(world: World) -> None:
    version_with(world, "aaaa", ["own"], "Retain")
    await world.settle()
    await world.delete(DATASET_VERSION, "aaaa")
    await live(world)
    assert DATASET_VERSION.key("aaaa", NS) not in world.api.objects
    assert any("/versions/aaaa/" in key for key in world.artifacts.objects)


def rollout(version: str | None) -> Object:
    spec = {"projectRef": {"name": PROJECT}, "routing": {"path": "/a"}, "steps": [{"name": "all", "setWeight": 100}]}
    served = {"name": version, "digest": "d", "service": "s", "role": "Stable", "ready": True, "desiredWeight": 100}
    status = {"stable": version, "versions": [served]} if version else {}
    return {"metadata": {"name": "delays", "namespace": NS}, "spec": spec, "status": status}


async def test_an_artifact_goes_only_when_nothing_serves_it(world: World) -> None:
    (version,) = world.all(MODEL_VERSION)
    name = version["metadata"]["name"]
    folder = version["spec"]["artifact"].removeprefix("s3://slipway/")
    world.artifacts.objects[f"{folder}/model.joblib"] = b"model"
    kept = copy.deepcopy(version)
    kept["spec"]["deletionPolicy"] = "Delete"
    kept["metadata"]["generation"] = 2
    world.api.objects[MODEL_VERSION.key(name, NS)] = kept
    world.put(MODEL_ROLLOUT, rollout(name))
    world.restart()
    await world.settle()
    assert ready(world.get(MODEL_VERSION, name), "Serving")[2] == "Served by ModelRollout delays (Stable)."
    await world.delete(MODEL_VERSION, name)
    await live(world)
    assert "still serves this version" in ready(world.get(MODEL_VERSION, name))[2]
    assert f"{folder}/model.joblib" in world.artifacts.objects
    world.put(MODEL_ROLLOUT, rollout(None))
    await live(world)
    assert world.all(MODEL_VERSION) == []
    assert f"{folder}/model.joblib" not in world.artifacts.objects


async def test_a_run_that_is_deleted_stops_its_job(world: World) -> None:
    world.put(MODEL_PROJECT, project(tests={"slices": [{"name": "a", "where": "true", "metric": "rocAuc"}]}))
    await world.settle()
    (job,) = world.jobs("train")
    run = job["metadata"]["labels"]["slipway.dev/trainingrun"]
    kept = world.get(TRAINING_RUN, run)["metadata"]["finalizers"]
    assert kept == ["slipway.dev/cleanup"]
    await world.delete(MODEL_PROJECT, PROJECT)
    await world.delete(TRAINING_RUN, run)
    await world.settle()
    assert TRAINING_RUN.key(run, NS) not in world.api.objects
    assert JOB.key(job["metadata"]["name"], NS) not in world.api.objects


async def test_a_policy_that_becomes_retain_lets_go(world: World) -> None:
    assert world.get(DATASET, "flights")["metadata"]["finalizers"] == ["slipway.dev/cleanup"]
    world.put(DATASET, dataset())
    await world.settle()
    assert world.get(DATASET, "flights")["metadata"]["finalizers"] == []
