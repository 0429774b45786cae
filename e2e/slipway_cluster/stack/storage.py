"""SeaweedFS (S3) and PostgreSQL, on volumes that outlive their pods."""

import json
from typing import Any

from slipway_cluster.images.debian import SLIPWAY_USER
from slipway_cluster.stack.credentials import Credentials, S3Credentials
from slipway_cluster.stack.names import Names
from slipway_cluster.stack.objects import Object, config_map, namespace, secret

NAMESPACE = "storage"
SYSTEM = "slipway-system"
BUCKET = "slipway"
RUNS = "runs"
"""The only prefix the restricted identity writes below."""
PREDICTIONS = "predictions"
"""The only prefix that model servers put objects below."""

PIPELINES = "kfp"
"""The only prefix that Kubeflow Pipelines' launcher reads and writes below."""

VOLUMES = "/var/local/slipway"
"""Where volumes live on their node."""

S3_PORT = 8333
S3_NODE_PORT = 30333
PROBE_SECONDS = 5
"""A probe may wait this long: on a busy machine one second is no sign of illness."""
LOCAL_S3_PORT = 8334
DATABASE = "feast"


def objects(credentials: Credentials, node: str, names: Names) -> list[Object]:
    """Everything in the storage namespace, and the secrets the platform refers to.

    Args:
        node: the node that keeps the data.
    """
    return [
        namespace(NAMESPACE),
        namespace(SYSTEM),
        *_volume("seaweedfs", node),
        *_volume("postgresql", node),
        secret(NAMESPACE, "s3-identities", {"s3.json": json.dumps(_identities(credentials))}),
        secret(NAMESPACE, "postgresql", {"password": credentials.postgres_password}),
        _seaweedfs(names),
        _service("seaweedfs", S3_PORT, "s3", node_port=S3_NODE_PORT),
        _postgresql(names),
        _service("postgres", 5432, "postgres", app="postgresql"),
        secret(SYSTEM, "s3", s3_keys(credentials.admin)),
        secret(SYSTEM, "s3-trainer", s3_keys(credentials.trainer)),
        secret(SYSTEM, "s3-predictions", s3_keys(credentials.predictions)),
        secret(SYSTEM, "feast", feast_access(credentials)),
        config_map(SYSTEM, "artifact-store", {"endpoint": f"http://seaweedfs.{NAMESPACE}:{S3_PORT}", "bucket": BUCKET}),
    ]


def feast_access(credentials: Credentials) -> dict[str, str]:
    """What opens Feast's database from anywhere in the cluster."""
    return {
        "host": f"postgres.{NAMESPACE}",
        "port": "5432",
        "database": DATABASE,
        "username": DATABASE,
        "password": credentials.postgres_password,
    }


def s3_keys(keys: S3Credentials) -> dict[str, str]:
    """An identity's keys as Secrets have them."""
    return {"accessKey": keys.access_key, "secretKey": keys.secret_key}


def _identities(credentials: Credentials) -> dict[str, Any]:
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    restricted = [f"Read:{BUCKET}", f"List:{BUCKET}", f"Write:{BUCKET}/{RUNS}/*", f"Tagging:{BUCKET}/{RUNS}/*"]
    launcher = [f"{right}:{BUCKET}/{PIPELINES}/*" for right in ("Read", "Write", "List", "Tagging")]
    rights: dict[str, Any] = {
        "admin": {"actions": everything},
        "trainer": {"actions": restricted},
        # `Write:` among the actions would let it delete too; a policy allows `PutObject` alone.
        "predictions": {"policyNames": [PREDICTIONS]},
        "kfp": {"actions": launcher},
    }
    return {
        "identities": [
            {"name": name, "credentials": [s3_keys(getattr(credentials, name))], **right}
            for name, right in rights.items()
        ],
        "policies": [{"name": PREDICTIONS, "content": json.dumps(_put_only(PREDICTIONS))}],
    }


