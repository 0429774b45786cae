"""Dataset: where rows come from, what they must be like, and how they are split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.common import DeletionPolicy, deletion_policy
from slipway.api.meta import (
    ATOMIC_LIST,
    NAME_PREFIX,
    ApiModel,
    Column,
    Cron,
    Duration,
    Identifier,
    LabelName,
    LocalRef,
    ObjectName,
    Percent,
    Resource,
    Sql,
    Status,
    Text,
    TimeZone,
    Uri,
    map_list,
    one_of,
    rule,
    same_project,
)


class S3Source(ApiModel):
    """Objects below a prefix of the Platform's bucket."""

    prefix: str = Field(
        min_length=1,
        max_length=512,
        pattern=r"^[A-Za-z0-9._=/-]+$",
        description="Prefix of the objects, such as `raw/flights/`; each object is one partition.",
    )
    format: Literal["Parquet", "Csv"] = Field("Parquet", description="Format of the objects.")


class Source(ApiModel):
    """Where rows come from."""

    rules: ClassVar = (one_of("type", {"S3": "s3"}),)

    type: Literal["S3"] = Field("S3", description="Kind of source.")
    s3: S3Source | None = Field(None, description="The objects, with S3.")


class DatasetTime(ApiModel):
    """When a row happens, and when its outcome is known."""

    event: Sql = Field(description="Expression for the time of a row, such as `sched_dep_time`. Times are UTC.")
    available_at: Sql | None = Field(
        None, description="Expression for the time from which the row's outcome is known. Defaults to the event."
    )


class ColumnReference(ApiModel):
    """A foreign key into another dataset."""

    dataset_ref: LocalRef = Field(description="The other dataset.")
    column: Identifier = Field(description="Its column.")


class DatasetColumn(ApiModel):
    """A column that rows must have."""

    name: Identifier = Field(description="Name of the column.")
    type: Literal["String", "Integer", "Double", "Boolean", "Timestamp"] = Field(description="Type of its values.")
    nullable: bool = Field(False, description="Whether values may be missing.")
    sensitive: bool = Field(False, description="Whether it is kept out of training sets, profiles and reports.")
    references: ColumnReference | None = Field(None, description="Column of another dataset that has all its values.")
    description: Text | None = Field(None, description="What it means.")


class FromOutcomes(ApiModel):
    """Labels that arrive by themselves."""

    expression: Sql = Field(description="Expression for the label, such as `arr_delay >= 15`.")


class LabelGuide(ApiModel):
    """The document that says how rows are labelled."""

    uri: Uri = Field(description="Where it is.")
    version: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Its version; kept with each DatasetVersion."
    )


class Labels(ApiModel):
    """Ground truth."""

    rules: ClassVar = (one_of("type", {"FromOutcomes": "fromOutcomes"}),)

    column: Identifier = Field(description="Name of the label column.")
    type: Literal["Column", "FromOutcomes"] = Field(
        "Column", description="Column: the data has it. FromOutcomes: an expression over what happened later."
    )
    from_outcomes: FromOutcomes | None = Field(None, description="The expression, with FromOutcomes.")
    guide: LabelGuide = Field(description="The labelling documentation.")


class QualityRule(ApiModel):
    """An expectation of the data."""

    name: LabelName = Field(description="Name of the rule.")
    expect: Sql = Field(
        description="Aggregate expression that must be true, such as `avg(arr_delay) BETWEEN -30 AND 60`."
    )
    per: Literal["Partition", "Version"] = Field(
        "Partition", description="Whether it must hold for every source object, or for all rows together."
    )
    severity: Literal["Block", "Warn"] = Field(
        "Block", description="Block: no version passes that breaks it. Warn: the version says so."
    )
    description: Text | None = Field(None, description="Why it is expected.")


class TimeSplit(ApiModel):
    """Split by time: the oldest rows train, the newest test."""

    rules: ClassVar = (
        rule(
            "self.trainPercent + self.validationPercent + self.testPercent == 100",
            "trainPercent, validationPercent and testPercent must add up to 100",
        ),
    )

    train_percent: Percent = Field(80, description="Share of rows that train.")
    validation_percent: Percent = Field(10, description="Share of rows that validate.")
    test_percent: Percent = Field(10, description="Share of rows that test.")


