"""The cluster with Slipway on it: up, images, chart, and what administrators declare."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway_cluster.cluster import Cluster
from slipway_demo.story import Node
from slipway_demo.world import World, condition, describe

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "flight-delays"
NAMESPACE = "slipway-system"


class NodeReporter:
    """Shows the cluster's steps as lines below a node of the story."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lines: dict[str, Node] = {}
        self._lock = threading.Lock()

    def started(self, name: str, estimate: float | None) -> None:
        """A line begins."""
        with self._lock:
            line = self._lines[name] = self._node.add(name, estimate=estimate)
        line.set("", "running")

    def finished(self, name: str, seconds: float) -> None:
        """A line is done."""
        del seconds  # the story's own clock says it
        self._lines[name].set("", "done")

    def failed(self, name: str, seconds: float) -> None:
        """A line failed; the error follows by itself."""
        del seconds
        self._lines[name].set("", "failed")

    def said(self, sentence: str) -> None:
        """A line that is done at once."""
        self._node.add(sentence).set("", "done")


@dataclass(frozen=True)
class Installed:
    """A cluster that runs Slipway."""

    cluster: Cluster
    world: World
    images: dict[str, str]


KFP = "SLIPWAY_KFP"
"""Variable with the endpoint of Kubeflow Pipelines that trains, or `kind`: one that is installed here; empty: Jobs."""
KIND = "kind"


def platform(kfp: str = "") -> dict[str, Any]:
    """The example's Platform, with the engine that `kfp` says. :param kfp: see `KFP`"""
    found: dict[str, Any] = yaml.safe_load((EXAMPLE / "manifests" / "admin" / "platform.yaml").read_text())
    if kfp:
        pipelines = yaml.safe_load((ROOT / "manifests" / "kfp" / "platform-pipelines.yaml").read_text())
        if kfp != KIND:
            pipelines["kubeflowPipelines"]["endpoint"] = kfp
        found["spec"]["pipelines"] = pipelines
    return found


def install(node: Node, name: str = "slipway") -> Installed:
    """Brings cluster, images and chart up to date; a second time takes seconds. ClusterError says why it cannot."""
    reporter = NodeReporter(node)
    cluster = Cluster(name, reporter)
    kfp = os.environ.get(KFP, "")
    cluster.up(kfp=kfp == KIND)
    images = cluster.build_project_images()
    images["flight-delays"] = cluster.build_team_image("flight-delays", EXAMPLE / "flights")
    reporter.started("operator", None)
    cluster.helm(
        "upgrade",
        "--install",
        "slipway",
        str(ROOT / "charts" / "slipway"),
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--set",
        f"image.operator={images['slipway-operator']}",
        "--set",
        f"image.runner={images['slipway-runner']}",
        "--set",
        f"image.server={images['slipway-model-server']}",
        "--set",
        "rbac.envoyPatchPolicies=true",
        "--wait",
        "--timeout",
        "180s",
    )
    reporter.finished("operator", 0)
    world = World(cluster.kubeconfig)
    reporter.started("platform", None)
    world.apply_files(EXAMPLE / "manifests" / "admin")
    if kfp:
        world.apply(platform(kfp))
    world.wait(
        "Platform default is Ready",
        lambda: condition(world.get("Platform", "default")).get("status") == "True",
        timeout=120,
        state=lambda: describe(world.get("Platform", "default")),
    )
    reporter.finished("platform", 0)
    return Installed(cluster, world, images)
