"""ModelProject: the task, what a good model is, and how models are made."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.common import MeasuredAt, Metric, QualityMetric, TrainingTemplate
from slipway.api.meta import (
    NAME_PREFIX,
    SET_LIST,
    ApiModel,
    Column,
    Cron,
    DecimalString,
    Duration,
    Identifier,
    LabelName,
    LocalRef,
    ObjectName,
    Resource,
    Sql,
    Status,
    Text,
    TimeZone,
    exactly_one,
    map_list,
    one_of,
    rule,
)

Level = Literal["Low", "Medium", "High"]


class Task(ApiModel):
    """What is predicted."""

    type: Literal["BinaryClassification"] = Field("BinaryClassification", description="Kind of prediction.")
    statement: Text = Field(description="The question that a prediction answers, in one sentence.")
    target: Identifier = Field(description="Label column of the dataset.")
    lead_time: Duration = Field(
        "0s",
        description="How long before the event a prediction is made; features are joined as they were known then.",
    )


class Judgement(ApiModel):
    """A level and the reason for it."""

    level: Level = Field(description="How much of it there is.")
    why: Text | None = Field(None, description="The reason.")


class DataNeeded(Judgement):
    """How much data the task needs."""

    rows: int | None = Field(None, ge=1, le=10**12, description="Rows that are thought to be enough.")


class PublishedWork(Judgement):
    """How well the problem is covered by published work."""

    references: list[Annotated[str, Field(max_length=512)]] = Field(
        default_factory=list, max_length=32, description="Papers and posts.", json_schema_extra=SET_LIST
    )


class Feasibility(ApiModel):
    """The guide's questions about feasibility; High always means much of the thing that the field names."""

    data_acquisition_cost: Judgement = Field(description="How hard and dear it is to get the data.")
    labelling_cost: Judgement = Field(description="How dear labels are.")
    data_needed: DataNeeded = Field(description="How much data will be needed.")
    wrong_prediction_cost: Judgement = Field(description="What a wrong prediction costs.")
    published_work: PublishedWork = Field(description="How much good published work there is on similar problems.")
    training_compute: Judgement = Field(description="How much compute training takes.")
    inference_constraint: Judgement = Field(description="How constrained the place is where the model runs.")


class Priority(ApiModel):
    """Impact and feasibility, from which status.priority is computed."""

    impact: Judgement = Field(description="Value of cheap predictions here.")
    feasibility: Feasibility = Field(description="What stands in the way.")


class OptimizedMetric(ApiModel):
    """One metric."""

    name: QualityMetric = Field(description="The metric.")
    minimum_improvement: DecimalString = Field(
        "0", description="By how much a version must beat the best simple baseline on the same test split."
    )
    allowed_regression: DecimalString = Field(
        "0.005", description="By how much it may be worse than the version that serves, scored on the same test split."
    )


class WeightedTerm(ApiModel):
    """A metric and its weight."""

    metric: QualityMetric = Field(description="The metric.")
    weight: DecimalString = Field(description="Its weight; negative where less is better.")


class WeightedSum(ApiModel):
    """A weighted sum of metrics."""

    terms: list[WeightedTerm] = Field(
        min_length=1, max_length=16, description="The terms.", json_schema_extra=map_list("metric")
    )
    minimum_improvement: DecimalString = Field(
        "0", description="By how much a version must beat the best simple baseline on the same test split."
    )
    allowed_regression: DecimalString = Field(
        "0.005", description="By how much it may be worse than the version that serves, scored on the same test split."
    )


class Optimize(ApiModel):
    """The single number that the project optimizes."""

    rules: ClassVar = (one_of("type", {"Metric": "metric", "WeightedSum": "weightedSum"}),)

    type: Literal["Metric", "WeightedSum"] = Field("Metric", description="One metric, or a weighted sum of several.")
    metric: OptimizedMetric | None = Field(None, description="The metric, with Metric.")
    weighted_sum: WeightedSum | None = Field(None, description="The sum, with WeightedSum.")


class Deferral(ApiModel):
    """A requirement that does not count for now."""

    until: str = Field(
        max_length=10,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        description="Day from which it counts, as YYYY-MM-DD (UTC).",
    )
    why: Text = Field(description="The reason.")


