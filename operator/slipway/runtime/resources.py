"""Every API type that the operator touches, and keys that name one object of a type.

Types are data, so that one client, one store and one queue serve all kinds; discovery requests are not needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as plain JSON. Objects that come out of a store are shared: never change them."""

Objects: TypeAlias = list[Object]

GROUP = "slipway.dev"
VERSION = "v1alpha1"
FIELD_MANAGER = "slipway"
FINALIZER = f"{GROUP}/cleanup"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "slipway"
MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
APPLIED_HASH = f"{GROUP}/applied-hash"


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One API type.

    `selector` limits what is watched and kept in memory: only objects with these labels (`key=value`) reach the
    store. Our own kinds have none; types that others fill too (Pods, Jobs, ConfigMaps) carry the managed-by label.
    `optional`: nothing but speed is lost where the operator may not watch it, so it is left out there.
    `brief`: fields of `status` that are kept in memory; the rest of `spec` and `status` is not. Empty: all is kept.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    selector: str = ""
    optional: bool = False
    brief: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.plural)  # text keeps its hash; of all fields it would cost several times as much a look-up

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def key(self, name: str, namespace: str = "") -> Key:
        """The key of an object of this type; a namespaced type needs a namespace, a cluster-scoped one takes none."""
        if self.namespaced != bool(namespace):
            raise ValueError(f"{self.kind} is {'namespaced' if self.namespaced else 'cluster-scoped'}: {namespace!r}")
        return Key(self, namespace, name)

    def key_of(self, obj: Mapping[str, Any]) -> Key:
        """The key of an object that is known to be of this type."""
        meta = obj["metadata"]
        return Key(self, meta.get("namespace", "") if self.namespaced else "", meta["name"])

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path below the API server's address; an empty namespace means all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class Key:
    """Names one object: its type, namespace (empty for cluster-scoped types) and name."""

    type: ResourceType
    namespace: str
    name: str

    def __hash__(self) -> int:
        return hash((self.namespace, self.name))  # stores hold one type each

    def __str__(self) -> str:
        return f"{self.type.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.type.kind} {self.name}"


def _ours(kind: str, plural: str, namespaced: bool = True) -> ResourceType:
    return ResourceType(GROUP, VERSION, kind, plural, namespaced)


PLATFORM = _ours("Platform", "platforms", namespaced=False)
COMPUTE_POOL = _ours("ComputePool", "computepools", namespaced=False)
MODEL_PROJECT = _ours("ModelProject", "modelprojects")
DATASET = _ours("Dataset", "datasets")
DATASET_VERSION = _ours("DatasetVersion", "datasetversions")
FEATURE_SET = _ours("FeatureSet", "featuresets")
TRAINING_RUN = _ours("TrainingRun", "trainingruns")
MODEL_VERSION = _ours("ModelVersion", "modelversions")
MODEL_ROLLOUT = _ours("ModelRollout", "modelrollouts")
ANALYSIS_TEMPLATE = _ours("AnalysisTemplate", "analysistemplates")
CLUSTER_ANALYSIS_TEMPLATE = _ours("ClusterAnalysisTemplate", "clusteranalysistemplates", namespaced=False)
OWN_TYPES = (
    PLATFORM,
    COMPUTE_POOL,
    MODEL_PROJECT,
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    TRAINING_RUN,
    MODEL_VERSION,
    MODEL_ROLLOUT,
    ANALYSIS_TEMPLATE,
    CLUSTER_ANALYSIS_TEMPLATE,
)

# Read live, never watched: a watch would pull every Secret and Namespace of the cluster into memory.
SECRET = ResourceType("", "v1", "Secret", "secrets", selector=MANAGED_SELECTOR)
NAMESPACE = ResourceType("", "v1", "Namespace", "namespaces", namespaced=False)

