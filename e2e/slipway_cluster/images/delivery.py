"""Slipway's own images and teams': made, and put on a cluster's workers."""

from collections.abc import Sequence
from pathlib import Path

from slipway_cluster.engine import Engine
from slipway_cluster.images import built, derived, recipes, transfer
from slipway_cluster.images.archive import Image
from slipway_cluster.origin import Origin
from slipway_cluster.steps import Steps


class Delivery:
    """Makes images the way their cluster gets its other images: here, or by the container engine's `build`."""

    def __init__(self, origin: Origin, engine: Engine, nodes: Sequence[str], steps: Steps) -> None:
        self._local = origin is Origin.LOCAL
        self._engine = engine
        self._nodes = nodes
        self._steps = steps

    def project(self) -> dict[str, str]:
        """Deliver all of Slipway's own images, and return their references by name."""
        made: dict[str, Image | built.Names] = {}
        for name in recipes.project():
            with self._steps.step(f"image {name}"):
                made[name] = self._make(name)
        with self._steps.step("load images"):
            self._load(list(made.values()))
        return {name: _names(image)[0] for name, image in made.items()}

    def team(self, name: str, package: Path) -> str:
        """Deliver the runner with a team's Python package on top, and return its reference."""
        with self._steps.step(f"image {name}"):
            image = derived.on_runner(name, package) if self._local else built.on_runner(self._engine, name, package)
            self._load([image])
        return _names(image)[0]

    def one(self, name: str) -> list[str]:
        """Deliver one image, of this package by name or of the engine by reference, and return who lacked it."""
        if name in recipes.project():
            return self._load([self._make(name)])
        if self._local and (make := recipes.third_party().get(name)):
            return self._load([make()])
        return transfer.load_from_engine(self._engine, self._nodes, [name])

    def _make(self, name: str) -> Image | built.Names:
        return recipes.project()[name]() if self._local else built.project(self._engine, name)

    def _load(self, images: Sequence[Image | built.Names]) -> list[str]:
        made_here = [image for image in images if isinstance(image, Image)]
        if made_here:
            return transfer.load(self._engine, self._nodes, made_here)
        return transfer.load_from_engine(
            self._engine, self._nodes, [name for image in images for name in _names(image)]
        )


def _names(image: Image | built.Names) -> tuple[str, ...]:
    return image.names if isinstance(image, Image) else image
