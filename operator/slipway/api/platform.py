"""Platform: what the cluster's administrators offer to projects."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import (
    SET_LIST,
    ApiModel,
    Column,
    LabelName,
    NamespacedRef,
    ObjectName,
    Resource,
    Status,
    map_list,
    one_of,
    rule,
)


class PipelinesAuth(ApiModel):
    """How the operator says who it is."""

    type: Literal["None", "ServiceAccountToken"] = Field(
        "None",
        description="None: the endpoint asks nobody, as in a single-user installation. ServiceAccountToken: the"
        " operator's own token, mounted with the audience `pipelines.kubeflow.org` (chart:"
        " `kubeflowPipelines.token.enabled`).",
    )


class PipelinesTls(ApiModel):
    """How the endpoint's certificate is checked."""

    ca_secret_ref: NamespacedRef = Field(
        description="Secret with `ca.crt`: PEM certificates that the endpoint's is checked with, instead of the"
        " system's."
    )


class SharedNamespace(ApiModel):
    """One namespace for the runs of all projects."""

    name: LabelName = Field(description="Namespace of the Kubeflow Pipelines installation, such as `kubeflow`.")
    s3_secret: ObjectName = Field(
        "slipway-s3",
        description="Secret in that namespace with `accessKey` and `secretKey`: what tasks of Slipway's own code use.",
    )
    feast_secret: ObjectName = Field(
        "slipway-feast",
        description="Secret in that namespace with `host`, `port`, `database`, `username` and `password` of Feast's"
        " database, for the task that registers a model.",
    )


class RunNamespace(ApiModel):
    """Where the pods of runs are."""

    rules: ClassVar = (one_of("policy", {"Shared": "shared"}, default="Project"),)

    policy: Literal["Project", "Shared"] = Field(
        "Project",
        description="Project: in the project's own namespace, with the project's own Secrets; the endpoint must run in"
        " multi-user mode. Shared: all in one namespace, as single-user installations do; projects can then reach each"
        " other's pods.",
    )
    shared: SharedNamespace | None = Field(None, description="The namespace, with Shared.")


class KubeflowPipelines(ApiModel):
    """A Kubeflow Pipelines API endpoint, version 2.5 or newer."""

    rules: ClassVar = (
        rule(
            "!has(self.tls) || self.endpoint.startsWith('https://')",
            "tls is for an https endpoint: write https:// in endpoint, or remove tls",
        ),
    )

    endpoint: str = Field(
        max_length=512,
        pattern=r"^https?://[^/\s?#@]+(/[^\s?#]*)?$",
        description="URL of the KFP API, such as `http://ml-pipeline.kubeflow:8888`: what comes before"
        " `/apis/v2beta1`.",
    )
    auth: PipelinesAuth = Field(default_factory=PipelinesAuth, description="How the operator says who it is.")
    tls: PipelinesTls | None = Field(None, description="How the endpoint's certificate is checked, with https.")
    namespace: RunNamespace = Field(default_factory=RunNamespace, description="Where the pods of runs are.")
    service_account: ObjectName | None = Field(
        None,
        description="ServiceAccount of the runs' pods. Defaults to the installation's own, such as `pipeline-runner`.",
    )
    pipeline_root: str | None = Field(
        None,
        max_length=512,
        pattern=r"^(s3|minio|gs)://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9._/-]*)?$",
        description="Folder in which the launcher keeps what tasks hand to each other; each run has its own below it."
        " Defaults to `kfp/` in the Platform's bucket.",
    )
    definitions: Literal["Api", "Kubernetes"] = Field(
        "Api",
        description="Where pipelines are kept. Api: uploaded to the endpoint. Kubernetes: written as Pipeline and"
        " PipelineVersion objects, for an installation whose API server runs with `--pipelinesStoreKubernetes`.",
    )
    ui: str | None = Field(
        None,
        max_length=512,
        pattern=r"^https?://[^\s?#]+$",
        description="URL of the KFP user interface as people open it; runs then have a link in their status.",
    )


class Pipelines(ApiModel):
    """Where training runs are executed."""

    rules: ClassVar = (one_of("engine", {"KubeflowPipelines": "kubeflowPipelines"}, default="Local"),)

    engine: Literal["Local", "KubeflowPipelines"] = Field(
        "Local",
        description="Local runs the compiled pipeline in Jobs of this cluster; KubeflowPipelines submits it to an"
        " endpoint.",
    )
    kubeflow_pipelines: KubeflowPipelines | None = Field(None, description="The endpoint, with KubeflowPipelines.")


