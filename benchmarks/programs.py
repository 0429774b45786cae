"""The controllers that Slipway is measured beside, built from their pinned Go modules, and their CRDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from slipway_cluster import gobuild
from slipway_cluster.gobuild import Program

Object = dict[str, Any]
GOMOD = Path(__file__).parent / "gomod"
REPOSITORY = Path(__file__).parents[1]

ARGO = Program(
    "rollouts-controller", "argo-rollouts", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller", root=GOMOD
)
FLAGGER = Program("flagger", "flagger", "github.com/fluxcd/flagger/cmd/flagger", root=GOMOD)


def binary(program: Program) -> Path:
    """The program's file, built now if it is missing. :raises ClusterError: Go is missing, or the build failed"""
    return gobuild.build(program) / program.name


def own_crds() -> list[Object]:
    """Slipway's own."""
    return _read(*sorted((REPOSITORY / "crds").glob("*.yaml")))


def slipway_crds() -> list[Object]:
    """Slipway's own, and those of KServe and Gateway API that it writes."""
    kserve = gobuild.module_folder("kserve", "github.com/kserve/kserve") / "charts" / "kserve-crd" / "templates"
    gateway = gobuild.module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    others = _read(
        kserve / "serving.kserve.io_inferenceservices.yaml",
        kserve / "serving.kserve.io_clusterservingruntimes.yaml",
        gateway / "gateway.networking.k8s.io_httproutes.yaml",
        gateway / "gateway.networking.k8s.io_gateways.yaml",
    )
    return [*own_crds(), *others]


def argo_crds() -> list[Object]:
    """Argo Rollouts' own, and Istio's, whose VirtualServices it writes."""
    module = gobuild.module_folder("argo-rollouts", "github.com/argoproj/argo-rollouts", GOMOD)
    own = sorted((module / "manifests" / "crds").glob("*-crd.yaml"))
    istio = _read(module / "test" / "e2e" / "crds" / "istio.yaml")
    routes = [each for each in istio if each["spec"]["names"]["plural"] in ("virtualservices", "destinationrules")]
    return [*_read(*own), *routes]


def flagger_crds() -> list[Object]:
    """Flagger's own; it writes HTTPRoutes, as Slipway does."""
    module = gobuild.module_folder("flagger", "github.com/fluxcd/flagger", GOMOD)
    return _read(module / "artifacts" / "flagger" / "crd.yaml")


def _read(*files: Path) -> list[Object]:
    return [each for file in files for each in yaml.load_all(file.read_text(), yaml.CSafeLoader) if each]
