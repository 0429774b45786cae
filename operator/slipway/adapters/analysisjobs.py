"""Jobs that measure: exit code 0 is good, another one is bad, and a Job that could not end by itself is an Error.

They run the image that a template names, in the rollout's namespace, without a Kubernetes token, without any Secret,
and as restricted as the project's other Jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from slipway.adapters import labels
from slipway.adapters.jobs import KEEP_FINISHED_SECONDS, UID, job_name_of
from slipway.adapters.jobstate import job_state, newest
from slipway.adapters.measurements import Answer, Token
from slipway.api.analysis import JobProvider
from slipway.api.meta import Resources, parse_duration
from slipway.contracts.digests import digest_bytes, short
from slipway.runtime.resources import Object

STAGE = "analysis"
CONTAINER = "measure"
_RESOURCES = Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "512Mi"})


def name_of(rollout: str, token: Token) -> str:
    """Name of the Job of a measurement: the same measurement never runs twice."""
    return job_name_of(rollout, f"-{STAGE}-{short(digest_bytes(str(token).encode()))}")


def manifest(name: str, namespace: str, project: str, spec: JobProvider) -> Object:
    """The Job. It carries no owner reference: the runtime adds it."""
    marks = {**labels.of(project, stage=STAGE), "app.kubernetes.io/managed-by": "slipway"}
    deadline = max(1, ceil(parse_duration(spec.deadline).total_seconds()))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": marks},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": KEEP_FINISHED_SECONDS,
            # A node that goes away says nothing about the version: its pod is made anew and not counted.
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": marks}, "spec": _pod(spec)},
        },
    }


def _pod(spec: JobProvider) -> Object:
    resources = spec.resources or _RESOURCES
    container: Object = {
        "name": CONTAINER,
        "image": spec.image,
        "env": [each.wire() for each in spec.env],
        "resources": resources.wire(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    if spec.command:
        container["command"] = list(spec.command)
    if spec.args:
        container["args"] = list(spec.args)
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def answer_of(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Answer | None:
    """The exit code of a Job, or why it has none; None while it runs."""
    state = job_state(job, pods)
    if state.active:
        return None
    if state.phase == "Complete":
        return Answer(0)
    code = _exit_code(newest(pods))
    if state.reason in ("JobFailed", "TrainingCodeFailed") and code:
        return Answer(code)
    return Answer(error=state.message)


def _exit_code(pod: Mapping[str, Any] | None) -> int | None:
    for container in ((pod or {}).get("status") or {}).get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            return int(ended.get("exitCode", 0))
    return None
