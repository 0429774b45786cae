"""A local Kubernetes cluster with everything Slipway runs on, and a real API server for tests.

:class:`ControlPlane` is an API server without nodes, ready in seconds. :class:`Cluster` is three real nodes with
gateway, KServe, artifact store and database.
"""

from slipway_cluster.clean import clean
from slipway_cluster.cluster import Cluster
from slipway_cluster.controlplane import ControlPlane
from slipway_cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError", "ControlPlane", "clean"]
