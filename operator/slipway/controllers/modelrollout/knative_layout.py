"""Where everything goes in Knative mode: the plan's weights become a version and a percent of one InferenceService.

Who wants no request at a version that failed must know what KServe does. The specification of the stable version alone
is no way back: until its new revision is ready, all requests go to the newest that is, the one that failed. So the way
back is the stable version *with* 0 percent; KServe's memory keeps serving it by the revision that is there; and only
when the new revision is ready the percentage goes. In the same way no version is written before KServe has made a
revision of the one before, for nobody could tell them apart, and no candidate before KServe remembers the stable one,
for then it would have all requests. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from slipway.adapters import knative
from slipway.adapters.knative import Split
from slipway.adapters.kserve import Deployment
from slipway.controllers.modelrollout import posture
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.hooks import awaits_confirmation
from slipway.controllers.modelrollout.layout import Layout
from slipway.controllers.modelrollout.state import State
from slipway.runtime.controller import Action, Apply, Delete
from slipway.runtime.resources import INFERENCE_SERVICE


@dataclass(frozen=True)
class Wanted:
    """What the InferenceService should say.

    :param version: in it; None leaves the one that is there
    """

    version: str | None
    percent: int | None


def lay_out(snapshot: Snapshot, state: State, now: datetime) -> Layout:
    """The actions of this pass. That a version has no request any more is noted in `state`."""
    shares = _split(snapshot).shares() if _has_split(snapshot) else {}
    for member in state.members.values():
        away = member.role == "Retiring" and not shares.get(member.name)
        member.drained_at = (member.drained_at or now) if away else None
    return Layout(_weights(state), tuple(_actions(snapshot, state)))


def _weights(state: State) -> tuple[tuple[str, int], ...]:
    stable, candidate = state.members.get(state.stable or ""), state.members.get(state.candidate or "")
    if stable is None:
        return ()
    if candidate is None:
        return ((stable.service, 100),)
    return ((stable.service, 100 - state.weight), (candidate.service, state.weight))


def _has_split(snapshot: Snapshot) -> bool:
    return snapshot.knative is not None and snapshot.knative.split is not None


def _split(snapshot: Snapshot) -> Split:
    assert snapshot.knative is not None
    assert snapshot.knative.split is not None
    return snapshot.knative.split


def _actions(snapshot: Snapshot, state: State) -> Iterator[Action]:
    split = _split(snapshot) if _has_split(snapshot) else None
    if split is not None and state.stable is None and split.version != state.candidate:
        # The first version ever is not wanted any more: there is none that its requests could go to.
        yield Delete(INFERENCE_SERVICE.key(split.name, snapshot.namespace), split.uid)
        return
    wanted = _wanted(snapshot, state, split)
    if wanted is None:
        return
    rejected, memory = tuple(state.rejected), state.memory().text()
    version = snapshot.versions.get(wanted.version or "")
    if version is not None and snapshot.obstacle is None:
        spec = snapshot.rollout.spec
        project, logged = spec.project_ref.name, snapshot.predictions
        size = spec.serving.replicas
        deployment = Deployment(snapshot.namespace, snapshot.name, project, spec.serving, snapshot.pool, size, logged)
        origins = knative.with_origin(split, version.name)
        percent = wanted.percent
        yield Apply(knative.inference_service(deployment, version.model, percent, origins, rejected, memory))
    elif split is not None:
        same = wanted.version in (None, split.version)
        yield Apply(knative.hold(split, wanted.percent if same else _back(split), rejected, memory))


def _back(split: Split) -> int | None:
    """The percent with which nothing new happens, and requests go back where there is somewhere to go."""
    return 0 if split.percent is not None else None


def _wanted(snapshot: Snapshot, state: State, split: Split | None) -> Wanted | None:
    """What the InferenceService should say now; None for nothing."""
    candidate = state.candidate if state.candidate is not None and _may_have_servers(snapshot, state) else None
    if split is None:
        first = state.stable or candidate
        return Wanted(first, None) if first is not None else None
    if state.stable is None:
        return Wanted(candidate, None) if candidate is not None else None
    if candidate is None:
        return _alone(split, state.stable)
    if split.version != candidate:
        return _begin(split, state.stable, candidate)
    if _is_astray(split, state.stable, candidate):
        return _alone(split, state.stable)
    return Wanted(candidate, state.weight)


def _may_have_servers(snapshot: Snapshot, state: State) -> bool:
    return posture.no_room(snapshot, state) is None and not awaits_confirmation(snapshot, state)


def _begin(split: Split, stable: str, candidate: str) -> Wanted:
    """Write the candidate, with no request, once KServe would give all of them to the stable version."""
    if not split.taken_in or split.version_of(split.rolled_out) != stable:
        return _alone(split, stable)
    return Wanted(candidate, 0)


def _alone(split: Split, stable: str) -> Wanted:
    """All requests for the stable version, and in the end nothing but it."""
    if split.version == stable:
        settled = split.percent is None or split.newest_is_ready
        return Wanted(stable, None if settled else 0)
    if not split.taken_in or _may_be_taken_back(split):
        return Wanted(None, 0)
    return Wanted(stable, 0)


def _may_be_taken_back(split: Split) -> bool:
    """Whether KServe remembers the version that is written as the one with all requests, and another one before."""
    newest = split.created == split.ready_revision == split.rolled_out
    return newest and split.version_of(split.before) not in ("", split.version)


def _is_astray(split: Split, stable: str, candidate: str) -> bool:
    """Whether KServe gives the rest of the requests to another version than the stable one.

    It goes one revision back in its memory when a split is written while the newest revision still is the one that all
    requests went to: a moment's matter, when Knative takes in the split before it makes the candidate's revision.
    """
    return split.percent is not None and split.version_of(split.rolled_out) not in (stable, candidate)


def tear_down(snapshot: Snapshot) -> tuple[Action, ...]:
    """Remove the InferenceService of a rollout that is being deleted; nothing when it is gone."""
    if not _has_split(snapshot):
        return ()
    split = _split(snapshot)
    return (Delete(INFERENCE_SERVICE.key(split.name, snapshot.namespace), split.uid),)
