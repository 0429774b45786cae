"""Which version is rolled out.

A candidate that has requests is finished first when a newer version passes: replacing it again and again could keep
every version from ever being judged. It is replaced at once while it has none, when its record is gone, and when a
person pins another version, which is an order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway.api.reasons import Reason
from slipway.api.rollout_control import PromoteFullStatus
from slipway.controllers.modelrollout import analysis, posture, undo
from slipway.controllers.modelrollout.facts import Snapshot, Version
from slipway.controllers.modelrollout.state import State, join
from slipway.runtime.conditions import Note, timestamp


@dataclass(frozen=True)
class Choice:
    """The version that is wanted, or why there is none."""

    version: Version | None = None
    reason: str = ""
    message: str = ""


def choose(snapshot: Snapshot, state: State) -> Choice:
    """The version that should serve, whether or not it does."""
    earlier = undo.target(snapshot, state)
    if earlier is not None:
        return Choice(earlier)
    policy = snapshot.rollout.spec.version
    if policy.model_version_ref is not None:
        return _pinned(snapshot, state, policy.model_version_ref.name)
    return _newest(snapshot, state)


def _pinned(snapshot: Snapshot, state: State, name: str) -> Choice:
    version = snapshot.versions.get(name)
    if version is None:
        project = snapshot.rollout.spec.project_ref.name
        message = f"spec.version.modelVersionRef: project {project} has no ModelVersion {name}: pin one that exists."
        return Choice(None, Reason.DependencyMissing, message)
    if not version.passed:
        message = f"spec.version.modelVersionRef: {name} did not pass its gates: pin one that did."
        return Choice(None, Reason.GatesFailed, message)
    if name in state.rejected and name != state.stable:
        rejection = state.rejected[name]
        message = (
            f"spec.version.modelVersionRef: {name} was rejected here: {rejection.message} Annotate the rollout"
            f" slipway.dev/retry: {name} to try it again."
        )
        return Choice(None, Reason.RolledBack, message[:1024])
    return Choice(version)


def _newest(snapshot: Snapshot, state: State) -> Choice:
    bounds = (_serving_since(snapshot, state), undo.floor(snapshot, state))
    latest = max((each for each in bounds if each is not None), default=None)
    eligible = [
        version
        for version in snapshot.versions.values()
        if version.passed
        and version.name not in state.rejected
        and version.name != state.stable
        and (latest is None or (version.created, version.name) > latest)
    ]
    if eligible:
        return Choice(max(eligible, key=lambda version: (version.created, version.name)))
    if state.stable is not None:
        return Choice(snapshot.versions.get(state.stable))
    project = snapshot.rollout.spec.project_ref.name
    return Choice(
        None,
        Reason.WaitingForVersion,
        f"Project {project} has no ModelVersion that passed and was not rejected here: `kubectl get modelversions`.",
    )


def _serving_since(snapshot: Snapshot, state: State) -> tuple[datetime, str] | None:
    """Only versions recorded after the one that serves are newer; without its record, those after its servers."""
    if state.stable is None:
        return None
    if state.stable in snapshot.versions:
        return snapshot.versions[state.stable].created, state.stable
    server = snapshot.server_of(state.stable)
    return (server.created, state.stable) if server else None


def select(snapshot: Snapshot, state: State, choice: Choice, now: datetime) -> None:
    """End a candidacy that is not wanted any more, and begin the one that is."""
    if state.candidate is not None and _is_unwanted(snapshot, state, choice):
        message = f"Version {state.candidate} is not rolled out any further: {_why(snapshot, state, choice)}"
        state.notes.append(Note("Normal", Reason.Superseded, message))
        state.release(state.candidate)
        state.end_candidacy()
    ordered = snapshot.rollout.spec.version.policy == "Pinned" or state.undo is not None
    if analysis.is_watching(state) and not ordered:
        return  # a version that was just promoted is judged before the next one begins
    if state.candidate is None and choice.version is not None and choice.version.name != state.stable:
        _begin(snapshot, state, choice.version, now)
    if state.undo is not None and state.undo.to != state.candidate:
        state.undo = None  # it cannot be followed any more


def _is_unwanted(snapshot: Snapshot, state: State, choice: Choice) -> bool:
    if state.candidate not in snapshot.versions or state.candidate in state.rejected:
        return True
    if choice.version is not None and choice.version.name == state.candidate:
        return False
    if choice.version is None:
        return False
    if snapshot.rollout.spec.version.policy == "Pinned" or state.undo is not None:
        return True
    return not posture.is_tried(snapshot.steps, state) and state.paused is None


def _why(snapshot: Snapshot, state: State, choice: Choice) -> str:
    if state.candidate not in snapshot.versions:
        return "its record was deleted."
    return f"{choice.version.name} is wanted." if choice.version else "it is not wanted any more."


def _begin(snapshot: Snapshot, state: State, version: Version, now: datetime) -> None:
    back = undo.why_no_steps(snapshot, state, version.name, now)
    join(snapshot, state, version.name, "Candidate")
    state.candidate, state.candidate_since, state.candidacy = version.name, now, timestamp(now)
    state.weight = state.attempts = 0
    state.position, state.runs = None, {}
    pinned = snapshot.rollout.spec.version.policy == "Pinned" and not undo.was_left(state, version.name)
    if back and (pinned or state.undo is not None):
        # A person goes back to a version that users relied on a while ago.
        by = state.undo.by if state.undo else None
        state.promote_full = PromoteFullStatus(since=timestamp(now), by=by, reason=back)
        analysis.skip(state, now)
    message = f"Version {version.name} is rolled out{f' over {state.stable}' if state.stable else ''}."
    state.notes.append(Note("Normal", Reason.Started, message))
