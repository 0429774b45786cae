"""Kubeflow Pipelines as upstream installs it, on Slipway's store: ``manifests/kfp``, which users apply as well."""

from slipway_cluster import paths
from slipway_cluster.stack import storage
from slipway_cluster.stack.credentials import Credentials
from slipway_cluster.stack.objects import Object, secret

NAMESPACE = "kubeflow"
MANIFESTS = paths.PACKAGE.parents[1] / "manifests" / "kfp"
FIRST = MANIFESTS / "cluster-scoped"
"""Kinds and namespace, before the rest."""
CRD = "workflows.argoproj.io"


def secrets(credentials: Credentials) -> list[Object]:
    """What the launcher, and tasks of Slipway's own code, open the store and Feast's database with."""
    return [
        secret(NAMESPACE, "kfp-store", storage.s3_keys(credentials.kfp)),
        secret(NAMESPACE, "slipway-s3", storage.s3_keys(credentials.admin)),
        secret(NAMESPACE, "slipway-feast", storage.feast_access(credentials)),
    ]


def text() -> str:
    """All of its manifests, as far as they are here."""
    return "".join(file.read_text() for file in sorted(MANIFESTS.rglob("*.yaml")))
