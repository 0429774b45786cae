"""Whatever happens in whatever order, the end is the same, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law
from unit.controllers.things import PROJECT, dataset, feature_set, foundation, live, month, play, project
from unit.controllers.world import World, ready

from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    MODEL_PROJECT,
    MODEL_VERSION,
    PLATFORM,
    TRAINING_RUN,
)

THINGS: dict[str, Callable[[World], Any]] = {
    "platform": foundation,
    "project": lambda world: world.put(MODEL_PROJECT, project()),
    "dataset": lambda world: world.put(DATASET, dataset()),
    "features": lambda world: world.put(FEATURE_SET, feature_set()),
    "january": lambda world: month(world, 1),
    "february": lambda world: month(world, 2),
}

EVENTS = st.one_of(
    st.tuples(st.just("make"), st.sampled_from(sorted(THINGS))),
    st.tuples(st.just("look"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 61, 400])),
    st.tuples(st.just("start"), st.integers(0, 3)),
    st.tuples(st.just("finish"), st.integers(0, 3)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("outage"), st.booleans()),
)


async def happen(world: World, event: tuple[str, Any]) -> None:
    """One event; one that has nothing to act on does nothing."""
    what, value = event
    if what == "make":
        THINGS[value](world)
    elif what == "look" and world.keys():
        await world.reconcile(world.keys()[value % len(world.keys())])
    elif what == "wait":
        world.advance(value)
    elif what == "start" and world.jobs():
        world.run(world.jobs()[value % len(world.jobs())])
    elif what == "finish" and world.jobs():
        play(world, world.jobs()[value % len(world.jobs())])
    elif what == "restart":
        world.restart()
    elif what == "outage":
        world.artifacts.down = value


def summary(world: World) -> dict[str, Any]:
    """What must be the same at the end: names are made from contents, so equal names are equal contents."""
    data = world.get(DATASET, "flights")["status"]
    features = world.get(FEATURE_SET, "history")["status"]
    standing = world.get(MODEL_PROJECT, PROJECT)["status"]
    return {
        "data": (data["currentVersion"], data["rows"], data["sourceDigest"]),
        "features": (features["inputDigest"], features["sources"], features["objects"]),
        "ready": [
            ready(world.get(type_, name))
            for type_, name in ((PLATFORM, "default"), (DATASET, "flights"), (MODEL_PROJECT, PROJECT))
        ],
        "dataset version": standing["datasetVersion"],
        "passing": standing["passingVersion"],
    }


async def to_the_end(world: World) -> None:
    """All that is missing appears, and time passes until nothing happens any more."""
    world.artifacts.down = False
    for make in THINGS.values():
        make(world)
    for _ in range(3):
        world.advance(400)
        await live(world)


def expected() -> dict[str, Any]:
    world = World()
    asyncio.run(to_the_end(world))
    return summary(world)


EXPECTED = expected()


@law
@examples(6, 40)
@given(st.lists(EVENTS, max_size=40))
def test_any_order_of_events_comes_to_the_same_end(events: list[tuple[str, Any]]) -> None:
    async def history() -> None:
        world = World()
        for event in events:
            await happen(world, event)
        await to_the_end(world)
        assert summary(world) == EXPECTED
        assert len(world.asked) == len(set(world.asked)), "no Job is asked the same twice"
        ends = {run["status"]["phase"] for run in world.all(TRAINING_RUN)}
        assert ends == {"Succeeded"}
        assert len(world.all(DATASET_VERSION)) <= 3
        assert len(world.all(MODEL_VERSION)) <= len(world.all(TRAINING_RUN))
        assert await world.writes_of() == [], "nothing is written when nothing changes"

    asyncio.run(history())


@law
@examples(4, 25)
@given(
    st.lists(EVENTS, max_size=25),
    st.permutations([(MODEL_PROJECT, PROJECT), (DATASET, "flights"), (FEATURE_SET, "history"), (PLATFORM, "default")]),
    st.booleans(),
)
def test_deletion_in_any_order_ends_and_loses_no_record(
    events: list[tuple[str, Any]], order: list[tuple[Any, str]], pauses: bool
) -> None:
    async def history() -> None:
        world = World()
        for event in events:
            await happen(world, event)
        await to_the_end(world)
        records = {each["metadata"]["uid"] for type_ in (DATASET_VERSION, MODEL_VERSION) for each in world.all(type_)}
        for type_, name in order:
            await world.delete(type_, name)
            if pauses:
                await live(world)
        await live(world)
        for type_ in (MODEL_PROJECT, DATASET, FEATURE_SET, TRAINING_RUN, PLATFORM):
            assert world.all(type_) == [], type_
        left = {each["metadata"]["uid"] for type_ in (DATASET_VERSION, MODEL_VERSION) for each in world.all(type_)}
        assert left == records

    asyncio.run(history())
