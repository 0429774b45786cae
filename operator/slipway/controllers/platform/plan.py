"""What a Platform says of its parts."""

from __future__ import annotations

from datetime import datetime

from slipway.adapters.artifacts import Location
from slipway.api.platform import ConnectionStatus, PlatformStatus
from slipway.api.reasons import Reason
from slipway.controllers.platform.observe import PlatformSnapshot
from slipway.controllers.shared.typed import finish
from slipway.controllers.shared.work import listed
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Action, Call, Plan

LOOK_SECONDS = 60.0
LOOK_SOON_SECONDS = 5.0
"""While something does not answer."""


def plan(snapshot: PlatformSnapshot, now: datetime) -> Plan:
    """Make the bucket where it is missing; say what answers."""
    conditions = Conditions(snapshot.subject.raw, now)
    failed = [each for each in snapshot.answers if not each.ready]
    if not failed:
        conditions.true("Ready", Reason.Connected, f"{listed(each.name for each in snapshot.answers)} answer.")
    else:
        engine = all(each.name == "pipelines" for each in failed)
        reason = Reason.EngineNotAvailable if engine else Reason.ConnectionFailed
        conditions.false("Ready", reason, " ".join(f"{each.name}: {each.message}" for each in failed))
    actions: tuple[Action, ...] = ()
    if snapshot.bucket_missing:
        actions = (Call("artifacts", "make_bucket", {"location": Location.of(snapshot.subject.typed)}),)
    connections = [
        ConnectionStatus(name=each.name, ready=each.ready, message=each.message[:1024]) for each in snapshot.answers
    ]
    return Plan(
        actions,
        finish(PlatformStatus, snapshot.subject, conditions, connections=connections),
        requeue_after=LOOK_SOON_SECONDS if failed else LOOK_SECONDS,
    )
