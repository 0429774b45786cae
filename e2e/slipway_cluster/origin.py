"""Where a cluster's images come from: upstream's registries, or this machine's own packages."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from slipway_cluster.errors import ClusterError
from slipway_cluster.versions import versions

FILE = "images"
"""In a cluster's folder: the origin it was made with."""

ASK_SECONDS = 6.0
"""How long a registry may take to answer whether it has an image."""


class Origin(StrEnum):
    """How a cluster gets its images."""

    UPSTREAM = "upstream"
    LOCAL = "local"


class Wish(StrEnum):
    """What a person asks for."""

    AUTO = "auto"
    UPSTREAM = "upstream"
    LOCAL = "local"


class Asked(Protocol):
    """A container engine that knows what it has and what it could fetch."""

    name: str

    def has_image(self, name: str) -> bool:
        """Whether it has an image."""

    def refusal(self, image: str, seconds: float) -> str:
        """Why no registry gives it an image; empty if one does."""


@dataclass(frozen=True)
class Choice:
    """An origin, and a sentence that says why."""

    origin: Origin
    sentence: str


def choose(wish: Wish, engine: Asked) -> Choice:
    """What a wish comes to on this machine; only `auto` asks the engine, once."""
    if wish is not Wish.AUTO:
        return Choice(Origin(wish), f"Images come from {_place(Origin(wish))}, as was asked for.")
    image = versions().upstream.node
    if engine.has_image(image):
        return Choice(Origin.UPSTREAM, f"Images come from {_place(Origin.UPSTREAM)}: {engine.name} has {image}.")
    if refusal := engine.refusal(image, ASK_SECONDS):
        return Choice(
            Origin.LOCAL, f"Images are made on {_place(Origin.LOCAL)}: {engine.name} can not have {image} ({refusal})."
        )
    return Choice(Origin.UPSTREAM, f"Images come from {_place(Origin.UPSTREAM)}: {engine.name} can have {image}.")


def remembered(folder: Path) -> Origin | None:
    """The origin of the cluster in a folder; nothing if there is no cluster."""
    if not (folder / "kubeconfig").exists():
        return None
    try:
        return Origin((folder / FILE).read_text())
    except FileNotFoundError:
        # Made before there was a choice.
        return Origin.LOCAL


def remember(folder: Path, origin: Origin) -> None:
    """Note the origin of a cluster that is about to be made."""
    (folder / FILE).write_text(origin)


def insist(wish: Wish, found: Origin, name: str) -> None:
    """Refuse to change the origin of a cluster that exists."""
    if wish not in (Wish.AUTO, found):
        option = "" if name == "slipway" else f" --name {name}"
        raise ClusterError(
            f"Cluster {name!r} was made with --images {found}, which can not be changed: run"
            f" slipway cluster down{option} first, which removes its data, then up with --images {wish}."
        )


def _place(origin: Origin) -> str:
    return "upstream's registries" if origin is Origin.UPSTREAM else "this machine"
