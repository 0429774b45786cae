"""Whether this machine can run the cluster, in sentences."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slipway_cluster import engine, paths, programs
from slipway_cluster.engine import Engine, Facts
from slipway_cluster.errors import ClusterError
from slipway_cluster.images import python
from slipway_cluster.origin import Origin, Wish, choose
from slipway_cluster.process import run

DISK_GIB = 15
MEMORY_GIB = 6
INOTIFY_INSTANCES = 512
"""Every node's systemd, containerd and kubelet watch files: more than the usual 128 together."""

HOST_PROGRAMS = {
    Origin.UPSTREAM: {"openssl": "openssl"},
    Origin.LOCAL: {"debootstrap": "debootstrap", "openssl": "openssl", "unshare": "util-linux", "tar": "tar"},
}
"""Programs called by name, and the Debian packages that hold them."""

MACHINES = {Origin.UPSTREAM: ("x86_64", "aarch64"), Origin.LOCAL: ("x86_64",)}
"""Processors there are images for."""


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well, and a sentence that says more."""

    check: str
    good: bool
    sentence: str


def report(wish: Wish) -> list[Finding]:
    """Say where images would come from, and look at everything a cluster of them needs."""
    try:
        choice = choose(wish, engine.find())
    except ClusterError:
        # That there is no engine is a finding of its own.
        return examine(Origin.UPSTREAM if wish is Wish.UPSTREAM else Origin.LOCAL)
    return [Finding("images", True, choice.sentence), *examine(choice.origin)]


def examine(origin: Origin) -> list[Finding]:
    """Look at everything the cluster needs."""
    checks: list[Callable[[Origin], Iterator[Finding]]] = [_system, _disk, _memory, _kernel, _programs, _engine]
    checks.append(_inotify)
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        return [finding for findings in pool.map(lambda check: list(check(origin)), checks) for finding in findings]


def prepare(origin: Origin) -> None:
    """Install and set what can be, then insist on the rest.

    Raises:
        ClusterError: with a sentence for everything that is missing.
    """
    _install({package for program, package in HOST_PROGRAMS[origin].items() if not shutil.which(program)})
    _raise_inotify()
    if bad := [finding.sentence for finding in examine(origin) if not finding.good]:
        raise ClusterError("This machine is not ready:\n" + "\n".join(f"- {sentence}" for sentence in bad))


def prepare_engine() -> None:
    """Install a container engine if there is none."""
    if not any(Engine(name).works() for name in ("docker", "podman")):
        _install(set(engine.PACKAGES))


def _system(origin: Origin) -> Iterator[Finding]:
    machines = MACHINES[origin]
    good = platform.system() == "Linux" and platform.machine() in machines
    found = f"{platform.system()} on {platform.machine()}"
    needed = f"Images of this kind need Linux on {' or '.join(machines)}, and this is {found}."
    yield Finding("system", good, f"This is {found}." if good else needed)
    root = os.geteuid() == 0
    if root or origin is Origin.LOCAL:
        sentence = "You are root." if root else "Making images and nodes on this machine needs root: use sudo."
        yield Finding("user", root, sentence)


def _disk(origin: Origin) -> Iterator[Finding]:
    free = shutil.disk_usage(paths.cache()).free / 2**30
    # What is there already needs no room again.
    kept = "clusters/*/kubeconfig" if origin is Origin.UPSTREAM else "seeds/*"
    needed = DISK_GIB / 3 if any(paths.cache().glob(kept)) else DISK_GIB
    sentence = f"{free:.0f} GiB are free at {paths.cache()}"
    if free < needed:
        sentence += f", and {needed:.0f} are needed: free some, or set SLIPWAY_CACHE to a folder on another disk"
    yield Finding("disk", free >= needed, f"{sentence}.")


def _memory(_origin: Origin) -> Iterator[Finding]:
    status = Path("/proc/meminfo").read_text()
    found = re.search(r"MemTotal:\s+(\d+) kB", status)
    total = int(found[1]) / 2**20 if found else 0.0
    good = total >= MEMORY_GIB
    sentence = f"This machine has {total:.0f} GiB of memory"
    yield Finding("memory", good, f"{sentence}." if good else f"{sentence}, and three nodes need {MEMORY_GIB}.")


def _kernel(_origin: Origin) -> Iterator[Finding]:
    file_systems = Path("/proc/filesystems").read_text().split()
    overlay = "overlay" in file_systems or _loads("overlay")
    yield Finding(
        "overlay",
        overlay,
        "The kernel has overlayfs." if overlay else "The kernel lacks overlayfs: load module overlay.",
    )
    if os.geteuid() != 0:
        # The rest is tried in a network of its own, which only root makes.
        return
    for name, words in (
        ("bridge", ("link", "add", "slwprobe0", "type", "bridge")),
        ("veth", ("link", "add", "slwprobe1", "type", "veth", "peer", "name", "slwprobe2")),
    ):
        good = _in_own_network("ip", *words)
        yield Finding(
            name,
            good,
            f"The kernel makes {name} devices." if good else f"The kernel lacks {name} devices: load its module.",
        )
    if shutil.which("nft"):
        good = _in_own_network("nft", "add", "table", "ip", "slipway_probe")
        yield Finding(
            "nf_tables",
            good,
            "The kernel has nf_tables." if good else "The kernel lacks nf_tables: load module nf_tables.",
        )


def _programs(origin: Origin) -> Iterator[Finding]:
    for program, package in HOST_PROGRAMS[origin].items():
        good = shutil.which(program) is not None
        yield Finding(
            program, good, f"{program} is installed." if good else f"{program} is missing: install {package}."
        )
    good = shutil.which("go") is not None
    yield Finding("go", good, "go is installed." if good else "go is missing: install Go 1.26 or newer.")
    if origin is Origin.UPSTREAM:
        yield from _found_programs()
        return
    try:
        python.uv()
    except ClusterError as error:
        yield Finding("uv", False, str(error))
    else:
        yield Finding("uv", True, "uv is installed.")


def _found_programs() -> Iterator[Finding]:
    otherwise = {"kind": "it is built", "helm": "it is built", "kubectl": "it is copied from a node"}
    for name, remedy in otherwise.items():
        found = programs.on_path(name)
        yield Finding(name, True, f"{found} is used." if found else f"No {name} that fits is on PATH: {remedy}.")


def _engine(origin: Origin) -> Iterator[Finding]:
    try:
        found = engine.find()
        facts = found.facts()
    except ClusterError as error:
        yield Finding("container engine", False, str(error))
    else:
        yield Finding("container engine", True, f"{found.name} answers.")
        yield from engine_findings(found.name, facts, origin)


def engine_findings(name: str, facts: Facts, origin: Origin) -> Iterator[Finding]:
    """What is supported of how an engine runs containers."""
    if not facts.rootless:
        yield Finding("rights", True, f"{name} runs as root.")
    elif origin is Origin.LOCAL:
        sentence = f"{name} is rootless, and nodes with images of this machine need root's: use sudo."
        yield Finding("rights", False, sentence)
    elif facts.cgroup < 2:
        yield Finding("rights", False, f"{name} is rootless, and then kind needs cgroup v2: use sudo.")
    else:
        sentence = f"{name} is rootless: kind supports that if all control groups are delegated; not tried here."
        yield Finding("rights", True, sentence)
    sentence = f"Control groups are v{facts.cgroup}"
    if facts.cgroup < 2 and origin is Origin.UPSTREAM:
        sentence += ", where upstream's node image was not tried: Kubernetes 1.35 will refuse them"
    yield Finding("cgroups", True, f"{sentence}.")


def _inotify(_origin: Origin) -> Iterator[Finding]:
    instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    good = instances >= INOTIFY_INSTANCES
    sentence = f"A user may have {instances} inotify instances"
    remedy = f"run sysctl fs.inotify.max_user_instances={INOTIFY_INSTANCES}"
    yield Finding(
        "inotify", good, f"{sentence}." if good else f"{sentence}, too few for three nodes: {remedy}, as up does."
    )


def _install(missing: set[str]) -> None:
    """Install packages with the machine's own package manager and settings, if that can be."""
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    settings = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "-q", "update", env=settings)
    run("apt-get", "-q", "install", "-y", "--no-install-recommends", *sorted(missing), env=settings, timeout=900)


def _raise_inotify() -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if os.geteuid() == 0 and int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(str(INOTIFY_INSTANCES))


def _loads(module: str) -> bool:
    return bool(shutil.which("modprobe")) and _quietly("modprobe", module)


def _in_own_network(*command: str) -> bool:
    """Try something in a network of its own, which ends with it."""
    return _quietly("unshare", "--net", *command)


def _quietly(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
