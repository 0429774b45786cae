"""A local Kubernetes cluster with everything Slipway runs on, and a real API server for tests."""

from slipway_cluster.controlplane import ControlPlane
from slipway_cluster.errors import ClusterError

__all__ = ["ClusterError", "ControlPlane"]
