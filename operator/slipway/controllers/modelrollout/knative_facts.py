"""A rollout in Knative mode, in the words of all others: the plan decides weights, and does not see the difference.

Versions share one InferenceService, so each is said to have a server of the name that it would have in Standard mode;
the split stands for the weighted route, and Knative needs no pin routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from slipway.adapters import gateway as gw
from slipway.adapters import knative
from slipway.adapters.envoy_stats import Reading
from slipway.adapters.knative import KnativeFacts, Split
from slipway.adapters.kserve import POD_LABEL, Trouble, service_of
from slipway.api.meta import parse_time
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout import knative_limits
from slipway.controllers.modelrollout.facts import Pin, Route, Server, Snapshot
from slipway.controllers.modelrollout.memory import Memory
from slipway.runtime.controller import Io
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, POD, Object, is_deleting

Mode = Literal["Standard", "Knative"]
_NO_PIN = "knative"
_PENDING = "Knative has not taken in the newest weights yet."


def translate(io: Io, snapshot: Snapshot, platform: Platform | None) -> Snapshot:
    """The snapshot of a rollout in Knative mode; as it is, for all others.

    What is there decides: a rollout does not change its mode in flight.
    """
    services = io.owned(snapshot.obj, INFERENCE_SERVICE)
    wanted = platform.spec.serving.mode if platform is not None else None
    live = _live_mode(services, io.owned(snapshot.obj, HTTP_ROUTE))
    mode = live or wanted or "Standard"
    obstacle = snapshot.obstacle or _changed(snapshot.rollout, live, wanted)
    if mode == "Standard":
        return replace(snapshot, obstacle=obstacle)
    one = next((each for each in services if each["metadata"]["name"] == snapshot.name), None)
    pods = io.list(POD, snapshot.namespace, {POD_LABEL: snapshot.name}) if one is not None else []
    split = knative.read(one) if one is not None else None
    facts = KnativeFacts(split, pods)
    refused = obstacle or knative_limits.refusal(snapshot.rollout.spec, snapshot.templates)
    return replace(
        snapshot,
        knative=facts,
        servers=_servers(snapshot, facts),
        pins=_pins(snapshot, facts),
        route=_route(snapshot, split) if split is not None else None,
        reading=Reading(),
        url=knative.model_url(split, snapshot.name) if split is not None else None,
        obstacle=refused,
        conflict=None,
    )


def _live_mode(services: Iterable[Object], routes: Iterable[Object]) -> Mode | None:
    modes = {knative.is_knative(each) for each in services}
    if modes:
        return "Standard" if False in modes else "Knative"
    return "Standard" if any(routes) else None


def _changed(rollout: ModelRollout, live: Mode | None, wanted: Mode | None) -> Trouble | None:
    if live is None or wanted is None or live == wanted or rollout.metadata.deletion_timestamp:
        return None
    message = (
        f"Platform default, spec.serving.mode: {wanted}: this rollout is served in {live} mode, and KServe changes the"
        f" mode of nothing that is there. Set it back to {live}, or make a rollout of another name and delete this one."
    )
    return Trouble(Reason.ServingModeChanged, message)


# ---- in the words of all others --------------------------------------------------------------------------------------
def service_name(snapshot: Snapshot, version: str) -> str:
    """The name under which a version's servers are known here."""
    known = next((each.service for each in snapshot.rollout.status.versions or () if each.name == version), None)
    if known is not None:
        return known
    record = snapshot.versions.get(version)
    return service_of(snapshot.name, record.model.digest) if record else f"{snapshot.name}-{version[-10:]}"


def _versions(facts: KnativeFacts) -> list[str]:
    """Versions with servers, or with requests, or about to have some."""
    split = facts.split
    if split is None:
        return []
    revisions = [str(pod["metadata"]["labels"].get(knative.REVISION_LABEL, "")) for pod in facts.pods]
    found = {split.version, *split.shares(), *(split.version_of(each) for each in revisions)}
    return sorted(found - {""})


def _servers(snapshot: Snapshot, facts: KnativeFacts) -> dict[str, Server]:
    found, split = {}, facts.split
    for version in _versions(facts):
        assert split is not None
        name = service_name(snapshot, version)
        found[name] = Server(
            name=name,
            version=version,
            uid=split.uid,
            created=parse_time(split.live["metadata"]["creationTimestamp"]),
            readiness=knative.readiness(split, version, facts.pods),
            deleting=is_deleting(split.live),
        )
    return found


def _pins(snapshot: Snapshot, facts: KnativeFacts) -> dict[str, Pin]:
    """Knative's proxies know a revision before it is called ready."""
    if facts.split is None:
        return {}
    created = parse_time(facts.split.live["metadata"]["creationTimestamp"])
    accepted = gw.Acceptance(seen=True, accepted=True)
    return {service_name(snapshot, each): Pin(facts.split.uid, _NO_PIN, created, accepted) for each in _versions(facts)}


def _route(snapshot: Snapshot, split: Split) -> Route:
    weights = {service_name(snapshot, version): percent for version, percent in written(split).items()}
    notes = split.live["metadata"].get("annotations") or {}
    in_force = {version: percent for version, percent in written(split).items() if percent}
    accepted = split.shares() == in_force
    message = "" if accepted else _PENDING
    return Route(
        uid=split.uid,
        weights=weights,
        acceptance=gw.Acceptance(accepted, accepted, "" if accepted else "Pending", message),
        rejected=tuple(str(notes.get(gw.REJECTED_ANNOTATION, "")).split()),
        references=frozenset(weights),
        memory=Memory.read(str(notes.get(gw.MEMORY_ANNOTATION, ""))),
        deleting=split.deleting,
    )


def written(split: Split) -> dict[str, int]:
    """The weights that the InferenceService asks for, the version that all requests went to last first."""
    stable = split.version_of(split.rolled_out)
    if split.percent is None or stable in ("", split.version):
        return {split.version: 100}
    return {stable: 100 - split.percent, split.version: split.percent}
