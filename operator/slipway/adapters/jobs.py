"""Jobs: their names, their manifests, and what a Job and its pods say about how it goes.

A piece of work is a request, written to the artifact store, and a Job that answers it there. The Job's name holds a
hash of the owner's uid and of the request, so the same work never runs twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slipway.adapters import labels
from slipway.adapters.artifacts import Location
from slipway.adapters.pools import container_resources, pool_marks
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources
from slipway.contracts.digests import canonical_json, digest_bytes, digest_json, short
from slipway.contracts.jobs import Request

Command = Literal[
    "ingest",
    "features",
    "features-teardown",
    "copy-pipeline",
    "train",
    "judge",
    "delete-data",
    "compare",
    "sweep-predictions",
]

USER_CODE_RAISED = 3
"""Exit code by which a Job says that the team's code raised: trying again is useless."""
BACKOFF_LIMIT = 3
KEEP_FINISHED_SECONDS = 24 * 3600
"""How long a finished Job stays for its logs; its result is kept in the artifact store."""
DEFAULT_DEADLINE_SECONDS = 2 * 3600
UID = 65532
"""User and group of a Job's pod; nobody in particular."""
CONTAINER = "job"
COPY_CONTAINER = "copy"
COPY_FAILED = 1
"""The one exit code by which `cp` says that it failed."""
COPY_FOLDER = "/copied"
COPIED = f"{COPY_FOLDER}/file"
"""Where a Job finds the file that was copied for it."""
COPY_LIMIT = "8Mi"
"""Room for the copy; what is larger than a Job may take it must still see, to say so."""

_NAME_LIMIT = 63  # pods carry the Job's name as a label
OWN_RESOURCES = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "2Gi"})


@dataclass(frozen=True)
class Owner:
    """The object that a Job works for."""

    kind: str
    namespace: str
    name: str
    uid: str
    project: str


@dataclass(frozen=True)
class Work:
    """One request and the Job that answers it."""

    owner: Owner
    command: Command
    stage: str
    name: str
    """Name of the Job."""
    prefix: str
    """Folder of the Job: `request.json`, `progress.json` and `result.json` are in it."""
    request: bytes
    digest: str

    @property
    def request_key(self) -> str:
        """Where the request is written."""
        return f"{self.prefix}request.json"

    @property
    def result_key(self) -> str:
        """Where the result will be."""
        return f"{self.prefix}result.json"

    @property
    def progress_key(self) -> str:
        """Where progress is."""
        return f"{self.prefix}progress.json"


@dataclass(frozen=True)
class FileCopy:
    """A file of an image, which an init container of that image copies for the Job."""

    image: str
    path: str


@dataclass(frozen=True)
class PodSettings:
    """How a Job's pod runs."""

    image: str
    location: Location
    pull_policy: str = "IfNotPresent"
    user_code: bool = False
    """The team's own code: it gets the store's credentials for user code."""
    feast: bool = False
    """Whether it speaks to Feast's database."""
    pool: ComputePool | None = None
    resources: Resources | None = None
    deadline_seconds: int = DEFAULT_DEADLINE_SECONDS
    labels: Mapping[str, str] = field(default_factory=dict)
    copy: FileCopy | None = None
    """What the Job finds at `COPIED`."""


def job_name(owner: Owner, stage: str, identity: str) -> str:
    """`NAME-STAGE-HASH10`, the name cut where it is too long; `identity` says what the work is."""
    return job_name_of(owner.name, f"-{stage}-{short(digest_json([owner.uid, stage, identity]))}")


def job_name_of(owner: str, tail: str) -> str:
    """An owner's name, cut where it is too long, and a tail."""
    return owner[: _NAME_LIMIT - len(tail)].rstrip("-.").replace(".", "-") + tail


def folder(namespace: str, job: str) -> str:
    """Folder of a Job in the artifact store."""
    return f"jobs/{namespace}/{job}/"


def prepare(owner: Owner, command: Command, request: Request, *, stage: str = "", salt: str = "") -> Work:
    """The work that a request describes; its `prefix` is filled in here.

    :param salt: makes the same request a new piece of work, such as the time of a scheduled repetition
    """
    stage = stage or command
    name = job_name(owner, stage, digest_json([request.model_copy(update={"prefix": ""}).wire(), salt]))
    prefix = folder(owner.namespace, name)
    data = canonical_json(request.model_copy(update={"prefix": prefix}).wire())
    return Work(owner, command, stage, name, prefix, data, digest_bytes(data))


