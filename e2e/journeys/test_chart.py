"""The chart with real Helm: it is well-formed, does what its values say, refuses others, and kustomize has the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.api import KINDS
from slipway_cluster import gobuild
from slipway_cluster.controlplane import ControlPlane

pytestmark = pytest.mark.flights

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "slipway"


@pytest.fixture(scope="module")
def helm() -> Path:
    return gobuild.binary("helm")


def render(helm: Path, **values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Every object by kind and name."""
    given = [part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]
    command = [str(helm), "template", "slipway", str(CHART), "--namespace", "slipway-system", *given]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    objects = [obj for obj in yaml.safe_load_all(text) if obj]
    out = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    assert len(out) == len(objects)
    return out


def operator(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """The operator's container."""
    (container,) = objects["Deployment", "slipway-operator"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_lint(helm: Path) -> None:
    subprocess.run([str(helm), "lint", "--strict", str(CHART)], check=True, capture_output=True)


def test_what_kustomize_installs_is_the_chart(helm: Path) -> None:
    command = [sys.executable, str(ROOT / "charts" / "render.py"), "--check", "--helm", str(helm)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_crds_may_be_kept_left_or_left_out(helm: Path) -> None:
    kept = {name: obj for (kind, name), obj in render(helm).items() if kind == "CustomResourceDefinition"}
    assert len(kept) == len(KINDS)
    policy = {"helm.sh/resource-policy": "keep"}
    assert all(obj["metadata"]["annotations"] == policy for obj in kept.values())
    removed = render(helm, crds={"keep": False})
    assert "annotations" not in removed["CustomResourceDefinition", "datasets.slipway.dev"]["metadata"]
    without = render(helm, crds={"install": False})
    assert not any(kind == "CustomResourceDefinition" for kind, _ in without)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "slipway-operator:0.1.0"),
        ({"registry": "registry.example.com:5000/ml", "tag": "v2"}, "registry.example.com:5000/ml/slipway-operator:v2"),
        ({"operator": "localhost/slipway-operator:dev"}, "localhost/slipway-operator:dev"),
        ({"operator": "localhost:5000/operator"}, "localhost:5000/operator:0.1.0"),
        ({"operator": f"a/b@sha256:{'0' * 64}", "tag": "v2"}, f"a/b@sha256:{'0' * 64}"),
    ],
)
def test_images(helm: Path, image: dict[str, str], reference: str) -> None:
    assert operator(render(helm, image=image))["image"] == reference


def test_jobs_and_servers_get_their_images(helm: Path) -> None:
    objects = render(helm, image={"runner": "r:1", "server": "s:1", "pullPolicy": "Never"})
    settings = {each["name"]: each.get("value") for each in operator(objects)["env"]}
    assert settings["SLIPWAY_RUNNER_IMAGE"] == "r:1"
    assert settings["SLIPWAY_IMAGE_PULL_POLICY"] == "Never"
    (server,) = objects["ClusterServingRuntime", "slipway-sklearn"]["spec"]["containers"]
    assert (server["image"], server["imagePullPolicy"]) == ("s:1", "Never")
    assert "--model_name={{ index .Labels `slipway.dev/model` }}" in server["args"]


def test_two_replicas_may_not_both_be_evicted(helm: Path) -> None:
    assert ("PodDisruptionBudget", "slipway-operator") not in render(helm)
    objects = render(helm, replicas=2)
    assert objects["PodDisruptionBudget", "slipway-operator"]["spec"]["minAvailable"] == 1
    pod = objects["Deployment", "slipway-operator"]["spec"]["template"]["spec"]
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"


def test_options(helm: Path) -> None:
    default = render(helm)
    objects = render(
        helm,
        admission={"alsoAllow": ["system:serviceaccount:velero:velero"]},
        metrics={"serviceMonitor": {"enabled": True, "labels": {"team": "ml"}}},
        networkPolicy={"enabled": True},
        servingRuntime={"install": False},
        rbac={"aggregate": False, "catalogueForEveryone": False},
        podLabels={"cost": "ml"},
        operator={"env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}], "logFormat": "json"},
    )
    policy = objects["ValidatingAdmissionPolicy", "records.slipway.dev"]
    assert json.loads(policy["spec"]["variables"][0]["expression"]) == [
        "system:serviceaccount:slipway-system:slipway-operator",
        "system:serviceaccount:velero:velero",
    ]
    assert objects["ServiceMonitor", "slipway-operator"]["metadata"]["labels"]["team"] == "ml"
    assert ("NetworkPolicy", "slipway-operator") in objects
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in operator(objects)["env"]
    gone = {
        ("ClusterServingRuntime", "slipway-sklearn"),
        ("ClusterRole", "slipway-view"),
        ("ClusterRole", "slipway-edit"),
        ("ClusterRoleBinding", "slipway-catalogue"),
    }
    assert default.keys() - objects.keys() == gone
    assert objects["Deployment", "slipway-operator"]["spec"]["template"]["metadata"]["labels"]["cost"] == "ml"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "two"}, "/replicas"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"image": {"tag": 1.1}}, "/image/tag"),
        ({"operator": {"workers": 0}}, "/operator/workers"),
        ({"admission": {"alsoAllow": ["x'] || true || ['"]}}, "/admission/alsoAllow"),
    ],
)
def test_other_values_are_refused(helm: Path, values: dict[str, Any], field: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, **values)
    assert field in refused.value.stderr


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    """An API server without nodes: enough to install on, and nothing starts."""
    with ControlPlane() as control_plane:
        yield control_plane.kubeconfig()


def test_crds_are_upgraded_with_the_release_and_kept_when_it_goes(helm: Path, kubeconfig: Path, tmp_path: Path) -> None:
    """Helm itself never upgrades a chart's `crds/` folder; ours are templates, so that it does."""
    older = tmp_path / "slipway"
    shutil.copytree(CHART, older)
    template = older / "templates" / "crds" / "slipway.dev_datasets.yaml"
    template.write_text(template.read_text().replace("- ds\n", "- olddataset\n"))
    common = ("--kubeconfig", str(kubeconfig), "--namespace", "slipway-system")
    settings = ("--create-namespace", "--set", "servingRuntime.install=false")

    def run(*arguments: str) -> str:
        command = [str(helm), *arguments, *common]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    def short_names() -> list[str]:
        command = [
            str(gobuild.binary("kubectl")),
            "--kubeconfig",
            str(kubeconfig),
            "get",
            "crd",
            "datasets.slipway.dev",
            "--output=json",
        ]
        crd = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        return list(crd["spec"]["names"]["shortNames"])

    notes = run("upgrade", "--install", "slipway", str(older), *settings)
    assert "Slipway 0.1.0 is installed in namespace slipway-system." in notes
    assert short_names() == ["olddataset"]
    run("upgrade", "--install", "slipway", str(CHART), *settings)
    assert short_names() == ["ds"]
    run("uninstall", "slipway")
    assert short_names() == ["ds"]
