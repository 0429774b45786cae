"""`StatisticsAvailable`: said while what is to be measured at the gateway cannot be. Pure."""

from __future__ import annotations

from slipway.api.reasons import Reason
from slipway.controllers.modelrollout import posture
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Conditions

INSTEAD = "measure with an AnalysisTemplate whose provider is prometheus, web or job (spec.analysis) instead."


def state_statistics(conditions: Conditions, snapshot: Snapshot, state: State) -> None:
    """Of a gateway without statistics at once; of others while a candidate has requests."""
    measured = _measured(snapshot)
    if not measured or snapshot.knative is not None:
        return
    message = ""
    if snapshot.other_gateway and not snapshot.reading.reachable:
        message = f"{snapshot.other_gateway}, which counts nothing for us: {measured} stays Inconclusive; {INSTEAD}"
    elif posture.is_tried(snapshot.steps, state):
        message = _trouble(snapshot, state, measured)
    if message:
        conditions.false("StatisticsAvailable", Reason.NoStatistics, message)


def _measured(snapshot: Snapshot) -> str:
    """The first thing that is measured at the gateway; empty when nothing is."""
    for check in snapshot.rollout.spec.checks:
        if check.source == "Gateway":
            return f"check {check.name}, source Gateway,"
    for (_, name), template in sorted(snapshot.templates.items()):
        for metric in template.spec.metrics:
            if metric.provider.gateway is not None:
                return f"metric {metric.name} of template {name}, provider gateway,"
    return ""


def _trouble(snapshot: Snapshot, state: State, measured: str) -> str:
    reading, candidate = snapshot.reading, state.members.get(state.candidate or "")
    cluster = snapshot.cluster_of(candidate.service) if candidate else ""
    if not reading.proxies:
        return f"The gateway has no proxy pods that can be asked, so {measured} stays Inconclusive."
    if not reading.reachable:
        return f"None of {reading.proxies} proxies answers at Platform spec.gateway.statisticsPort: correct it."
    if cluster not in reading.known:
        return f"The gateway counts nothing under {cluster}: set `mergeBackends` in its EnvoyProxy."
    return ""
