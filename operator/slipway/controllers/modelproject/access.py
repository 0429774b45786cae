"""Credentials and rights in a project's namespace: Secrets, ServiceAccounts, RoleBindings of the team. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from slipway.adapters import labels
from slipway.adapters.jobs import feast_secret, s3_secret
from slipway.adapters.predictions import prediction_secret
from slipway.adapters.secrets import SecretData
from slipway.api.modelproject import Subject as TeamSubject
from slipway.api.modelproject import Team
from slipway.api.platform import Platform
from slipway.controllers.modelproject.snapshot import ModelProjectSnapshot
from slipway.controllers.platform.observe import FEAST_KEYS, STORE_KEYS
from slipway.runtime.controller import Action, Apply, Delete
from slipway.runtime.resources import ROLE_BINDING, Key

CLUSTER_ROLES = {
    "Owner": "slipway-owner",
    "DataEngineer": "slipway-data-engineer",
    "MLEngineer": "slipway-ml-engineer",
    "SoftwareEngineer": "slipway-software-engineer",
    "ProjectManager": "slipway-project-manager",
}
"""ClusterRoles of the chart that a role in a team is bound to."""

_KSERVE = "serving.kserve.io"
_RBAC = "rbac.authorization.k8s.io"


def missing_credentials(snapshot: ModelProjectSnapshot) -> str:
    """What is wrong with the Platform's Secrets; empty when nothing is."""
    platform = snapshot.platform
    assert platform is not None
    s3 = platform.spec.artifacts.s3
    user_code = s3.user_code_secret_ref or s3.secret_ref
    postgres = platform.spec.features.postgres.secret_ref
    wanted = [
        (s3.secret_ref, snapshot.credentials.store, STORE_KEYS),
        (user_code, snapshot.credentials.user_code, STORE_KEYS),
        (postgres, snapshot.credentials.feast, FEAST_KEYS),
    ]
    if s3.prediction_log_secret_ref is not None:
        wanted.append((s3.prediction_log_secret_ref, snapshot.credentials.predictions, STORE_KEYS))
    for reference, secret, keys in wanted:
        name = f"Secret {reference.namespace}/{reference.name}, which the Platform names,"
        if secret is None:
            return f"{name} does not exist: ask the cluster's administrators to create it."
        if missing := secret.missing(*keys):
            return f"{name} has no {', '.join(missing)}: ask the cluster's administrators to add it."
    return ""


def access(snapshot: ModelProjectSnapshot) -> tuple[Action, ...]:
    """Everything that Jobs, servers and the team need in the namespace; the credentials are there."""
    platform, credentials = snapshot.platform, snapshot.credentials
    assert platform is not None
    assert credentials.store is not None
    assert credentials.user_code is not None
    assert credentials.feast is not None
    project = snapshot.subject.name
    manifests = [
        _s3(snapshot, s3_secret(project), credentials.store, platform, serving=True),
        _s3(snapshot, s3_secret(project, user_code=True), credentials.user_code, platform, serving=False),
        _object(snapshot, "v1", "Secret", feast_secret(project), copied(credentials.feast, FEAST_KEYS)),
        _object(snapshot, "v1", "ServiceAccount", f"{project}-slipway-job", {"automountServiceAccountToken": False}),
        _object(
            snapshot,
            "v1",
            "ServiceAccount",
            f"{project}-slipway-model",
            {"automountServiceAccountToken": False, "secrets": [{"name": s3_secret(project)}]},
        ),
    ]
    if credentials.predictions is not None:
        manifests.append(_s3(snapshot, prediction_secret(project), credentials.predictions, platform, serving=False))
    return (*(Apply(manifest) for manifest in manifests), *_bindings(snapshot))


def copied(secret: SecretData, keys: tuple[str, ...], more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The `type` and `data` of a Secret with some of another's keys, encoded as the API stores them."""
    values = {**{key: secret.values[key] for key in keys}, **(more or {})}
    return {"type": "Opaque", "data": {key: b64encode(value.encode()).decode() for key, value in values.items()}}


def _s3(
    snapshot: ModelProjectSnapshot, name: str, secret: SecretData, platform: Platform, *, serving: bool
) -> dict[str, Any]:
    """A copy of the store's credentials; for servers also in the words of KServe's storage initializer."""
    if not serving:
        return _object(snapshot, "v1", "Secret", name, copied(secret, STORE_KEYS))
    more = {
        "AWS_ACCESS_KEY_ID": secret.values["accessKey"],
        "AWS_SECRET_ACCESS_KEY": secret.values["secretKey"],
    }
    s3 = platform.spec.artifacts.s3
    address = urlsplit(s3.endpoint)
    notes = {
        f"{_KSERVE}/s3-endpoint": address.netloc,
        f"{_KSERVE}/s3-usehttps": "1" if address.scheme == "https" else "0",
        f"{_KSERVE}/s3-region": s3.region,
        f"{_KSERVE}/s3-useanoncredential": "false",
        f"{_KSERVE}/s3-usevirtualbucket": "false",
    }
    return _object(snapshot, "v1", "Secret", name, copied(secret, STORE_KEYS, more), notes)


def _object(
    snapshot: ModelProjectSnapshot,
    api_version: str,
    kind: str,
    name: str,
    content: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "name": name,
        "namespace": snapshot.subject.namespace,
        "labels": labels.of(snapshot.subject.name),
    }
    if annotations:
        meta["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **content}


def _bindings(snapshot: ModelProjectSnapshot) -> tuple[Action, ...]:
    """One RoleBinding a role that somebody has; those that nobody has any more go."""
    project, namespace = snapshot.subject.name, snapshot.subject.namespace
    wanted: dict[str, dict[str, Any]] = {}
    for role, subjects in _by_role(snapshot.subject.typed.spec.team).items():
        name = f"{project}-{CLUSTER_ROLES[role]}"
        content = {
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": CLUSTER_ROLES[role]},
            "subjects": [_subject(each, namespace) for each in subjects],
        }
        wanted[name] = _object(snapshot, f"{_RBAC}/v1", "RoleBinding", name, content)
    gone = tuple(
        Delete(Key(ROLE_BINDING, namespace, name), uid=uid)
        for name, uid in sorted(snapshot.bindings.items())
        if name not in wanted
    )
    return (*(Apply(manifest) for _, manifest in sorted(wanted.items())), *gone)


def _by_role(team: Team | None) -> dict[str, list[TeamSubject]]:
    found: dict[str, list[TeamSubject]] = {}
    if team is None:
        return found
    found["Owner"] = [team.owner]
    for member in team.members:
        for role in member.roles:
            found.setdefault(role, []).append(member)
    return found


def _subject(subject: TeamSubject, namespace: str) -> dict[str, str]:
    if subject.kind == "ServiceAccount":
        return {"kind": subject.kind, "name": subject.name, "namespace": namespace}
    return {"kind": subject.kind, "name": subject.name, "apiGroup": _RBAC}
