"""Going back to a version that users relied on: which one, whether it takes steps, and what it keeps out."""

from __future__ import annotations

from datetime import datetime

from slipway.api.meta import parse_duration, parse_time
from slipway.api.reasons import Reason
from slipway.api.rollout_control import RollbackWindow, UndoStatus
from slipway.controllers.modelrollout.facts import Snapshot, Version
from slipway.controllers.modelrollout.state import State


def target(snapshot: Snapshot, state: State) -> Version | None:
    """The version that a person goes back to, while that is still possible and nobody pinned another one."""
    if state.undo is None or pin_against(snapshot, state, state.undo) is not None:
        return None
    version = snapshot.versions.get(state.undo.to)
    return version if version is not None and version.passed and version.name not in state.rejected else None


def pin_against(snapshot: Snapshot, state: State, undo: UndoStatus) -> str | None:
    """The version that the spec pins, if it is neither of the two and could be rolled out: a pin is an order too."""
    reference = snapshot.rollout.spec.version.model_version_ref
    if reference is None or reference.name in (undo.version, undo.to, *state.rejected):
        return None
    version = snapshot.versions.get(reference.name)
    return version.name if version is not None and version.passed else None


def floor(snapshot: Snapshot, state: State) -> tuple[datetime, str] | None:
    """What was recorded before a version that was undone is no news either."""
    found = [snapshot.versions[name] for name in state.undone() if name in snapshot.versions]
    return max(((each.created, each.name) for each in found), default=None)


def why_no_steps(snapshot: Snapshot, state: State, name: str, now: datetime) -> str:
    """Why going back to a version takes no steps; empty when it takes them."""
    if state.stable is None:
        return ""
    if state.role_of(name) == "Previous":
        return f"Version {name} is still warm."
    if state.undo is not None and any(each.stop is not None for each in snapshot.steps):
        return "The steps are a trial, which ends without a promotion."
    window = snapshot.rollout.spec.rollback.window
    if window is not None and _in_window(window, state, name, now):
        return f"Version {name} is within the rollback window."
    return ""


def was_left(state: State, name: str) -> bool:
    """Whether the stable version serves because a person went back from this one."""
    last = next((each for each in state.history if each.outcome == "Promoted"), None)
    return last is not None and last.reason == Reason.Undone and last.from_ == name


def _in_window(window: RollbackWindow, state: State, name: str, now: datetime) -> bool:
    """Whether users relied on a version lately."""
    promoted = [each for each in state.history if each.outcome == "Promoted"]
    earlier: list[str] = []
    for entry, successor in zip(promoted[1:], promoted, strict=False):
        if entry.name not in (*earlier, state.stable):
            earlier.append(entry.name)
        if entry.name == name and name in earlier:
            recent = window.within is None or now - parse_time(successor.at) <= parse_duration(window.within)
            return recent and (window.versions is None or earlier.index(name) < window.versions)
    return False
