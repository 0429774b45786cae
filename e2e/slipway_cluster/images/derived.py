"""Images that a team builds FROM slipway-runner: the runner, and its own code on top."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slipway_cluster.images import layers, recipes
from slipway_cluster.images.archive import Image
from slipway_cluster.images.layers import Files
from slipway_cluster.keys import key_of


def files_of(package: Path) -> list[Path]:
    """What of a Python package goes into an image: everything, but what Python compiled."""
    return sorted(file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def on_runner(name: str, package: Path) -> Image:
    """The runner with one Python package, in `/opt/NAME`: what `examples/*/Dockerfile` says, without an engine.

    Args:
        name: of the image, and of the folder that the package lies in.
        package: folder of the Python package. With a `__main__.py` it is what the image starts.
    """
    runner = recipes.project()["slipway-runner"]()
    sources = [
        Files(f"opt/{name}/{package.name}/{file.relative_to(package)}", file, mode=0o644) for file in files_of(package)
    ]
    content = (*runner.layers, layers.of_files(name, sources))
    tag = key_of([layer.digest for layer in content])
    starts = (package / "__main__.py").exists()
    return replace(
        runner,
        entrypoint=("python3", "-m", package.name) if starts else runner.entrypoint,
        names=(recipes.reference(name, tag), recipes.reference(name, "dev")),
        layers=content,
        environment=(*runner.environment, f"PYTHONPATH=/opt/{name}"),
    )