class Requirement(ApiModel):
    """A bound that every version must satisfy."""

    rules: ClassVar = (
        exactly_one("min", "max"),
        rule(
            "(self.metric == 'coverage') == has(self.confidence)",
            "set confidence with metric coverage, and only then: coverage is the share of predictions at that"
            " confidence",
        ),
        rule(
            "!has(self.measuredAt) || self.metric.startsWith('latency') || self.metric == 'memoryMebibytes'",
            "measuredAt is only for latency and memory: remove it",
        ),
    )

    name: LabelName = Field(description="Name of the requirement.")
    metric: Metric = Field(description="What is bounded.")
    measured_at: MeasuredAt | None = Field(
        None, description="Where latency and memory are measured. Defaults to Server."
    )
    confidence: DecimalString | None = Field(
        None, description="With coverage: the probability above which a prediction counts as one, from 0.5 to 1."
    )
    min: DecimalString | None = Field(None, description="Least value that is accepted.")
    max: DecimalString | None = Field(None, description="Greatest value that is accepted.")
    deferred: Deferral | None = Field(None, description="Lets versions pass without it for a while.")


class ReferenceResult(ApiModel):
    """A result to compare with that was not computed here."""

    name: LabelName = Field(description="Whose result, such as `human` or `published`.")
    metric: QualityMetric = Field(description="The metric.")
    value: DecimalString = Field(description="Its value.")
    source: Text = Field(description="Where the value comes from.")


class Ship(ApiModel):
    """When the first version ships."""

    policy: Literal["NeutralLaunch", "BeatBaselines"] = Field(
        "BeatBaselines",
        description="NeutralLaunch: the first version need not beat the simple baseline. BeatBaselines: it must.",
    )


class Requirements(ApiModel):
    """What a good model is."""

    optimize: Optimize = Field(description="The single number to optimize.")
    satisfy: list[Requirement] = Field(
        default_factory=list, max_length=32, description="Bounds that must hold.", json_schema_extra=map_list("name")
    )
    reference_results: list[ReferenceResult] = Field(
        default_factory=list,
        max_length=16,
        description="Human level and published results; every version is compared with them in its status.",
        json_schema_extra=map_list("name"),
    )
    ship: Ship = Field(default_factory=Ship, description="When the first version ships.")


class Subject(ApiModel):
    """A person, a group or a ServiceAccount, as in RBAC."""

    kind: Literal["User", "Group", "ServiceAccount"] = Field(description="Kind of subject.")
    name: str = Field(min_length=1, max_length=253, description="Its name.")


class Member(Subject):
    """A subject and its roles."""

    roles: list[Literal["DataEngineer", "MLEngineer", "SoftwareEngineer", "ProjectManager"]] = Field(
        min_length=1, max_length=4, description="Roles; each becomes a RoleBinding.", json_schema_extra=SET_LIST
    )


class Team(ApiModel):
    """Who works on the project, and what each may do."""

    owner: Subject = Field(description="Who answers for the project; may do everything in it.")
    members: list[Member] = Field(
        default_factory=list, max_length=64, description="Members.", json_schema_extra=map_list(["kind", "name"])
    )


class ProjectTraining(TrainingTemplate):
    """How versions are made."""

    dataset_ref: LocalRef = Field(description="Dataset that runs train on.")


class Retrain(ApiModel):
    """When a new version is made without anybody asking."""

    rules: ClassVar = (rule("!has(self.schedule) || has(self.timeZone)", "set timeZone beside schedule"),)

    on_dataset_version: bool = Field(True, description="For each new current DatasetVersion.")
    on_feature_change: bool = Field(False, description="When the definition of a FeatureSet changes.")
    schedule: Cron | None = Field(None, description="At these times, if anything changed since the last run.")
    time_zone: TimeZone | None = Field(None, description="Time zone of `schedule`.")


class Scenario(ApiModel):
    """A curated situation that every version must handle."""

    rules: ClassVar = (exactly_one("min", "max"),)

    name: LabelName = Field(description="Name of the scenario.")
    where: Sql = Field(description="Condition that selects its rows of the test split.")
    metric: QualityMetric = Field(description="What is measured on them.")
    min: DecimalString | None = Field(None, description="Least value that is accepted.")
    max: DecimalString | None = Field(None, description="Greatest value that is accepted.")
    minimum_rows: int = Field(50, ge=1, le=10**9, description="Rows needed for a verdict; fewer make it Inconclusive.")


