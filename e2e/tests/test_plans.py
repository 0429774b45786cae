"""What the package writes for others to read: configurations, objects, steps."""

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.adapters.kfp import launcher
from slipway.adapters.kfp.endpoint import Endpoint
from slipway.api.platform import Platform
from slipway_cluster import ClusterError, cluster, gobuild, kind, paths
from slipway_cluster.certificates import Authority
from slipway_cluster.origin import Origin
from slipway_cluster.process import run
from slipway_cluster.stack import credentials, gateway, kfp, kserve, storage
from slipway_cluster.stack.install import Installer
from slipway_cluster.stack.names import names
from slipway_cluster.steps import Steps
from slipway_cluster.versions import versions
from slipway_demo import install

MODULES = (
    ("kubernetes", "k8s.io/kubernetes", versions().kubernetes),
    ("kubernetes", "go.etcd.io/etcd/server/v3", versions().etcd),
    ("kind", "sigs.k8s.io/kind", versions().kind),
    ("helm", "helm.sh/helm/v4", versions().helm),
    ("coredns", "github.com/coredns/coredns", versions().coredns),
    ("envoy-gateway", "github.com/envoyproxy/gateway", versions().envoy_gateway),
    ("kserve", "github.com/kserve/kserve", versions().kserve),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("folder", "module", "version"), MODULES)
def test_versions_agree_with_the_modules_that_are_built(folder: str, module: str, version: str) -> None:
    pinned = (paths.PACKAGE / "gomod" / folder / "go.mod").read_text()
    assert re.search(rf"^(require )?\s*{re.escape(module)} v{re.escape(version)}$", pinned, flags=re.MULTILINE)


def test_every_module_is_built() -> None:
    folders = {folder.name for folder in (paths.PACKAGE / "gomod").iterdir()}
    assert folders == {program.module for program in gobuild.programs().values()}


def test_an_unknown_program_is_named() -> None:
    with pytest.raises(ClusterError, match=r"no program 'kubelt'; there are kube-apiserver, etcd"):
        gobuild.binary("kubelt")


BOTH = pytest.mark.parametrize("origin", Origin)


def plan(folder: Path) -> kind.Plan:
    return kind.Plan("test", folder, [kind.Port(28080, 30080)])


@BOTH
def test_nodes_are_reached_on_loopback_only(tmp_path: Path, origin: Origin) -> None:
    configuration = kind.configuration(plan(tmp_path), origin)
    assert configuration["networking"]["apiServerAddress"] == "127.0.0.1"
    mappings = [mapping for node in configuration["nodes"] for mapping in node.get("extraPortMappings", [])]
    assert {mapping["listenAddress"] for mapping in mappings} == {"127.0.0.1"}


@BOTH
def test_the_third_node_stands_for_gpus(tmp_path: Path, origin: Origin) -> None:
    node = kind.configuration(plan(tmp_path), origin)["nodes"][2]
    assert node["labels"] == {"slipway.dev/pool": "gpu"}
    patch = json.loads(node["kubeadmConfigPatches"][0])
    assert patch["nodeRegistration"]["taints"] == [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]


def objects(tmp_path: Path, origin: Origin = Origin.LOCAL) -> dict[tuple[str, str], dict[str, Any]]:
    made = storage.objects(credentials.of_cluster(tmp_path), "node", names(origin))
    return {(item["kind"], item["metadata"]["name"]): item for item in made}


def test_user_code_writes_below_runs_only(tmp_path: Path) -> None:
    secret = objects(tmp_path)["Secret", "s3-identities"]
    trainer = json.loads(secret["stringData"]["s3.json"])["identities"][1]
    writing = [action for action in trainer["actions"] if not action.startswith(("Read:", "List:"))]
    assert writing == ["Write:slipway/runs/*", "Tagging:slipway/runs/*"]


def test_model_servers_put_predictions_and_do_nothing_else(tmp_path: Path) -> None:
    secret = objects(tmp_path)["Secret", "s3-identities"]
    made = json.loads(secret["stringData"]["s3.json"])
    (writer,) = [each for each in made["identities"] if each["name"] == "predictions"]
    assert "actions" not in writer
    assert writer["policyNames"] == [each["name"] for each in made["policies"]] == ["predictions"]
    (statement,) = json.loads(made["policies"][0]["content"])["Statement"]
    assert (statement["Action"], statement["Resource"]) == (["s3:PutObject"], ["arn:aws:s3:::slipway/predictions/*"])


