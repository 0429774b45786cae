"""The endpoint fails in every way at every request of a run: the run has its right end, and is there once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kfpcontract import faults
from kfpcontract.faults import Fault
from unit.kfp.test_kills import STORIES
from unit.kfp.world import KfpWorld

from slipway.adapters.kfp import api

pytestmark = pytest.mark.timeout(300)

STORY = STORIES["it succeeds"]
OPERATIONS = (
    "experiment_service_list_experiments",
    "experiment_service_create_experiment",
    "pipeline_service_list_pipelines",
    "pipeline_service_create_pipeline",
    "pipeline_service_list_pipeline_versions",
    "upload_pipeline_version",
    "run_service_create_run",
    "run_service_get_run",
)
"""What a run asks for, in its order."""
SLOW_SECONDS = 0.4
QUICK = ("500 after the effect",)
"""Tried by `make test`; the others are slow."""

KINDS: dict[str, Callable[[str], Fault]] = {
    "503": lambda operation: faults.unavailable(operation, retry_after="3"),
    "503 for a while": lambda operation: faults.unavailable(operation, times=7),
    "500": lambda operation: faults.broken(operation),
    "500 after the effect": lambda operation: faults.broken(operation, when="after"),
    "429": lambda operation: Fault(operation, status=429, retry_after="3"),
    "connection dropped": lambda operation: faults.dropped(operation),
    "connection dropped after the effect": lambda operation: faults.dropped(operation, when="after"),
    "no answer in time": lambda operation: faults.slow(SLOW_SECONDS, operation),
    "no answer in time though it was done": lambda operation: faults.slow(SLOW_SECONDS, operation, when="after"),
    "wrong token for a while": lambda operation: Fault(operation, status=401, times=3),
    "a mesh's 403 for a while": lambda operation: faults.forbidden(operation, times=3),
    "a login page for a while": lambda operation: faults.login_page(operation, times=3),
    "a proxy's 404": lambda operation: Fault(operation, status=404, body="default backend - 404"),
    "a proxy's 502": lambda operation: Fault(operation, status=502, body="<html>Bad Gateway</html>"),
}

_KINDS = [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in KINDS]


async def told(fault: Fault, *, blind: bool = False) -> KfpWorld:
    """A run with a fault."""
    async with KfpWorld.living(blind=blind) as world:
        world.server.faults.add(fault)
        await world.to_the_end()
        assert fault.happened or fault.skip, "the fault happened"  # later looks may not come at all
        STORY.check(world)
        return world


async def test_the_list_of_operations_is_that_of_a_run() -> None:
    world = await STORY.told()
    asked = [call for call in world.witness.calls if call.endswith(OPERATIONS) or "_service_" in call]
    assert list(dict.fromkeys(asked)) == [
        "run_service_get_run",
        *OPERATIONS[:-1],
    ]


@pytest.mark.parametrize("kind", _KINDS)
async def test_a_fault_at_every_operation(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ_SECONDS", SLOW_SECONDS / 4)
    monkeypatch.setattr(api, "WRITE_SECONDS", SLOW_SECONDS / 4)
    wrong = []
    for operation in OPERATIONS:
        try:
            await told(KINDS[kind](operation))
        except AssertionError as error:
            wrong.append(f"{operation}: {str(error).splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_at_every_look_at_the_run(kind: str, blind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ_SECONDS", SLOW_SECONDS / 4)
    monkeypatch.setattr(api, "WRITE_SECONDS", SLOW_SECONDS / 4)
    looks = (await STORY.told()).witness.calls.count("run_service_get_run")
    wrong = []
    for number in range(0, looks, 2):
        fault = KINDS[kind]("run_service_get_run")
        fault.skip = number
        try:
            await told(fault, blind=blind)
        except AssertionError as error:
            wrong.append(f"look {number + 1}: {str(error).splitlines()[0]}")
    assert not wrong, "\n".join(wrong)
