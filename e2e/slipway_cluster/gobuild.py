"""Programs built from pinned Go modules, kept by the hash of everything that goes into them.

Each folder of ``gomod/`` is one module: its ``go.mod`` and ``go.sum`` pin the sources. Several programs may come from
one module, which then share compiled packages through Go's own build cache.
"""

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from slipway_cluster import keys, paths
from slipway_cluster.errors import ClusterError
from slipway_cluster.process import run
from slipway_cluster.versions import versions

GOMOD = paths.PACKAGE / "gomod"
"""The modules of the cluster's own programs."""

BUILD_TIMEOUT = 3600
"""Seconds one program may take to build from empty caches on a slow machine."""


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        module: folder below ``root``.
        package: Go package of its main function; one that starts with a dot is a folder of the module.
        links: names it is called by, for a program that holds several.
        stamps: variables set by the linker.
        root: where the modules are; not part of what the program is, so that each checkout finds the same build.
    """

    name: str
    module: str
    package: str
    links: tuple[str, ...] = ()
    stamps: tuple[tuple[str, str], ...] = ()
    root: Path = field(default=GOMOD, repr=False)

    @property
    def folder(self) -> Path:
        """The module's folder."""
        return self.root / self.module


def _kubernetes_stamps() -> tuple[tuple[str, str], ...]:
    """Without them every Kubernetes program says v0.0.0, which kubeadm refuses and kubectl fails to parse."""
    version = versions().kubernetes
    major, minor, _ = version.split(".")
    package = "k8s.io/component-base/version"
    return (
        (f"{package}.gitVersion", f"v{version}"),
        (f"{package}.gitMajor", major),
        (f"{package}.gitMinor", minor),
        (f"{package}.gitTreeState", "clean"),
    )


@cache
def programs() -> dict[str, Program]:
    """Every program by name, in the order they are best built in."""
    all_programs = (
        Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", stamps=_kubernetes_stamps()),
        Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
        Program(
            "node",
            "kubernetes",
            "./node",
            links=("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubeadm", "kubectl"),
            stamps=_kubernetes_stamps(),
        ),
        Program("kind", "kind", "sigs.k8s.io/kind"),
        Program("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
        Program("coredns", "coredns", "./server"),
        Program("envoy-gateway", "envoy-gateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
        Program("pause", "pause", "."),
        Program("kserve-manager", "kserve", "github.com/kserve/kserve/cmd/manager"),
    )
    return {program.name: program for program in all_programs}


def binary(name: str) -> Path:
    """The file of a program or of one of its links, built now if it is missing."""
    return build(_owner(name)) / name


def is_built(name: str) -> bool:
    """Whether :func:`binary` would return at once."""
    program = _owner(name)
    return _is_complete(program, _folder(program))


def module_key(module: str, root: Path = GOMOD) -> str:
    """A short hash of the versions a module pins."""
    return keys.content_key(sorted((root / module).glob("go.*")))


@cache
def module_folder(module: str, path: str, root: Path = GOMOD) -> Path:
    """Where Go keeps the sources of a module that one of ours requires, downloaded now if they are missing."""
    folder = root / module
    run("go", "mod", "download", path, cwd=folder, env=_environment(), timeout=BUILD_TIMEOUT)
    return Path(run("go", "list", "-m", "-f", "{{.Dir}}", path, cwd=folder, env=_environment()).strip())


def build(program: Program) -> Path:
    """Build a program unless the cache holds it, and return its folder.

    Two processes that want the same program build it once: the second waits.

    Raises:
        ClusterError: Go is missing or the build failed.
    """
    folder = _folder(program)
    if _is_complete(program, folder):
        return folder
    with keys.lock(program.name):
        if not _is_complete(program, folder):
            _compile(program, folder)
    return folder


def _compile(program: Program, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{program.name}.unfinished"
    stamps = " ".join(f"-X {variable}={value}" for variable, value in program.stamps)
    run(
        *("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {stamps}".strip()),
        *("-o", unfinished, program.package),
        cwd=program.folder,
        env=_environment() | _compiler_settings(),
        timeout=BUILD_TIMEOUT,
    )
    for link in program.links:
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(program.name)
    unfinished.rename(folder / program.name)
    _remove_older(program, folder)


def _remove_older(program: Program, newest: Path) -> None:
    """Programs are large: keep only the newest build of each."""
    for folder in newest.parent.glob(f"{program.name}-" + "?" * keys.KEY_LENGTH):
        if folder != newest:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


def _environment() -> dict[str, str]:
    """Static binaries, only from modules that ``go.sum`` names, whatever the user's own Go settings are."""
    return {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOVCS": "*:off"}


def _compiler_settings() -> dict[str, str]:
    """A fifth less processor time for some hundred MiB more; what is built is the same."""
    # Few packages, and the linker, ever reach the limit: nothing is collected before, as the process soon ends.
    settings = {"GOGC": "off", "GOMEMLIMIT": "2GiB"}
    return settings | {name: os.environ[name] for name in settings if name in os.environ}


def _owner(name: str) -> Program:
    for program in programs().values():
        if name == program.name or name in program.links:
            return program
    known = ", ".join(programs())
    raise ClusterError(f"There is no program {name!r}; there are {known}.")


def _folder(program: Program) -> Path:
    return paths.cache_folder("bin") / f"{program.name}-{_key(program)}"


def _is_complete(program: Program, folder: Path) -> bool:
    return (folder / program.name).exists()


@cache
def _key(program: Program) -> str:
    sources = sorted((program.folder / program.package).glob("*.go")) if program.package.startswith(".") else []
    return keys.key_of(
        program, _go_version(), _environment(), module_key(program.module, program.root), keys.content_key(sources)
    )


@cache
def _go_version() -> str:
    try:
        return run("go", "env", "GOVERSION", env={"GOFLAGS": ""}).strip()
    except ClusterError as error:
        raise ClusterError(
            f"Go is needed to build the cluster's programs: install Go 1.26 or newer. {error}"
        ) from error
