"""KServe in Standard mode: the InferenceService of one model version, and what its state means.

KServe's own canary fields act in Knative mode only, so a version has an InferenceService of its own, and the split
between versions is the gateway's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from slipway.adapters import components, predictions, runtimes, scaling, trouble
from slipway.adapters.pools import is_extended, pool_marks
from slipway.adapters.predictions import PredictionLogging
from slipway.adapters.trouble import Trouble as Trouble
from slipway.api.computepool import ComputePool
from slipway.api.meta import parse_duration
from slipway.api.modelrollout import Replicas, Serving
from slipway.contracts.digests import short
from slipway.runtime.conditions import find
from slipway.runtime.resources import GROUP, Object, label_value

MODEL_LABEL: Final = f"{GROUP}/model"
"""The name under which the server answers (`/v1/models/NAME`): the runtime takes it from this label of the pod."""
PROJECT_LABEL: Final = f"{GROUP}/project"
VERSION_LABEL: Final = f"{GROUP}/modelversion"
VERSION_ANNOTATION: Final = f"{GROUP}/modelversion"
POD_LABEL: Final = "serving.kserve.io/inferenceservice"
SERVICE_LABEL: Final = "kubernetes.io/service-name"

PORT: Final = 80
"""Port of the predictor's Service, whatever the server's own port."""
_SUFFIX: Final = "-predictor"
_PARTS: Final = (_SUFFIX, "-transformer", "-explainer")
_DRAIN: Final = 5
_GRACE: Final = 45


@dataclass(frozen=True)
class Model:
    """What a server needs to know about a version.

    :param name: the ModelVersion
    :param digest: of the model
    :param artifact: folder in the artifact store, as a URI
    :param manifest_digest: of the bytes of its manifest, which the server verifies before it loads anything
    :param online_features: whether the server looks features up
    """

    name: str
    digest: str
    artifact: str
    manifest_digest: str
    online_features: bool


@dataclass(frozen=True)
class Readiness:
    """How far an InferenceService is.

    :param endpoints: model servers that take requests now
    :param ready: KServe says so, and servers take requests
    :param trouble: what a person has to know when it is not
    :param transformers: that take requests now; None where there are none to be
    :param heard: KServe has said anything about it
    """

    endpoints: int = 0
    ready: bool = False
    trouble: Trouble | None = None
    transformers: int | None = None
    heard: bool = True

    @property
    def answers(self) -> bool:
        """Whether a request gets through to a model server."""
        return self.endpoints > 0 and self.transformers != 0


@dataclass(frozen=True)
class Deployment:
    """Where and how servers of a rollout run.

    :param size: how many of them there are now; all of `serving.replicas` when empty
    """

    namespace: str
    rollout: str
    project: str
    serving: Serving
    pool: ComputePool | None = None
    size: Replicas | None = None
    predictions: PredictionLogging | None = None


def service_of(rollout: str, digest: str) -> str:
    """Name of a version's InferenceService."""
    return f"{rollout}-{short(digest)}"


def predictor_of(inference_service: str) -> str:
    """Name of the Service that KServe makes for the model servers of an InferenceService."""
    return inference_service + _SUFFIX


def entry_of(inference_service: str, *, transformed: bool) -> str:
    """Name of the Service by which requests enter a version.

    :param transformed: whether they go through a transformer
    """
    return f"{inference_service}-transformer" if transformed else predictor_of(inference_service)


def explainer_of(inference_service: str) -> str:
    """Name of the Service that answers for explanations."""
    return f"{inference_service}-explainer"


def inference_service_of(service: str) -> str:
    """The InferenceService that a Service of KServe belongs to."""
    for suffix in _PARTS:
        if service.endswith(suffix):
            return service.removesuffix(suffix)
    return service


# ---- manifest --------------------------------------------------------------------------------------------------------
def inference_service(deployment: Deployment, model: Model) -> Object:
    """The InferenceService of one version."""
    name = service_of(deployment.rollout, model.digest)
    size = deployment.size or deployment.serving.replicas
    pool_labels, pool_notes = _pool_marks(deployment)
    pod: Object = {
        "serviceAccountName": f"{deployment.project}-slipway-model",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _GRACE,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": deployment.namespace,
            "labels": {
                MODEL_LABEL: deployment.rollout,
                PROJECT_LABEL: label_value(deployment.project),
                VERSION_LABEL: label_value(model.name),
                **pool_labels,
            },
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": scaling.scaler_class(deployment.serving),
                VERSION_ANNOTATION: model.name,
                **pool_notes,
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": size.min,
                "maxReplicas": size.max,
                **scaling.scaling_spec(deployment.serving, name),
                **pod,
                **_placement(deployment.pool),
                "model": _container(deployment, model),
            },
            **components.components(
                deployment.serving, deployment.rollout, model.name, model.digest, pod, _restricted()
            ),
        },
    }


