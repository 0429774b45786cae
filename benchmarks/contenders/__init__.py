"""Controllers that are measured beside each other, each with the same canary: 20 %, 50 %, everything.

No checks and no pauses: the three have no source of metrics in common, and a pause is a wait that a user chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.apiserver import ApiServer
from slipway.runtime.resources import Object, ResourceType

FIRST_WEIGHT = 20
SECOND_WEIGHT = 50


@dataclass(frozen=True)
class Look:
    """What an object says of its rollout.

    :param release: names what is stable; empty while there is nothing, or while something is under way
    :param weight: percent of requests for the new release
    """

    release: str
    weight: int


class Contender(Protocol):
    """One controller."""

    @property
    def name(self) -> str:
        """As it is called; its namespaces and its user are called so too."""
        ...

    @property
    def type(self) -> ResourceType:
        """What tells how far a rollout is."""
        ...

    @property
    def variants(self) -> Mapping[str, Sequence[str]]:
        """Flags to be measured, by a word for them. The last variant prepares the objects."""
        ...

    def build(self) -> None:
        """Build the program unless it is there."""
        ...

    def crds(self) -> Sequence[Object]:
        """What the API server has to know."""
        ...

    def command(self, kubeconfig: Path, flags: Sequence[str]) -> Sequence[str | Path]:
        """How to start it."""
        ...

    async def prepare(self, server: ApiServer, statistics_port: int) -> None:
        """Make what all rollouts share."""
        ...

    async def make(self, server: ApiServer, namespace: str, name: str) -> None:
        """Make one rollout with its first release."""
        ...

    async def release(self, server: ApiServer, namespace: str, name: str, number: int) -> None:
        """Make the one change that a user makes for a new release, numbered from 2."""
        ...

    def look(self, obj: Object) -> Look:
        """Read an object of `type`."""
        ...
