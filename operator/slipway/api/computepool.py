"""ComputePool: nodes that runs and servers may be scheduled to."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slipway.api.meta import ATOMIC_LIST, ApiModel, Column, Resource, Status, Toleration

LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=16)]


class LabelSelector(ApiModel):
    """Labels that must all be there."""

    match_labels: LabelMap = Field(description="Labels, all of which must match.")


class AllowedNamespaces(ApiModel):
    """Namespaces whose projects may use the pool."""

    selector: LabelSelector = Field(description="Labels of the namespaces.")


class PoolQuota(ApiModel):
    """How much of the pool one project may use."""

    per_project: int = Field(ge=0, le=100000, description="Units of `resource` that one project may hold at once.")


class ComputePoolSpec(ApiModel):
    """A class of nodes."""

    resource: str = Field(
        "cpu",
        max_length=128,
        pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9._-]+$",
        description="Resource that the pool is about, such as `nvidia.com/gpu`.",
    )
    node_selector: LabelMap = Field(
        default_factory=dict, description="Node labels that pods of this pool are scheduled to."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        max_length=16,
        description="Taints of the pool's nodes that its pods tolerate.",
        json_schema_extra=ATOMIC_LIST,
    )
    quota: PoolQuota | None = Field(None, description="Bound for each project; none when empty.")
    allowed_namespaces: AllowedNamespaces | None = Field(
        None, description="Namespaces whose projects may use the pool; all when empty."
    )


class ComputePoolStatus(Status):
    """What the pool has and who holds it."""

    nodes: int | None = Field(None, ge=0, description="Nodes that match the selector.")
    capacity: str | None = Field(None, max_length=32, description="Sum of `resource` over those nodes.")
    in_use: int | None = Field(None, ge=0, description="Units held by Slipway's runs and servers.")


class ComputePool(Resource):
    """A class of nodes, such as the GPU nodes, that runs and servers name by `poolRef`."""

    kind_name: ClassVar = "ComputePool"
    plural: ClassVar = "computepools"
    namespaced: ClassVar = False
    columns: ClassVar = (
        Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Resource", path=".spec.resource"),
        Column(name="Nodes", path=".status.nodes", type="integer"),
        Column(name="Capacity", path=".status.capacity"),
        Column(name="In Use", path=".status.inUse", type="integer"),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: ComputePoolSpec
    status: ComputePoolStatus = Field(default_factory=ComputePoolStatus)
