"""Debian file systems, from the package mirror this machine already uses.

The mirror's address is read from the machine's own apt sources when it is needed, and written nowhere.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway_cluster import keys, paths
from slipway_cluster.errors import ClusterError
from slipway_cluster.images.sandbox import run_in
from slipway_cluster.process import run

APT = Path("/etc/apt")

# A half-made layer is thrown away, so nothing needs to reach the disk in order.
APT_OPTIONS = "-q -o Dpkg::Options::=--force-unsafe-io -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="

SLIPWAY_USER = 65532
"""User and group id that containers run as: numeric, not root, and known by name to programs that ask."""


@dataclass(frozen=True)
class Source:
    """One line of apt sources: where, which suite, which components."""

    uri: str
    suite: str
    components: tuple[str, ...]

    def line(self) -> str:
        """As in ``sources.list``."""
        return f"deb {self.uri} {self.suite} {' '.join(self.components)}\n"


def read_sources(folder: Path, release: str) -> list[Source]:
    """A release's sources out of both formats of apt's source files."""
    found: list[Source] = []
    for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]:
        if file.exists():
            found += _one_line_sources(file.read_text())
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        found += _stanza_sources(file.read_text())
    wanted = {release, f"{release}-updates", f"{release}-security"}
    return [source for source in found if source.suite in wanted and "main" in source.components]


def _one_line_sources(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if match:
            yield Source(match[1], match[2], tuple(match[3].split()))


def _stanza_sources(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if ":" in line and not line.startswith("#")]
        fields = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    yield Source(uri, suite, tuple(fields.get("components", "").split()))


def sources(release: str) -> list[Source]:
    """This machine's sources of a Debian release.

    Raises:
        ClusterError: it has none.
    """
    found = read_sources(APT, release)
    if not any(source.suite == release for source in found):
        raise ClusterError(
            f"Local images are made of Debian {release!r} packages, and no file in {APT} names a mirror of it."
        )
    return found


def make_base(folder: Path, release: str, packages: Sequence[str]) -> None:
    """Make a small Debian file system in a new folder."""
    mirror = next(source.uri for source in sources(release) if source.suite == release)
    downloads = paths.cache_folder("apt", "bootstrap")
    run(
        *("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--cache-dir={downloads}"),
        *(release, folder, mirror),
        timeout=1800,
    )
    # What debootstrap copied from this machine is nobody else's business.
    for name in ("etc/resolv.conf", "etc/hostname", "etc/apt/sources.list", "etc/apt/apt.conf", "etc/machine-id"):
        (folder / name).write_text("")
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for file, line in (
        ("etc/passwd", f"slipway:x:{SLIPWAY_USER}:{SLIPWAY_USER}::/tmp:/usr/sbin/nologin\n"),
        ("etc/group", f"slipway:x:{SLIPWAY_USER}:\n"),
    ):
        with (folder / file).open("a") as accounts:
            accounts.write(line)
    for name in ("var/lib/apt/lists", "var/cache/apt/archives", "var/log", "dev"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()


def install(stack: Sequence[Path], changes: Path, release: str, packages: Sequence[str], before: str = "") -> None:
    """Install packages on top of stacked folders; ``before`` is shell that runs first."""
    script = f"""
    printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    {before}
    apt-get {APT_OPTIONS} update
    apt-get {APT_OPTIONS} install -y --no-install-recommends {" ".join(packages)}
    rm -f /usr/sbin/policy-rc.d
    rm -rf /var/log/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old
    """
    with _apt_binds(release) as binds, keys.lock("apt"):
        run_in(stack, changes, script, binds=binds)


@contextmanager
def _apt_binds(release: str) -> Iterator[dict[Path, str]]:
    """How this machine fetches packages, with one release's sources only, and downloads that are kept."""
    with tempfile.TemporaryDirectory(prefix="slipway-apt-") as temporary:
        folder = Path(temporary)
        (folder / "sources.list").write_text("".join(source.line() for source in sources(release)))
        (folder / "apt.conf").write_text(run("apt-config", "dump", "Acquire"))
        # apt fetches as a user of its own.
        folder.chmod(0o755)
        yield {
            Path("/etc/resolv.conf"): "/etc/resolv.conf",
            folder / "sources.list": "/etc/apt/sources.list",
            folder / "apt.conf": "/etc/apt/apt.conf",
            paths.cache_folder("apt", "archives"): "/var/cache/apt/archives",
            paths.cache_folder("apt", "lists"): "/var/lib/apt/lists",
        }
