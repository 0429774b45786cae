"""The container engine that nodes run in: podman or Docker."""

import json
import os
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slipway_cluster import paths
from slipway_cluster.errors import ClusterError
from slipway_cluster.images import archive
from slipway_cluster.images.archive import Image
from slipway_cluster.process import run, succeeds

CAP_SYS_RESOURCE = 24

PACKAGES = ("podman", "netavark", "aardvark-dns", "runc", "iptables", "nftables")
"""Debian's packages of podman; the network ones give nodes each other's names, without which workers never join."""

NETWORK = "slipway"

SYSTEMD = Path("/run/systemd/system")
"""There if the machine runs systemd, which then manages the control groups."""

HUB = "docker.io"
"""Whose images have names without a registry. Docker knows; podman asks a person, so kind and we tell it."""


@dataclass(frozen=True)
class Facts:
    """How an engine runs containers.

    Attributes:
        rootless: with an ordinary user's rights only.
        cgroup: version of control groups: 1 or 2.
    """

    rootless: bool
    cgroup: int


class Engine:
    """Commands of one engine, all with the same settings."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def environment(self) -> dict[str, str]:
        """Variables for the engine and for kind, which calls it."""
        variables = {"KIND_EXPERIMENTAL_PROVIDER": self.name}
        if self.name == "podman":
            variables["KIND_EXPERIMENTAL_PODMAN_NETWORK"] = NETWORK
            if os.geteuid() == 0:
                variables["CONTAINERS_CONF"] = str(self._podman_configuration())
        else:
            variables["KIND_EXPERIMENTAL_DOCKER_NETWORK"] = NETWORK
        return variables

    def run(self, *arguments: str | Path, input: str | bytes | None = None, timeout: float = 300) -> str:
        """Run one of the engine's commands."""
        return run(self.name, *arguments, input=input, env=self.environment, timeout=timeout)

    def exec(self, node: str, *command: str, input: str | bytes | None = None, timeout: float = 300) -> str:
        """Run a program in a node."""
        interactive = ["--interactive"] if input is not None else []
        return self.run("exec", *interactive, node, *command, input=input, timeout=timeout)

    def works(self) -> bool:
        """Whether it is installed and answers, and is no other under its name."""
        if shutil.which(self.name) is None or not succeeds(self.name, "info", timeout=20):
            return False
        return self.name != "docker" or "podman" not in run(self.name, "--version", timeout=20).lower()

    def facts(self) -> Facts:
        """How it runs containers."""
        return facts(self.name, self.run("info", "--format", "{{json .}}", timeout=20))

    def has_image(self, name: str) -> bool:
        """Whether it can start containers of an image without fetching it."""
        return succeeds(self.name, "image", "inspect", name)

    def refusal(self, image: str, seconds: float) -> str:
        """Why no registry gives it an image, in a few words; empty if one does.

        Args:
            seconds: how long the registry may take to answer.
        """
        try:
            self.run("manifest", "inspect", self._completed(image), timeout=seconds)
        except ClusterError as error:
            return str(error).strip().splitlines()[-1].strip().removeprefix("Error: ").rstrip(".")
        return ""

    def save(self, images: Sequence[str], file: Path) -> None:
        """Write images to one file."""
        # Docker takes several as they are.
        several = ["--multi-image-archive"] if self.name == "podman" else []
        self.run("save", *several, "--output", file, *images, timeout=600)

    def load(self, image: Image) -> None:
        """Give it an image."""
        if self.has_image(image.names[0]):
            return
        with archive.layout([image]) as layout:
            file = layout / "image.tar"
            run("tar", "-C", layout, "-cf", file, "oci-layout", "index.json", "manifest.json", "blobs")
            self.run("load", "--quiet", "--input", file, timeout=600)

    def remove_images(self, pattern: str) -> None:
        """Remove images whose reference matches a pattern."""
        if found := self.run("images", "--quiet", "--filter", f"reference={pattern}").split():
            self.run("rmi", "--force", *dict.fromkeys(found))

    def remove_network_if_unused(self) -> None:
        """Remove the nodes' network, unless another cluster's nodes are in it."""
        users = self.run("ps", "--all", "--quiet", "--filter", f"network={NETWORK}").split()
        if not users and NETWORK in self.run("network", "ls", "--format", "{{.Name}}").split():
            self.run("network", "rm", NETWORK)

    def containers(self, cluster: str) -> dict[str, str]:
        """States of a cluster's nodes by name."""
        listed = self.run(
            *("ps", "--all", "--filter", f"label=io.x-k8s.kind.cluster={cluster}", "--format", "{{.Names}} {{.State}}")
        )
        return dict(line.split(maxsplit=1) for line in listed.splitlines() if line.strip())

    def _completed(self, image: str) -> str:
        """An image's name with its registry, where the engine needs it."""
        registry = image.partition("/")[0]
        named = registry == "localhost" or "." in registry or ":" in registry
        return image if self.name == "docker" or named else f"{HUB}/{image}"

    @staticmethod
    def _podman_configuration() -> Path:
        """Settings under which a node's systemd, containerd and kubelet start on any host, also one with cgroup v1."""
        lines = ["[engine]", 'events_logger = "file"']
        if shutil.which("runc"):
            lines += ['runtime = "runc"']
        if not SYSTEMD.is_dir():
            lines += ['cgroup_manager = "cgroupfs"']
        lines += ["[network]", 'network_backend = "netavark"']
        if not _may_raise_limits():
            limits = _open_files_limit()
            lines += ["[containers]", f'default_ulimits = ["nofile={limits}:{limits}","nproc={limits}:{limits}"]']
        file = paths.cache_folder("engine") / "containers.conf"
        file.write_text("\n".join(lines) + "\n")
        return file


def facts(name: str, said: str) -> Facts:
    """What an engine says about itself in JSON."""
    found = json.loads(said)
    if name == "podman":
        host = found["host"]
        return Facts(bool(host["security"]["rootless"]), int(str(host["cgroupVersion"]).removeprefix("v")))
    rootless = any(option.startswith("name=rootless") for option in found.get("SecurityOptions") or [])
    return Facts(rootless, int(found.get("CgroupVersion") or 1))


def find() -> Engine:
    """The engine to use: Docker if its daemon answers, else podman.

    Raises:
        ClusterError: neither works.
    """
    for name in ("docker", "podman"):
        if (engine := Engine(name)).works():
            return engine
    raise ClusterError("No container engine answers: start Docker, or install podman with netavark and aardvark-dns.")


def _may_raise_limits() -> bool:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return bool(int(status["CapEff"], 16) >> CAP_SYS_RESOURCE & 1)


def _open_files_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
