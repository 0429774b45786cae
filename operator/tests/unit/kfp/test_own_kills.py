"""A team's own pipeline at the endpoint: the operator killed at each of its calls, and faults at what it asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from kfpcontract.database import Call
from kfpcontract.operations import Operation
from unit.kfp.test_faults import KINDS, QUICK, SLOW_SECONDS
from unit.kfp.test_kills import Story, fails
from unit.kfp.test_own_pipeline import DATA, FILE, IMAGE, KEY, VALUES, VERSION, copied
from unit.kfp.world import NS, KfpWorld, When

from slipway.adapters.kfp import api
from slipway.contracts.digests import digest_bytes

pytestmark = pytest.mark.timeout(300)

OWN_TASKS = {"sample", "fit"}


def own(**pipeline: Any) -> dict[str, Any]:
    """Fields of a TrainingRun with a pipeline of its own."""
    return {"pipeline": pipeline, "parameters": VALUES, "code": {"image": {"name": "runner:1"}}}


def puts(world: KfpWorld) -> None:
    """The team puts its file into the store."""
    world.artifacts.objects[KEY] = DATA


def puts_and_is_evicted(world: KfpWorld) -> None:
    """And a pod of the first attempt goes."""
    puts(world)
    fails("fit", "pod deleted during operation", times=1)(world)


async def replaces(world: KfpWorld) -> None:
    """The team puts another file in its place."""
    world.artifacts.objects[KEY] = DATA.replace(b"learning_rate", b"rate")


async def uploads(world: KfpWorld) -> None:
    """The team uploads its pipeline and a version of it to the endpoint."""
    somebody, file = Operation("somebody", "POST", ""), ("flights.yaml", DATA)
    made = await world.backend.pipelines.upload_pipeline(
        Call(somebody, query=named("flights", namespace=NS), file=file)
    )
    version = named("v3", pipelineid=made.pipeline_id)
    await world.backend.pipelines.upload_pipeline_version(Call(somebody, query=version, file=file))


def named(name: str, **more: str) -> dict[str, str]:
    """Parameters of an upload."""
    return {"name": name, **more}


async def copies(world: KfpWorld) -> None:
    """The Job that copies the file out of its image ends."""
    (job,) = world.jobs("copy-pipeline")
    copied(world, job)


STORIES = {
    each.name: each
    for each in (
        Story("its file is in the store", spec=own(**FILE, digest=digest_bytes(DATA)), begin=puts),
        Story(
            "its file is replaced, and a pod of it evicted",
            attempts=2,
            states=("FAILED", "SUCCEEDED"),
            spec=own(**FILE),
            begin=puts_and_is_evicted,
            happens=replaces,
        ),
        Story("it is a version", spec=own(**VERSION), prepares=uploads, others={"pipelines": 1, "versions": 2}),
        Story(
            "it is in an image",
            spec=own(**IMAGE),
            happens=copies,
            when=lambda world: bool(world.jobs("copy-pipeline")),
        ),
    )
}
ASKED = ("pipeline_service_list_pipelines", "pipeline_service_list_pipeline_versions")
"""What finds a version of the endpoint."""


def check_tasks(world: KfpWorld) -> None:
    """What was executed is the team's pipeline as it was when the run began, inside of the platform's."""
    for execution in world.machinery.executed:
        assert set(execution.spec["components"]["comp-train"]["dag"]["tasks"]) == OWN_TASKS
        assert execution.arguments["learning_rate"] == VALUES["learning_rate"]
    assert sum("-copy-pipeline-" in name for name in world.jobs_made) <= 1, "nothing is copied twice"


async def told(story: Story, world_is: Callable[[KfpWorld], Awaitable[None]] | None = None) -> KfpWorld:
    """A story, with something that is so from the start."""
    prepares = story.prepares

    async def both(world: KfpWorld) -> None:
        if prepares is not None:
            await prepares(world)
        if world_is is not None:
            await world_is(world)

    world = await replace(story, prepares=both).told()
    check_tasks(world)
    return world


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_has_its_end(name: str) -> None:
    world = await told(STORIES[name])
    assert world.status()["ownPipelineDigest"].startswith("sha256:")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["after", "before"])
@pytest.mark.parametrize("name", STORIES)
async def test_the_operator_is_killed_at_every_call(name: str, when: When, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Story.check

    def whole(self: Story, world: KfpWorld) -> None:
        check(self, world)
        check_tasks(world)

    monkeypatch.setattr(Story, "check", whole)
    assert await STORIES[name].killed_at_every_call(when) > 20


@pytest.mark.parametrize(
    "kind", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in KINDS]
)
async def test_a_fault_where_a_version_is_asked_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ_SECONDS", SLOW_SECONDS / 4)
    monkeypatch.setattr(api, "WRITE_SECONDS", SLOW_SECONDS / 4)
    for operation in ASKED:
        fault = KINDS[kind](operation)

        async def faulty(world: KfpWorld, fault: Any = fault) -> None:
            world.server.faults.add(fault)

        await told(STORIES["it is a version"], faulty)
        assert fault.happened, operation
