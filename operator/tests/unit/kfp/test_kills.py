"""The operator killed at each of its calls: never two runs, always the right end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kfpcontract import faults
from kfpcontract.machinery import Ending, Execution
from unit.kfp.world import NS, KfpWorld, Point, When

from slipway.runtime.resources import MODEL_VERSION

pytestmark = pytest.mark.timeout(300)

REFUSAL = '{"reason": "TrainingCodeFailed", "message": "flights/train.py:12: KeyError: \'carrier\'."}'


@dataclass(frozen=True)
class Story:
    """What happens to a run, and how it ends.

    :param phase, reason: of the TrainingRun; empty: it is gone
    :param attempts: runs at the endpoint
    :param executions: how many of them began with their tasks; None: all
    :param others: what the endpoint has beside what the operator makes there, by kind
    :param begin: what is so from the start
    :param prepares: what somebody has done before
    :param happens: what somebody does once, before the first turn in which `when` holds
    """

    name: str
    phase: str = "Succeeded"
    reason: str = "Succeeded"
    attempts: int = 1
    executions: int | None = None
    states: tuple[str, ...] = ("SUCCEEDED",)
    others: Mapping[str, int] = field(default_factory=dict)
    begin: Callable[[KfpWorld], None] = lambda _: None
    prepares: Callable[[KfpWorld], Awaitable[Any]] | None = None
    happens: Callable[[KfpWorld], Awaitable[Any]] | None = None
    when: Callable[[KfpWorld], bool] = lambda world: bool(world.machinery.executed)
    spec: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    async def told(self, point: Point | None = None, *, blind: bool = False) -> KfpWorld:
        """The story, with the operator killed at a point; `blind`: it sees no Workflows."""
        async with KfpWorld.living(point, self.spec, blind=blind, **self.settings) as world:
            self.begin(world)
            if self.prepares is not None:
                await self.prepares(world)
            coming = self.happens

            async def happens(_: int) -> None:
                nonlocal coming
                if coming is not None and self.when(world):
                    happening, coming = coming, None
                    await happening(world)

            await world.to_the_end(happens)
            self.check(world)
            return world

    def check(self, world: KfpWorld) -> None:
        """Whether it ended as it should, and nothing was done twice."""
        assert (world.status().get("phase", ""), world.reason()) == (self.phase, self.reason), world.story()
        versions = [each["metadata"]["name"] for each in world.all(MODEL_VERSION)]
        assert versions == ([world.status()["modelVersion"]] if self.phase == "Succeeded" else [])
        runs = world.backend.database.runs
        assert tuple(row.run.state for row in runs.values()) == self.states, list(runs)
        assert len(world.workflows.made) == self.attempts, "Workflows"
        executed = [each.run_id for each in world.machinery.executed]
        assert len(executed) == (self.attempts if self.executions is None else self.executions), "executions"
        assert len(set(executed)) == len(executed), "no run is executed twice"
        for kind in ("experiments", "pipelines", "versions"):
            assert len(getattr(world.backend.database, kind)) == 1 + self.others.get(kind, 0), kind
        assert world.server.remarks == []

    async def killed_at_every_call(self, when: When, *, blind: bool = False) -> int:
        """The story again and again, with the operator killed at another call each time; gives how often."""
        calls = (await self.told(blind=blind)).witness.calls
        wrong = []
        for number in range(1, len(calls) + 1):
            try:
                world = await self.told(Point(number, when), blind=blind)
                assert world.witness.killed_at, "it was not killed"
            except AssertionError as error:
                wrong.append(f"{when} call {number}, {calls[number - 1]}: {str(error).splitlines()[0]}")
        assert not wrong, "\n".join(wrong)
        return len(calls)


def fails(task: str, message: str, times: int = 9) -> Callable[[KfpWorld], None]:
    """The first executions fail."""

    def begin(world: KfpWorld) -> None:
        def fate(_: Execution) -> Ending:
            return Ending("Failed", task, message) if len(world.machinery.executed) <= times else Ending()

        world.machinery.fate = fate

    return begin


async def deleted(world: KfpWorld) -> None:
    """Somebody deletes the run while it goes on."""
    await world.person_deletes()


async def ended_there(world: KfpWorld) -> None:
    """Somebody ends the run at the endpoint."""
    await world.backend.runs.run_service_terminate_run(world.call_of_run())


async def deleted_there(world: KfpWorld) -> None:
    """Somebody deletes the run at the endpoint."""
    await world.backend.runs.run_service_delete_run(world.call_of_run())


async def loses_workflow(world: KfpWorld) -> None:
    """Somebody deletes the Workflow: the endpoint says for ever that the run goes on."""
    for each in await world.workflows.list():
        await world.workflows.delete(NS, each["metadata"]["name"])


async def away(world: KfpWorld) -> None:
    """The operator is away until the run has ended, and both it and its Workflow are collected."""
    await world.machinery.settle()
    world.advance(10_000)
    await world.machinery.settle()
    assert await world.workflows.list() == []
    assert len(world.machinery.collect()) == 1
    world.sync()


def never_starts(world: KfpWorld) -> None:
    """No pod of any run starts."""
    world.machinery.held_up = "Unschedulable: 0/3 nodes are available"


STORIES = {
    each.name: each
    for each in (
        Story("it succeeds"),
        Story(
            "its pod is evicted once",
            attempts=2,
            states=("FAILED", "SUCCEEDED"),
            begin=fails("train", "pod deleted during operation", times=1),
        ),
        Story(
            "the team's code raises",
            "Failed",
            "TrainingCodeFailed",
            states=("FAILED",),
            begin=fails("train", f"Error (exit code 1): {REFUSAL}"),
        ),
        Story("it is deleted", "", "", states=("FAILED",), happens=deleted),
        Story("it is ended at the endpoint", "Failed", "Cancelled", states=("FAILED",), happens=ended_there),
        Story(
            "it is deleted at the endpoint",
            "Failed",
            "Cancelled",
            states=(),
            happens=deleted_there,
        ),
        Story(
            "its Workflow vanishes",
            attempts=2,
            states=("RUNNING", "SUCCEEDED"),
            happens=loses_workflow,
        ),
        Story(
            "it is collected while the operator is away",
            states=(),
            happens=away,
            when=lambda world: bool(world.backend.database.runs),
            settings={"workflow_ttl_seconds": 60, "retention_seconds": 600},
        ),
        Story(
            "it never starts",
            "Failed",
            "DeadlineExceeded",
            executions=0,
            states=("FAILED",),
            begin=never_starts,
            spec={"deadline": "60s"},
        ),
    )
}
LEAST_POINTS = 50


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_has_its_end(name: str) -> None:
    world = await STORIES[name].told()
    assert len(world.witness.calls) > 20


@pytest.mark.slow
@pytest.mark.parametrize("when", ["after", "before"])
@pytest.mark.parametrize("name", STORIES)
async def test_the_operator_is_killed_at_every_call(name: str, when: When) -> None:
    killed = await STORIES[name].killed_at_every_call(when)
    assert name != "it succeeds" or 2 * killed >= LEAST_POINTS


@pytest.mark.slow
@pytest.mark.parametrize("when", ["after", "before"])
@pytest.mark.parametrize("name", ["it succeeds", "the team's code raises"])
async def test_an_operator_that_sees_no_workflows_is_killed_at_every_call(name: str, when: When) -> None:
    await STORIES[name].killed_at_every_call(when, blind=True)


@pytest.mark.parametrize(
    ("serves", "reason"), [(True, "TrainingCodeFailed"), (False, "PipelineTaskFailed")], ids=["served", "not served"]
)
async def test_who_sees_no_workflows_asks_the_older_api_why(serves: bool, reason: str) -> None:
    story = replace(STORIES["the team's code raises"], reason=reason, settings={"serves_v1beta1": serves})
    if not serves:
        story = replace(story, attempts=3, states=("FAILED",) * 3)
    world = await story.told(blind=True)
    asked = [call for call in world.server.calls if call.operation == "get_run_v1"]
    assert bool(asked) is serves


async def test_a_server_that_dies_between_workflow_and_row_makes_no_second_run_beside_it() -> None:
    """Its Workflow goes on alone. Nothing is created until it has gone, and then once."""
    async with KfpWorld.living() as world:
        world.server.faults.add(faults.dies_between_workflow_and_row())
        most = 0

        async def happens(_: int) -> None:
            nonlocal most
            most = max(most, len(await world.workflows.list()))

        await world.to_the_end(happens)
        assert world.status()["phase"] == "Succeeded", world.story()
        assert most == 1, "never two Workflows at the same time"
        assert len(world.backend.database.runs) <= 1
        assert len(world.all(MODEL_VERSION)) == 1


async def test_a_create_that_arrives_late_makes_no_second_run() -> None:
    """The operator dies as its request is on its way; the next one finds neither run nor Workflow, and both come."""
    story = STORIES["it succeeds"]
    calls = (await story.told()).witness.calls
    world = await story.told(Point(calls.index("run_service_create_run") + 1, "in flight"))
    assert world.witness.killed_at