class Slice(ApiModel):
    """A part of the data on which a version may not be much worse than overall."""

    name: LabelName = Field(description="Name of the slice.")
    where: Sql = Field(description="Condition that selects its rows of the test split.")
    metric: QualityMetric = Field(description="What is measured on them.")
    max_drop_percent: int = Field(
        5, ge=0, le=100, description="By how many percent of the overall value it may be worse."
    )
    minimum_rows: int = Field(50, ge=1, le=10**9, description="Rows needed for a verdict; fewer make it Inconclusive.")


class ProjectTests(ApiModel):
    """Tests of every version; each is a gate."""

    scenarios: list[Scenario] = Field(
        default_factory=list, max_length=32, description="Curated situations.", json_schema_extra=map_list("name")
    )
    slices: list[Slice] = Field(
        default_factory=list,
        max_length=32,
        description="Important parts of the data.",
        json_schema_extra=map_list("name"),
    )


class ModelProjectSpec(ApiModel):
    """A machine-learning project."""

    rules: ClassVar = (
        rule(
            "!has(self.training) || !(self.task.target in self.training.inputs)",
            "task.target is what is predicted and not known then: remove it from training.inputs",
        ),
    )

    task: Task = Field(description="What is predicted.")
    priority: Priority | None = Field(None, description="Impact and feasibility.")
    requirements: Requirements = Field(description="What a good model is.")
    team: Team | None = Field(None, description="Who works on it.")
    training: ProjectTraining | None = Field(None, description="How versions are made; none are without it.")
    retrain: Retrain = Field(default_factory=Retrain, description="When versions are made.")
    tests: ProjectTests = Field(default_factory=ProjectTests, description="Tests of every version.")


class PriorityStatus(ApiModel):
    """The two axes of the guide's priority picture."""

    impact: Level = Field(description="Impact.")
    feasibility: Level = Field(description="Feasibility, from the answers to its questions.")
    verdict: Literal["DoNow", "WorthTheEffort", "LowHangingFruit", "Reconsider"] = Field(description="What follows.")


class Debt(ApiModel):
    """Something that was put off."""

    name: LabelName = Field(description="What.")
    since: str = Field(max_length=40, description="Since when, or until when.")
    why: Text = Field(description="The reason given.")


class ModelProjectStatus(Status):
    """Where the project is."""

    phase: Literal["Planning", "Data", "Training", "Testing", "Deployed", "Stalled"] | None = Field(
        None, description="Stage of the life cycle."
    )
    priority: PriorityStatus | None = Field(None, description="From spec.priority.")
    dataset_version: ObjectName | None = Field(None, description="Current version of the dataset.")
    last_run: ObjectName | None = Field(None, description="Newest TrainingRun.")
    newest_version: ObjectName | None = Field(None, description="Newest ModelVersion.")
    passing_version: ObjectName | None = Field(None, description="Newest ModelVersion that passed every gate.")
    serving_version: ObjectName | None = Field(None, description="ModelVersion that serves users.")
    score: DecimalString | None = Field(None, description="Optimized number of the newest passing version.")
    debt: list[Debt] | None = Field(
        None, max_length=64, description="Deferred requirements.", json_schema_extra=map_list("name")
    )


class ModelProject(Resource):
    """A machine-learning project: task, requirements, team, and how its models are trained and tested."""

    names: ClassVar = NAME_PREFIX
    kind_name: ClassVar = "ModelProject"
    plural: ClassVar = "modelprojects"
    short_names: ClassVar = ("mp",)
    columns: ClassVar = (
        Column(name="Phase", path=".status.phase"),
        Column(name="Dataset", path=".status.datasetVersion"),
        Column(name="Passing", path=".status.passingVersion"),
        Column(name="Score", path=".status.score"),
        Column(name="Serving", path=".status.servingVersion"),
        Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: ModelProjectSpec
    status: ModelProjectStatus = Field(default_factory=ModelProjectStatus)
