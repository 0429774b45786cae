"""The compiled pipeline made ready for one project: image, environment and resources of its tasks, and beside it the
platform specification (Secrets, placement, labels) that the SDK's extension `kfp-kubernetes` would have compiled.

Nothing else of the pipeline changes: same components, same tasks, same commands. Whatever differs between two runs of a
project goes by parameters, so that its runs share one document.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from slipway.adapters import labels
from slipway.adapters.jobs import OWN_RESOURCES, UID
from slipway.adapters.pools import container_resources, is_extended, pool_marks
from slipway.adapters.quantities import quantity
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources
from slipway.contracts.digests import digest_json, short
from slipway.contracts.jobs import Store
from slipway.contracts.pipelines import IMAGE, OWN
from slipway.contracts.stages import ENVIRONMENT, TASKS, TERMINATION_LOG

TERMINATION_PATH = "/dev/termination-log"
POOL_TASK = "train"
"""The task that gets a pool's accelerators: the one that runs the team's code."""
_PRODUCE = ("features", "baselines", "train")
_BUILTIN = frozenset({"cpu", "memory"})

_FEAST = ("host", "port", "database", "username", "password")
_STORE = {"accessKey": "SLIPWAY_S3_ACCESS_KEY", "secretKey": "SLIPWAY_S3_SECRET_KEY"}


@dataclass(frozen=True)
class Settings:
    """What a project's runs have in common.

    :param s3_secret, feast_secret: Secrets in the namespace of the runs' pods
    :param deadline_seconds: of each task's pod; a bound where the operator cannot end a run
    """

    image: str
    project: str
    store: Store
    s3_secret: str
    feast_secret: str
    pull_policy: str = "IfNotPresent"
    pool: ComputePool | None = None
    resources: Resources | None = None
    deadline_seconds: int = 7200


@dataclass(frozen=True)
class Document:
    """What is submitted.

    :param pipeline: digest of the compiled pipeline that it was made from
    """

    spec: Mapping[str, Any]
    platform: Mapping[str, Any]
    pipeline: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_json([self.spec, self.platform]))

    @property
    def name(self) -> str:
        """Name of the pipeline version: the same for the same content."""
        return f"{short(self.pipeline)}-{short(self.digest)}"

    def text(self) -> str:
        """Two YAML documents, as the SDK writes them."""
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        return str(yaml.dump_all([self.spec, self.platform], Dumper=dumper, sort_keys=True))


def load(ir: bytes) -> dict[str, Any]:
    """The compiled pipeline as a dictionary."""
    spec: dict[str, Any] = yaml.load(ir, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return spec


def document(
    ir: Mapping[str, Any],
    pipeline_digest: str,
    settings: Settings,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> Document:
    """The document of a project's runs. Pure; the same settings give the same bytes.

    :param own: what the team's own pipeline, if it is in the IR, says of its executors for Kubernetes
    """
    spec = copy.deepcopy(dict(ir))
    executors = spec["deploymentSpec"]["executors"]
    platform: dict[str, Any] = {}
    for label in executors:
        container = executors[label]["container"]
        name = label.removeprefix("exec-")
        if name.startswith(OWN):
            told = (own or {}).get(f"exec-{name.removeprefix(OWN)}", {})
            platform[label] = own_executor(container, told, settings)
            continue
        container["image"] = settings.image
        container["env"] = [*container.get("env", ()), *_environment(name, settings)]
        container["resources"] = resource_spec(name, settings)
        platform[f"exec-{name}"] = executor_config(name, settings)
    wrapped = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": platform}}}}
    return Document(spec, wrapped, pipeline_digest)


def own_executor(container: dict[str, Any], told: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Makes a container of the team's own pipeline ready, in place; gives its `KubernetesExecutorConfig`.

    It keeps its image, its environment and what it asks for, and gets no credentials. Those that ask for accelerators
    are placed on the pool's nodes; where the pool has only nodes, all are, with the run's resources.
    """
    if container["image"] == IMAGE:
        container["image"] = settings.image
    declared = container.get("env") or []
    names = {each["name"] for each in declared}
    plain = {**ENVIRONMENT, "HOME": "/tmp", TERMINATION_LOG: TERMINATION_PATH}
    container["env"] = [*declared, *({"name": name, "value": plain[name]} for name in plain if name not in names)]
    asks = "accelerator" in (container.get("resources") or {})
    nodes_only = settings.pool is not None and not is_extended(settings.pool.spec.resource)
    if nodes_only or not container.get("resources"):
        container["resources"] = resource_spec(OWN, settings)
    if settings.pool is not None and not (asks or nodes_only):
        settings = replace(settings, pool=None)
    return {**told, **executor_config(POOL_TASK, settings)}


