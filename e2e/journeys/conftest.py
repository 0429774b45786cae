"""One cluster for all journeys; projects in namespaces of their own, removed when their tests are over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from secrets import token_hex

import pytest

from slipway_demo.acts import Play
from slipway_demo.install import Installed, install
from slipway_demo.story import Story
from slipway_demo.world import World


@pytest.fixture(scope="session")
def story() -> Iterator[Story]:
    """Plain lines, so that a log tells how far a journey came."""
    with Story("journeys", plain=True) as told:
        yield told


@pytest.fixture(scope="session")
def installed(story: Story) -> Installed:
    """The cluster with Slipway on it; in seconds when it is there."""
    with story.add("Cluster and Slipway").running() as node:
        return install(node)


@pytest.fixture(scope="session")
def world(installed: Installed) -> World:
    """The cluster as a test sees it."""
    return installed.world


@pytest.fixture(scope="session")
def play_in(installed: Installed, story: Story) -> Iterator[Callable[[str], Play]]:
    """Makes plays in namespaces; at the end their clients stop and the namespaces go."""
    made: list[Play] = []

    def make(namespace: str) -> Play:
        made.append(Play(installed, story, namespace))
        made[-1].clear()
        return made[-1]

    yield make
    for play in made:
        play.stop_clients()
        play.world.delete("Namespace", play.namespace, api_version="v1")


@pytest.fixture
def namespace(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty namespace for one test; never one that an earlier test's deletion still empties."""
    name = request.node.name.split("[")[0].replace("_", "-").removeprefix("test-")[:40].rstrip("-")
    name = f"{name}-{token_hex(3)}"
    world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    world.delete("Namespace", name, api_version="v1")
