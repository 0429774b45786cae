"""Who holds units of a pool, and whether a project may hold more: pure.

Whatever holds units says so itself: the label `slipway.dev/pool` and the annotation `slipway.dev/pool-units`. So runs
and servers are counted alike, and a count from scratch is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.adapters import labels
from slipway.adapters.jobstate import job_state
from slipway.adapters.pools import pool_units
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources
from slipway.api.reasons import Reason


@dataclass(frozen=True)
class Holding:
    """Units of a pool that one object holds."""

    kind: str
    namespace: str
    name: str
    project: str
    units: int


@dataclass(frozen=True)
class Admission:
    """Whether something may be scheduled to a pool, and why not.

    :param final: waiting is useless: somebody has to change something
    """

    allowed: bool
    reason: Reason = Reason.Accepted
    message: str = ""
    final: bool = False


def holdings(pool: str, objects: Iterable[Mapping[str, Any]]) -> tuple[Holding, ...]:
    """Holdings in a pool among some objects; Jobs that have ended hold nothing."""
    found = []
    for obj in objects:
        meta = obj["metadata"]
        marks = meta.get("labels") or {}
        if marks.get(labels.POOL) != labels.label_value(pool):
            continue
        if obj.get("kind") == "Job" and not job_state(obj, ()).active:
            continue
        units = (meta.get("annotations") or {}).get(labels.POOL_UNITS, "0")
        found.append(
            Holding(
                str(obj.get("kind", "")),
                meta["namespace"],
                meta["name"],
                marks.get(labels.PROJECT, ""),
                _pods(obj) * (int(units) if units.isdigit() else 0),
            )
        )
    return tuple(sorted(found, key=lambda each: (each.namespace, each.kind, each.name)))


def holdings_of_runs(pool: ComputePool, runs: Iterable[Mapping[str, Any]]) -> tuple[Holding, ...]:
    """Holdings in a pool of TrainingRuns at a pipelines endpoint: their pods may be where nobody here sees them."""
    found = []
    for run in runs:
        meta, spec, status = run["metadata"], run["spec"], run.get("status") or {}
        named = (spec.get("poolRef") or {}).get("name") == pool.metadata.name
        if not named or not status.get("pipelineRun") or status.get("phase") not in ("Pending", "Running"):
            continue
        resources = Resources.model_validate(spec["resources"]) if spec.get("resources") else None
        project = labels.label_value(spec["projectRef"]["name"])
        units = pool_units(resources, pool.spec.resource)
        found.append(Holding("TrainingRun", meta["namespace"], meta["name"], project, units))
    return tuple(sorted(found, key=lambda each: (each.namespace, each.name)))


def _pods(obj: Mapping[str, Any]) -> int:
    """Pods that an object has; of servers, as many as there may be, for a quota has to hold at the worst hour."""
    if obj.get("kind") != "InferenceService":
        return 1
    predictor = (obj.get("spec") or {}).get("predictor") or {}
    return max(int(predictor.get("minReplicas") or 1), int(predictor.get("maxReplicas") or 1))


def admit(
    pool: ComputePool,
    namespace: str,
    namespace_labels: Mapping[str, str],
    project: str,
    units: int,
    held: Iterable[Holding],
    ahead: int = 0,
) -> Admission:
    """Whether a project may hold `units` more of a pool.

    :param held: what is held of this pool; the object that asks is not among it
    :param ahead: units that others of the project asked for earlier and still wait for
    """
    name, resource = pool.metadata.name, pool.spec.resource
    allowed = pool.spec.allowed_namespaces
    if allowed is not None:
        wanted = allowed.selector.match_labels
        if any(namespace_labels.get(key) != value for key, value in wanted.items()):
            marks = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
            message = (
                f"poolRef.name: ComputePool {name} is only for namespaces with {marks}, which {namespace} has not: "
                "name another pool, or ask the cluster's administrators."
            )
            return Admission(False, Reason.NotAllowed, message, final=True)
    if pool.spec.quota is None:
        return Admission(True)
    quota = pool.spec.quota.per_project
    if units == 0:
        message = (
            f"resources.requests: ComputePool {name} has a quota of {quota} {resource} a project: say how much "
            f"{resource} is needed."
        )
        return Admission(False, Reason.QuotaUnbounded, message, final=True)
    if units > quota:
        message = (
            f"resources: {units} {resource} are more than the {quota} that ComputePool {name} allows a project: ask "
            "for less, or for a larger quota."
        )
        return Admission(False, Reason.NotAllowed, message, final=True)
    in_use = sum(
        each.units for each in held if each.namespace == namespace and each.project == labels.label_value(project)
    )
    if in_use + ahead + units > quota:
        waiting = f", and {ahead} are asked for by runs that came before" if ahead else ""
        message = (
            f"The project holds {in_use} of its {quota} {resource} in ComputePool {name}{waiting}; {units} more are "
            "needed."
        )
        return Admission(False, Reason.WaitingForPool, message)
    return Admission(True)
