"""The versions in ``versions.yaml``, typed."""

from functools import cache

import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from slipway_cluster import paths


class Upstream(BaseModel):
    """Full names of upstream's images, without a registry."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    node: str
    envoy_gateway: str
    envoy: str
    postgresql: str
    seaweedfs: str


class Versions(BaseModel):
    """Versions without a leading ``v``; ``debian`` is a release's code name."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    kubernetes: str
    etcd: str
    kind: str
    helm: str
    coredns: str
    envoy_gateway: str
    kserve: str
    pause: str
    kubeflow_pipelines: str
    debian: str
    wheels: dict[str, str]
    upstream: Upstream


@cache
def versions() -> Versions:
    """The pinned versions."""
    return Versions.model_validate(yaml.safe_load((paths.PACKAGE / "versions.yaml").read_text()))
