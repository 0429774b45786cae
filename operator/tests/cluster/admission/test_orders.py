"""Who may give an order to a rollout in whose name: with the policy that is installed, on a real API server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cluster.admission.conftest import (
    OPERATOR,
    SYSTEM,
    Answer,
    Api,
    Connect,
    address,
    bind,
    make_namespace,
    unbind,
)

from slipway.api.reference import example
from slipway.contracts.orders import ANNOTATION, Order, new_token
from slipway_cluster.controlplane import ControlPlane

NAMESPACE = "flights"
VERSION = "flight-delays-9f2c1a4b7e"
GITOPS = "system:serviceaccount:argocd:argocd-application-controller"


@pytest.fixture(scope="module")
def admin(guarded: ControlPlane, connect: Connect) -> Iterator[Api]:
    api = connect(guarded)
    make_namespace(api, NAMESPACE)
    api.create(rollout()).ok()
    deadline = time.monotonic() + 30
    while ordered(api, "nobody", dryRun="All").code == 200:
        assert time.monotonic() < deadline, "the policy does not act"
        time.sleep(0.1)
    yield api
    api.delete(rollout()).ok()
    unbind(api, NAMESPACE)


@pytest.fixture(scope="module")
def dana(guarded: ControlPlane, connect: Connect, admin: Api) -> Api:
    """A software engineer of the team."""
    bind(admin, NAMESPACE, "slipway-software-engineer", "dana@example.com").ok()
    return connect(guarded, "dana@example.com", ["system:authenticated"])


@pytest.fixture(scope="module")
def gitops(guarded: ControlPlane, connect: Connect, admin: Api) -> Api:
    bind(admin, NAMESPACE, "slipway-owner", GITOPS).ok()
    return connect(guarded, GITOPS, ["system:serviceaccounts", "system:authenticated"])


@pytest.fixture(scope="module")
def operator(guarded: ControlPlane, connect: Connect, admin: Api) -> Api:  # noqa: ARG001
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
    return connect(guarded, OPERATOR, groups)


@pytest.fixture(autouse=True)
def no_order(admin: Api) -> None:
    """Each test begins without an order. To take one away is no order, and nobody's name is on it."""
    patched(admin, {"metadata": {"annotations": {ANNOTATION: None}}}).ok()


def rollout() -> dict[str, Any]:
    obj: dict[str, Any] = yaml.safe_load(example("ModelRollout"))
    return obj


def patched(api: Api, body: dict[str, Any], **query: str) -> Answer:
    return api.request("PATCH", address(rollout()), body, **query)


def ordered(api: Api, by: str, **query: str) -> Answer:
    text = str(Order("promote", VERSION, new_token(), by, step="approval"))
    return patched(api, {"metadata": {"annotations": {ANNOTATION: text}}}, **query)


def annotated(api: Api, text: str) -> Answer:
    return patched(api, {"metadata": {"annotations": {ANNOTATION: text}}})


def test_people_give_orders_in_their_own_name(dana: Api, admin: Api) -> None:
    assert (
        ordered(dana, "dana@example.com").ok()["metadata"]["annotations"][ANNOTATION].endswith(" by dana@example.com")
    )
    ordered(admin, "admin").ok()


def test_nobody_gives_orders_in_the_name_of_another(dana: Api, admin: Api, operator: Api, gitops: Api) -> None:
    for api, user in ((admin, "admin"), (operator, OPERATOR), (gitops, GITOPS)):
        answer = ordered(api, "dana@example.com")
        assert answer.code == 403
        assert f'must end with "by {user}": nobody gives orders in the name of somebody else' in answer.message
    for forged in (
        "eve",
        "dana@example.com by eve",
        "eve by dana@example.com",
        "dana@example.com ",
        "DANA@example.com",
    ):
        assert ordered(dana, forged).code == 403, forged


def test_a_forged_name_is_refused_also_beside_other_changes(dana: Api) -> None:
    text = str(Order("abort", VERSION, new_token(), "eve"))
    body = {
        "metadata": {"annotations": {ANNOTATION: text}, "labels": {"a": "b"}},
        "spec": {"progressDeadline": "11m"},
    }
    assert patched(dana, body).code == 403
    live = dana.request("GET", address(rollout())).ok()
    live["metadata"].setdefault("annotations", {})[ANNOTATION] = text
    assert dana.replace(live).code == 403
    applied = {**rollout(), "metadata": {**rollout()["metadata"], "annotations": {ANNOTATION: text}}}
    assert dana.apply(address(rollout()), applied).code == 403


def test_the_name_in_an_order_cannot_be_changed(dana: Api, admin: Api) -> None:
    ordered(dana, "dana@example.com").ok()
    text = admin.request("GET", address(rollout())).ok()["metadata"]["annotations"][ANNOTATION]
    answer = annotated(admin, text.replace("dana@example.com", "eve"))
    assert answer.code == 403


@pytest.mark.parametrize(
    "text",
    [
        "promote",
        "promote approval",
        f"abort {VERSION} by dana@example.com",
        f"abort {VERSION} #3f2a91",
        f"abort {VERSION} #3F2A91 by dana@example.com",
        f"abort {VERSION} #3f2a91 by dana@example.com\nby eve",
        "x" * 600,
    ],
)
def test_what_is_no_order_is_refused_with_its_form(dana: Api, text: str) -> None:
    answer = annotated(dana, text)
    assert answer.code in (403, 422), answer.message
    assert "VERB [STEP:]VERSION [to VERSION] #TOKEN by USER" in answer.message


def test_those_who_leave_an_order_untouched_are_not_hindered(dana: Api, gitops: Api, operator: Api, admin: Api) -> None:
    ordered(dana, "dana@example.com").ok()
    text = admin.request("GET", address(rollout())).ok()["metadata"]["annotations"][ANNOTATION]
    for api in (gitops, admin):
        patched(api, {"spec": {"progressDeadline": "12m"}}).ok()
        patched(api, {"metadata": {"annotations": {"note": "synchronized"}}}).ok()
        api.apply(address(rollout()), rollout()).ok()
    patched(operator, {"metadata": {"finalizers": ["slipway.dev/cleanup"]}}).ok()
    live = operator.request("GET", address(rollout())).ok()
    operator.replace({**live, "status": {"phase": "Healthy"}}, "/status").ok()
    patched(operator, {"metadata": {"finalizers": None}}).ok()
    assert admin.request("GET", address(rollout())).ok()["metadata"]["annotations"][ANNOTATION] == text


def test_an_order_in_git_is_the_controllers_own(gitops: Api) -> None:
    ordered(gitops, GITOPS).ok()


def test_orders_are_taken_away_and_rollouts_deleted_by_anybody_who_may(dana: Api, gitops: Api, admin: Api) -> None:
    ordered(dana, "dana@example.com").ok()
    patched(gitops, {"metadata": {"annotations": {ANNOTATION: None}}}).ok()
    ordered(dana, "dana@example.com").ok()
    gitops.delete(rollout()).ok()
    admin.create(rollout()).ok()


def test_a_rollout_is_restored_with_the_order_that_it_had(admin: Api, gitops: Api) -> None:
    """It cannot act: a new rollout takes what it finds as seen."""
    admin.delete(rollout()).ok()
    text = str(Order("abort", VERSION, new_token(), "dana@example.com"))
    meta = {**rollout()["metadata"], "annotations": {ANNOTATION: text}}
    gitops.create({**rollout(), "metadata": meta}).ok()
