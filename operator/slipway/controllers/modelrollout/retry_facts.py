"""What the plan knows about the patch with which a failed answer is asked for again. Read live: no rollout needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from slipway.adapters import retry
from slipway.adapters.access import Standing
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import GatewayParentRef
from slipway.runtime.controller import Io
from slipway.runtime.errors import Forbidden
from slipway.runtime.resources import ENVOY_PATCH_POLICY, GATEWAY, ResourceType, uid_of

CONDITION = "RetryOnStable"
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

    :param listener: at which clients arrive; empty while that is not known
    :param uid: of the patch that is there
    :param obstacle: why the patch cannot be written, and what to do
    """

    listener: str = ""
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
    listeners = gateway.get("spec", {}).get("listeners") or ()
    listener = parent.section_name or next((str(each["name"]) for each in listeners), "")
    name = retry.policy_name(str(rollout.metadata.namespace), rollout.metadata.name)
    if not await cluster.serves(io, ENVOY_PATCH_POLICY):
        return RetryFacts(listener, obstacle=NOT_SERVED)
    try:
        found = await io.live(ENVOY_PATCH_POLICY.key(name, parent.namespace))
    except Forbidden:
        return RetryFacts(listener, obstacle=NOT_ALLOWED)
    if found is None:
        return RetryFacts(listener)
    return RetryFacts(listener, uid_of(found), retry.standing(found, parent))
