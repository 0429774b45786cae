"""KServe in Standard mode: the InferenceService of one model version, and what its state means.

KServe's own canary fields act in Knative mode only, so a version has an InferenceService of its own, and the split
between versions is the gateway's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from slipway.adapters import components, predictions, runtimes, scaling
from slipway.adapters.pools import is_extended, pool_marks
from slipway.adapters.predictions import PredictionLogging
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
class Trouble:
    """Why servers do not become ready: a reason word and a sentence that says what to do."""

    reason: str
    message: str


@dataclass(frozen=True)
class Readiness:
    """How far an InferenceService is.

    :param endpoints: model servers that take requests now
    :param ready: KServe says so, and servers take requests
    :param trouble: what a person has to know when it is not
    :param transformers: that take requests now; None where there are none to be
    """

    endpoints: int = 0
    ready: bool = False
    trouble: Trouble | None = None
    transformers: int | None = None

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
    ready = says_ready and answers and not service["metadata"].get("deletionTimestamp")
    return Readiness(endpoints, ready, None if ready else trouble(service, pods), transformers)


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


def trouble(service: Mapping[str, Any], pods: Iterable[Object]) -> Trouble | None:
    """Why servers do not become ready, the most telling first; None while nothing is wrong."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        found = _pod_trouble(pod)
        if found is not None:
            return found
    return _load_trouble(service) or _replica_trouble(service)


_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def _pod_trouble(pod: Object) -> Trouble | None:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    scheduled = find(status.get("conditions") or (), "PodScheduled") or {}
    if scheduled.get("reason") == "Unschedulable":
        return Trouble(
            "Unschedulable",
            f"Pod {name} fits on no node: {_sentence(scheduled)} Add nodes, lower spec.serving.resources, or choose"
            " another spec.serving.poolRef.",
        )
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        found = _container_trouble(name, container)
        if found is not None:
            return found
    return None


def _container_trouble(pod: str, container: Mapping[str, Any]) -> Trouble | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE_REASONS:
        return Trouble(
            "ImageUnavailable",
            f"Pod {pod} cannot get image {container.get('image', '')}: {_sentence(waiting)} Correct the image of the"
            " serving runtime or in spec.serving, or let the nodes pull it.",
        )
    if reason in _CONFIG_REASONS:
        return Trouble("ServerNotCreated", f"Pod {pod} cannot start {container['name']}: {_sentence(waiting)}")
    ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and ended.get("exitCode"):
        return _exit_trouble(pod, container, ended)
    return None


def _exit_trouble(pod: str, container: Mapping[str, Any], ended: Mapping[str, Any]) -> Trouble:
    if ended.get("reason") == "OOMKilled":
        return Trouble(
            "OutOfMemory",
            f"Pod {pod} was ended for using more memory than its limit: raise spec.serving.resources.limits.memory.",
        )
    if container["name"] == "storage-initializer":
        return Trouble(
            "ArtifactUnavailable",
            f"Pod {pod} cannot download the model (exit code {ended['exitCode']}): {_sentence(ended)} Look at the"
            " artifact store and at its credentials.",
        )
    return Trouble(
        "LoadFailed",
        f"Pod {pod} ended with exit code {ended['exitCode']}: {_sentence(ended)} `kubectl logs {pod} -p` has the rest.",
    )


def _load_trouble(service: Mapping[str, Any]) -> Trouble | None:
    model = (service.get("status") or {}).get("modelStatus") or {}
    info = model.get("lastFailureInfo") or {}
    name = service["metadata"]["name"]
    if model.get("transitionStatus") == "InvalidSpec":
        return Trouble(
            "InvalidSpec",
            f"KServe refuses InferenceService {name}: {_sentence(info)} Correct spec.serving: runtime,"
            " modelFormat or protocol.",
        )
    if model.get("transitionStatus") == "BlockedByFailedLoad":
        return Trouble("LoadFailed", f"The server of {name} cannot load the model: {_sentence(info)}")
    return None


def _replica_trouble(service: Mapping[str, Any]) -> Trouble | None:
    """Pods that were refused (quota, Pod Security, admission): there is no pod that could tell."""
    for part in ("PredictorReady", "TransformerReady", "ExplainerReady"):
        stated = find((service.get("status") or {}).get("conditions") or (), part) or {}
        if stated.get("status") == "False" and stated.get("reason") == "FailedCreate":
            return Trouble("PodsRefused", f"Pods of {service['metadata']['name']} are refused: {_sentence(stated)}")
    return None


def _sentence(source: Mapping[str, Any]) -> str:
    text = " ".join(str(source.get("message") or source.get("reason") or "no message").split())
    if len(text) > 400:
        text = "…" + text[-399:]  # the end of an error says what went wrong
    return text if text.endswith((".", "…", "!")) else text + "."
