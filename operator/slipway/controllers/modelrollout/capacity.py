"""Where servers are scarce: how the stable version and the candidate share what one version has; pure.

With Surge each has all of `serving.replicas`. With Partial the two share one server more than `replicas.max`, with
Recreate not even that. Each always keeps at least one server, so that never are both down, and the stable version keeps
what its present weight needs; so where the next weight is far, the candidate may for a moment have fewer servers than
its share. A version gets servers only once the other has really given them up.
"""

from __future__ import annotations

from math import ceil

from slipway.adapters.kserve import Trouble
from slipway.adapters.pools import pool_units
from slipway.api.computepool import ComputePool
from slipway.api.modelrollout import Replicas, Serving
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.state import State


def is_scarce(serving: Serving) -> bool:
    """Whether the versions of a rollout share servers."""
    return serving.capacity != "Surge"


def of_stable(serving: Serving, state: State) -> Replicas:
    """Servers of the stable version, which gives up what its weight does not need."""
    if not is_scarce(serving) or state.candidate is None:
        return serving.replicas
    return _scaled(serving.replicas, _kept(serving, state))


def of_candidate(serving: Serving, state: State, by_steps: Replicas, weight: int) -> Replicas:
    """Servers that the candidate should have at a weight, of those that its steps give it."""
    if not is_scarce(serving) or state.stable is None:
        return by_steps
    share = _share(serving.replicas.max, weight)
    count = min(share, by_steps.max, _budget(serving) - _kept(serving, state))
    return _scaled(serving.replicas, max(1, count))


def room(serving: Serving, state: State, stable_servers: int) -> int | None:
    """How many servers the candidate may have beside those that the stable version still has; None without a limit."""
    if not is_scarce(serving) or state.stable is None:
        return None
    return max(0, _budget(serving) - stable_servers)


def at_most(wanted: Replicas, limit: int | None) -> Replicas:
    """As many servers as wanted, within a limit, and at least one."""
    if limit is None or wanted.max <= limit:
        return wanted
    count = max(1, limit)
    return Replicas(min=min(wanted.min, count), max=count)


def over_quota(
    pool: ComputePool | None, held: int, serving: Serving, servers: int, version: str, *, may_share: bool = True
) -> Trouble | None:
    """Why a pool has no room for so many servers; None where it has, or sets no quota.

    :param held: units of the pool that the project holds already
    :param may_share: the version could share servers with the stable one
    """
    if pool is None or pool.spec.quota is None:
        return None
    quota, units = pool.spec.quota.per_project, servers * pool_units(serving.resources, pool.spec.resource)
    if held + units <= quota:
        return None
    remedy = (
        "give some back, or choose spec.serving.capacity: Partial or Recreate" if units <= quota else "ask for more"
    )
    if not may_share:
        remedy = "give some back, or ask for more"
    message = (
        f"The project holds {held} of its {quota} {pool.spec.resource} in ComputePool {pool.metadata.name}, and version"
        f" {version} needs {units}: {remedy}."
    )
    return Trouble(Reason.WaitingForPool, message)


def _budget(serving: Serving) -> int:
    return serving.replicas.max + (1 if serving.capacity == "Partial" else 0)


def _kept(serving: Serving, state: State) -> int:
    needed = _share(serving.replicas.max, 100 - state.weight)
    return max(1, min(needed, _budget(serving) - 1))


def _share(count: int, percent: int) -> int:
    return max(1, ceil(count * percent / 100))


def _scaled(full: Replicas, count: int) -> Replicas:
    """So many servers at most, and at least the same share of what there is at least."""
    return Replicas(min=max(1, ceil(full.min * count / full.max)), max=count)
