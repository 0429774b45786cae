"""Units of a ComputePool: how many a container needs, and the marks of whatever holds some."""

from __future__ import annotations

import math
from typing import Any

from slipway.adapters import labels
from slipway.adapters.quantities import quantity
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources


def is_extended(resource: str) -> bool:
    """Whether a resource is one that a device plugin offers, such as `nvidia.com/gpu`: whole units, request = limit."""
    return "/" in resource


def pool_units(resources: Resources | None, resource: str) -> int:
    """Units of a pool's resource that a container holds, rounded up.

    What it requests, else its limit; an extended resource that is not named counts as 1, any other one as 0.
    """
    for amounts in (resources.requests, resources.limits) if resources else ():
        if amounts and resource in amounts:
            return math.ceil(quantity(amounts[resource]))
    return 1 if is_extended(resource) else 0


def container_resources(resources: Resources, pool: ComputePool | None) -> dict[str, Any]:
    """Resources of a container, with one unit of the pool's extended resource where the spec names none."""
    found: dict[str, Any] = {name: dict(value) for name, value in resources.wire().items() if value}
    if pool is not None and is_extended(resource := pool.spec.resource):
        units = str(pool_units(resources, resource))
        for side in ("requests", "limits"):
            found[side] = {**found.get(side, {}), resource: units}
    return found


def pool_marks(pool: ComputePool, resources: Resources | None) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations of something that holds units of a pool, each of its pods so many."""
    resource = pool.spec.resource
    return (
        {labels.POOL: labels.label_value(pool.metadata.name)},
        {labels.POOL_RESOURCE: resource, labels.POOL_UNITS: str(pool_units(resources, resource))},
    )