def manifest(work: Work, pod: PodSettings) -> dict[str, Any]:
    """The Job. It carries no owner reference: the runtime adds it."""
    project = work.owner.project
    marks = {
        **labels.of(project, stage=work.stage),
        labels.owner_label(work.owner.kind): labels.label_value(work.owner.name),
        "app.kubernetes.io/managed-by": "slipway",
        **pod.labels,
    }
    notes = {labels.REQUEST_DIGEST: work.digest}
    if pod.pool is not None:
        pool_labels, pool_notes = pool_marks(pod.pool, pod.resources)
        marks |= pool_labels
        notes |= pool_notes
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": work.name,
            "namespace": work.owner.namespace,
            "labels": marks,
            "annotations": notes,
        },
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": max(1, pod.deadline_seconds),
            "ttlSecondsAfterFinished": KEEP_FINISHED_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    _fail_on(CONTAINER, USER_CODE_RAISED),
                    *([_fail_on(COPY_CONTAINER, COPY_FAILED)] if pod.copy is not None else []),
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": marks}, "spec": _pod_spec(work, pod)},
        },
    }


def _fail_on(container: str, code: int) -> dict[str, Any]:
    """A rule: the Job has failed for good when this container ends so."""
    return {"action": "FailJob", "onExitCodes": {"containerName": container, "operator": "In", "values": [code]}}


_CONFINED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _pod_spec(work: Work, pod: PodSettings) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": f"{work.owner.project}-slipway-job",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": pod.image,
                "imagePullPolicy": pod.pull_policy,
                "command": ["slipway-job"],
                "args": [
                    work.command,
                    "--request",
                    work.request_key,
                    "--digest",
                    work.digest,
                    "--prefix",
                    work.prefix,
                ],
                "env": _environment(work.owner.project, pod),
                "resources": container_resources(pod.resources or OWN_RESOURCES, pod.pool),
                "securityContext": dict(_CONFINED),
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if pod.copy is not None:
        _add_copy(spec, pod.copy, pod.pull_policy)
    if pod.pool is not None:
        if pod.pool.spec.node_selector:
            spec["nodeSelector"] = dict(pod.pool.spec.node_selector)
        if pod.pool.spec.tolerations:
            spec["tolerations"] = [each.wire() for each in pod.pool.spec.tolerations]
    return spec


def _add_copy(spec: dict[str, Any], copy: FileCopy, pull_policy: str) -> None:
    """The init container that copies a file. It has no credentials, and what `cp` says is the pod's to tell."""
    mount = {"name": "copied", "mountPath": COPY_FOLDER}
    spec["initContainers"] = [
        {
            "name": COPY_CONTAINER,
            "image": copy.image,
            "imagePullPolicy": pull_policy,
            "command": ["cp", copy.path, COPIED],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": container_resources(OWN_RESOURCES, None),
            "securityContext": dict(_CONFINED),
            "volumeMounts": [mount],
        }
    ]
    spec["containers"][0]["volumeMounts"].append({**mount, "readOnly": True})
    # In memory the limit holds while the file is written; on a disk only at some later look of the kubelet.
    spec["volumes"].append({"name": "copied", "emptyDir": {"medium": "Memory", "sizeLimit": COPY_LIMIT}})


def _environment(project: str, pod: PodSettings) -> list[dict[str, Any]]:
    store = s3_secret(project, user_code=pod.user_code)
    plain = {
        "HOME": "/tmp",
        "SLIPWAY_S3_ENDPOINT": pod.location.endpoint,
        "SLIPWAY_S3_BUCKET": pod.location.bucket,
        "SLIPWAY_S3_REGION": pod.location.region,
    }
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    found += [_from_secret("SLIPWAY_S3_ACCESS_KEY", store, "accessKey")]
    found += [_from_secret("SLIPWAY_S3_SECRET_KEY", store, "secretKey")]
    if pod.feast:
        secret = feast_secret(project)
        found += [
            _from_secret(f"SLIPWAY_FEAST_{key.upper()}", secret, key)
            for key in ("host", "port", "database", "username", "password")
        ]
    return found


def _from_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def s3_secret(project: str, *, user_code: bool = False) -> str:
    """Name of a project's copy of the store's credentials."""
    return f"{project}-slipway-s3-train" if user_code else f"{project}-slipway-s3"


def feast_secret(project: str) -> str:
    """Name of a project's copy of the credentials of Feast's database."""
    return f"{project}-slipway-feast"
