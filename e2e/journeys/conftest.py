"""One cluster for all journeys; projects in namespaces of their own, removed when their tests are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from secrets import token_hex

import pytest

from journeys.parcels import Parcels
from slipway_demo.acts import Play
from slipway_demo.install import Installed, install
from slipway_demo.story import Story
from slipway_demo.watcher import Watcher
from slipway_demo.world import World

KEEP = "--keep-parcels"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the journeys."""
    parser.addoption(
        KEEP, action="store_true", help="Leave the project parcels on the cluster, so that the next session has it."
    )


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


@pytest.fixture(scope="module", autouse=True)
def watcher(request: pytest.FixtureRequest) -> Iterator[Watcher | None]:
    """Follows all rollouts while a module's journeys run; None where no test of it needs the cluster."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    if not any("installed" in item.fixturenames for item in items if item.module is request.module):
        yield None
        return
    with Watcher(request.getfixturevalue("installed").cluster.kubeconfig) as following:
        yield following


@pytest.fixture(autouse=True)
def invariants(watcher: Watcher | None) -> Iterator[None]:
    """Fails a test at its end when a rollout broke a rule meanwhile: see `slipway_demo.invariants`."""
    yield
    if watcher is not None:
        time.sleep(0.5)  # what was written last arrives
        assert watcher.broken() == []


@pytest.fixture(scope="session")
def parcels(
    installed: Installed, story: Story, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parcels]:
    """A small project with all the versions that journeys try."""
    made = Parcels(installed, story, tmp_path_factory.mktemp("parcels"))
    made.make()
    yield made
    if not request.config.getoption(KEEP):
        made.clear()


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
    for play in made:  # a session that comes next would see what goes as a broken rollout
        play.world.wait(
            f"namespace {play.namespace} is gone",
            lambda play=play: play.world.get("Namespace", play.namespace, api_version="v1") is None,  # type: ignore[misc]
            timeout=180,
        )


@pytest.fixture
def namespace(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty namespace for one test; never one that an earlier test's deletion still empties."""
    name = request.node.name.split("[")[0].replace("_", "-").removeprefix("test-")[:40].rstrip("-")
    name = f"{name}-{token_hex(3)}"
    world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    world.delete("Namespace", name, api_version="v1")