def test_a_cluster_of_an_earlier_time_keeps_its_keys_and_gets_those_that_it_lacks(tmp_path: Path) -> None:
    made = credentials.of_cluster(tmp_path)
    file = tmp_path / "credentials.json"
    old = {name: value for name, value in json.loads(file.read_text()).items() if name != "predictions"}
    file.write_text(json.dumps(old))
    found = credentials.of_cluster(tmp_path)
    assert (found.admin, found.trainer, found.postgres_password) == (made.admin, made.trainer, made.postgres_password)
    assert found.predictions.secret_key
    assert credentials.of_cluster(tmp_path) == found
    assert file.stat().st_mode & 0o077 == 0


def test_passwords_are_made_once_for_each_cluster(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, again, other = (credentials.of_cluster(tmp_path / name) for name in ("one", "one", "other"))
    assert one == again
    assert {one.admin.secret_key, one.trainer.secret_key}.isdisjoint({other.admin.secret_key, other.trainer.secret_key})
    assert (tmp_path / "one" / "credentials.json").stat().st_mode & 0o077 == 0


def test_secrets_have_the_keys_the_platform_reads(tmp_path: Path) -> None:
    found = objects(tmp_path)
    assert set(found["Secret", "s3"]["stringData"]) == {"accessKey", "secretKey"}
    assert set(found["Secret", "s3-trainer"]["stringData"]) == {"accessKey", "secretKey"}
    assert set(found["Secret", "s3-predictions"]["stringData"]) == {"accessKey", "secretKey"}
    assert set(found["Secret", "feast"]["stringData"]) == {"host", "port", "database", "username", "password"}


@BOTH
def test_containers_are_hardened(tmp_path: Path, origin: Origin) -> None:
    for kind_and_name, item in objects(tmp_path, origin).items():
        if kind_and_name[0] != "Deployment":
            continue
        pod = item["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_weights_lose_no_request_and_any_node_answers() -> None:
    proxy = gateway.objects(names(Origin.LOCAL))[0]["spec"]
    assert proxy["mergeBackends"] == {}
    assert proxy["provider"]["kubernetes"]["envoyService"]["externalTrafficPolicy"] == "Cluster"


def has_module(path: str, version: str) -> bool:
    """Whether Go has a module's sources, which a test alone is no reason to download."""
    folder = os.environ.get("GOMODCACHE") or run("go", "env", "GOMODCACHE").strip()
    return (Path(folder) / f"{path}@v{version}").is_dir()


@pytest.mark.skipif(
    not has_module("github.com/envoyproxy/gateway", versions().envoy_gateway),
    reason="Envoy Gateway's module is not here",
)
def test_the_store_s_proxy_is_the_gateway_s() -> None:
    module = gobuild.module_folder("envoy-gateway", "github.com/envoyproxy/gateway")
    text = (module / "api/v1alpha1/shared_types.go").read_text()
    assert f'DefaultEnvoyProxyImage = "docker.io/{versions().upstream.envoy}@' in text


@pytest.mark.skipif(not has_module("github.com/kserve/kserve", versions().kserve), reason="KServe's module is not here")
def test_kserve_needs_no_certificate_manager(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki", "test")
    chart = kserve.chart(tmp_path / "chart", authority)
    manifests = list(yaml.load_all((chart / "files/kserve/resources.yaml").read_text(), yaml.CSafeLoader))
    assert "Certificate" not in {manifest["kind"] for manifest in manifests}
    hooks = [manifest for manifest in manifests if manifest["kind"].endswith("WebhookConfiguration")]
    assert len(hooks) > 1
    assert all(webhook["clientConfig"]["caBundle"] for hook in hooks for webhook in hook["webhooks"])
    assert "kube-rbac-proxy" not in (chart / "files/kserve/resources.yaml").read_text()
    assert "kube-rbac-proxy" not in (chart / "files/kserve/deployment-patch.yaml").read_text()


def test_a_taken_port_is_left_to_its_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cluster._free_port(port) > port


class Recorder:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.estimates: list[float | None] = []

    def started(self, name: str, estimate: float | None) -> None:
        self.seen.append(("started", name))
        self.estimates.append(estimate)

    def finished(self, name: str, _seconds: float) -> None:
        self.seen.append(("finished", name))

    def failed(self, name: str, _seconds: float) -> None:
        self.seen.append(("failed", name))

    def said(self, sentence: str) -> None:
        self.seen.append(("said", sentence))


def test_a_step_is_shown_and_its_failure_too() -> None:
    recorder = Recorder()
    steps = Steps(recorder)
    with steps.step("good"):
        pass
    steps.say("On to the next.")
    with pytest.raises(ClusterError), steps.step("bad"):
        raise ClusterError("no")
    assert recorder.seen == [
        ("started", "good"),
        ("finished", "good"),
        ("said", "On to the next."),
        ("started", "bad"),
        ("failed", "bad"),
    ]


def test_the_next_run_knows_what_the_last_took() -> None:
    (paths.cache() / "timings.json").write_text('{"slow": 12.0}')
    recorder = Recorder()
    with Steps(recorder).step("slow"):
        pass
    assert recorder.estimates == [12.0]
    # Finding everything as wanted is quick, and no estimate for work.
    assert json.loads((paths.cache() / "timings.json").read_text()) == {"slow": 12.0}


def test_work_side_by_side_raises_what_failed() -> None:
    done = []

    def fail() -> None:
        raise ClusterError("broken")

    with pytest.raises(ClusterError, match="broken"):
        Steps(Recorder()).together(fail, lambda: done.append(1))
    assert done == [1]


def test_pipelines_are_installed_at_the_version_of_the_versions_file() -> None:
    remote = [
        each
        for file in kfp.MANIFESTS.rglob("kustomization.yaml")
        for each in yaml.safe_load(file.read_text())["resources"]
        if each.startswith("https://")
    ]
    assert len(remote) == 2
    for each in remote:
        assert each.startswith("https://github.com/kubeflow/pipelines//manifests/kustomize/")
        assert f"?ref={versions().kubeflow_pipelines}&" in each, "a release, and the one that is written down"
    page = (kfp.MANIFESTS.parents[1] / "docs/training/kubeflow-pipelines.md").read_text()
    assert f"{versions().kubeflow_pipelines}, whose launcher" in page


def test_pipelines_find_the_store_with_the_secrets_that_are_made(tmp_path: Path) -> None:
    """What the operator would hold against this installation."""
    made = {each["metadata"]["name"]: each for each in kfp.secrets(credentials.of_cluster(tmp_path))}
    config = yaml.safe_load((kfp.MANIFESTS / "launcher.yaml").read_text())
    platform = Platform.model_validate(install.platform(install.KIND))
    endpoint = Endpoint.of(platform)
    assert endpoint is not None
    assert endpoint.shared == kfp.NAMESPACE
    found = launcher.needs(config, kfp.NAMESPACE, endpoint.root, platform.spec.artifacts.s3.endpoint)
    assert found.problem == ""
    assert set(found.keys) == set(made[found.secret]["stringData"])
    assert set(made[endpoint.shared_s3]["stringData"]) == {"accessKey", "secretKey"}
    assert set(made[endpoint.shared_feast]["stringData"]) == {"host", "port", "database", "username", "password"}
    identities = json.loads(objects(tmp_path)["Secret", "s3-identities"]["stringData"]["s3.json"])["identities"]
    (mine,) = [each for each in identities if each["name"] == "kfp"]
    assert mine["credentials"] == [made["kfp-store"]["stringData"]]
    assert all(action.endswith(":slipway/kfp/*") for action in mine["actions"])
    assert config["data"]["defaultPipelineRoot"] == endpoint.root


def test_the_platform_of_a_journey_names_the_endpoint_that_it_is_asked_for() -> None:
    assert install.platform()["spec"]["pipelines"] == {"engine": "Local"}
    pipelines = install.platform("https://kfp.example.com")["spec"]["pipelines"]
    assert pipelines["engine"] == "KubeflowPipelines"
    assert pipelines["kubeflowPipelines"]["endpoint"] == "https://kfp.example.com"


class Told:
    """A cluster that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.installed: dict[str, str] = {}

    def kubectl(self, *arguments: str, **_: object) -> str:
        self.told.append(arguments)
        if arguments[:2] == ("patch", "configmap"):
            self.installed |= json.loads(arguments[-1])["data"]
        return json.dumps({"data": self.installed})

    def helm(self, *arguments: str, **_: object) -> str:
        raise AssertionError(arguments)


def test_pipelines_are_installed_in_order_and_once(tmp_path: Path) -> None:
    there = Told()
    installer = Installer(there, tmp_path, Origin.UPSTREAM)
    installer.kfp(credentials.of_cluster(tmp_path))
    told = [" ".join(each) for each in there.told]
    steps = (
        f"-k {kfp.FIRST}",
        "wait crd/workflows.argoproj.io --for=condition=Established",
        f"-k {kfp.MANIFESTS}",
        "-f -",
    )
    found = [next(index for index, each in enumerate(told) if f"{step} " in f"{each} ") for step in steps]
    assert found == sorted(found)
    assert "wait deployment --all -n kubeflow --for=condition=Available" in told[found[-1] + 1]
    before = len(there.told)
    installer.kfp(credentials.of_cluster(tmp_path))
    assert len(there.told) == before + 1, "it only looks"
    installer.wait_until_available()
    assert any("-n kubeflow" in " ".join(each) for each in there.told[before + 1 :])


def test_pipelines_need_images_of_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    made = cluster.Cluster("test")
    monkeypatch.setattr(made, "_choose", lambda _: Origin.LOCAL)
    with pytest.raises(ClusterError, match="make one with --images upstream"):
        made.up(kfp=True)
