"""Which versions take part in an experiment, and why one cannot. Pure."""

from __future__ import annotations

from slipway.api.rollout_experiment import Experiment
from slipway.controllers.modelrollout import outputs
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State


def choose(snapshot: Snapshot, state: State, experiment: Experiment) -> dict[str, str | None]:
    """The version of each arm; None where there is none."""
    named = {each.name: each.model_version_ref.name for each in experiment.arms if each.model_version_ref is not None}
    found: dict[str, str | None] = dict(named)
    free = [
        version
        for version in snapshot.versions.values()
        if version.passed and version.name not in (state.stable, state.candidate, *state.rejected, *named.values())
    ]
    newest = iter(sorted(free, key=lambda version: (version.created, version.name), reverse=True))
    for arm in experiment.arms:
        if arm.name not in found:
            version = next(newest, None)
            found[arm.name] = version.name if version is not None else None
    return found


def why_not(snapshot: Snapshot, state: State, name: str | None) -> str:
    """Why a version cannot take part, and what to change; empty when it can."""
    version = snapshot.versions.get(name or "")
    if name is None:
        return "No further version passed its gates."
    if version is None:
        return f"Project {snapshot.rollout.spec.project_ref.name} has no ModelVersion {name}: name one that exists."
    if name in (state.stable, state.candidate):
        part = "stable version" if name == state.stable else "candidate"
        return f"{name} is the {part}, which takes part anyway: name another version."
    if not version.passed:
        return f"{name} did not pass its gates: name a version that did."
    if name in state.rejected:
        return f"{name} was rejected here: {state.rejected[name].message} Annotate slipway.dev/retry: {name} before."
    return outputs.unacknowledged(snapshot, state, name)
