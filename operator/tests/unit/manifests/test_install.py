"""What is installed keeps to the rules that Slipway sets itself."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from slipway.adapters.kfp.api import TOKEN_PATH
from slipway.lint import lint
from slipway.runtime.settings import Settings

MANIFESTS = Path(__file__).parents[4] / "manifests"
CHART = Path(__file__).parents[4] / "charts" / "slipway"


def objects(file: str) -> list[dict[str, Any]]:
    return [obj for obj in yaml.safe_load_all((MANIFESTS / file).read_text()) if obj]


def operator_pod() -> dict[str, Any]:
    (deployment,) = [obj for obj in objects("install/operator.yaml") if obj["kind"] == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def test_the_operators_pod_is_restricted() -> None:
    """The fields that the Pod Security Standard `restricted` asks for, and a read-only root file system."""
    pod = operator_pod()
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    for setting in ("hostNetwork", "hostPID", "hostIPC"):
        assert not pod.get(setting)


def test_the_operators_settings_exist() -> None:
    known = {f"SLIPWAY_{field.name.upper()}" for field in fields(Settings)}
    (container,) = operator_pod()["containers"]
    given = {each["name"] for each in container["env"] if each["name"].startswith("SLIPWAY_")}
    assert given <= known
    assert {"SLIPWAY_NAMESPACE", "SLIPWAY_RUNNER_IMAGE", "SLIPWAY_SERVER_IMAGE"} <= given


def test_the_operators_token_is_mounted_where_it_is_read() -> None:
    template = (CHART / "templates" / "deployment.yaml").read_text()
    folder, _, name = TOKEN_PATH.rpartition("/")
    assert f"{{name: kfp-token, mountPath: {folder}, readOnly: true}}" in template
    assert f"path: {name}\n" in template


def test_the_lease_that_may_be_written_is_the_one_that_is_used() -> None:
    (container,) = operator_pod()["containers"]
    (name,) = [each["value"] for each in container["env"] if each["name"] == "SLIPWAY_LEASE_NAME"]
    roles = [obj for obj in objects("install/operator.yaml") if obj["kind"] == "Role"]
    assert name in [each for role in roles for rule in role["rules"] for each in rule.get("resourceNames", ())]


def test_the_namespace_enforces_the_restricted_standard() -> None:
    (namespace,) = objects("install/namespace.yaml")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_kustomize_is_given_exists() -> None:
    for file in MANIFESTS.rglob("kustomization.yaml"):
        for resource in yaml.safe_load(file.read_text())["resources"]:
            pinned = resource.startswith("https://github.com/") and "?ref=" in resource
            assert pinned or (file.parent / resource).exists()


def test_the_gateway_counts_by_version() -> None:
    proxy, gateway_class = objects("gateway/envoyproxy.yaml")
    (gateway,) = objects("gateway/gateway.yaml")
    assert proxy["spec"]["mergeBackends"] == {}
    assert gateway_class["spec"]["parametersRef"]["name"] == proxy["metadata"]["name"]
    assert gateway["spec"]["gatewayClassName"] == gateway_class["metadata"]["name"]


def test_our_objects_in_manifests_are_good() -> None:
    report = lint([MANIFESTS / "gpu"])
    assert report.objects == 2
    assert report.findings == ()
