"""The control plane for tests, run for real."""

import base64
import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_cluster import ClusterError, ControlPlane
from slipway_cluster.certificates import Certificate


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


def request(control_plane: ControlPlane, user: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
    """What the API server answers a user: the status code and the object."""
    config = yaml.safe_load(control_plane.kubeconfig(user, **options).read_text())
    assert config["clusters"][0]["cluster"]["server"] == control_plane.url
    folder = control_plane.kubeconfig(user, **options).parent
    client = client_of(config, folder)
    context = ssl.create_default_context(cafile=str(folder / "pki" / "ca.crt"))
    context.load_cert_chain(client.certificate, client.key)
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(control_plane.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, context=context, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def client_of(config: dict[str, Any], folder: Path) -> Certificate:
    user = config["users"][0]["user"]
    files = Certificate(folder / "test.crt", folder / "test.key")
    files.certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
    files.key.write_bytes(base64.b64decode(user["client-key-data"]))
    return files


def test_admin_may_do_everything(control_plane: ControlPlane) -> None:
    made, _ = request(control_plane, "admin", "/api/v1/namespaces", {"metadata": {"name": "made-by-admin"}})
    assert made == 201


def test_other_users_start_without_rights(control_plane: ControlPlane) -> None:
    code, answer = request(control_plane, "dana", "/api/v1/namespaces")
    assert code == 403
    assert 'User "dana" cannot list resource "namespaces"' in answer["message"]


def test_groups_carry_rights(control_plane: ControlPlane) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    role = {
        "metadata": {"name": "readers"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
    }
    assert request(control_plane, "admin", roles, role)[0] == 201
    binding = {
        "metadata": {"name": "readers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "readers"},
        "subjects": [{"kind": "Group", "name": "readers", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert request(control_plane, "admin", path, binding)[0] == 201
    deadline = time.monotonic() + 10
    while (code := request(control_plane, "kim", "/api/v1/configmaps", groups=["readers"])[0]) == 403:
        assert time.monotonic() < deadline
    assert code == 200
    assert request(control_plane, "kim", "/api/v1/configmaps")[0] == 403


def test_admission_policies_are_enforced(control_plane: ControlPlane) -> None:
    code, answer = request(control_plane, "admin", "/apis/admissionregistration.k8s.io/v1")
    assert code == 200
    assert "validatingadmissionpolicies" in {resource["name"] for resource in answer["resources"]}


def test_tokens_of_service_accounts_are_issued(control_plane: ControlPlane) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    assert request(control_plane, "admin", accounts, {"metadata": {"name": "robot"}})[0] == 201
    code, answer = request(control_plane, "admin", f"{accounts}/robot/token", {"spec": {"audiences": ["test"]}})
    assert code == 201
    assert answer["status"]["token"].count(".") == 2


def test_stop_leaves_nothing_behind() -> None:
    control_plane = ControlPlane()
    control_plane.start()
    folder = control_plane.kubeconfig().parent
    control_plane.stop()
    control_plane.stop()
    assert not folder.exists()
    assert processes_in(folder) == []
    with pytest.raises(ClusterError, match=r"call start\(\) first"):
        control_plane.kubeconfig()


@pytest.mark.parametrize(
    "ended_by",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_nothing_stays_behind_however_it_ends(ended_by: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "slipway_cluster.controlplane"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip()).parent
        assert len(processes_in(folder)) == 2
        process.send_signal(ended_by)
        process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while folder.exists() or processes_in(folder):
        assert time.monotonic() < deadline, processes_in(folder)
        time.sleep(0.05)


def test_a_wrong_flag_gives_its_log() -> None:
    with pytest.raises(ClusterError, match=r"unknown flag: --no-such-flag"):
        ControlPlane(server_arguments=["--no-such-flag"]).start()


def processes_in(folder: Path) -> list[int]:
    """Servers that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found
