"""TrainingRun: one run of the training pipeline."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.common import TrainingTemplate
from slipway.api.meta import (
    ApiModel,
    Column,
    Digest,
    Duration,
    LocalRef,
    ObjectName,
    Percent,
    Resource,
    Status,
    rule,
)


class TrainingRunSpec(TrainingTemplate):
    """Everything that decides the result of a run."""

    rules: ClassVar = (
        *TrainingTemplate.rules,
        rule("self == oldSelf", "a TrainingRun does not change once it is created: create another one"),
    )

    project_ref: LocalRef = Field(description="ModelProject that it belongs to.")
    dataset_version_ref: LocalRef = Field(description="DatasetVersion that it trains on; it must have passed.")
    trigger: Literal["Manual", "DatasetVersion", "FeatureChange", "TemplateChange", "Schedule"] = Field(
        "Manual", description="Why the run was made."
    )
    deadline: Duration = Field("2h", description="How long the run may take at most.")


Stage = Literal["Pending", "Features", "Baselines", "Training", "Evaluation", "Registration", "Done"]


class PipelineRun(ApiModel):
    """The run of the newest attempt on Kubeflow Pipelines."""

    id: str = Field(max_length=64, description="Its id there; its pods and Workflow carry it as `pipeline/runid`.")
    endpoint: str | None = Field(None, max_length=512, description="URL of the API that it was handed over to.")
    namespace: ObjectName = Field(description="Namespace of its pods.")
    state: str | None = Field(None, max_length=64, description="What the endpoint calls its state.")
    recorded: bool = Field(False, description="Whether the endpoint has once known it.")
    url: str | None = Field(None, max_length=1024, description="Its page, where the Platform names the interface.")
    artifacts: str | None = Field(None, max_length=1024, description="Folder of what its tasks handed to each other.")
    workflow: ObjectName | None = Field(None, description="Its Workflow, once it was seen in this cluster.")
    missing_since: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="Since when its Workflow is gone though the endpoint says that it goes on."
    )
    ending: PipelineRunEnd | None = Field(None, description="Why it is being ended, if it is.")


class PipelineRunEnd(ApiModel):
    """Why a run is being ended before its time; written before the endpoint is told."""

    reason: str = Field(max_length=64, description="Reason of the condition that follows.")
    message: str = Field(max_length=1024, description="Its sentence.")
    at: str = Field(max_length=40, description="Since when.")


class TrainingRunStatus(Status):
    """Where the run is."""

    phase: Literal["Pending", "Running", "Succeeded", "Failed"] | None = Field(None, description="State of the run.")
    stage: Stage | None = Field(None, description="Part of the pipeline that runs.")
    progress_percent: Percent | None = Field(None, description="How much of the pipeline is done.")
    attempt: int | None = Field(None, ge=1, le=100, description="Which attempt this is.")
    engine: Literal["Local", "KubeflowPipelines"] | None = Field(None, description="Where it runs.")
    pipeline_digest: Digest | None = Field(None, description="Digest of the compiled pipeline (IR).")
    own_pipeline_digest: Digest | None = Field(
        None, description="Digest of the bytes of the team's own pipeline, as they were read when the run started."
    )
    job: ObjectName | None = Field(None, description="Job of the stage that runs, with the Local engine.")
    pipeline_run: PipelineRun | None = Field(
        None, description="The run on Kubeflow Pipelines, with that engine; `slipway run logs` shows its output."
    )
    start_time: Annotated[str, Field(max_length=40)] | None = Field(None, description="When it started.")
    completion_time: Annotated[str, Field(max_length=40)] | None = Field(None, description="When it ended.")
    model_version: ObjectName | None = Field(None, description="ModelVersion that it made.")
    manifest: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="Manifest with the digest of every artifact."
    )


class TrainingRun(Resource):
    """One run of the training pipeline, made by the operator or by the team."""

    kind_name: ClassVar = "TrainingRun"
    plural: ClassVar = "trainingruns"
    short_names: ClassVar = ("tr",)
    columns: ClassVar = (
        Column(name="Dataset Version", path=".spec.datasetVersionRef.name"),
        Column(name="Phase", path=".status.phase"),
        Column(name="Stage", path=".status.stage"),
        Column(name="Progress", path=".status.progressPercent", type="integer"),
        Column(name="Version", path=".status.modelVersion"),
        Column(name="Reason", path='.status.conditions[?(@.type=="Succeeded")].reason'),
        Column(name="Message", path='.status.conditions[?(@.type=="Succeeded")].message', priority=1),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: TrainingRunSpec
    status: TrainingRunStatus = Field(default_factory=TrainingRunStatus)