def _put_only(prefix: str) -> dict[str, Any]:
    """The right to put objects below a prefix: not to read, list or delete them."""
    allowed = {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/{prefix}/*"]}
    return {"Version": "2012-10-17", "Statement": [allowed]}


def _volume(name: str, node: str) -> list[Object]:
    """A volume in a folder of one node, and the claim that is bound to it."""
    size = {"storage": "20Gi"}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"slipway-{name}"},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": NAMESPACE, "name": name},
                "local": {"path": f"{VOLUMES}/{name}"},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
                                ]
                            }
                        ]
                    }
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": NAMESPACE, "name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeName": f"slipway-{name}",
                "resources": {"requests": size},
            },
        },
    ]


def _seaweedfs(names: Names) -> Object:
    container = {
        "name": "seaweedfs",
        "image": names.seaweedfs,
        # Upstream's image has an entry point that adds arguments of its own.
        "command": ["weed"],
        "args": [
            # Everything but S3 trusts whoever connects, and pods reach each other: only the proxy listens to them.
            *("server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"),
            *("-master.volumeSizeLimitMB=256", "-s3", f"-s3.port={LOCAL_S3_PORT}", "-s3.config=/etc/seaweedfs/s3.json"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        ],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "identities", "mountPath": "/etc/seaweedfs", "readOnly": True},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    }
    proxy = {
        "name": "proxy",
        "image": names.storage_proxy,
        "command": ["/usr/local/bin/envoy"],
        "args": ["--config-yaml", json.dumps(_proxy()), "--concurrency", "1", "--log-level", "warning"],
        "ports": [{"name": "s3", "containerPort": S3_PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/status", "port": S3_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": PROBE_SECONDS,
        },
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    }
    volumes = [{"name": "identities", "secret": {"secretName": "s3-identities"}}]
    return _deployment("seaweedfs", [container, proxy], volumes)


def _proxy() -> dict[str, Any]:
    """An Envoy that passes connections to S3 on, as they are."""
    forward = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "s3",
        "cluster": "s3",
    }
    endpoint = {"endpoint": {"address": _socket("127.0.0.1", LOCAL_S3_PORT)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "s3",
                    "address": _socket("0.0.0.0", S3_PORT),
                    "filter_chains": [
                        {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": forward}]}
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "s3",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "s3", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _postgresql(names: Names) -> Object:
    container = {
        "name": "postgresql",
        "image": names.postgresql,
        "args": ["-c", "shared_buffers=64MB", "-c", "max_connections=100"],
        "env": [
            {"name": "PGDATA", "value": "/data/pgdata"},
            {"name": "POSTGRES_USER", "value": DATABASE},
            {"name": "POSTGRES_DB", "value": DATABASE},
            {"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "postgresql", "key": "password"}}},
        ],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "socket", "mountPath": "/var/run/postgresql"},
        ],
        "readinessProbe": {"exec": {"command": ["/usr/lib/postgresql/15/bin/pg_isready", "-h", "127.0.0.1"]},
                           "periodSeconds": 2, "timeoutSeconds": PROBE_SECONDS},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    }  # fmt: skip
    # Upstream's image has its socket there, and the file system is read-only.
    return _deployment("postgresql", [container], [{"name": "socket", "emptyDir": {}}])


def _deployment(name: str, containers: list[dict[str, Any]], volumes: list[dict[str, Any]]) -> Object:
    labels = {"app": name}
    hardened = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    completed = [
        {
            **container,
            "imagePullPolicy": "IfNotPresent",
            "securityContext": hardened,
            "volumeMounts": [*container.get("volumeMounts", []), {"name": "tmp", "mountPath": "/tmp"}],
        }
        for container in containers
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            # Two of them would write to one volume.
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "enableServiceLinks": False,
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": SLIPWAY_USER,
                        "runAsGroup": SLIPWAY_USER,
                        "fsGroup": SLIPWAY_USER,
                        "fsGroupChangePolicy": "OnRootMismatch",
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": completed,
                    "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": name}},
                        {"name": "tmp", "emptyDir": {}},
                        *volumes,
                    ],
                },
            },
        },
    }


def _service(name: str, port: int, port_name: str, *, app: str = "", node_port: int = 0) -> Object:
    entry: dict[str, Any] = {"name": port_name, "port": port}
    if node_port:
        entry["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "type": "NodePort" if node_port else "ClusterIP",
            "selector": {"app": app or name},
            "ports": [entry],
        },
    }
