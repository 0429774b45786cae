"""Whether servers can answer as `serving.abstain` says: versions of before there were stored baselines have none."""

from __future__ import annotations

from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Conditions

CONDITION = "BaselineAvailable"


def state_baseline(conditions: Conditions, snapshot: Snapshot, state: State) -> None:
    """Stated while a version that has requests, or is about to, has no baseline though it should fall back to it."""
    abstain = snapshot.rollout.spec.serving.abstain
    if abstain is None or abstain.fallback != "Baseline":
        return
    serving = [snapshot.versions.get(name or "") for name in (state.stable, state.candidate)]
    lacking = [each.name for each in serving if each is not None and not each.baseline]
    if lacking:
        message = (
            f"Servers of {' and '.join(lacking)} abstain where the baseline should answer: the version was registered"
            " without one. Train another version, or set serving.abstain.fallback: None."
        )
        conditions.false(CONDITION, Reason.DependencyMissing, message)
