"""ModelRollout: which version serves users, and how a new one takes over."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.analysis import HistogramBound
from slipway.api.meta import (
    ATOMIC_LIST,
    NAME_PREFIX,
    SET_LIST,
    ApiModel,
    ClusterRef,
    Column,
    DecimalString,
    Duration,
    LabelName,
    LocalRef,
    ObjectName,
    Percent,
    Resource,
    Resources,
    Status,
    Text,
    cel_name,
    exactly_one,
    map_list,
    one_of,
    rule,
    same_project,
)
from slipway.api.rollout_abstain import Abstain
from slipway.api.rollout_analysis import Analysis, AnalysisRun
from slipway.api.rollout_autoscaling import Autoscaling
from slipway.api.rollout_components import Component
from slipway.api.rollout_consumers import AccessControl, Consumer, ConsumerStatus
from slipway.api.rollout_control import (
    OrderStatus,
    PausedStatus,
    PromoteFullStatus,
    RollbackWindow,
    UndoStatus,
    Who,
)
from slipway.api.rollout_experiment import ExperimentStatus
from slipway.api.rollout_hooks import Alert, Hook, HookStatus, Notice
from slipway.api.rollout_predictions import DELTA_METRICS, LOG_METRICS, Comparison, PredictionLog, PredictionLogStatus
from slipway.api.rollout_serving import ModelFormat
from slipway.api.rollout_serving import Replicas as Replicas
from slipway.api.rollout_steps import Step
from slipway.api.rollout_strategy import Strategy


class VersionPolicy(ApiModel):
    """Which version is wanted."""

    rules: ClassVar = (one_of("policy", {"Pinned": "modelVersionRef"}, default="NewestPassing"),)

    policy: Literal["NewestPassing", "Pinned"] = Field(
        "NewestPassing",
        description="NewestPassing: the newest version that passed every gate and was not rejected here.",
    )
    model_version_ref: LocalRef | None = Field(None, description="The version, with Pinned.")


Hostname = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


CookieName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class Stickiness(ApiModel):
    """Clients that have met a version stay on it."""

    rules: ClassVar = (
        rule(f"duration(self.{cel_name('for')}) >= duration('1s')", "for must be at least 1s: cookies count seconds"),
    )

    cookie: CookieName = Field(description="Name of the cookie; clients that send none are not kept.")
    for_: Duration = Field(alias="for", description="How long clients keep the cookie.")


class Routing(ApiModel):
    """The URL, which stays whatever the version."""

    hostnames: list[Hostname] = Field(
        default_factory=list, max_length=16, description="Host names; all when empty.", json_schema_extra=SET_LIST
    )
    path: str = Field(
        max_length=256,
        pattern=r"^/[A-Za-z0-9._~/-]*[A-Za-z0-9_~-]$",
        description="Path prefix; the model's protocol paths follow it, as in `PATH/v1/models/NAME:predict`.",
    )
    stickiness: Stickiness | None = Field(
        None, description="Keep clients on the version that they have met while there is a candidate."
    )


class OnlineFeatures(ApiModel):
    """How the model server looks features up."""

    timeout: Duration = Field("50ms", description="How long the online store may take.")
    on_missing: Literal["UseDefaults", "Fail"] = Field(
        "UseDefaults", description="When a value is missing or late: use the feature's default, or answer 503."
    )


class Serving(ApiModel):
    """How a version is served."""

    rules: ClassVar = (
        rule(
            "self.capacity != 'Recreate' || self.replicas.max >= 2",
            "with capacity Recreate, replicas.max must be 2 or more, as a single server cannot be replaced while it"
            " answers: raise it, or use Partial or Surge",
        ),
        rule(
            "!has(self.modelFormat) || self.runtime != 'slipway-sklearn'",
            "runtime slipway-sklearn serves only what Slipway trained: with modelFormat, set runtime to one that serves"
            " it, such as kserve-sklearnserver",
        ),
        rule(
            "!has(self.modelFormat) || !has(self.abstain)",
            "only Slipway's own model server abstains: remove abstain or modelFormat",
        ),
        rule(
            "!has(self.autoscaling) || self.replicas.min < self.replicas.max",
            "autoscaling needs room: set replicas.max greater than replicas.min",
        ),
        rule(
            "has(self.transformer) == has(oldSelf.transformer)",
            "a transformer cannot be added or taken away later, as requests would change their way all at once: create"
            " another ModelRollout",
        ),
        rule(
            "self.protocol != 'grpc-v2' || has(self.modelFormat) && !has(self.transformer)",
            "gRPC is for stock runtimes that serve it: with protocol grpc-v2, set modelFormat and no transformer",
        ),
        rule(
            "(self.protocol == 'grpc-v2') == (oldSelf.protocol == 'grpc-v2')",
            "REST cannot become gRPC nor gRPC REST, as clients would have to change all at once: create another"
            " ModelRollout",
        ),
        rule(
            "!has(self.modelFormat) || !has(self.modelFormat.grpcPort) || self.protocol == 'grpc-v2'",
            "modelFormat.grpcPort is for protocol grpc-v2: remove it",
        ),
        rule(
            "!has(self.explainer) || self.protocol == 'v1'",
            "explanations are asked for by protocol v1: remove explainer, or set protocol: v1",
        ),
    )

    runtime: ObjectName = Field("slipway-sklearn", description="KServe ClusterServingRuntime or ServingRuntime.")
    model_format: ModelFormat | None = Field(
        None, description="What a stock runtime of KServe loads; empty for Slipway's own model server."
    )
    protocol: Literal["v1", "v2", "grpc-v2"] = Field(
        "v1",
        description="Inference protocol that clients use: v1 or v2 (Open Inference Protocol) over REST, or v2 over"
        " gRPC.",
    )
    replicas: Replicas = Field(default_factory=Replicas, description="How many servers a version has.")
    autoscaling: Autoscaling | None = Field(
        None, description="How the number of servers follows the load, where `replicas.min` < `replicas.max`."
    )
    transformer: Component | None = Field(
        None,
        description="Takes requests before the model server and answers after it. With the model server it is one"
        " version: both start, are tried and go together.",
    )
    explainer: Component | None = Field(
        None, description="Answers `PATH/v1/models/NAME:explain` of the version that a request meets."
    )
    pool_ref: ClusterRef | None = Field(
        None, description="ComputePool that servers are scheduled to; any node when empty."
    )
    capacity: Literal["Surge", "Partial", "Recreate"] = Field(
        "Surge",
        description="Servers of a new version beside the stable one's. Surge: as many again. Partial: one more than"
        " `replicas.max` in all, which both versions share by their weights. Recreate: none more; the stable version"
        " gives servers up. With Partial and Recreate the previous version is not kept warm.",
    )
    resources: Resources | None = Field(None, description="Resources of the server container.")
    features: OnlineFeatures = Field(default_factory=OnlineFeatures, description="How features are looked up.")
    abstain: Abstain | None = Field(
        None, description="Answers under a confidence are no predictions; every answer is one when empty."
    )


class CompareToStable(ApiModel):
    """A bound relative to the stable version in the same window."""

    rules: ClassVar = (
        exactly_one("maxDrop", "maxRatio"),
        rule("!has(self.maxRatio) || has(self.confidence)", "set confidence with maxRatio"),
    )

    max_drop: DecimalString | None = Field(
        None, description="By how many percentage points the new version may be worse."
    )
    max_ratio: DecimalString | None = Field(
        None,
        description="How many times the stable version's share of bad answers (the rest up to 100 percent) the new"
        " version's may be; with `confidence`.",
    )
    confidence: Literal["80", "90", "95", "99"] | None = Field(
        None,
        description="Percent. Failed only if the confidence interval of the difference or ratio lies wholly beyond the"
        " bound, Success only if wholly within it, else Inconclusive. Empty: the measured values are compared.",
    )


class Check(ApiModel):
    """A condition on the new version, counted at the gateway or computed from the prediction log."""

    rules: ClassVar = (
        rule(
            "(self.metric == 'shareBelowMilliseconds') == has(self.bound)",
            "set bound (milliseconds) with metric shareBelowMilliseconds, and only then",
        ),
        rule(
            "self.source == 'PredictionLog' || has(self.min) || has(self.compareToStable)",
            "set min, compareToStable, or both",
        ),
        rule(
            f"(self.source == 'PredictionLog') == (self.metric in {list(LOG_METRICS)!r})",
            f"set source PredictionLog with {', '.join(LOG_METRICS)}, and only then",
        ),
        rule(
            "(self.source == 'PredictionLog' && self.metric != 'coveragePercent') == has(self.max)",
            "set max with source PredictionLog (but with metric coveragePercent), and only then",
        ),
        rule(
            "self.source != 'PredictionLog' || !has(self.compareToStable)"
            " && (self.metric == 'coveragePercent' || !has(self.min))",
            "min and compareToStable are for source Gateway: set max instead, or min alone with coveragePercent",
        ),
        rule("self.metric != 'coveragePercent' || has(self.min)", "set min with metric coveragePercent"),
        rule("self.source == 'PredictionLog' || !has(self.slice)", "slice is for source PredictionLog: remove it"),
    )

    name: LabelName = Field(description="Name of the check.")
    source: Literal["Gateway", "PredictionLog"] = Field(
        "Gateway",
        description="Gateway: what it counts. PredictionLog: what both versions answered, compared when a step ends.",
    )
    metric: Literal[
        "successPercent",
        "shareBelowMilliseconds",
        "decisionChangePercent",
        "meanAbsoluteDelta",
        "worstDelta",
        "populationStability",
        "coveragePercent",
    ] = Field(
        description="successPercent: percent of answers that are not 5xx. shareBelowMilliseconds: percent of answers"
        " within `bound`. Over requests that both versions answered: decisionChangePercent, percent with another"
        " decision; meanAbsoluteDelta and worstDelta of the probabilities. populationStability: index (PSI) of the"
        " probabilities of all answers. coveragePercent: percent of the new version's answers that its model was sure"
        " enough of, by serving.abstain."
    )
    bound: HistogramBound | None = Field(None, description="Milliseconds; one of the gateway's histogram bounds.")
    min: DecimalString | None = Field(None, description="Least percentage that is accepted.")
    compare_to_stable: CompareToStable | None = Field(None, description="Bound relative to the stable version.")
    minimum_requests: int = Field(
        100, ge=1, le=10**9, description="Requests in the window that a verdict needs; fewer make it Inconclusive."
    )
    window: Duration = Field("60s", description="How far back requests count.")
    max: DecimalString | None = Field(None, description="Greatest value that is accepted, with PredictionLog.")
    minimum_pairs: int = Field(
        100,
        ge=1,
        le=10**9,
        description="With PredictionLog: pairs that a verdict needs (populationStability, coveragePercent: answers of"
        " each version); fewer make it Inconclusive.",
    )
    slice: LabelName | None = Field(
        None, description="With PredictionLog: slice of the project that is measured; all requests when empty."
    )


class Rollback(ApiModel):
    """What happens when a version fails."""

    automatic: bool = Field(True, description="Whether a failed check sends all requests back to the stable version.")
    retry_on_stable: bool = Field(
        False,
        description="Whether an answer of the candidate that failed is asked for once more, of the other version, so"
        " that clients do not see it. Needs Envoy Gateway with EnvoyPatchPolicies.",
    )
    keep_previous: Duration = Field("24h", description="How long the version before stays warm after a promotion.")
    window: RollbackWindow | None = Field(
        None, description="Versions that were stable lately take no steps when a person goes back to them."
    )


_NO_STEPS = "!has(self.steps)"
_WEIGHTS = "self.steps.filter(s, has(s.setWeight))"


class ModelRolloutSpec(ApiModel):
    """A rollout."""

    rules: ClassVar = (
        same_project("ModelRollout"),
        exactly_one("steps", "strategy"),
        rule(
            f"{_NO_STEPS} || self.steps.exists(s, has(s.stop)) || {_WEIGHTS}.size() == 0 || "
            f"{_WEIGHTS}[{_WEIGHTS}.size() - 1].setWeight == 100",
            "the last setWeight must be 100: add a step that gives the new version all requests",
        ),
        rule(
            f"{_NO_STEPS} || self.steps.filter(s, has(s.setWeight) || has(s.experiment))"
            ".map(s, has(s.setWeight) ? s.setWeight : s.experiment.candidatePercent).isSorted()",
            "weights must not fall from step to step: order setWeight and experiment.candidatePercent by weight",
        ),
        rule(
            f"{_NO_STEPS} || self.steps.filter(s, has(s.mirror) || has(s.experiment)"
            " || (has(s.setWeight) && s.setWeight > 0)).map(s, has(s.mirror) ? 0 : 1).isSorted()",
            "mirror is only for versions without requests: put mirror steps before experiments and the first setWeight"
            " above 0",
        ),
        rule(
            f"{_NO_STEPS} || self.serving.capacity == 'Surge' || !self.steps.exists(s, has(s.experiment))",
            "each arm of an experiment has servers of its own: set serving.capacity: Surge, or remove the experiment",
        ),
        rule(
            f"{_NO_STEPS} || self.steps.all(s, !has(s.setScale) || !has(s.setScale.replicas)"
            " || s.setScale.replicas <= self.serving.replicas.max)",
            "setScale.replicas must not be greater than serving.replicas.max (which is 1 unless set)",
        ),
        rule(
            f"{_NO_STEPS} || !self.steps.exists(s, has(s.setScale)) || self.steps.exists(s, has(s.stop))"
            f" || {_WEIGHTS}.size() > 0",
            "a version that was scaled must be brought to its size before it takes all requests: add setWeight: 100",
        ),
        rule(
            f"{_NO_STEPS} || (self.steps.map(s, has(s.stop) ? 1 : 0).isSorted()"
            " && self.steps.filter(s, has(s.stop)).size() <= 1)",
            "stop ends the rollout: let it be the last step",
        ),
        rule(
            "!has(self.checks) || !self.checks.exists(c, c.source == 'PredictionLog')"
            " || has(self.predictionLog) && self.predictionLog.enabled",
            "a check has source PredictionLog and nothing is logged: set predictionLog, with enabled: true",
        ),
        rule(
            f"!has(self.checks) || !self.checks.exists(c, c.metric in {list(DELTA_METRICS)!r})"
            " || has(self.steps) && self.steps.exists(s, has(s.mirror))"
            " || has(self.strategy) && has(self.strategy.shadow)",
            f"{', '.join(DELTA_METRICS)} compare answers to the same requests: add a mirror step",
        ),
        rule(
            "!has(self.checks) || !self.checks.exists(c, c.metric == 'coveragePercent')"
            " || has(self.serving) && has(self.serving.abstain)",
            "coveragePercent counts what servers abstain from: set serving.abstain",
        ),
        rule(
            "!has(self.serving.modelFormat) || !has(self.predictionLog) || !self.predictionLog.enabled",
            "only Slipway's own model server logs predictions: remove predictionLog or serving.modelFormat",
        ),
        rule(
            "!has(self.serving.modelFormat) && !has(self.serving.transformer) || !has(self.routing.stickiness)",
            "only Slipway's own model server sets the cookie, and clients must reach it: remove routing.stickiness, or"
            " serving.modelFormat and serving.transformer",
        ),
        rule(
            "self.serving.protocol != 'grpc-v2' || self.routing.path == '/inference.GRPCInferenceService'"
            " && has(self.routing.hostnames) && self.routing.hostnames.size() > 0",
            "gRPC has a path of its own: with protocol grpc-v2, set routing.path to /inference.GRPCInferenceService and"
            " hostnames, by which models are told apart",
        ),
        rule(
            "self.serving.protocol != 'grpc-v2' || !self.rollback.retryOnStable",
            "the gateway retries by HTTP codes, which gRPC does not use: remove rollback.retryOnStable",
        ),
        rule(
            "!has(self.consumers) || self.consumers.filter(c, has(c.rateLimit)).size() <= 16",
            "at most 16 consumers can have a rateLimit: the gateway takes no more",
        ),
        rule(
            f"{_NO_STEPS} || !has(self.analysis) || !has(self.analysis.startingStep)"
            " || self.steps.exists(s, s.name == self.analysis.startingStep)",
            "analysis.startingStep must be the name of a step",
        ),
    )

    project_ref: LocalRef = Field(description="ModelProject whose versions are served.")
    version: VersionPolicy = Field(default_factory=VersionPolicy, description="Which version is wanted.")
    routing: Routing = Field(description="The URL.")
    serving: Serving = Field(default_factory=Serving, description="How a version is served.")
    steps: list[Step] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="How a new version takes over from the stable one; the first version ever takes all requests at"
        " once.",
        json_schema_extra=map_list("name"),
    )
    strategy: Strategy | None = Field(None, description="A ready-made list of steps, instead of `steps`.")
    checks: list[Check] = Field(
        default_factory=list,
        max_length=16,
        description="Run whenever the new version has requests; a failed one rolls back.",
        json_schema_extra=map_list("name"),
    )
    prediction_log: PredictionLog | None = Field(
        None, description="Keeps requests and answers in the artifact store; nothing is kept when empty."
    )
    analysis: Analysis | None = Field(
        None, description="Templates that are measured while, before and after a new version takes over."
    )
    hooks: list[Hook] = Field(
        default_factory=list,
        max_length=16,
        description="Endpoints that are asked on the way, or told.",
        json_schema_extra=map_list("name"),
    )
    alerts: list[Alert] = Field(
        default_factory=list,
        max_length=8,
        description="Where people are told what happens.",
        json_schema_extra=map_list("name"),
    )
    rollback: Rollback = Field(default_factory=Rollback, description="What happens when a version fails.")
    progress_deadline: Duration = Field(
        "10m",
        description="How long a new version may take to become ready, or to reach the size that a step asks for, before"
        " it is rejected.",
    )
    consumers: list[Consumer] = Field(
        default_factory=list,
        max_length=64,
        description="Who may use predictions. With any, the gateway turns all other callers away; without, everybody"
        " may call.",
        json_schema_extra=map_list("name"),
    )
    access_control: AccessControl = Field(default_factory=AccessControl, description="How callers are kept out.")


class ServedVersion(ApiModel):
    """A version with servers."""

    name: ObjectName = Field(description="ModelVersion.")
    digest: Annotated[str, Field(max_length=71)] = Field(description="Digest of its model.")
    service: ObjectName = Field(
        description="InferenceService; in Knative mode, where versions share one, the name that it would have."
    )
    role: Literal["Stable", "Candidate", "Arm", "Previous", "Retiring"] = Field(
        description="Part that it plays. Arm: it takes part in an experiment. Previous: kept warm after a promotion."
        " Retiring: its servers are about to go."
    )
    ready: bool = Field(description="Whether its servers are ready.")
    desired_weight: Percent = Field(description="Percent of requests that it should get.")
    accepted_weight: Percent | None = Field(None, description="Percent that the gateway has accepted.")
    observed_percent: DecimalString | None = Field(None, description="Percent that it really got in the last window.")
    keep_until: Annotated[str, Field(max_length=40)] | None = Field(None, description="When a previous version goes.")
    drained_at: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When the gateway had no reference to a retiring version any more, but for its pin route."
    )


class StepStatus(ApiModel):
    """The step that runs."""

    index: int = Field(ge=0, le=32, description="Its place in the list, from 0.")
    name: LabelName = Field(description="Its name.")
    started_at: Annotated[str, Field(max_length=40)] = Field(description="When it started.")


class PlannedStep(ApiModel):
    """A step as it is taken, whether it was written or comes from a strategy."""

    name: LabelName = Field(description="Its name.")
    does: Annotated[str, Field(max_length=256)] = Field(description="What it does, as one would write it in `steps`.")
    state: Literal["Done", "Running", "Waiting"] = Field(description="How far the candidate is; Waiting without one.")


class CheckStatus(ApiModel):
    """The last verdict of a check."""

    name: LabelName = Field(description="The check.")
    verdict: Literal["Success", "Failed", "Inconclusive"] = Field(description="Its verdict.")
    value: DecimalString | None = Field(None, description="What was measured, in percent.")
    requests: int = Field(0, ge=0, description="Requests that it was measured on.")
    message: Text = Field(description="A sentence.")


class Rejection(ApiModel):
    """A version that failed here, or that a step stopped."""

    name: ObjectName = Field(description="ModelVersion.")
    digest: Annotated[str, Field(max_length=71)] = Field(description="Digest of its model.")
    reason: Annotated[str, Field(max_length=128)] = Field(description="One word.")
    message: Text = Field(description="A sentence.")
    at: Annotated[str, Field(max_length=40)] = Field(description="When.")


class HistoryEntry(ApiModel):
    """What became of a candidate."""

    name: ObjectName = Field(description="ModelVersion.")
    outcome: Literal["Promoted", "RolledBack", "Stopped"] = Field(description="What became of it.")
    at: Annotated[str, Field(max_length=40)] = Field(description="When.")
    from_: ObjectName | None = Field(
        None, alias="from", description="The version that was stable, or that requests went back to."
    )
    by: Who | None = Field(None, description="Who ordered it, when a person did.")
    reason: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="One word: why it was rolled back; Undone when a person went back to it."
    )


class HandledAnnotations(ApiModel):
    """Annotations that were seen: each value acts once."""

    promote: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Last value of `slipway.dev/promote`."
    )
    retry: Annotated[str, Field(max_length=512)] | None = Field(None, description="Last value of `slipway.dev/retry`.")
    order: Annotated[str, Field(max_length=512)] | None = Field(None, description="Last value of `slipway.dev/order`.")


class ModelRolloutStatus(Status):
    """Who serves whom."""

    phase: (
        Literal["Waiting", "Starting", "Progressing", "Paused", "Analyzing", "RollingBack", "Promoting", "Healthy"]
        | None
    ) = Field(None, description="What is going on.")
    url: Annotated[str, Field(max_length=1024)] | None = Field(None, description="Where the model answers.")
    stable: ObjectName | None = Field(None, description="Version that users can rely on.")
    candidate: ObjectName | None = Field(None, description="Version that is being rolled out.")
    weight: Percent | None = Field(None, description="Percent of requests that the candidate should get.")
    candidate_since: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When the candidate last began to start; `progressDeadline` counts from here."
    )
    attempts: int | None = Field(
        None, ge=0, le=1000, description="How often the candidate's servers failed after they had been ready."
    )
    step: StepStatus | None = Field(None, description="The step that runs.")
    plan: list[PlannedStep] | None = Field(
        None,
        max_length=64,
        description="All steps, of the candidate or else of the next one.",
        json_schema_extra=map_list("name"),
    )
    versions: list[ServedVersion] | None = Field(
        None, max_length=8, description="Versions with servers.", json_schema_extra=map_list("name")
    )
    checks: list[CheckStatus] | None = Field(
        None, max_length=16, description="Last verdicts.", json_schema_extra=map_list("name")
    )
    comparisons: list[Comparison] | None = Field(
        None,
        max_length=4,
        description="Answers of a candidate and the stable version, compared by the prediction log; the newest last."
        " Those of a candidate stay until the next one is compared.",
        json_schema_extra=map_list("step"),
    )
    prediction_log: PredictionLogStatus | None = Field(None, description="State of the prediction log.")
    experiments: list[ExperimentStatus] | None = Field(
        None, max_length=4, description="Experiments and their reports, newest first.", json_schema_extra=ATOMIC_LIST
    )
    analysis: list[AnalysisRun] | None = Field(
        None, max_length=4, description="What templates measured.", json_schema_extra=map_list("kind")
    )
    measured_at: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When numbers were last written: a new verdict at once, numbers alone every ten seconds."
    )
    rejected: list[Rejection] | None = Field(
        None,
        max_length=32,
        description="Versions that failed here or were stopped; never selected again until `slipway.dev/retry: NAME` is"
        " set.",
        json_schema_extra=map_list("name"),
    )
    history: list[HistoryEntry] | None = Field(
        None, max_length=20, description="Newest first.", json_schema_extra=ATOMIC_LIST
    )
    candidacy: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When the present candidate was selected: names its candidacy in idempotency tokens."
    )
    hooks: list[HookStatus] | None = Field(
        None, max_length=48, description="Hooks of the present candidate.", json_schema_extra=map_list("name")
    )
    notices: list[Notice] | None = Field(
        None,
        max_length=64,
        description="What receivers are still to be told, and alerts that were delivered.",
        json_schema_extra=map_list("token"),
    )
    handled: HandledAnnotations | None = Field(None, description="Annotations that have acted.")
    consumers: list[ConsumerStatus] | None = Field(
        None,
        max_length=64,
        description="What declared consumers asked for, written at most every half minute.",
        json_schema_extra=map_list("name"),
    )
    consumers_at: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When what consumers asked for was last written."
    )
    paused: PausedStatus | None = Field(None, description="A person holds the candidate where it is.")
    promote_full: PromoteFullStatus | None = Field(None, description="The candidate takes no further steps.")
    undo: UndoStatus | None = Field(None, description="A person goes back; until the earlier version serves.")
    orders: list[OrderStatus] | None = Field(
        None,
        max_length=20,
        description="Orders of people that were heard, newest first.",
        json_schema_extra=ATOMIC_LIST,
    )


class ModelRollout(Resource):
    """A stable URL for a project's model, and how new versions take over its traffic."""

    names: ClassVar = NAME_PREFIX
    kind_name: ClassVar = "ModelRollout"
    plural: ClassVar = "modelrollouts"
    short_names: ClassVar = ("mr",)
    columns: ClassVar = (
        Column(name="Phase", path=".status.phase"),
        Column(name="Stable", path=".status.stable"),
        Column(name="Candidate", path=".status.candidate"),
        Column(name="Weight", path=".status.weight", type="integer"),
        Column(name="Step", path=".status.step.name"),
        Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
        Column(name="Message", path='.status.conditions[?(@.type=="Ready")].message', priority=1),
        Column(name="URL", path=".status.url", priority=1),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: ModelRolloutSpec
    status: ModelRolloutStatus = Field(default_factory=ModelRolloutStatus)
