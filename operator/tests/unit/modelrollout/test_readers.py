"""Readers of stored predictions: they are listed, and told before the log gets another form."""

from __future__ import annotations

import pytest
from unit.modelrollout.test_access import SITE, Guards
from unit.modelrollout.test_predictionlog import LOGGING, allow_logging
from unit.modelrollout.world import NAME, NAMESPACE, World

from slipway.runtime.resources import MODEL_VERSION, Object

AUDIT: Object = {
    "name": "audit",
    "serviceAccountRef": {"namespace": "audit", "name": "reader"},
    "access": ["PredictionLog"],
    "purpose": "Samples decisions each month.",
    "contact": "audit@example.com",
}
CARRIER = {"name": "carrier", "type": "String", "source": "Request"}
HOUR = {"name": "hour", "type": "Integer", "source": "Request"}


ALERT: Object = {"name": "team", "type": "Webhook", "secretRef": {"name": "team"}, "severity": "info"}


def logging_world(*consumers: Object, **log: object) -> Guards:
    spec = {"predictionLog": {**LOGGING["predictionLog"], **log}, "alerts": [ALERT]}
    world = Guards(list(consumers), **spec)
    world.secrets.values["site-key"] = {"apiKey": "k" * 20}
    allow_logging(world)
    return world


def with_inputs(world: World, number: int, inputs: list[Object]) -> str:
    name = world.add_version(number)
    world.edit(MODEL_VERSION, name, {"spec": {"inputs": inputs}})
    return name


def test_readers_are_listed_with_their_contacts_beside_the_logs_place() -> None:
    world = logging_world(SITE, AUDIT)
    world.serve_first()
    log = world.status.prediction_log
    assert log is not None
    assert log.location == f"s3://slipway/predictions/{NAMESPACE}/{NAME}/"
    assert [(each.name, each.contact) for each in log.readers or ()] == [("audit", "audit@example.com")]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ([CARRIER], "hour is gone."),
        ([CARRIER, {**HOUR, "type": "Double"}], "hour is Double instead of Integer."),
        ([CARRIER, HOUR, {**HOUR, "name": "queue"}], "queue is new."),
        ([HOUR, CARRIER], ""),
    ],
)
def test_readers_are_told_once_before_a_version_logs_in_another_form(after: list[Object], says: str) -> None:
    world = logging_world(SITE, AUDIT)
    first = with_inputs(world, 1, [CARRIER, HOUR])
    world.run_until("Healthy")
    second = with_inputs(world, 2, after)
    world.run(20)
    assert world.weights()[world.service(second)] == 5, "nobody waits"
    expected = f"Version {second} logs other inputs than {first}: {says} Tell audit (audit@example.com)."
    assert world.notes.get("LogChanges") == (expected if says else None)
    assert world.events.count("LogChanges") == (1 if says else 0)
    alerts = [(each.severity, each.message) for each in world.status.notices or () if each.reason == "LogChanges"]
    assert alerts == ([("info", expected)] if says else [])


@pytest.mark.parametrize(
    ("consumers", "log"), [((SITE,), {}), ((AUDIT,), {"enabled": False})], ids=["no reader", "nothing is logged"]
)
def test_nobody_is_told_of_what_nobody_reads(consumers: tuple[Object, ...], log: Object) -> None:
    world = logging_world(*consumers, **log)
    with_inputs(world, 1, [CARRIER, HOUR])
    world.run_until("Healthy")
    with_inputs(world, 2, [CARRIER])
    world.run(20)
    assert "LogChanges" not in world.events