class Splits(ApiModel):
    """How rows are divided."""

    rules: ClassVar = (one_of("type", {"Time": "time"}),)

    type: Literal["Time"] = Field("Time", description="Kind of split.")
    time: TimeSplit | None = Field(None, description="Shares, with Time.")


class DatasetSpec(ApiModel):
    """A dataset."""

    rules: ClassVar = (
        same_project("Dataset"),
        rule("!has(self.schedule) || has(self.timeZone)", "set timeZone beside schedule"),
        rule("!has(self.schedule) || !has(self.pollInterval)", "set schedule or pollInterval, not both"),
        rule("!has(self.splits) || has(self.time)", "splits by time need spec.time: set time.event"),
        rule("!has(self.labels) || has(self.splits)", "a labelled dataset is trained on: set splits"),
        rule("self.key.all(k, self.columns.exists(c, c.name == k))", "every column of key must stand in columns"),
        rule(
            "!has(self.labels) || self.labels.type != 'Column' || self.columns.exists(c, c.name == self.labels.column)",
            "labels of type Column need their column in columns",
        ),
    )

    project_ref: LocalRef = Field(description="ModelProject that the dataset belongs to.")
    source: Source = Field(description="Where rows come from.")
    poll_interval: Duration | None = Field(
        None, description="How often the source is listed for new objects. Defaults to 1m when there is no schedule."
    )
    schedule: Cron | None = Field(None, description="When the source is listed for new objects.")
    time_zone: TimeZone | None = Field(None, description="Time zone of `schedule`.")
    key: list[Identifier] = Field(
        min_length=1, max_length=16, description="Columns that identify a row.", json_schema_extra=ATOMIC_LIST
    )
    time: DatasetTime | None = Field(None, description="When rows happen; needed for splits and features.")
    columns: list[DatasetColumn] = Field(
        min_length=1,
        max_length=500,
        description="Schema; other columns are dropped.",
        json_schema_extra=map_list("name"),
    )
    labels: Labels | None = Field(None, description="Ground truth, for a dataset that is trained on.")
    quality: list[QualityRule] = Field(
        default_factory=list, max_length=64, description="Expectations.", json_schema_extra=map_list("name")
    )
    splits: Splits | None = Field(None, description="How rows are divided into training, validation and test.")
    deletion_policy: DeletionPolicy = deletion_policy("its DatasetVersions and their data")


class DatasetStatus(Status):
    """What there is."""

    current_version: ObjectName | None = Field(None, description="Newest DatasetVersion that passed.")
    latest_version: ObjectName | None = Field(None, description="Newest DatasetVersion, passed or not.")
    rows: int | None = Field(None, ge=0, description="Rows of the current version.")
    partitions: int | None = Field(None, ge=0, description="Source objects of the current version.")
    source_digest: Annotated[str, Field(max_length=71)] | None = Field(
        None, description="Digest of the listing and the spec that the latest version was made from."
    )
    last_listed_time: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When a change of the source was last seen."
    )
    job: ObjectName | None = Field(None, description="Job that makes the next version.")


class Dataset(Resource):
    """Rows from a source, with a schema, labels, quality rules and splits; becomes DatasetVersions."""

    names: ClassVar = NAME_PREFIX
    kind_name: ClassVar = "Dataset"
    plural: ClassVar = "datasets"
    short_names: ClassVar = ("ds",)
    columns: ClassVar = (
        Column(name="Current", path=".status.currentVersion"),
        Column(name="Rows", path=".status.rows", type="integer"),
        Column(name="Parts", path=".status.partitions", type="integer"),
        Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
        Column(name="Message", path='.status.conditions[?(@.type=="Ready")].message', priority=1),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: DatasetSpec
    status: DatasetStatus = Field(default_factory=DatasetStatus)
