"""Whatever happens while several versions share requests, the laws of all rollouts hold, and it ends."""

from __future__ import annotations

import copy
from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law
from unit.modelrollout.test_properties import Run, play_to_the_end
from unit.modelrollout.world import PROJECT, STEPS, Behaviour

ARMS = [
    {"name": "b", "modelVersionRef": {"name": f"{PROJECT}-{2:010x}"}, "percent": 10},
    {"name": "c", "policy": "NewestPassing", "percent": 30},
]
COMPARING = [
    {"name": "compare", "experiment": {"for": "20s", "candidatePercent": 20, "arms": ARMS, "minimumRequests": 50}},
    *STEPS[2:],
]
SMALLER = [{"name": "compare", "experiment": {**COMPARING[0]["experiment"], "arms": ARMS[:1]}}, *STEPS[2:]]
LISTS = [COMPARING, SMALLER, STEPS, [{**COMPARING[0], "name": "again"}, *STEPS[2:]]]
TAKING_PART = st.integers(1, 5)
EVENTS = st.one_of(
    st.tuples(st.just("steps"), st.integers(1, 25)),
    st.tuples(st.just("reconcile"), st.none()),
    st.tuples(st.just("fails"), TAKING_PART),
    st.tuples(st.just("servers_flap"), st.tuples(TAKING_PART, st.booleans())),
    st.tuples(st.just("kserve_doubts"), st.tuples(TAKING_PART, st.booleans())),
    st.tuples(st.just("version_gone"), st.integers(2, 5)),
    st.tuples(st.just("new_version"), st.tuples(st.integers(5, 7), st.sampled_from([0, 60]))),
    st.tuples(st.just("gateway_away"), st.booleans()),
    st.tuples(st.just("gateway_works"), st.none()),
    st.tuples(st.just("status_lost"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("killed_while_writing"), st.integers(0, 6)),
    st.tuples(st.just("clock"), st.integers(-4000, 4000)),
    st.tuples(st.just("pin"), st.one_of(st.none(), TAKING_PART)),
    st.tuples(st.just("set_steps"), st.sampled_from([{"steps": each, "strategy": None} for each in LISTS])),
    st.tuples(
        st.just("order"),
        st.tuples(
            st.sampled_from(["pause ", "resume ", "abort ", "undo ", "promote-full "]), st.just("fitting"), st.just(9)
        ),
    ),
)


class Comparing(Run):
    """Versions may begin to fail on the way."""

    def _fails(self, number: object) -> None:
        name = self.names.get(int(str(number)))
        if name is not None and name != self.world.status.stable:
            self.world.behaviour[self.world.service(name)] = Behaviour(failing=60)
            # One that begins to fail behind its last analysis is promoted, and nobody could know.
            self.laws.judging &= name != self.world.status.candidate


@cache
def _four_share() -> Comparing:
    run = Comparing()
    run.play("set_steps", {"steps": COMPARING, "strategy": None})
    run.play("pin", 1)
    for number in (2, 3, 4):
        run.play("new_version", (number, 0))
    run.play("pin", 4)
    for _ in range(40):
        run.play("steps", 1)
        if [each for each in run.world.status.experiments or () if each.phase == "Running"]:
            break
    assert sorted(run.world.weights().values()) == [10, 20, 30, 40]
    return run


@law
@examples(5, 40)
@given(st.lists(EVENTS, min_size=1, max_size=12))
def test_laws_hold_while_versions_are_compared(events: list[tuple[str, object]]) -> None:
    play_to_the_end(copy.deepcopy(_four_share()), events, {"steps": STEPS, "strategy": None})