class S3(ApiModel):
    """An S3 bucket for data, models and reports."""

    endpoint: str = Field(
        max_length=512,
        pattern=r"^https?://[^/\s]+$",
        description="URL of the S3 API without a path, such as `http://seaweedfs.storage:8333`.",
    )
    bucket: str = Field(
        min_length=3,
        max_length=63,
        pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$",
        description="Bucket that holds everything that Slipway writes. It must exist or be creatable with the"
        " credentials.",
    )
    region: str = Field("us-east-1", max_length=64, description="Region that requests are signed for.")
    secret_ref: NamespacedRef = Field(
        description="Secret with `accessKey` and `secretKey` that may read and write the bucket."
    )
    user_code_secret_ref: NamespacedRef | None = Field(
        None,
        description="Secret for steps that run a team's own code; it should write only under `runs/`. Defaults to"
        " secretRef.",
    )
    prediction_log_secret_ref: NamespacedRef | None = Field(
        None,
        description="Secret for model servers that keep a prediction log; it should allow to put objects below"
        " `predictions/` and nothing else. Without it no rollout can keep one.",
    )


class Artifacts(ApiModel):
    """Where data, models and reports are kept."""

    s3: S3 = Field(description="The S3 store.")


class Postgres(ApiModel):
    """A PostgreSQL database for Feast's registry and online store."""

    secret_ref: NamespacedRef = Field(description="Secret with `host`, `port`, `database`, `username` and `password`.")


class Features(ApiModel):
    """Where Feast keeps its registry and its online values."""

    postgres: Postgres = Field(description="The database.")


class GatewayParentRef(NamespacedRef):
    """A Gateway that model routes attach to."""

    section_name: LabelName | None = Field(None, description="Listener of the Gateway; all listeners when empty.")


class GatewayConfig(ApiModel):
    """How requests reach models."""

    parent_ref: GatewayParentRef = Field(description="Gateway (Gateway API) that routes attach to.")
    statistics_port: int = Field(
        19001, ge=1, le=65535, description="Port on the Envoy proxy pods that serves `/stats/prometheus`."
    )


class ServingConfig(ApiModel):
    """How models are served."""

    mode: Literal["Standard", "Knative"] = Field(
        "Standard",
        description="KServe's deployment mode. Standard: an InferenceService a version, split by the gateway. Knative:"
        " one InferenceService a rollout, split by `canaryTrafficPercent`; without copies, header routes, consumers,"
        " sessions and the gateway's statistics. Rollouts that serve already keep theirs.",
    )


class Images(ApiModel):
    """Container images that Slipway's own Jobs and servers run."""

    runner: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Image of Jobs. Defaults to the one the operator was installed with.",
    )


HostPattern = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^(\*|(\*\.)?[a-z0-9]([-a-z0-9.:]*[a-z0-9])?)$")
]


class Webhooks(ApiModel):
    """Where the operator may call for a project's hooks and alerts."""

    allowed_hosts: list[HostPattern] = Field(
        default_factory=list,
        max_length=64,
        description="Hosts beside Services of the rollout's own namespace: a name, `*.DOMAIN`, an IP address, or `*`"
        " for all but loopback and link-local addresses, which must be named. Slack's and Teams' hosts need no entry.",
        json_schema_extra=SET_LIST,
    )


class PlatformSpec(ApiModel):
    """Engines and stores that projects use."""

    pipelines: Pipelines = Field(default_factory=Pipelines, description="Where training runs are executed.")
    artifacts: Artifacts = Field(description="Where data, models and reports are kept.")
    features: Features = Field(description="Where Feast keeps its registry and its online values.")
    gateway: GatewayConfig = Field(description="How requests reach models.")
    serving: ServingConfig = Field(default_factory=ServingConfig, description="How models are served.")
    images: Images = Field(default_factory=Images, description="Images of Slipway's own Jobs and servers.")
    webhooks: Webhooks = Field(
        default_factory=Webhooks, description="Where the operator may call for a project's hooks and alerts."
    )


class ConnectionStatus(ApiModel):
    """Whether one part of the platform answers."""

    name: ObjectName = Field(description="Which part: artifacts, features, gateway or pipelines.")
    ready: bool = Field(description="Whether it answered.")
    message: str = Field(max_length=1024, description="What it answered, and what to change when it did not.")


class PlatformStatus(Status):
    """What answers."""

    connections: list[ConnectionStatus] | None = Field(
        None, max_length=8, description="State of each connection.", json_schema_extra=map_list("name")
    )


class Platform(Resource):
    """Connections to the engines and stores that projects may use. Projects use the one named `default`."""

    kind_name: ClassVar = "Platform"
    plural: ClassVar = "platforms"
    namespaced: ClassVar = False
    columns: ClassVar = (
        Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
        Column(name="Engine", path=".spec.pipelines.engine"),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: PlatformSpec
    status: PlatformStatus = Field(default_factory=PlatformStatus)
