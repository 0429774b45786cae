"""Slipway's own images, built by the container engine from Dockerfiles: for clusters of upstream's images."""

from pathlib import Path

from slipway_cluster import keys
from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.images import python, recipes
from slipway_cluster.images.derived import files_of

Names = tuple[str, str]
"""An image's reference with a tag that is its content's alone, and the one that is its newest's."""

BUILD_TIMEOUT = 3600
"""Seconds a build may take, downloads included."""


def project(engine: Engine, name: str) -> Names:
    """Build one of Slipway's images, unless the engine has it, and return its names.

    The first one's tag changes with everything of this repository that goes into it. What the base image's name
    stands for is not part of that: remove the image to have it built on a newer one.
    """
    folder = python.project()
    dockerfile = folder / "images" / "Dockerfile"
    listed = [
        *(folder / file for file in (".dockerignore", "README.md")),
        *sorted((folder / "requirements").glob("*.txt")),
        *python.own_files(),
    ]
    return _built(engine, name, folder, dockerfile, listed, "--target", name)


def on_runner(engine: Engine, name: str, package: Path) -> Names:
    """Build a team's training image from the Dockerfile beside its Python package, and return its names."""
    folder = package.parent
    dockerfile = folder / "Dockerfile"
    if not dockerfile.exists():
        raise ClusterError(f"There is no Dockerfile in {folder}, which would say how image {name!r} is built.")
    runner, _ = project(engine, "slipway-runner")
    return _built(engine, name, folder, dockerfile, files_of(package), "--build-arg", f"RUNNER={runner}")


def _built(engine: Engine, name: str, folder: Path, dockerfile: Path, others: list[Path], *options: str) -> Names:
    files = [dockerfile, *others]
    key = keys.key_of(name, options, [str(file.relative_to(folder)) for file in files], keys.content_key(files))
    names = (recipes.reference(name, key), recipes.reference(name, "dev"))
    if not engine.has_image(names[0]):
        tags = [option for tag in names for option in ("--tag", tag)]
        engine.run("build", "--file", dockerfile, *options, *tags, folder, timeout=BUILD_TIMEOUT)
    return names
