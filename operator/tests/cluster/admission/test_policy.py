"""Who may write DatasetVersions and ModelVersions: only the operator, with the policy that is installed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cluster.admission.conftest import (
    OPERATOR,
    SYSTEM,
    Api,
    Connect,
    bind,
    make_namespace,
    unbind,
)

from slipway.api.reference import example
from slipway_cluster.controlplane import ControlPlane

NAMESPACE = "flights"
RECORDS = ("DatasetVersion", "ModelVersion")
STATUS: dict[str, Any] = {
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "lastTransitionTime": "2026-11-23T10:00:00Z",
            "reason": "Passed",
            "message": "Forged.",
        }
    ]
}


@pytest.fixture(scope="module")
def admin(guarded: ControlPlane, connect: Connect) -> Iterator[Api]:
    """An administrator of the guarded cluster."""
    api = connect(guarded)
    make_namespace(api, NAMESPACE)
    wait_for_policy(api)
    yield api
    unbind(api, NAMESPACE)


def wait_for_policy(api: Api) -> None:
    """A policy acts some time after it is stored."""
    deadline = time.monotonic() + 30
    while api.create(record("DatasetVersion"), dryRun="All").code == 201:
        assert time.monotonic() < deadline, "the policy does not act"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def operator(guarded: ControlPlane, connect: Connect, admin: Api) -> Api:  # noqa: ARG001
    """The operator's ServiceAccount."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
    return connect(guarded, OPERATOR, groups)


@pytest.fixture(scope="module")
def dana(guarded: ControlPlane, connect: Connect, admin: Api) -> Api:
    """A data engineer of the team."""
    bind(admin, NAMESPACE, "slipway-data-engineer", "dana").ok()
    return connect(guarded, "dana", ["system:authenticated"])


def record(kind: str) -> dict[str, Any]:
    obj: dict[str, Any] = yaml.safe_load(example(kind))
    return obj


@pytest.fixture(params=RECORDS)
def stored(request: pytest.FixtureRequest, operator: Api, admin: Api) -> Iterator[dict[str, Any]]:
    """A record that the operator has made."""
    yield operator.create(record(request.param)).ok()
    admin.delete(record(request.param))


def test_the_operator_makes_records_and_writes_their_status(stored: dict[str, Any], operator: Api) -> None:
    answer = operator.replace(stored | {"status": STATUS}, "/status").ok()
    assert answer["status"] == STATUS


@pytest.mark.parametrize(
    ("kind", "instead"), [("DatasetVersion", "declare a Dataset"), ("ModelVersion", "create a TrainingRun")]
)
def test_not_even_administrators_make_records(admin: Api, kind: str, instead: str) -> None:
    answer = admin.create(record(kind))
    assert answer.code == 403
    assert f"only the operator creates a {kind}: {instead}, and there will be one" in answer.message


def test_a_team_member_makes_no_records(dana: Api) -> None:
    for kind in RECORDS:
        answer = dana.create(record(kind))
        assert answer.code == 403
        assert 'User "dana" cannot create resource' in answer.message


def test_nobody_else_writes_their_status(stored: dict[str, Any], admin: Api, dana: Api) -> None:
    answer = admin.replace(stored | {"status": STATUS}, "/status")
    assert answer.code == 403
    assert f"only the operator writes the status of a {stored['kind']}" in answer.message
    assert dana.replace(stored | {"status": STATUS}, "/status").code == 403


def patched(api: Api, obj: dict[str, Any], patch: dict[str, Any]) -> Any:
    path = f"/apis/slipway.dev/v1alpha1/namespaces/{NAMESPACE}/{obj['kind'].lower()}s/{obj['metadata']['name']}"
    return api.request("PATCH", path, patch)


def test_people_may_change_the_deletion_policy_and_labels(stored: dict[str, Any], dana: Api) -> None:
    changed = patched(dana, stored, {"spec": {"deletionPolicy": "Delete"}, "metadata": {"labels": {"reviewed": "yes"}}})
    assert changed.ok()["spec"]["deletionPolicy"] == "Delete"
    assert changed.body["metadata"]["labels"] == {"reviewed": "yes"}
    annotated = patched(dana, stored, {"metadata": {"annotations": {"note": "kept for the audit"}}})
    assert annotated.ok()["metadata"]["annotations"] == {"note": "kept for the audit"}


def test_nobody_changes_what_was_recorded(stored: dict[str, Any], admin: Api, dana: Api, operator: Api) -> None:
    for api in (admin, dana, operator):
        answer = patched(api, stored, {"spec": {"projectRef": {"name": "other"}}})
        assert answer.code == 422
        assert "is a record and does not change but for deletionPolicy" in answer.message


def test_people_may_delete_records(stored: dict[str, Any], dana: Api, admin: Api) -> None:
    dana.delete(stored).ok()
    assert admin.delete(stored).code == 404


@pytest.mark.parametrize("controller", ["generic-garbage-collector", "namespace-controller"])
def test_the_clusters_own_deletions_work(
    stored: dict[str, Any], guarded: ControlPlane, connect: Connect, controller: str
) -> None:
    """The garbage collector, and the namespace controller when a namespace goes, with the rights that they have."""
    groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]
    collector = connect(guarded, f"system:serviceaccount:kube-system:{controller}", groups)
    collector.delete(stored).ok()


def test_an_imposter_in_another_namespace_is_refused(guarded: ControlPlane, connect: Connect, admin: Api) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:slipway-operator"
    bind(admin, NAMESPACE, "slipway-operator", user).ok()
    imposter = connect(guarded, user, ["system:authenticated"])
    answer = imposter.create(record("ModelVersion"))
    assert answer.code == 403
    assert "only the operator creates a ModelVersion" in answer.message
