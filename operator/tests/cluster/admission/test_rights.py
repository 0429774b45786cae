"""What the operator and the roles of a team may do, asked of a real API server with the RBAC that is installed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cluster.admission.conftest import OPERATOR, RBAC, SYSTEM, Api, Connect, bind, install_objects, installed

from slipway.api.reference import example
from slipway.controllers import all_controllers
from slipway.runtime.client import Client
from slipway.runtime.resources import ROLE_BINDING, SECRET, SERVICE_ACCOUNT, Object
from slipway.runtime.settings import Settings
from slipway_cluster import gobuild
from slipway_cluster.controlplane import ControlPlane

NAMESPACE = "flights"
GROUPS = ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
TEAM = {
    "owner": "modelprojects datasets featuresets trainingruns modelrollouts analysistemplates",
    "data-engineer": "datasets featuresets",
    "ml-engineer": "modelprojects featuresets trainingruns",
    "software-engineer": "modelrollouts analysistemplates",
    "project-manager": "modelprojects",
}
RECORDS = ("datasetversions", "modelversions")
DECLARED = tuple(TEAM["owner"].split())


@pytest.fixture(scope="module")
def rights(api: Api) -> Api:
    """An administrator of a cluster with the installed RBAC, and without the admission policy."""
    install_objects(api, ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"))
    return api


@pytest.fixture(scope="module")
def operator(rights: Api, control_plane: ControlPlane, connect: Connect) -> Api:  # noqa: ARG001
    return connect(control_plane, OPERATOR, GROUPS)


def may(
    api: Api, verb: str, resource: str, group: str = "slipway.dev", namespace: str = NAMESPACE, **more: str
) -> bool:
    """Whether the API server would let a user do it."""
    resource, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, **more}
    if namespace:
        attributes["namespace"] = namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer.ok()["status"]["allowed"])


# ---- the team --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", TEAM)
def test_roles_of_a_team(rights: Api, control_plane: ControlPlane, connect: Connect, role: str) -> None:
    bind(rights, NAMESPACE, f"slipway-{role}", f"someone-{role}").ok()
    someone = connect(control_plane, f"someone-{role}", ["system:authenticated"])
    for resource in DECLARED:
        assert may(someone, "list", resource)
        assert not may(someone, "list", resource, namespace="default")
        for verb in ("create", "update", "patch", "delete"):
            assert may(someone, verb, resource) == (resource in TEAM[role].split()), f"{verb} {resource}"
        assert not may(someone, "update", f"{resource}/status")
    for resource in RECORDS:
        assert may(someone, "watch", resource)
        assert not may(someone, "create", resource)
        assert may(someone, "delete", resource) == (role in ("owner", "data-engineer", "ml-engineer"))
    assert may(someone, "get", "pods/log", "")
    assert not may(someone, "get", "secrets", "")
    assert not may(someone, "create", "pods", "")
    for resource in ("platforms", "computepools", "clusteranalysistemplates"):
        assert may(someone, "list", resource, namespace="")
        assert not may(someone, "update", resource, namespace="")


def test_the_roles_of_kubernetes_include_ours(rights: Api) -> None:
    """Without the controller that aggregates there is only the label to see."""
    aggregated = {"slipway-view": {"view", "edit", "admin"}, "slipway-edit": {"edit", "admin"}}
    for name, roles in aggregated.items():
        labels = rights.request("GET", f"/apis/{RBAC}/clusterroles/{name}").ok()["metadata"]["labels"]
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        assert {label.removeprefix(prefix) for label in labels if label.startswith(prefix)} == roles


# ---- the operator ----------------------------------------------------------------------------------------------------
def test_no_role_has_a_wildcard() -> None:
    roles = [obj for obj in installed() if obj["kind"] in ("ClusterRole", "Role")]
    assert len(roles) >= 9
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in [*rule.get("apiGroups", ()), *rule.get("resources", ()), *rule["verbs"]], role[
                "metadata"
            ]["name"]
            assert not {"escalate", "impersonate"} & set(rule["verbs"])


@pytest.mark.parametrize(
    ("verb", "resource", "group"),
    [
        ("list", "secrets", ""),
        ("delete", "secrets", ""),
        ("create", "pods", ""),
        ("create", "pods/exec", ""),
        ("update", "namespaces", ""),
        ("create", "serviceaccounts/token", ""),
        ("create", "clusterrolebindings", "rbac.authorization.k8s.io"),
        ("create", "roles", "rbac.authorization.k8s.io"),
        ("escalate", "clusterroles", "rbac.authorization.k8s.io"),
        ("patch", "customresourcedefinitions", "apiextensions.k8s.io"),
        ("delete", "modelprojects", "slipway.dev"),
        ("create", "datasets", "slipway.dev"),
        ("patch", "gateways", "gateway.networking.k8s.io"),
    ],
)
def test_what_the_operator_may_not(operator: Api, verb: str, resource: str, group: str) -> None:
    assert not may(operator, verb, resource, group)


def test_the_operator_gives_only_the_teams_roles(operator: Api) -> None:
    for role in TEAM:
        bind(operator, NAMESPACE, f"slipway-{role}", "dana").ok()
    for role in ("cluster-admin", "system:node", "system:kube-scheduler"):
        answer = bind(operator, NAMESPACE, role, "dana")
        assert answer.code == 403
        assert "attempting to grant RBAC permissions not currently held" in answer.message


def test_the_lease_is_in_the_operators_own_namespace(operator: Api) -> None:
    lease = {"group": "coordination.k8s.io", "name": "slipway-operator"}
    assert may(operator, "update", "leases", namespace=SYSTEM, **lease)
    assert may(operator, "create", "leases", "coordination.k8s.io", namespace=SYSTEM)
    assert not may(operator, "update", "leases", namespace=SYSTEM, **{**lease, "name": "other"})
    assert not may(operator, "update", "leases", namespace="kube-system", **lease)


@pytest_asyncio.fixture
async def others(install_crds: Any, api: Api, eventually: Any) -> None:
    """The CRDs of KServe and Gateway API that controllers watch, served and known to discovery."""
    kserve = gobuild.module_folder("kserve", "github.com/kserve/kserve") / "charts" / "kserve-crd" / "templates"
    gateway = gobuild.module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    files = (
        kserve / "serving.kserve.io_inferenceservices.yaml",
        gateway / "gateway.networking.k8s.io_httproutes.yaml",
        gateway / "gateway.networking.k8s.io_gateways.yaml",
    )
    manifests = [yaml.load(file.read_text(), yaml.CSafeLoader) for file in files]
    await install_crds(*manifests)
    for manifest in manifests:
        await eventually(partial(is_discoverable, api, manifest["spec"]), seconds=60)


def is_discoverable(api: Api, spec: dict[str, Any]) -> bool:
    """Whether discovery knows the kind of a CRD."""
    answer = api.request("GET", f"/apis/{spec['group']}/{spec['versions'][0]['name']}")
    return spec["names"]["plural"] in [each["name"] for each in answer.body.get("resources", ())]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("others")
async def test_every_controller_works_with_the_operators_rights(
    rights: Api,
    client: Client,
    namespace: str,
    control_plane: ControlPlane,
    start_operator: Any,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A project gets its credentials, accounts and bindings without one refusal.

    Nothing is reconciled before every type that a controller watches was listed, so no watch was refused either.
    """
    caplog.set_level(logging.INFO)
    kubeconfig = str(control_plane.kubeconfig(OPERATOR, GROUPS))
    await start_operator(all_controllers(Settings()), kubeconfig=kubeconfig, namespace=SYSTEM)
    for obj in surroundings():
        await client.apply(SECRET, obj)
    platform, project = yaml.safe_load(example("Platform")), yaml.safe_load(example("ModelProject"))
    project["metadata"]["namespace"] = namespace
    project["spec"]["team"] = {
        "owner": {"kind": "Group", "name": "arrivals"},
        "members": [{"kind": "User", "name": "dana", "roles": ["DataEngineer", "ProjectManager"]}],
    }
    for obj in (platform, project):
        rights.create(obj).ok()
    try:
        bound = await eventually(lambda: found(client, ROLE_BINDING, namespace, 3), seconds=120)
        assert {each["roleRef"]["name"] for each in bound} == {
            "slipway-owner",
            "slipway-data-engineer",
            "slipway-project-manager",
        }
        assert await found(client, SECRET, namespace, 3)
        assert await found(client, SERVICE_ACCOUNT, namespace, 2)
    finally:
        rights.delete(platform)
    refused = [line for line in caplog.messages if "forbidden" in line.lower() or "not enough permissions" in line]
    assert refused == []


async def found(client: Client, type_: Any, namespace: str, number: int) -> Sequence[Object]:
    """The objects that Slipway made, when there are as many."""
    objects = await client.list(type_, namespace, type_.selector)
    return objects if len(objects) == number else ()


def surroundings() -> list[Object]:
    """The Secrets that the example's Platform names."""
    contents = {
        "s3": {"accessKey": "a", "secretKey": "b"},
        "feast": {"host": "localhost", "port": "5432", "database": "feast", "username": "feast", "password": "c"},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": SYSTEM},
            "stringData": content,
        }
        for name, content in contents.items()
    ]
