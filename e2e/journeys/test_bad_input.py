"""Malformed and conflicting resources are refused or get a condition, with a sentence that says what to change."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from slipway_demo.world import Obj, World, condition, describe

API = "slipway.dev/v1alpha1"


def _rollout(namespace: str, name: str, path: str, **spec: Any) -> Obj:
    return {
        "apiVersion": API,
        "kind": "ModelRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "projectRef": {"name": "none"},
            "routing": {"path": path},
            "steps": [{"name": "everyone", "setWeight": 100}],
            **spec,
        },
    }


def _dataset(namespace: str, **spec: Any) -> Obj:
    return {
        "apiVersion": API,
        "kind": "Dataset",
        "metadata": {"name": "rows", "namespace": namespace},
        "spec": {
            "projectRef": {"name": "none"},
            "source": {"type": "S3", "s3": {"prefix": "nothing/here/"}},
            "key": ["id"],
            "columns": [{"name": "id", "type": "String"}],
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"key": ["other"]}, "every column of key must stand in columns"),
        ({"schedule": "0 1 * * *"}, "set timeZone beside schedule"),
        ({"source": {"type": "S3"}}, "set exactly the member that type names"),
        ({"pollInterval": "soon"}, "pollInterval"),
        ({"splits": {"type": "Time", "time": {"trainPercent": 90}}}, "must add up to 100"),
    ],
)
def test_malformed_datasets_are_refused(world: World, namespace: str, spec: Obj, sentence: str) -> None:
    with pytest.raises(ApiException) as refused:
        world.apply(_dataset(namespace, **spec))
    assert refused.value.status == 422
    assert sentence in str(refused.value.body)


def test_steps_that_never_give_everything_are_refused(world: World, namespace: str) -> None:
    with pytest.raises(ApiException) as refused:
        world.apply(_rollout(namespace, "half", "/half", steps=[{"name": "half", "setWeight": 50}]))
    assert "the last setWeight must be 100" in str(refused.value.body)


def test_a_record_that_people_write_is_refused(world: World, namespace: str) -> None:
    record = {
        "apiVersion": API,
        "kind": "DatasetVersion",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {
            "projectRef": {"name": "none"},
            "datasetRef": {"name": "rows"},
            "digest": f"sha256:{'0' * 64}",
            "sourceDigest": f"sha256:{'0' * 64}",
            "verdict": "Passed",
            "rows": 1,
            "partitions": 1,
            "report": "s3://slipway/mine.json",
        },
    }
    with pytest.raises(ApiException) as refused:
        world.apply(record)
    assert refused.value.status in (403, 422)
    assert "operator" in str(refused.value.body)


def test_a_missing_project_is_named(world: World, namespace: str) -> None:
    world.apply(_dataset(namespace))
    found = world.wait(
        "a condition",
        lambda: (
            condition(world.get("Dataset", "rows", namespace)).get("status") == "False"
            and condition(world.get("Dataset", "rows", namespace))
        ),
        timeout=60,
        state=lambda: describe(world.get("Dataset", "rows", namespace)),
    )
    assert "none" in found["message"]
    assert "projectRef" in found["message"]


def test_the_younger_of_two_rollouts_on_one_path_says_so(world: World, namespace: str) -> None:
    project: Obj = {
        "apiVersion": API,
        "kind": "ModelProject",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {
            "task": {"statement": "Is it so?", "target": "so"},
            "requirements": {"optimize": {"metric": {"name": "rocAuc"}}},
        },
    }
    world.apply(project)
    world.apply(_rollout(namespace, "elder", f"/{namespace}"))
    world.wait("the elder", lambda: condition(world.get("ModelRollout", "elder", namespace)), timeout=60)
    world.apply(_rollout(namespace, "younger", f"/{namespace}"))
    found = world.wait(
        "the conflict",
        lambda: (
            condition(world.get("ModelRollout", "younger", namespace)).get("reason") == "PathTaken"
            and condition(world.get("ModelRollout", "younger", namespace))
        ),
        timeout=60,
        state=lambda: describe(world.get("ModelRollout", "younger", namespace)),
    )
    assert "elder" in found["message"]
    assert condition(world.get("ModelRollout", "elder", namespace))["reason"] != "PathTaken"
