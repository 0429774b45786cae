"""The kubectl plugin: what krew takes, and what a real kubectl does with it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[4]
KUBECTL = shutil.which("kubectl")


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("krew_build", REPOSITORY / "manifests/krew/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """The manifest, and the folder in which krew would have installed it."""
    builder().build("https://example.com/releases/", tmp_path / "dist")
    manifest: dict[str, Any] = yaml.safe_load((tmp_path / "dist/slipway.yaml").read_text())
    (platform,) = manifest["spec"]["platforms"]
    archive = tmp_path / "dist" / platform["uri"].rpartition("/")[2]
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == platform["sha256"]
    unpacked, store, links = (tmp_path / name for name in ("unpacked", "store", "bin"))
    for folder in (store, links):
        folder.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    for operation in platform["files"]:
        shutil.copy(unpacked / operation["from"], store / operation["to"])
    (links / f"kubectl-{manifest['metadata']['name']}").symlink_to(store / platform["bin"])
    return manifest, links


def test_the_manifest_is_what_krew_takes(built: tuple[dict[str, Any], Path]) -> None:
    """By the rules of krew's `internal/index/validation`, and its naming guide."""
    manifest, _ = built
    spec = manifest["spec"]
    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert manifest["kind"] == "Plugin"
    assert re.fullmatch(r"[\w-]+", manifest["metadata"]["name"])
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert spec["shortDescription"]
    assert "\n" not in spec["shortDescription"]
    (platform,) = spec["platforms"]
    assert platform["uri"].startswith("https://example.com/releases/kubectl-slipway_v")
    assert re.fullmatch(r"[a-f0-9]{64}", platform["sha256"])
    assert {each["key"] for each in platform["selector"]["matchExpressions"]} <= {"os", "arch"}
    assert all(each["from"] and each["to"] for each in platform["files"])
    assert platform["bin"] in [each["from"] for each in platform["files"]]


def test_the_archive_is_the_same_whenever_it_is_built() -> None:
    assert builder().archive() == builder().archive()


def slipway_on_path(folder: Path) -> None:
    """The command line as pip would install it, of this checkout."""
    script = folder / "slipway"
    script.write_text(f"#!{sys.executable}\nfrom slipway.cli.main import main\nmain()\n")
    script.chmod(0o755)


def run_plugin(links: Path, *arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{links}:/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [program or str(links / "kubectl-slipway"), *(["slipway"] if program else []), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_without_the_command_line_the_plugin_says_what_to_install(built: tuple[dict[str, Any], Path]) -> None:
    answer = run_plugin(built[1], "rollout", "status", "delays")
    assert answer.returncode == 1
    assert "pip install 'slipway[operator]'" in answer.stderr


@pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl on this machine")
def test_kubectl_runs_the_plugin_and_hands_it_everything(built: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    manifest, links = built
    slipway_on_path(links)
    answer = run_plugin(links, "--version", program=str(KUBECTL))
    assert (answer.returncode, answer.stdout.strip()) == (0, f"slipway {manifest['spec']['version'][1:]}")
    missing = tmp_path / "no-such-config"
    refused = run_plugin(links, "rollout", "status", "delays", "--kubeconfig", str(missing), program=str(KUBECTL))
    assert refused.returncode == 1, "the plugin's code is kubectl's"
    assert "No cluster to ask" in refused.stderr