def unsupported(settings: Settings) -> str:
    """What a KFP task cannot have of a run's resources; empty when all is well. KFP knows one accelerator a task."""
    wanted = container_resources(settings.resources or OWN_RESOURCES, settings.pool)
    names = sorted({name for amounts in wanted.values() for name in amounts} - _BUILTIN)
    own = settings.pool.spec.resource if settings.pool is not None else ""
    extended = [name for name in names if is_extended(name)]
    if len(extended) > 1:
        return (
            f"spec.resources: a task of Kubeflow Pipelines can have one accelerator, and the run asks for "
            f"{', '.join(extended)}: keep one."
        )
    others = [name for name in names if not is_extended(name) and name != own]
    if others:
        return (
            f"spec.resources: a task of Kubeflow Pipelines can have cpu, memory and one accelerator, not "
            f"{', '.join(others)}: remove it."
        )
    return ""


def _environment(name: str, settings: Settings) -> list[dict[str, str]]:
    plain = {"HOME": "/tmp", TERMINATION_LOG: TERMINATION_PATH}
    if TASKS[name].store:
        plain |= {
            "SLIPWAY_S3_ENDPOINT": settings.store.endpoint,
            "SLIPWAY_S3_BUCKET": settings.store.bucket,
            "SLIPWAY_S3_REGION": settings.store.region,
        }
    return [{"name": variable, "value": value} for variable, value in plain.items()]


def resource_spec(name: str, settings: Settings) -> dict[str, Any]:
    """A task's `ResourceSpec`: each amount twice, for backends before and after placeholders were allowed there."""
    pool = settings.pool if name == POOL_TASK else None
    wanted = container_resources(settings.resources or OWN_RESOURCES, pool)
    found: dict[str, Any] = {}
    for side, suffix in (("requests", "Request"), ("limits", "Limit")):
        amounts = wanted.get(side, {})
        if "cpu" in amounts:
            found[f"cpu{suffix}"] = float(quantity(amounts["cpu"]))
            found[f"resourceCpu{suffix}"] = str(amounts["cpu"])
        if "memory" in amounts:
            found[f"memory{suffix}"] = float(quantity(amounts["memory"])) / 1e9
            found[f"resourceMemory{suffix}"] = str(amounts["memory"])
    limits = wanted.get("limits", {})
    accelerator = next((each for each in sorted(limits) if is_extended(each)), None)
    if name == POOL_TASK and accelerator is not None:
        count = str(limits[accelerator])
        found["accelerator"] = {
            "type": accelerator,
            "count": count,
            "resourceType": accelerator,
            "resourceCount": count,
        }
    return found


def executor_config(name: str, settings: Settings) -> dict[str, Any]:
    """A task's `KubernetesExecutorConfig` in protobuf's JSON form: integers of 64 bits are strings there."""
    found: dict[str, Any] = {
        "imagePullPolicy": settings.pull_policy,
        "podMetadata": _marks(name, settings),
        "activeDeadlineSeconds": str(settings.deadline_seconds),
        "securityContext": {"runAsUser": str(UID), "runAsGroup": str(UID), "runAsNonRoot": True},
    }
    secrets = []
    if TASKS[name].store:
        secrets.append(_secret(settings.s3_secret, _STORE))
    if TASKS[name].feast:
        secrets.append(_secret(settings.feast_secret, {key: f"SLIPWAY_FEAST_{key.upper()}" for key in _FEAST}))
    if secrets:
        found["secretAsEnv"] = secrets
    pool = settings.pool
    if pool is not None and (name == POOL_TASK or (name in _PRODUCE and not is_extended(pool.spec.resource))):
        if pool.spec.node_selector:
            found["nodeSelector"] = {"labels": dict(pool.spec.node_selector)}
        if pool.spec.tolerations:
            found["tolerations"] = [each.wire() for each in pool.spec.tolerations]
    return found


def _marks(name: str, settings: Settings) -> dict[str, Any]:
    """Labels by which the operator sees the pods, and of the pool those that say what waits for it."""
    marks = {**labels.of(settings.project, stage=TASKS[name].stage), "app.kubernetes.io/managed-by": "slipway"}
    if settings.pool is None or name != POOL_TASK:
        return {"labels": marks}
    pool_labels, notes = pool_marks(settings.pool, settings.resources)
    return {"labels": marks | pool_labels, "annotations": notes}


def _secret(name: str, keys: Mapping[str, str]) -> dict[str, Any]:
    return {
        "secretName": name,
        "secretNameParameter": {"runtimeValue": {"constant": name}},
        "keyToEnv": [{"secretKey": key, "envVar": variable} for key, variable in keys.items()],
        "optional": False,
    }
