"""What a rollout remembers between two looks, read from its status and written back to it.

If the status is lost (restored from a backup without it, say), the state is rebuilt from the world: the weighted route
lists the stable version first and the candidate second, and remembers which versions were rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway.api.meta import parse_time
from slipway.api.modelrollout import HistoryEntry, ModelRolloutStatus, Rejection
from slipway.api.reasons import Reason
from slipway.api.rollout_analysis import AnalysisRun
from slipway.api.rollout_control import OrderStatus, PausedStatus, PromoteFullStatus, UndoStatus
from slipway.api.rollout_experiment import ExperimentStatus
from slipway.api.rollout_hooks import HookStatus
from slipway.api.rollout_predictions import Comparison
from slipway.api.rollout_steps import Step
from slipway.contracts.digests import short
from slipway.contracts.orders import ANNOTATION as ORDER
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.memory import Memory
from slipway.runtime.conditions import Note, timestamp

Role = Literal["Stable", "Candidate", "Arm", "Previous", "Retiring"]

PROMOTE = "slipway.dev/promote"
RETRY = "slipway.dev/retry"
PROMOTION = "promotion"
"""Name of what follows the last step: all requests, then the candidate is the stable version."""

_REJECTED_KEPT = 32
_HISTORY_KEPT = 20
_ANNOTATION_READ = 512
"""Characters of an annotation that are read: the status has no room for more."""


@dataclass
class Member:
    """A version with servers.

    :param service: its InferenceService
    :param keep_until: when a previous version goes
    :param drained_at: when a retiring version had left the weighted route
    """

    name: str
    digest: str
    service: str
    role: Role
    keep_until: datetime | None = None
    drained_at: datetime | None = None
    accepted_weight: int | None = None


@dataclass
class Position:
    """A step and when it began; `index` is the number of steps when only the promotion is left."""

    index: int
    name: str
    started_at: datetime


@dataclass
class State:
    """Memory of a rollout. One pass of the plan changes it; the status is made from it."""

    members: dict[str, Member] = field(default_factory=dict)
    stable: str | None = None
    candidate: str | None = None
    candidate_since: datetime | None = None
    attempts: int = 0
    weight: int = 0
    position: Position | None = None
    rejected: dict[str, Rejection] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    runs: dict[str, AnalysisRun] = field(default_factory=dict)
    experiments: list[ExperimentStatus] = field(default_factory=list)
    candidacy: str | None = None
    hooks: dict[str, HookStatus] = field(default_factory=dict)
    promote_seen: str | None = None
    retry_seen: str | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    swept_day: str | None = None
    order_seen: str | None = None
    orders: list[OrderStatus] = field(default_factory=list)
    paused: PausedStatus | None = None
    promote_full: PromoteFullStatus | None = None
    undo: UndoStatus | None = None
    notes: list[Note] = field(default_factory=list)

    def role_of(self, name: str | None) -> Role | None:
        """The part that a version plays; None without servers."""
        return self.members[name].role if name in self.members else None

    def release(self, name: str) -> None:
        """Take a version's part from it: its servers go once the gateway has let go of them."""
        if name in self.members:
            member = self.members[name]
            member.role, member.keep_until, member.drained_at = "Retiring", None, None

    def dismiss(self, name: str) -> None:
        """A version takes part in an experiment no more; one that was kept warm stays so."""
        if self.role_of(name) == "Arm" and self.members[name].keep_until is not None:
            self.members[name].role = "Previous"
        elif self.role_of(name) == "Arm":
            self.release(name)

    def end_candidacy(self) -> None:
        """There is no candidate any more."""
        for name in list(self.members):
            self.dismiss(name)
        if self.undo is not None and self.undo.to == self.candidate:
            self.undo = None
        self.candidate = self.candidate_since = self.position = self.candidacy = None
        self.paused = self.promote_full = None
        self.weight = self.attempts = 0
        self.hooks = {}

    def record(self, entry: HistoryEntry) -> None:
        """Note what became of a candidate, newest first."""
        self.history = [entry, *self.history][:_HISTORY_KEPT]

    def undone(self) -> tuple[str, ...]:
        """Versions that a person went back from."""
        return tuple(each.name for each in self.rejected.values() if each.reason == Reason.Undone)

    def memory(self) -> Memory:
        """What people ordered and must outlive a lost status."""
        return Memory(
            candidate=self.candidate,
            paused=self.paused,
            promote_full=self.promote_full,
            undo=self.undo,
            undone=self.undone(),
        )

    def reject(self, rejection: Rejection, existing: frozenset[str]) -> None:
        """Remember a version that failed. Where there are too many, those whose record is gone are forgotten first."""
        self.rejected[rejection.name] = rejection
        while len(self.rejected) > _REJECTED_KEPT:
            gone = [name for name in self.rejected if name not in existing]
            oldest = min(self.rejected.values(), key=lambda each: each.at).name
            del self.rejected[gone[0] if gone else oldest]


def recall(snapshot: Snapshot, now: datetime) -> State:
    """The state that the status tells; without a status, the one that the world shows."""
    status = snapshot.rollout.status
    state = _from_status(status) if status.phase else _from_world(snapshot, now)
    _adopt_strays(snapshot, state)
    _forget_gone(snapshot, state)
    if state.position is not None:
        _reposition(snapshot.steps, state, now)
    return state


