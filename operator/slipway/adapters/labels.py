"""Labels and annotations by which Slipway's objects find each other; `slipway.runtime.resources` has the others."""

from __future__ import annotations

from slipway.runtime.resources import GROUP, label_value, owner_label

PROJECT = f"{GROUP}/project"
"""On everything that belongs to a project: the project's name."""
STAGE = f"{GROUP}/stage"
"""On Jobs: what they do, such as `ingest` or `judge`."""
ATTEMPT = f"{GROUP}/attempt"
"""On Jobs of a TrainingRun: which attempt, from 1."""
POOL = f"{GROUP}/pool"
"""On whatever holds units of a ComputePool: the pool's name."""
POOL_UNITS = f"{GROUP}/pool-units"
"""Annotation beside it: how many units of the pool's resource each of its pods holds."""
POOL_RESOURCE = f"{GROUP}/pool-resource"
"""Annotation beside it: the pool's resource, for sentences."""
REQUEST_DIGEST = f"{GROUP}/request-digest"
"""Annotation on Jobs: digest of the request's bytes."""
JOB_NAME = "batch.kubernetes.io/job-name"
"""Set by Kubernetes on the pods of a Job."""


def of(project: str, **more: str) -> dict[str, str]:
    """Labels of an object of a project; names that are too long for a label are cut and hashed."""
    return {PROJECT: label_value(project), **{f"{GROUP}/{name}": label_value(value) for name, value in more.items()}}


__all__ = [
    "ATTEMPT",
    "JOB_NAME",
    "POOL",
    "POOL_RESOURCE",
    "POOL_UNITS",
    "PROJECT",
    "REQUEST_DIGEST",
    "STAGE",
    "label_value",
    "of",
    "owner_label",
]
