"""Reasons: the one-word part of conditions and Events, with what each means and what a person does about it.

`docs/reference/conditions.md` is generated from this module. A controller writes `Reason.SourceEmpty`, which is the
string `"SourceEmpty"`; a reason that is not here does not exist.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """A reason: its word, what it means, what to do. Members are named by their word."""

    means: str
    remedy: str

    def __new__(cls, word: str, means: str, remedy: str) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.means = means
        member.remedy = remedy
        return member

    # ---- any kind ----------------------------------------------------------------------------------------------------
    InvalidSpec = (
        "InvalidSpec",
        "The spec contradicts itself or another object in a way that the API server cannot see.",
        "Change what the message names; nothing is retried until the object changes.",
    )
    DependencyMissing = (
        "DependencyMissing",
        "An object that the spec names does not exist.",
        "Create the object that the message names, or correct the reference.",
    )
    PutBack = (
        "PutBack",
        "An object that Slipway makes was changed by someone else, and is as declared again.",
        "Change the object that it is made from; fields that Slipway does not set may be changed freely.",
    )
    DependencyNotReady = (
        "DependencyNotReady",
        "An object that the spec names exists and is not ready.",
        "Look at the conditions of the object that the message names.",
    )
    NotAllowed = (
        "NotAllowed",
        "The project may not use something that the spec names, such as a ComputePool.",
        "Ask the cluster's administrators to allow it, or name something else.",
    )
    NameTaken = (
        "NameTaken",
        "An object that Slipway needs exists already and does not belong to it.",
        "Rename or delete the object that the message names.",
    )
    PlatformUnavailable = (
        "PlatformUnavailable",
        "A store or engine of the Platform does not answer.",
        "Nothing here; `kubectl describe platform default` says what does not answer. Work goes on by itself.",
    )
    PlatformMissing = (
        "PlatformMissing",
        "There is no Platform `default`, so nothing can be stored or run.",
        "Ask the cluster's administrators to create it; work begins by itself then.",
    )
    ProjectMissing = (
        "ProjectMissing",
        "The ModelProject that the object belongs to does not exist (any more).",
        "Create the ModelProject that the message names, or correct `projectRef`.",
    )
    SecretMissing = (
        "SecretMissing",
        "A Secret that the Platform names does not exist or lacks a key.",
        "Ask the cluster's administrators to correct the Secret that the message names.",
    )
    NotServed = (
        "NotServed",
        "The API server does not serve a type that is needed: its CRD is missing.",
        "Install what the message names (KServe, the Gateway API, Envoy Gateway); work goes on by itself.",
    )
    Unavailable = (
        "Unavailable",
        "The API server, or one of its admission webhooks, does not answer.",
        "Look at what the message names; it is tried again by itself.",
    )
    Rejected = (
        "Rejected",
        "The API server, a CEL rule or an admission webhook refuses an object that is needed.",
        "Change what the message names; it is tried again by itself.",
    )
    Forbidden = (
        "Forbidden",
        "The operator may not do something: RBAC, a quota or Pod Security.",
        "Give it the right that the message names, or change the quota; it is tried again by itself.",
    )
    Progressing = ("Progressing", "Work goes on.", "Wait; the message says what for.")
    Paused = ("Paused", "The spec or an annotation says to wait.", "Do what the message says when it should go on.")
    JobFailed = (
        "JobFailed",
        "A Job failed as often as it may, for no fault of the spec.",
        "`kubectl logs job/NAME` with the name in the message shows why; a change of the spec starts it again.",
    )
    OutOfMemory = (
        "OutOfMemory",
        "A container used more memory than its limit.",
        "Raise `resources.limits.memory`, or make the work smaller.",
    )
    ImageUnavailable = (
        "ImageUnavailable",
        "A container image cannot be pulled.",
        "Correct the image's name, push it, or give the nodes access to its registry.",
    )
    DataLeft = (
        "DataLeft",
        "An object was deleted, and something of it in a store could not be.",
        "Delete by hand what the message names.",
    )
    Deleting = ("Deleting", "The object is being deleted.", "Wait; the message says what still has to go.")
    InternalError = (
        "InternalError",
        "Slipway has a defect, or met something that it does not know.",
        "Report it with the operator's log of the time; it is retried with growing pauses.",
    )

    # ---- Platform, ComputePool ---------------------------------------------------------------------------------------
    Connected = ("Connected", "Every part of the platform answers.", "Nothing.")
    ConnectionFailed = (
        "ConnectionFailed",
        "A part of the platform does not answer, or refuses the credentials.",
        "`status.connections` names the part and its answer: correct the endpoint or the Secret.",
    )
    NodesAvailable = ("NodesAvailable", "Nodes match the pool and have its resource.", "Nothing.")
    NoNodes = (
        "NoNodes",
        "No node matches the pool's selector, or none has its resource.",
        "Label a node, install its device plugin, or correct `nodeSelector` and `resource`.",
    )

    # ---- ModelProject ------------------------------------------------------------------------------------------------
    Accepted = ("Accepted", "The project's access and credentials are set up.", "Nothing.")
    NothingToTrain = (
        "NothingToTrain",
        "The project has no `training`, so no versions are made.",
        "Set `spec.training` when the data is there.",
    )
    DeferralsDue = (
        "DeferralsDue",
        "The day has come until which a requirement was deferred; it counts from now on.",
        "Meet the requirement and remove `deferred`, or defer it anew with a reason.",
    )
    NoDebt = ("NoDebt", "No deferred requirement is overdue.", "Nothing.")
    QuotaUnbounded = (
        "QuotaUnbounded",
        "A run does not say how much of its pool's resource it needs, so the pool's quota cannot be kept.",
        "Set `resources.requests` with the pool's resource.",
    )

    # ---- Dataset, DatasetVersion -------------------------------------------------------------------------------------
    SourceTooLarge = (
        "SourceTooLarge",
        "There are more objects below the source's prefix than one version may have.",
        "Put the data into fewer, larger objects, or narrow `source.s3.prefix`.",
    )
    Current = ("Current", "The Dataset's current version.", "Nothing.")
    SourceEmpty = (
        "SourceEmpty",
        "There is no object below the source's prefix.",
        "Put data there, or correct `source.s3.prefix`.",
    )
    SourceChanged = (
        "SourceChanged",
        "An object of the source was replaced or deleted while it was read.",
        "Nothing: the next look at the source starts over. Write an object once, under a new name.",
    )
    Ingesting = ("Ingesting", "A Job reads, checks and splits the data.", "Wait.")
    QualityRulesBroken = (
        "QualityRulesBroken",
        "The newest data breaks a blocking rule; the last version that passed stays current.",
        "`kubectl get datasetversions` says which rule and where: correct the data, or the rule.",
    )
    SchemaMismatch = (
        "SchemaMismatch",
        "A column is missing or has values of another type.",
        "Correct `columns`, or the data that the message names.",
    )
    InvalidExpression = (
        "InvalidExpression",
        "An SQL expression of the spec cannot be evaluated.",
        "Correct the expression that the message names.",
    )
    Passed = ("Passed", "Every blocking rule and every gate holds.", "Nothing.")
    PassedWithWarnings = (
        "PassedWithWarnings",
        "Every blocking rule holds, and a rule of severity Warn does not.",
        "Look at the violations of the version.",
    )

    # ---- FeatureSet --------------------------------------------------------------------------------------------------
    Materializing = ("Materializing", "A Job computes values and brings them to the online store.", "Wait.")
    Materialized = ("Materialized", "The online store has the values of the newest data.", "Nothing.")

    # ---- TrainingRun, ModelVersion -----------------------------------------------------------------------------------
    WaitingForPool = (
        "WaitingForPool",
        "The pool has no room, or the project has used up its quota of it.",
        "Wait for other runs, or ask for a larger quota.",
    )
    EngineNotAvailable = (
        "EngineNotAvailable",
        "The pipeline engine that the Platform names, or that a run was started with, cannot be used.",
        "The message says why: correct `spec.pipelines` of the Platform.",
    )
    EndpointRefused = (
        "EndpointRefused",
        "The pipelines endpoint refuses the operator's token, or what it may do.",
        "Set `spec.pipelines.kubeflowPipelines.auth`, and let the operator's ServiceAccount do what the message names.",
    )
    EndpointUnavailable = (
        "EndpointUnavailable",
        "The pipelines endpoint does not answer, or answers with an error of its own.",
        "Look at the endpoint that the message names. Work goes on by itself, and nothing is started twice.",
    )
    SubmissionRefused = (
        "SubmissionRefused",
        "The pipelines endpoint does not take the pipeline or the run.",
        "The message has the endpoint's words; it is tried again with growing pauses.",
    )
    InvalidPipeline = (
        "InvalidPipeline",
        "The team's own pipeline does not keep to the contract, or cannot run with the Platform's engine.",
        "Change what the message names, and create another run; docs/training/own-pipelines.md has the contract.",
    )
    LauncherMisconfigured = (
        "LauncherMisconfigured",
        "KFP's launcher does not know how to reach the store in which tasks hand over to each other.",
        "Correct the ConfigMap `kfp-launcher`, or the Secret, that the message names.",
    )
    PipelineTaskFailed = (
        "PipelineTaskFailed",
        "A task of the pipeline failed for no fault of the spec, as often as it may.",
        "`slipway run logs RUN` shows its output; create another run when the cause is gone.",
    )
    PipelineRunLost = (
        "PipelineRunLost",
        "The Workflow of a run vanished while it ran.",
        "Find out who deleted it; the run is tried again by itself.",
    )
    Preempted = (
        "Preempted",
        "A pod of the run was evicted, or its node went away.",
        "Nothing: the run is tried again.",
    )
    Cancelled = (
        "Cancelled",
        "Somebody ended the run, here or at the pipelines endpoint.",
        "Create another run when it is wanted after all.",
    )
    Running = ("Running", "The pipeline runs.", "Wait; `status.stage` and `status.progressPercent` say how far it is.")
    Succeeded = ("Succeeded", "The run made a ModelVersion.", "Nothing.")
    EntrypointNotFound = (
        "EntrypointNotFound",
        "The image of the training code does not have the function that `code.image.entrypoint` names.",
        "Correct the entry point, or install the code in the image (or put it on its PYTHONPATH).",
    )
    TrainingCodeFailed = (
        "TrainingCodeFailed",
        "The team's training code raised an error.",
        "The message has the line; correct the code and build its image again.",
    )
    EvaluationFailed = (
        "EvaluationFailed",
        "The model cannot be evaluated: it does not load, or does not answer as a classifier does.",
        "Correct what the message names in the training code.",
    )
    DigestMismatch = (
        "DigestMismatch",
        "A stored file is not the one that was recorded.",
        "Somebody or something changed the artifact store: find out who; train again.",
    )
    DeadlineExceeded = (
        "DeadlineExceeded",
        "The run took longer than `deadline`.",
        "Raise `deadline`, give it more resources, or make it smaller.",
    )
    Serving = ("Serving", "A ModelRollout has servers of the version.", "Nothing.")
    GatesFailed = (
        "GatesFailed",
        "The version does not meet a requirement or fails a test; it is kept and never rolled out.",
        "`spec.verdicts` of the version says which gate, the bound and the value.",
    )

    # ---- ModelRollout ------------------------------------------------------------------------------------------------
    WaitingForVersion = (
        "WaitingForVersion",
        "There is no version that passed and was not rejected here.",
        "Train a version that passes; nothing is served until then.",
    )
    Starting = ("Starting", "The servers of a version start.", "Wait.")
    Started = ("Started", "A version is rolled out; its servers are made.", "Nothing.")
    StepStarted = ("StepStarted", "The new version has come to the step that the message names.", "Nothing.")
    WaitingForCapacity = (
        "WaitingForCapacity",
        "With `serving.capacity: Recreate`, the stable version gives up a server before the new one gets one.",
        "Wait.",
    )
    Superseded = (
        "Superseded",
        "A version is not rolled out any further because another one is wanted; it is not rejected.",
        "Nothing.",
    )
    StepPromoted = ("StepPromoted", "A person ended the step that waited.", "Nothing.")
    StepsSkipped = ("StepsSkipped", "The new version takes no further steps, as a person ordered.", "Nothing.")
    Resumed = ("Resumed", "A person let the rollout go on.", "Nothing.")
    Aborted = (
        "Aborted",
        "A person ended the rollout of a version; all requests are at the stable version.",
        "The version is rejected: `slipway rollout retry ROLLOUT VERSION` lets it be tried again.",
    )
    Undone = (
        "Undone",
        "A person went back from a version to an earlier one.",
        "It and versions before it are not selected again until a newer one passes, or `slipway rollout retry`.",
    )
    Retried = ("Retried", "A rejected version may be tried again, as a person said.", "Nothing.")
    AnnotationIgnored = (
        "AnnotationIgnored",
        "An annotation does not fit the rollout's present state; it has no effect now or later.",
        "Set it again, with another text after a colon, when the message's state is the one that you mean.",
    )
    ServersNotReady = (
        "ServersNotReady",
        "The version that serves has no ready server.",
        "`kubectl get pods` with its InferenceService's name shows why.",
    )
    ServersLost = (
        "ServersLost",
        "No server of the new version is ready any more; it has no requests until it starts anew.",
        "Look at its pods: a node that went away is no fault of the version, a crash is.",
    )
    ServersUnstable = (
        "ServersUnstable",
        "The new version's servers failed several times after they had been ready.",
        "The version is rejected: `kubectl logs -p` of its pods shows why.",
    )
    KServeSilent = (
        "KServeSilent",
        "KServe does not say that a version's servers are ready, though nothing is known to be amiss with them.",
        "Look whether KServe's controller runs; the time does not count against the version.",
    )
    Unschedulable = (
        "Unschedulable",
        "No node has room for a server.",
        "Add nodes, lower `serving.resources`, or choose another `serving.poolRef`.",
    )
    ServerNotCreated = (
        "ServerNotCreated",
        "A server's container cannot be created.",
        "The message names what is missing, such as a Secret or a key of it.",
    )
    ArtifactUnavailable = (
        "ArtifactUnavailable",
        "The model cannot be downloaded.",
        "Look at the artifact store, at its credentials, and whether the artifact is still there.",
    )
    PodFailed = (
        "PodFailed",
        "A node gave up a server's pod before it ran: evicted, lost, or without the device it was promised.",
        "The message names the cause: raise requests, or look at the node.",
    )
    PodsRefused = (
        "PodsRefused",
        "The cluster refuses to create a server's pods.",
        "The message names the quota or the policy.",
    )
    NoStatistics = (
        "NoStatistics",
        "The gateway's statistics cannot be read, so checks stay Inconclusive.",
        "Correct `gateway.statisticsPort` of the Platform, or set `mergeBackends` in the gateway's EnvoyProxy.",
    )
    UnsupportedInKnative = (
        "UnsupportedInKnative",
        "The Platform serves models in KServe's Knative mode, which cannot do what a field asks for.",
        "The message names the fields and what to write instead, or ask an administrator for `serving.mode: Standard`.",
    )
    ServingModeChanged = (
        "ServingModeChanged",
        "The Platform's `serving.mode` changed while a rollout serves; what serves goes on, and nothing new is made.",
        "Set the mode back, or make a rollout of another name and delete the old one.",
    )
    Analyzing = ("Analyzing", "Checks run on the new version.", "Wait; `status.checks` has what was measured.")
    ExperimentStarted = (
        "ExperimentStarted",
        "All versions of an experiment have their share of requests; its time counts from now.",
        "Nothing; `status.experiments` has what is counted.",
    )
    ExperimentEnded = (
        "ExperimentEnded",
        "An experiment is over; its further versions have no requests any more and go.",
        "Read the report in `status.experiments`, and pin or train what follows from it.",
    )
    ArmLeft = (
        "ArmLeft",
        "A version does not take part in an experiment, or not to its end; the others go on.",
        "The message says why; one whose checks failed is among `status.rejected`.",
    )
    Compared = (
        "Compared",
        "Answers of the new version and the stable one were compared, from the prediction log.",
        "Look at `status.comparisons`; `report` is the page with plots.",
    )
    TooFewRequests = (
        "TooFewRequests",
        "A check is Inconclusive: the new version got fewer requests than it needs.",
        "Send traffic, raise the weight, or lower `minimumRequests`.",
    )
    ChecksFailed = (
        "ChecksFailed",
        "A check failed on the new version.",
        "The version is rejected: look at `status.rejected`; annotate `slipway.dev/retry: NAME` to try it again.",
    )
    AnalysisFailed = (
        "AnalysisFailed",
        "A metric of an AnalysisTemplate failed on the new version.",
        "The version is rejected: look at `status.analysis`; annotate `slipway.dev/retry: NAME` to try it again.",
    )
    AnalysisInconclusive = (
        "AnalysisInconclusive",
        "An analysis came to no verdict; the rollout waits for a person.",
        "Look at `status.analysis`; annotate `slipway.dev/promote` as the message says, or pin another version.",
    )
    AnalysisError = (
        "AnalysisError",
        "A metric could not be measured several times in a row; the rollout waits for a person.",
        "The message says why; annotate `slipway.dev/promote` as it says, or pin another version.",
    )
    AnalysisInvalid = (
        "AnalysisInvalid",
        "A template that the rollout names cannot be used.",
        "Create or correct what the message names; the analysis goes on by itself.",
    )
    Valid = ("Valid", "A template, or every template that a rollout names, can be used.", "Nothing.")
    RolledBack = (
        "RolledBack",
        "All requests went back to the stable version.",
        "`status.rejected` says why; train a better version, or annotate `slipway.dev/retry: NAME`.",
    )
    Stopped = (
        "Stopped",
        "A `stop` step ended the rollout of a version; the stable version serves as before.",
        "Nothing; annotate `slipway.dev/retry: NAME` to roll the version out again.",
    )
    LoadFailed = (
        "LoadFailed",
        "The model server cannot load the version.",
        "`kubectl logs` of its predictor shows why; the version is rejected.",
    )
    ProgressDeadlineExceeded = (
        "ProgressDeadlineExceeded",
        "The version's servers were not ready, or not as many as a step asked for, within `progressDeadline`.",
        "Look at its pods: image, resources, pool; raise `progressDeadline` for slow starts.",
    )
    RouteNotAccepted = (
        "RouteNotAccepted",
        "The Gateway does not accept the route.",
        "Correct `routing.hostnames`, or let the Gateway's listener allow routes of this namespace.",
    )
    PathTaken = (
        "PathTaken",
        "Another rollout has the same path on the same host names, and had it first.",
        "Choose another `routing.path`, or other host names; users of the other rollout notice nothing.",
    )
    PoliciesAccepted = ("PoliciesAccepted", "The gateway turns undeclared callers away.", "Nothing.")
    PolicyPending = (
        "PolicyPending",
        "The gateway has not said yet that it enforces who may call.",
        "Wait some seconds; then look whether the Gateway is one of Envoy Gateway's, and whether that runs.",
    )
    PolicyRefused = (
        "PolicyRefused",
        "The gateway refuses the policy that says who may call, or how often.",
        "The message has the gateway's words; remove another policy of the same routes and kind, if it names one.",
    )
    EnforcementUnsupported = (
        "EnforcementUnsupported",
        "The gateway cannot enforce who may call.",
        "Use Envoy Gateway, remove `consumers`, or acknowledge it: `accessControl.whenUnsupported: Serve`.",
    )
    OutputsChange = (
        "OutputsChange",
        "A new version's answers have more fields than those of the one that serves.",
        "Tell the consumers that the message names.",
    )
    LogChanges = (
        "LogChanges",
        "A new version has other inputs than the one that serves, so the prediction log gets another form.",
        "Tell the readers that the message names.",
    )
    OutputsIncompatible = (
        "OutputsIncompatible",
        "A new version's answers lack a field, or have one of another type: readers break.",
        "Tell the consumers; once they can read it, annotate `slipway.dev/accept-outputs: MODELVERSION`.",
    )
    PatchAccepted = ("PatchAccepted", "The gateway asks the other version when an answer failed.", "Nothing.")
    PatchPending = (
        "PatchPending",
        "The gateway has not said yet that it asks the other version when an answer failed.",
        "Wait some seconds; then do what the message says.",
    )
    RetryUnsupported = (
        "RetryUnsupported",
        "The gateway cannot ask the other version when an answer failed; all else works.",
        "Do what the message says, or remove `rollback.retryOnStable`.",
    )
    NotNeeded = ("NotNeeded", "What was declared has nothing to act on now.", "Nothing.")
    CredentialUnusable = (
        "CredentialUnusable",
        "A declared consumer cannot be let in: its credential is missing or unfit.",
        "Correct the Secret that the message names; it is noticed within a minute.",
    )
    WaitingForHook = (
        "WaitingForHook",
        "A hook has to confirm before the rollout goes on.",
        "Let the endpoint answer 2xx; `status.hooks` has its last answer.",
    )
    HookFailed = (
        "HookFailed",
        "A hook or a webhook step answered that something is wrong, or did not answer.",
        "`status.hooks` has its last answer; with onFailure Halt the rollout goes on when it answers 2xx.",
    )
    HookNotSent = (
        "HookNotSent",
        "A hook cannot be called at all: its host is not allowed, or its Secret does not fit.",
        "Correct what the message names; it is tried again by itself.",
    )
    RollbackRequested = (
        "RollbackRequested",
        "A hook of type rollback answered 2xx, which asks for a rollback.",
        "The version is rejected: look at what the endpoint saw; annotate `slipway.dev/retry: NAME` to try it again.",
    )
    NoticesDropped = (
        "NoticesDropped",
        "Alerts or events for a receiver were given up: it was away too long, or there were too many.",
        "Correct the address in the receiver's Secret, or bring the receiver back.",
    )
    Promoted = ("Promoted", "A new version takes all requests.", "Nothing.")
    Healthy = ("Healthy", "The stable version serves and nothing newer waits.", "Nothing.")
