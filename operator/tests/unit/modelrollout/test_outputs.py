"""Versions that answer in another form: who is told, how loud, in what order, and what waits for a person."""

from __future__ import annotations

import pytest
from unit.modelrollout.test_access import CREWS, SITE, Guards
from unit.modelrollout.world import World

from slipway.api.modelrollout import ModelRolloutSpec
from slipway.controllers.modelrollout import outputs as subject
from slipway.runtime.resources import MODEL_VERSION, Object

LABEL, PROBABILITY = {"name": "label", "type": "Boolean"}, {"name": "probability", "type": "Double"}


def answering(world: World, number: int, outputs: list[Object]) -> str:
    name = world.add_version(number)
    world.edit(MODEL_VERSION, name, {"spec": {"outputs": outputs}})
    return name


def told(world: World) -> list[str]:
    return [reason for reason in world.events if reason.startswith("Outputs")]


# ---- whom a version waits for ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("outputs", "reason", "says"),
    [
        ([LABEL], "OutputsIncompatible", "probability is gone"),
        ([LABEL, {"name": "probability", "type": "String"}], "OutputsIncompatible", "is String instead of Double"),
    ],
)
def test_a_version_that_breaks_readers_waits_for_a_person(outputs: list[Object], reason: str, says: str) -> None:
    world = Guards([SITE, CREWS])
    first = answering(world, 1, [LABEL, PROBABILITY])
    world.run_until("Healthy")
    second = answering(world, 2, outputs)
    world.run(60)
    assert told(world) == [reason], "told once"
    word, stalled, message = world.condition("Stalled") or ("", "", "")
    assert (word, stalled) == ("True", reason)
    assert says in message
    assert "site, crews" in message
    assert world.weights() == {world.service(first): 100, world.service(second): 0}
    world.annotate(**{"accept-outputs": "another"})
    world.run(5)
    assert world.weights()[world.service(second)] == 0
    world.annotate(**{"accept-outputs": second})
    world.run(5)
    assert world.weights()[world.service(second)] == 5
    assert world.condition("Stalled") is None


@pytest.mark.parametrize(
    ("before", "after", "consumers", "reasons"),
    [
        ([LABEL], [LABEL, PROBABILITY], [SITE], ["OutputsChange"]),
        ([LABEL, PROBABILITY], [LABEL], [{**SITE, "criticality": "Low"}], ["OutputsIncompatible"]),
        ([LABEL, PROBABILITY], [LABEL], [], []),
        ([], [LABEL], [SITE], []),
        ([LABEL], [], [SITE], []),
        ([LABEL, PROBABILITY], [PROBABILITY, LABEL], [SITE], []),
    ],
    ids=["more", "nobody waits", "no consumers", "old record", "new record silent", "another order"],
)
def test_who_is_told_and_nobody_waits(
    before: list[Object], after: list[Object], consumers: list[Object], reasons: list[str]
) -> None:
    world = Guards(consumers)
    answering(world, 1, before)
    world.run_until("Healthy")
    second = answering(world, 2, after)
    world.run(10)
    assert told(world) == reasons
    assert world.weights()[world.service(second)] == 5


# ---- how loud, and in what order -------------------------------------------------------------------------------------
def consumer(name: str, criticality: str, contact: str = "#team") -> Object:
    return {**SITE, "name": name, "criticality": criticality, "contact": contact}


def alerts(world: World) -> list[tuple[str, str, str]]:
    """Reasons, severities and versions of what a receiver of alerts got about outputs."""
    got = world.receivers.bodies("team")
    return [(each["reason"], each["severity"], each["version"]) for each in got if each["reason"].startswith("Outputs")]


@pytest.mark.parametrize(
    ("levels", "incompatible", "more"),
    [
        (["Low", "High", "Normal"], "error", "warning"),
        (["Low", "Normal"], "warning", "info"),
        (["Low"], "info", "info"),
    ],
)
def test_alerts_are_as_loud_as_the_most_critical_consumer_needs(
    levels: list[str], incompatible: str, more: str
) -> None:
    consumers = [consumer(each.lower(), each) for each in levels]
    for before, after, reason, severity in (
        ([LABEL, PROBABILITY], [LABEL], "OutputsIncompatible", incompatible),
        ([LABEL], [LABEL, PROBABILITY], "OutputsChange", more),
    ):
        world = Guards(consumers, alerts=[{"name": "team", "type": "Webhook", "secretRef": {"name": "team"}}])
        answering(world, 1, before)
        world.run_until("Healthy")
        second = answering(world, 2, after)
        world.run(20)
        assert alerts(world) == [(reason, severity, second)], "once, also where the version then waits for a person"


def test_the_most_critical_consumer_is_named_first() -> None:
    world = Guards([consumer("c", "Low"), consumer("b", "Normal"), consumer("a", "High"), consumer("d", "High")])
    answering(world, 1, [LABEL, PROBABILITY])
    world.run_until("Healthy")
    answering(world, 2, [LABEL])
    world.run(20)
    assert "Tell a (#team), d (#team), b (#team), c (#team)." in world.notes["OutputsIncompatible"]
    assert "breaks readers of a, d, b:" in (world.condition("Stalled") or ("", "", ""))[2]


def test_a_version_that_replaces_a_candidate_is_told_by_its_own_name() -> None:
    world = Guards([consumer("a", "High")], alerts=[{"name": "team", "type": "Webhook", "secretRef": {"name": "team"}}])
    answering(world, 1, [LABEL, PROBABILITY])
    world.run_until("Healthy")
    second = answering(world, 2, [LABEL])
    world.run(20)
    third = answering(world, 3, [PROBABILITY])
    world.run(20)
    assert [version for _, _, version in alerts(world)] == [second, third]


def test_a_long_list_of_contacts_fits_an_event_and_keeps_the_most_critical() -> None:
    spec = {
        "projectRef": {"name": "p"},
        "routing": {"path": "/p"},
        "consumers": [
            *(consumer(f"low-{number}", "Low", "x" * 250) for number in range(30)),
            consumer("first", "High", "y" * 250),
        ],
    }
    consumers = ModelRolloutSpec.model_validate(spec).consumers
    text = subject.contacts(consumers)
    assert text.startswith("first (yyy")
    assert text.endswith(" and 29 more")
    assert len(text) < 700
    assert subject.severity(consumers, "Promoted") is None
    assert subject.severity([], "OutputsChange") is None
