"""Why servers of an InferenceService do not become ready: what pods, KServe and the cluster say, and what mends it.

Each sentence says what happened in their words, and ends with what a person does about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipway.runtime.conditions import find
from slipway.runtime.resources import Object


@dataclass(frozen=True)
class Trouble:
    """Why servers do not become ready: a reason word and a sentence that says what to do."""

    reason: str
    message: str


Remedies = Sequence[tuple[str, str]]
"""Expressions that are looked for in a text, in their order, and the remedy for the first that is found."""

_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_STORAGE_INITIALIZER: Final = "storage-initializer"
_SHOWN: Final = 400

_IMAGE_REMEDIES: Remedies = (
    (r"ErrImageNeverPull", "Load the image onto the nodes, or change its imagePullPolicy."),
    (r"InvalidImageName", "Correct the image's name in the serving runtime or in spec.serving."),
    (r"SignatureValidationFailed", "Sign the image, or let the nodes' policy accept it."),
    (r"unauthorized|denied|forbidden|authentication|\b40[13]\b", "Give the project's ServiceAccount a pull secret."),
    (
        r"not found|manifest unknown|\b404\b",
        "Push the image, or correct its name in the serving runtime or in spec.serving.",
    ),
    (
        r"no such host|timeout|timed out|refused|RegistryUnavailable|\b50\d\b|\b429\b",
        "The registry does not answer: look at it and at the nodes' way to it; the pull is repeated.",
    ),
    (r"", "Correct the image of the serving runtime or in spec.serving, or let the nodes pull it."),
)
_CONFIG_REMEDIES: Remedies = (
    (
        r"secret .*not found|couldn't find key .*[Ss]ecret",
        "Create the Secret, or the key in it, that the message names.",
    ),
    (r"configmap .*not found|couldn't find key", "Create the ConfigMap, or the key in it, that the message names."),
    (r"runAsNonRoot|run as root", "Use an image of the serving runtime whose user is not root."),
    (r"executable file not found|no such file", "Correct the command of the serving runtime, or its image."),
    (r"device|cgroup|nvidia", "Look at the node's device plugin and container runtime."),
    (r"", "Correct what the message names in the serving runtime, or in the project's namespace."),
)
_SCHEDULING_REMEDIES: Remedies = (
    (
        r"persistentvolumeclaim|PersistentVolumeClaim",
        "Make the PersistentVolumeClaim that the serving runtime names, or a volume for it.",
    ),
    (
        r"Insufficient [a-z0-9.-]+/[a-z0-9.-]+",
        "Free a device or add nodes to the pool; or choose spec.serving.capacity: Partial or Recreate, which need fewer"
        " servers at once, or another spec.serving.poolRef.",
    ),
    (
        r"Insufficient|Too many pods",
        "Add nodes, lower spec.serving.resources or spec.serving.replicas, or choose another spec.serving.poolRef.",
    ),
    (
        r"untolerated taint|had taint",
        "Let the ComputePool tolerate the taint (spec.tolerations), or choose another spec.serving.poolRef.",
    ),
    (
        r"didn't match Pod's node (affinity|selector)|node selector",
        "Correct spec.nodeSelector of the ComputePool, label a node, or choose another spec.serving.poolRef.",
    ),
    (r"unschedulable|not ready", "Bring nodes back (`kubectl get nodes`), or add some."),
    (r"", "Add nodes, lower spec.serving.resources, or choose another spec.serving.poolRef."),
)
_STORAGE_REMEDIES: Remedies = (
    (
        r"\b40[13]\b|AccessDenied|Forbidden|SignatureDoesNotMatch|InvalidAccessKeyId|credential",
        "The artifact store refuses the credentials: correct the Secret that Platform spec.artifacts.s3.secretRef"
        " names.",
    ),
    (
        r"\b404\b|NoSuchKey|NoSuchBucket|[Nn]ot [Ff]ound|does not exist|no objects|[Nn]o model",
        "The artifact is gone, or the bucket is another one: compare spec.artifact of the ModelVersion with the store;"
        " train again if it was deleted.",
    ),
    (
        r"resolve|Name or service not known|no such host|Temporary failure in name|EndpointConnectionError|connect"
        r"|refused|[Tt]imed? ?out|\b50\d\b|unreachable",
        "The artifact store does not answer: look at it and at Platform spec.artifacts.s3.endpoint (`kubectl describe"
        " platform default`).",
    ),
    (r"certificate|SSL|TLS", "Let the serving runtime trust the artifact store's certificate."),
    (r"No space left|disk", "Give the servers more ephemeral storage (spec.serving.resources)."),
    (r"", "Look at the artifact store and at its credentials."),
)
_REFUSED_REMEDIES: Remedies = (
    (
        r"exceeded quota",
        "Raise the namespace's ResourceQuota, lower spec.serving.resources, or choose spec.serving.capacity: Partial or"
        " Recreate.",
    ),
    (r"must specify|failed quota", "Set spec.serving.resources, which the namespace's ResourceQuota asks for."),
    (
        r"LimitRange|maximum .* usage per|minimum .* usage per",
        "Fit spec.serving.resources to the namespace's LimitRange.",
    ),
    (r"PodSecurity", "Use a serving runtime that the namespace's Pod Security level allows."),
    (
        r"failed calling webhook",
        "An admission webhook does not answer: look at its Service; pods are made by themselves when it does.",
    ),
    (r"serviceaccount .*not found", "The ModelProject makes this ServiceAccount: look at its conditions."),
    (r"denied the request", "Change what the admission webhook refuses, or its policy."),
    (r"", "Change what the message names: a quota or a policy of the namespace."),
)
_LOAD_REMEDIES: Remedies = (
    (r"RuntimeDisabled", "Enable the serving runtime, or choose another spec.serving.runtime."),
    (
        r"NoSupportingRuntime|RuntimeNotRecognized|[Rr]untime.*(not found|no such)|no such runtime",
        "Correct spec.serving.runtime: `kubectl get clusterservingruntimes` lists what there is.",
    ),
    (r"InvalidPredictorSpec|InvalidGPUAllocation", "Correct spec.serving: runtime, modelFormat, resources, poolRef."),
    (r"digest", "The stored model is not the one that was recorded: find out who changed the store, and train again."),
    (r"", "Correct the model or spec.serving.runtime; `kubectl logs` of its pods has the rest."),
)


def of(service: Mapping[str, Any], pods: Iterable[Object]) -> Trouble | None:
    """Why servers do not become ready, the most telling first; None while nothing is wrong."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        found = _of_pod(pod)
        if found is not None:
            return found
    return _of_load(service) or _of_replicas(service)