SERVICE_ACCOUNT = ResourceType("", "v1", "ServiceAccount", "serviceaccounts", selector=MANAGED_SELECTOR)
CONFIG_MAP = ResourceType("", "v1", "ConfigMap", "configmaps", selector=MANAGED_SELECTOR)
SERVICE = ResourceType("", "v1", "Service", "services", selector=MANAGED_SELECTOR)
# Our pods, and Envoy Gateway's proxies, whose statistics rollouts read: kopf takes one selector for a type.
POD = ResourceType("", "v1", "Pod", "pods", selector=f"{MANAGED_BY_LABEL} in ({MANAGED_BY},envoy-gateway)")
JOB = ResourceType("batch", "v1", "Job", "jobs", selector=MANAGED_SELECTOR)
ROLE = ResourceType("rbac.authorization.k8s.io", "v1", "Role", "roles", selector=MANAGED_SELECTOR)
ROLE_BINDING = ResourceType("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", selector=MANAGED_SELECTOR)
INFERENCE_SERVICE = ResourceType(
    "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices", selector=MANAGED_SELECTOR
)
CLUSTER_SERVING_RUNTIME = ResourceType(
    "serving.kserve.io",
    "v1alpha1",
    "ClusterServingRuntime",
    "clusterservingruntimes",
    namespaced=False,
    selector=MANAGED_SELECTOR,
)
HTTP_ROUTE = ResourceType("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", selector=MANAGED_SELECTOR)
GATEWAY = ResourceType("gateway.networking.k8s.io", "v1", "Gateway", "gateways")
SECURITY_POLICY = ResourceType(
    "gateway.envoyproxy.io", "v1alpha1", "SecurityPolicy", "securitypolicies", selector=MANAGED_SELECTOR
)
BACKEND_TRAFFIC_POLICY = ResourceType(
    "gateway.envoyproxy.io", "v1alpha1", "BackendTrafficPolicy", "backendtrafficpolicies", selector=MANAGED_SELECTOR
)
# Read live, and only for rollouts that want it: who may write it may change a gateway in any way.
ENVOY_PATCH_POLICY = ResourceType("gateway.envoyproxy.io", "v1alpha1", "EnvoyPatchPolicy", "envoypatchpolicies")
NETWORK_POLICY = ResourceType("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", selector=MANAGED_SELECTOR)
# KServe hands an InferenceService's labels on to its Service, from which EndpointSlices take theirs.
ENDPOINT_SLICE = ResourceType("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", selector=MANAGED_SELECTOR)
# Only wakes: Workflows are large, and other people's runs have them too.
WORKFLOW = ResourceType(
    "argoproj.io", "v1alpha1", "Workflow", "workflows", selector="pipeline/runid", optional=True, brief=("phase",)
)
# Read and made live, where an installation of Kubeflow Pipelines keeps its pipelines in the cluster.
KFP_PIPELINE = ResourceType("pipelines.kubeflow.org", "v2beta1", "Pipeline", "pipelines")
KFP_PIPELINE_VERSION = ResourceType("pipelines.kubeflow.org", "v2beta1", "PipelineVersion", "pipelineversions")
ACCESS_REVIEW = ResourceType(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
EVENT = ResourceType("events.k8s.io", "v1", "Event", "events")
LEASE = ResourceType("coordination.k8s.io", "v1", "Lease", "leases")

ALL_TYPES = (
    *OWN_TYPES,
    SECRET,
    NAMESPACE,
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SERVICE,
    POD,
    JOB,
    ROLE,
    ROLE_BINDING,
    INFERENCE_SERVICE,
    CLUSTER_SERVING_RUNTIME,
    HTTP_ROUTE,
    GATEWAY,
    SECURITY_POLICY,
    BACKEND_TRAFFIC_POLICY,
    ENVOY_PATCH_POLICY,
    NETWORK_POLICY,
    ENDPOINT_SLICE,
    WORKFLOW,
    KFP_PIPELINE,
    KFP_PIPELINE_VERSION,
    ACCESS_REVIEW,
    EVENT,
    LEASE,
)


class Catalogue:
    """Finds the type of a manifest by its `apiVersion` and `kind`."""

    def __init__(self, types: Iterable[ResourceType] = ALL_TYPES) -> None:
        self._types = {(each.api_version, each.kind): each for each in types}

    def type_of(self, manifest: Mapping[str, Any]) -> ResourceType:
        """Raises KeyError with a sentence when the runtime was never told about the type."""
        wanted = (manifest.get("apiVersion", ""), manifest.get("kind", ""))
        if wanted not in self._types:
            raise KeyError(f"the runtime knows no type {wanted[0]} {wanted[1]}: add it to slipway.runtime.resources")
        return self._types[wanted]

    def key_of(self, manifest: Mapping[str, Any]) -> Key:
        return self.type_of(manifest).key_of(manifest)


def owner_label(kind: str) -> str:
    """The label that names what an object is for, e.g. `slipway.dev/trainingrun` for TrainingRun."""
    return f"{GROUP}/{kind.lower()}"


def label_value(name: str) -> str:
    """An object's name as a label value: names may have 253 characters, label values 63."""
    if len(name) <= 63:
        return name
    return f"{name[:52].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def uid_of(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("uid", ""))


def generation_of(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"].get("generation", 0))


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))