def _from_status(status: ModelRolloutStatus) -> State:
    handled = status.handled
    return State(
        members={
            each.name: Member(
                name=each.name,
                digest=each.digest,
                service=each.service,
                role=each.role,
                keep_until=_time(each.keep_until),
                drained_at=_time(each.drained_at),
                accepted_weight=each.accepted_weight,
            )
            for each in status.versions or ()
        },
        stable=status.stable,
        candidate=status.candidate,
        candidate_since=_time(status.candidate_since),
        attempts=status.attempts or 0,
        weight=status.weight or 0,
        position=Position(status.step.index, status.step.name, parse_time(status.step.started_at))
        if status.step
        else None,
        rejected={each.name: each for each in status.rejected or ()},
        history=list(status.history or ()),
        runs={each.kind: each for each in status.analysis or ()},
        experiments=list(status.experiments or ()),
        candidacy=status.candidacy,
        hooks={each.name: each for each in status.hooks or ()},
        promote_seen=handled.promote if handled else None,
        retry_seen=handled.retry if handled else None,
        comparisons=list(status.comparisons or ()),
        swept_day=status.prediction_log.swept_day if status.prediction_log else None,
        order_seen=handled.order if handled else None,
        orders=list(status.orders or ()),
        paused=status.paused,
        promote_full=status.promote_full,
        undo=status.undo,
    )


def read_annotation(snapshot: Snapshot, name: str) -> str | None:
    """As much of an annotation as is looked at."""
    value = snapshot.rollout.metadata.annotations.get(name)
    return value[:_ANNOTATION_READ] if value is not None else None


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _from_world(snapshot: Snapshot, now: datetime) -> State:
    # What people wrote for an earlier state must not act on this one.
    state = State(
        promote_seen=read_annotation(snapshot, PROMOTE),
        retry_seen=read_annotation(snapshot, RETRY),
        order_seen=read_annotation(snapshot, ORDER),
    )
    route = snapshot.route
    if route is None:
        return state
    state.undo = route.memory.undo
    message = "It was rejected before the status of this rollout was lost; the reason is not known any more."
    for name in route.rejected:
        digest = snapshot.versions[name].model.digest if name in snapshot.versions else ""
        reason = Reason.Undone if name in route.memory.undone else Reason.RolledBack
        state.rejected[name] = Rejection(name=name, digest=digest, reason=reason, message=message, at=timestamp(now))
    for index, (service, weight) in enumerate(route.weights.items()):
        server = snapshot.servers.get(service)
        if server is None or server.version in state.rejected:
            continue
        if index == 0:
            state.stable = server.version
            _join(snapshot, state, server.version, service, "Stable")
        elif index == 1:  # behind it, arms of an experiment: they are retired, and begin anew with it
            state.candidate, state.candidate_since, state.weight = server.version, now, weight
            state.position = Position(-1, "", now) if weight else None
            state.candidacy = timestamp(now)
            _join(snapshot, state, server.version, service, "Candidate")
    _recall_orders(snapshot, state, route.memory, now)
    return state


def _recall_orders(snapshot: Snapshot, state: State, memory: Memory, now: datetime) -> None:
    """Orders about a candidate hold for it alone, also while it is not yet in the route."""
    name = memory.candidate
    if name is None:
        return
    if state.candidate is None and name in snapshot.versions and (memory.paused or memory.promote_full):
        server = snapshot.server_of(name)
        if server is not None and name not in state.members and name not in state.rejected:
            state.candidate, state.candidate_since = name, now
            _join(snapshot, state, name, server.name, "Candidate")
    if state.candidate == name:
        state.paused, state.promote_full = memory.paused, memory.promote_full


def _join(snapshot: Snapshot, state: State, name: str, service: str, role: Role) -> None:
    version = snapshot.versions.get(name)
    digest = version.model.digest if version else service.rsplit("-", 1)[-1]
    state.members[name] = Member(name=name, digest=digest, service=service, role=role)


def join(snapshot: Snapshot, state: State, name: str, role: Role) -> None:
    """Give a version servers and a part."""
    model = snapshot.versions[name].model
    state.members[name] = Member(name, model.digest, f"{snapshot.name}-{short(model.digest)}", role)


def _adopt_strays(snapshot: Snapshot, state: State) -> None:
    """Servers and pin routes that nothing knows any more are retired in order, like all others."""
    known = {member.service for member in state.members.values()}
    for service in sorted({*snapshot.servers, *snapshot.pins} - known):
        server = snapshot.servers.get(service)
        name = server.version if server is not None and server.version else service
        if name not in state.members:
            _join(snapshot, state, name, service, "Retiring")


def _forget_gone(snapshot: Snapshot, state: State) -> None:
    """Versions whose record and servers are both gone cannot come back."""
    for name, member in list(state.members.items()):
        served = member.service in snapshot.servers or member.service in snapshot.pins
        if not served and (member.role == "Retiring" or name not in snapshot.versions):
            del state.members[name]
    if state.stable is not None and state.stable not in state.members:
        state.stable = None
    if state.candidate is not None and state.candidate not in state.members:
        state.end_candidacy()


def _reposition(steps: list[Step], state: State, now: datetime) -> None:
    """Find the step again after the list was edited: by name, else by the weight that was reached."""
    position = state.position
    if position is None:
        return
    names = [step.name for step in steps]
    if 0 <= position.index < len(steps) and names[position.index] == position.name:
        return
    if position.name in names:
        position.index = names.index(position.name)
    elif position.name == PROMOTION:
        position.index = len(steps)
    else:
        reached = [i for i, step in enumerate(steps) if step.weight is not None and step.weight <= state.weight]
        index = reached[-1] if reached else 0
        state.position = Position(index, names[index], now)