# ---- pods ------------------------------------------------------------------------------------------------------------
def _of_pod(pod: Object) -> Trouble | None:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return None  # it is on its way out: another one tells
    if status.get("phase") == "Failed" and not status.get("containerStatuses"):
        return _gone(name, status)
    scheduled = find(status.get("conditions") or (), "PodScheduled") or {}
    if scheduled.get("reason") == "Unschedulable":
        said = sentence(scheduled)
        return Trouble("Unschedulable", f"Pod {name} fits on no node: {said} {_remedy(_SCHEDULING_REMEDIES, said)}")
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return next(filter(None, (_of_container(name, each) for each in containers)), None)


def _gone(pod: str, status: Mapping[str, Any]) -> Trouble:
    """A pod that a node gave up before or instead of running it."""
    reason, said = str(status.get("reason") or "Failed"), sentence(status)
    if reason == "Evicted":
        remedy = "Raise the requests of spec.serving.resources (also ephemeral-storage), or give the nodes more room."
    else:
        remedy = "Look at the node and its device plugin (`kubectl get nodes`); a new pod is made by itself."
    return Trouble("PodFailed", f"Pod {pod} failed ({reason}): {said} {remedy}")


def _of_container(pod: str, container: Mapping[str, Any]) -> Trouble | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        said = sentence(waiting)
        remedy = _remedy(_IMAGE_REMEDIES, f"{reason} {said}")
        return Trouble("ImageUnavailable", f"Pod {pod} cannot get image {container.get('image', '')}: {said} {remedy}")
    if reason in _CONFIG:
        said = sentence(waiting)
        message = f"Pod {pod} cannot start {container['name']}: {said} {_remedy(_CONFIG_REMEDIES, said)}"
        return Trouble("ServerNotCreated", message)
    ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and ended.get("exitCode"):
        return _of_exit(pod, container, ended)
    if reason == "CrashLoopBackOff":
        return Trouble("LoadFailed", f"Pod {pod} ends again and again: `kubectl logs {pod} -p` says why.")
    return None


def _of_exit(pod: str, container: Mapping[str, Any], ended: Mapping[str, Any]) -> Trouble:
    storing = container["name"] == _STORAGE_INITIALIZER
    if ended.get("reason") == "OOMKilled":
        if storing:
            raised = "the memory limit of the storage initializer in KServe's ConfigMap inferenceservice-config"
        else:
            raised = "spec.serving.resources.limits.memory"
        return Trouble("OutOfMemory", f"Pod {pod} was ended for using more memory than its limit: raise {raised}.")
    said, code = sentence(ended), ended["exitCode"]
    if storing:
        message = f"Pod {pod} cannot download the model (exit code {code}): {said} {_remedy(_STORAGE_REMEDIES, said)}"
        return Trouble("ArtifactUnavailable", message)
    return Trouble("LoadFailed", f"Pod {pod} ended with exit code {code}: {said} `kubectl logs {pod} -p` has the rest.")


# ---- KServe and the cluster ------------------------------------------------------------------------------------------
def _of_load(service: Mapping[str, Any]) -> Trouble | None:
    model = (service.get("status") or {}).get("modelStatus") or {}
    info = model.get("lastFailureInfo") or {}
    name, said = service["metadata"]["name"], sentence(info)
    remedy = _remedy(_LOAD_REMEDIES, f"{info.get('reason', '')} {said}")
    if model.get("transitionStatus") == "InvalidSpec":
        return Trouble("InvalidSpec", f"KServe refuses InferenceService {name}: {said} {remedy}")
    if model.get("transitionStatus") == "BlockedByFailedLoad":
        return Trouble("LoadFailed", f"The server of {name} cannot load the model: {said} {remedy}")
    return None


def _of_replicas(service: Mapping[str, Any]) -> Trouble | None:
    """Pods that were refused (quota, Pod Security, admission): there is no pod that could tell."""
    for part in ("PredictorReady", "TransformerReady", "ExplainerReady"):
        stated = find((service.get("status") or {}).get("conditions") or (), part) or {}
        if stated.get("status") == "False" and stated.get("reason") == "FailedCreate":
            name, said = service["metadata"]["name"], sentence(stated)
            return Trouble("PodsRefused", f"Pods of {name} are refused: {said} {_remedy(_REFUSED_REMEDIES, said)}")
    return None


def _remedy(remedies: Remedies, text: str) -> str:
    return next(remedy for expression, remedy in remedies if re.search(expression, text))


def sentence(source: Mapping[str, Any]) -> str:
    """What somebody said, on one line, as a sentence."""
    text = " ".join(str(source.get("message") or source.get("reason") or "no message").split())
    if len(text) > _SHOWN:
        text = "…" + text[1 - _SHOWN :]  # the end of an error says what went wrong
    return text if text.endswith((".", "…", "!")) else text + "."