def _restricted() -> Object:
    return {
        # A server that is told to end keeps answering until the gateway has heard of it.
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _container(deployment: Deployment, model: Model) -> Object:
    serving = deployment.serving
    container: Object = {
        **runtimes.model_spec(serving, deployment.rollout, model.name, model.digest, model.artifact),
        "env": _environment(deployment, model),
        **_restricted(),
    }
    resources = _resources(deployment)
    if resources:
        container["resources"] = resources
    return container


def _environment(deployment: Deployment, model: Model) -> list[Object]:
    if deployment.serving.model_format is not None:
        return runtimes.environment(deployment.serving, deployment.rollout)
    features = deployment.serving.features
    milliseconds = int(parse_duration(features.timeout).total_seconds() * 1000)
    values = {
        "SLIPWAY_MODEL_VERSION": model.name,
        "SLIPWAY_MANIFEST_DIGEST": model.manifest_digest,
        "SLIPWAY_FEATURES_TIMEOUT_MS": str(milliseconds),
        "SLIPWAY_FEATURES_ON_MISSING": features.on_missing,
    }
    abstain = deployment.serving.abstain
    if abstain is not None:
        values |= {"SLIPWAY_ABSTAIN_BELOW": abstain.below, "SLIPWAY_ABSTAIN_FALLBACK": abstain.fallback}
    environment: list[Object] = [{"name": name, "value": value} for name, value in values.items()]
    if model.online_features:
        secret = f"{deployment.project}-slipway-feast"
        environment += [
            {
                "name": f"SLIPWAY_FEAST_{key.upper()}",
                "valueFrom": {"secretKeyRef": {"name": secret, "key": key}},
            }
            for key in ("host", "port", "database", "username", "password")
        ]
    if deployment.predictions is not None:
        folder = predictions.version_folder(deployment.namespace, deployment.rollout, model.name)
        environment += predictions.environment(deployment.predictions, folder, deployment.project)
    return environment


def _pool_marks(deployment: Deployment) -> tuple[dict[str, str], dict[str, str]]:
    """What makes the pool count the servers: the units of one, because a mark that changes would restart them all."""
    if deployment.pool is None:
        return {}, {}
    return pool_marks(deployment.pool, deployment.serving.resources)


def _placement(pool: ComputePool | None) -> Object:
    if pool is None:
        return {}
    spec = pool.spec
    placement: Object = {}
    if spec.node_selector:
        placement["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        placement["tolerations"] = [each.wire() for each in spec.tolerations]
    return placement


def _resources(deployment: Deployment) -> Object:
    resources = deployment.serving.resources
    wanted: Object = resources.wire() if resources else {}
    pool = deployment.pool
    # Device resources (`nvidia.com/gpu`) cannot be overcommitted: a server in such a pool that says nothing gets one.
    if pool is not None and is_extended(pool.spec.resource):
        limits = {pool.spec.resource: "1", **(wanted.get("limits") or {})}
        wanted = {**wanted, "limits": limits}
    return wanted


# ---- state -----------------------------------------------------------------------------------------------------------
def readiness(
    service: Mapping[str, Any],
    slices: Iterable[Mapping[str, Any]],
    pods: Iterable[Object],
    before: Iterable[Mapping[str, Any]] = (),
) -> Readiness:
    """What an InferenceService, the EndpointSlices of its Services and its pods say together.

    :param before: EndpointSlices of its transformer

    KServe's `Ready` alone is not enough: it is computed from the Deployment and may be older than the last change. (Its
    `observedGeneration` is the Deployment's in Standard mode, so it cannot be compared with the InferenceService's.)
    What counts is that it was observed at all, and that servers take requests.
    """
    status = service.get("status") or {}
    endpoints = sum(map(_ready_addresses, slices))
    says_ready = (find(status.get("conditions") or (), "Ready") or {}).get("status") == "True"
    transformers = sum(map(_ready_addresses, before)) if is_transformed(service) else None
    answers = Readiness(endpoints, transformers=transformers).answers
    heard = bool(status.get("conditions"))
    ready = says_ready and answers and not service["metadata"].get("deletionTimestamp")
    return Readiness(endpoints, ready, None if ready else trouble.of(service, pods), transformers, heard)


def is_transformed(service: Mapping[str, Any]) -> bool:
    """Whether an InferenceService has a transformer."""
    return bool((service.get("spec") or {}).get("transformer"))


def _ready_addresses(slice_: Mapping[str, Any]) -> int:
    return sum(
        len(endpoint.get("addresses") or ())
        for endpoint in slice_.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True)
        and not (endpoint.get("conditions") or {}).get("terminating")
    )
