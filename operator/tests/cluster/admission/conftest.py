"""A plain client for tests of what the API server refuses: many small requests, and answers as they are."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from slipway.api import KINDS, KindInfo
from slipway.api.crd import crd
from slipway.api.meta import GROUP, VERSION
from slipway_cluster.controlplane import ControlPlane


@dataclass(frozen=True)
class Answer:
    """An answer of the API server."""

    code: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """Why it was refused; empty when it was not."""
        return str(self.body.get("message", "")) if self.code >= 400 else ""

    def ok(self) -> dict[str, Any]:
        """The object; fails the test when it was refused."""
        assert self.code in (200, 201, 202), f"{self.code}: {self.message}"
        return self.body


class Api:
    """Requests as one user."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
        self.server = cluster["server"]
        self._pool = urllib3.PoolManager(
            cert_file=str(_file(kubeconfig, "crt", user["client-certificate-data"])),
            key_file=str(_file(kubeconfig, "key", user["client-key-data"])),
            ca_certs=str(_file(kubeconfig, "ca", cluster["certificate-authority-data"])),
            retries=False,
        )

    def request(self, method: str, path: str, body: Any = None, *, patch: str = "merge", **query: str) -> Answer:
        """One request; `patch` is the kind of a PATCH's body."""
        kind = {"merge": "application/merge-patch+json", "apply": "application/apply-patch+yaml"}[patch]
        headers = {"Content-Type": kind if method == "PATCH" else "application/json", "Accept": "application/json"}
        data = None if body is None else json.dumps(body)
        text = "&".join(f"{key}={value}" for key, value in query.items())
        answer = self._pool.request(method, f"{self.server}{path}?{text}", body=data, headers=headers, timeout=30)
        is_json = "json" in answer.headers.get("Content-Type", "")
        return Answer(answer.status, answer.json() if is_json else {"message": answer.data.decode()})

    def create(self, obj: dict[str, Any], **query: str) -> Answer:
        """Create one of Slipway's objects."""
        return self.request("POST", collection(obj), obj, fieldValidation="Strict", **query)

    def replace(self, obj: dict[str, Any], subresource: str = "", **query: str) -> Answer:
        """Replace one of Slipway's objects."""
        return self.request("PUT", address(obj) + subresource, obj, fieldValidation="Strict", **query)

    def apply(self, path: str, obj: dict[str, Any]) -> Answer:
        """Apply any object at its address."""
        return self.request("PATCH", path, obj, patch="apply", fieldManager="test", force="true")

    def delete(self, obj: dict[str, Any], **query: str) -> Answer:
        """Delete one of Slipway's objects."""
        return self.request("DELETE", address(obj), **query)

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()


def _file(kubeconfig: Path, suffix: str, data: str) -> Path:
    path = kubeconfig.with_suffix(f".admission-{suffix}")
    path.write_bytes(base64.b64decode(data))
    return path


def collection(obj: dict[str, Any]) -> str:
    """URL path of an object's kind in its namespace."""
    (kind,) = (each for each in KINDS if each.kind_name == obj["kind"])
    namespace = obj["metadata"].get("namespace")
    return f"/apis/{GROUP}/{VERSION}/{f'namespaces/{namespace}/' if namespace else ''}{kind.plural}"


def address(obj: dict[str, Any]) -> str:
    """URL path of an object."""
    return f"{collection(obj)}/{obj['metadata']['name']}"


def install_crds(api: Api, kinds: Iterable[KindInfo] = KINDS) -> None:
    """Apply the CRDs as the models have them, and wait until they are served."""
    for kind in kinds:
        manifest = crd(kind)
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{manifest['metadata']['name']}"
        api.apply(path, manifest).ok()
    deadline = time.monotonic() + 30
    for kind in kinds:
        while api.request("GET", f"/apis/{GROUP}/{VERSION}/{kind.plural}").code != 200:
            assert time.monotonic() < deadline, f"{kind.plural} are not served"
            time.sleep(0.05)


RBAC = "rbac.authorization.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"
_PATHS = {
    "ClusterRole": f"/apis/{RBAC}/clusterroles",
    "ClusterRoleBinding": f"/apis/{RBAC}/clusterrolebindings",
    "Role": f"/apis/{RBAC}/namespaces/{{namespace}}/roles",
    "RoleBinding": f"/apis/{RBAC}/namespaces/{{namespace}}/rolebindings",
    "ValidatingAdmissionPolicy": f"/apis/{ADMISSION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"/apis/{ADMISSION}/validatingadmissionpolicybindings",
}
SYSTEM = "slipway-system"
OPERATOR = f"system:serviceaccount:{SYSTEM}:slipway-operator"


def installed() -> list[dict[str, Any]]:
    """What `manifests/install/operator.yaml` has: the chart's objects without the CRDs."""
    text = (Path(__file__).parents[4] / "manifests" / "install" / "operator.yaml").read_text()
    return [obj for obj in yaml.load_all(text, yaml.CSafeLoader) if obj]


def install_objects(api: Api, kinds: Iterable[str]) -> None:
    """Apply the installed objects of some kinds, in `slipway-system`."""
    make_namespace(api, SYSTEM)
    for obj in installed():
        if obj["kind"] in kinds:
            path = _PATHS[obj["kind"]].format(namespace=obj["metadata"].get("namespace"))
            api.apply(f"{path}/{obj['metadata']['name']}", obj).ok()


def make_namespace(api: Api, name: str) -> None:
    """A namespace, if there is none."""
    api.apply(f"/api/v1/namespaces/{name}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()


def unbind(api: Api, namespace: str) -> None:
    """Take all RoleBindings of a namespace away."""
    api.request("DELETE", f"/apis/{RBAC}/namespaces/{namespace}/rolebindings").ok()


def bind(api: Api, namespace: str, role: str, user: str) -> Answer:
    """Give a user a ClusterRole in a namespace."""
    name = f"{user.rpartition(':')[2]}-{role.rpartition(':')[2]}"
    body = {
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    return api.apply(f"/apis/{RBAC}/namespaces/{namespace}/rolebindings/{name}", body)


Connect = Callable[..., Api]


@pytest.fixture(scope="module")
def connect() -> Iterator[Connect]:
    """`connect(control_plane, user, groups)`: a client that is closed after the module."""
    clients: list[Api] = []

    def make(control_plane: ControlPlane, user: str = "admin", groups: list[str] | None = None) -> Api:
        clients.append(Api(control_plane.kubeconfig(user, groups)))
        return clients[-1]

    yield make
    for each in clients:
        each.close()


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane, connect: Connect) -> Api:
    """An administrator's client of the shared control plane, with Slipway's CRDs."""
    admin = connect(control_plane)
    install_crds(admin)
    for namespace in ("flights", "default"):
        make_namespace(admin, namespace)
    return admin
