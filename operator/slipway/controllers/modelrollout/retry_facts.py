"""What the plan knows about the patch with which a failed answer is asked for again. Read live: no rollout needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from slipway.adapters import gateway as gw
from slipway.adapters import retry
from slipway.adapters.access import Standing
from slipway.adapters.envoy_stats import Reading
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import GatewayParentRef
from slipway.runtime.controller import Io
from slipway.runtime.errors import Forbidden
from slipway.runtime.resources import ENVOY_PATCH_POLICY, GATEWAY, ResourceType, uid_of

CONDITION = "RetryOnStable"
SILENT = (
    "The gateway has not taken in yet that failed requests are repeated. If it stays so, set"
    " extensionApis.enableEnvoyPatchPolicy in Envoy Gateway's configuration. Gateways that are merged"
    " cannot be patched."
)
NOT_SERVED = (
    "Failed requests can be repeated by Envoy Gateway only: this cluster does not serve EnvoyPatchPolicy of"
    " gateway.envoyproxy.io."
)
NOT_ALLOWED = (
    "The operator may not write EnvoyPatchPolicies: install the chart with rbac.envoyPatchPolicies=true, and set"
    " extensionApis.enableEnvoyPatchPolicy in Envoy Gateway's configuration."
)


class Cluster(Protocol):
    """The part of `slipway.adapters.issuer.ClusterFacts` that is needed here."""

    async def serves(self, source: Io, type_: ResourceType) -> bool:
        """Whether the API server serves a type."""
        ...


@dataclass(frozen=True)
class RetryFacts:
    """The patch in the Gateway's namespace.

    :param listeners: whose routing tables have the rollout's routes; none while that is not known
    :param uid: of the patch that is there
    :param obstacle: why the patch cannot be written, and what to do
    """

    listeners: tuple[str, ...] = ()
    uid: str = ""
    standing: Standing = field(default_factory=Standing)
    obstacle: str = ""


async def read(io: Io, cluster: Cluster, rollout: ModelRollout, parent: GatewayParentRef | None) -> RetryFacts:
    """Nothing is asked unless the rollout wants retries, or wanted them a moment ago.

    :raises Unavailable: the API server does not answer
    """
    wanted = rollout.spec.rollback.retry_on_stable
    left = any(each.type == CONDITION for each in rollout.status.conditions or ())
    if parent is None or not (wanted or left):
        return RetryFacts()
    gateway = io.get(GATEWAY.key(parent.name, parent.namespace)) or {}
    listeners = retry.listeners_of(gateway, parent)
    name = retry.policy_name(str(rollout.metadata.namespace), rollout.metadata.name)
    if not await cluster.serves(io, ENVOY_PATCH_POLICY):
        return RetryFacts(listeners, obstacle=NOT_SERVED)
    try:
        found = await io.live(ENVOY_PATCH_POLICY.key(name, parent.namespace))
    except Forbidden:
        return RetryFacts(listeners, obstacle=NOT_ALLOWED)
    if found is None:
        return RetryFacts(listeners)
    return RetryFacts(listeners, uid_of(found), retry.standing(found, parent))


def attribute(reading: Reading, rollout: ModelRollout) -> Reading:
    """Statistics in which a failure counts for the version that failed, also where clients did not see it."""
    if not rollout.spec.rollback.retry_on_stable:
        return reading
    both = [
        gw.cluster_of(rollout, each.service)
        for each in rollout.status.versions or ()
        if each.role in ("Stable", "Candidate")
    ]
    return reading.with_hidden(*both) if len(both) == 2 else reading
