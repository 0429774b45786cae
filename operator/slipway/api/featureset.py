"""FeatureSet: features with owners, defined once for training and serving."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import (
    ATOMIC_LIST,
    NAME_PREFIX,
    SET_LIST,
    ApiModel,
    Column,
    Cron,
    Digest,
    Duration,
    Identifier,
    LocalRef,
    ObjectName,
    Resource,
    Scalar,
    Sql,
    Status,
    Text,
    TimeZone,
    map_list,
    one_of,
    rule,
    same_project,
)


class Entity(ApiModel):
    """Something that features describe; its name is the column that identifies it."""

    name: Identifier = Field(description="Column that identifies it, in datasets and in requests.")
    type: Literal["String", "Integer"] = Field("String", description="Type of the key.")
    description: Text | None = Field(None, description="What it is.")


class AggregateSource(ApiModel):
    """Aggregates over the rows of a dataset whose outcome was known at the time."""

    dataset_ref: LocalRef = Field(description="Dataset that is aggregated.")
    window: Duration = Field(description="How far back rows count, by the time at which they became known.")
    every: Duration = Field("1h", description="How often a new value is computed.")


class DatasetSource(ApiModel):
    """Rows of a dataset as they are."""

    dataset_ref: LocalRef = Field(description="Dataset that has the values.")


class ViewSource(ApiModel):
    """Where a view's values come from."""

    rules: ClassVar = (one_of("type", {"Aggregate": "aggregate", "Dataset": "dataset"}),)

    type: Literal["Aggregate", "Dataset"] = Field(description="Aggregates of rows, or the rows themselves.")
    aggregate: AggregateSource | None = Field(None, description="With Aggregate.")
    dataset: DatasetSource | None = Field(None, description="With Dataset.")


class Feature(ApiModel):
    """One feature."""

    name: Identifier = Field(description="Name of the feature, unique in the FeatureSet.")
    type: Literal["Double", "Integer", "String", "Boolean"] = Field("Double", description="Type of its values.")
    expression: Sql | None = Field(
        None, description="Expression for the value; an aggregate with Aggregate. Defaults to the column of that name."
    )
    default: Scalar | None = Field(
        None, description="Value that a model server uses when the online store has none or answers too late."
    )
    owner: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(None, description="Who answers for it.")
    description: Text | None = Field(None, description="What it means.")


class View(ApiModel):
    """Features of the same entities from the same source."""

    rules: ClassVar = (
        rule(
            "self.source.type != 'Aggregate' || self.features.all(f, has(f.expression))",
            "features of an Aggregate view need an expression, such as avg(late)",
        ),
    )

    name: Identifier = Field(description="Name of the view.")
    entities: list[Identifier] = Field(
        min_length=1, max_length=4, description="Entities that identify a row.", json_schema_extra=ATOMIC_LIST
    )
    source: ViewSource = Field(description="Where its values come from.")
    ttl: Duration = Field("720h", description="How old a value may be at most; an older one counts as missing.")
    features: list[Feature] = Field(
        min_length=1, max_length=64, description="The features.", json_schema_extra=map_list("name")
    )


class DeprecatedFeature(ApiModel):
    """A feature that was removed for a reason and may not come back unnoticed."""

    name: Identifier = Field(description="Name of the feature.")
    since: str = Field(
        max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="Day of its removal, YYYY-MM-DD."
    )
    why: Text = Field(description="Why it was removed.")


class Materialize(ApiModel):
    """When values go to the online store, beside after each new DatasetVersion."""

    schedule: Cron = Field(description="When.")
    time_zone: TimeZone = Field(description="Time zone of `schedule`.")


class FeatureSetSpec(ApiModel):
    """A set of features."""

    rules: ClassVar = (
        same_project("FeatureSet"),
        rule(
            "self.views.all(v, v.entities.all(e, self.entities.exists(x, x.name == e)))",
            "every entity that a view names must stand in entities",
        ),
        rule(
            "!has(self.deprecated) || self.views.all(v, v.features.all(f,"
            " !self.deprecated.exists(d, d.name == f.name)))",
            "a deprecated feature may not be used again: remove it from views, or from deprecated with a reason in the"
            " commit",
        ),
        rule(
            "self.views.all(v, v.features.all(f, self.views.exists_one(w, w.features.exists(g, g.name == f.name))))",
            "feature names must be unique in the FeatureSet: rename one of the two",
        ),
    )

    project_ref: LocalRef = Field(description="ModelProject that it belongs to.")
    entities: list[Entity] = Field(
        min_length=1, max_length=8, description="What features describe.", json_schema_extra=map_list("name")
    )
    views: list[View] = Field(min_length=1, max_length=8, description="The views.", json_schema_extra=map_list("name"))
    deprecated: list[DeprecatedFeature] | None = Field(
        None, max_length=64, description="Features that may not be used again.", json_schema_extra=map_list("name")
    )
    materialize: Materialize | None = Field(
        None,
        description="Extra times at which values go to the online store; after each new DatasetVersion they always do.",
    )


class FeatureSourceVersion(ApiModel):
    """A dataset version that values were computed from."""

    dataset: ObjectName = Field(description="The dataset.")
    version: ObjectName = Field(description="Its DatasetVersion.")


class FeatureSetStatus(Status):
    """What is in the feature store."""

    definition_digest: Digest | None = Field(None, description="Digest of the definitions that are applied.")
    input_digest: Digest | None = Field(
        None, description="Digest of definitions and dataset versions last materialized."
    )
    sources: list[FeatureSourceVersion] | None = Field(
        None, max_length=16, description="Dataset versions in the store.", json_schema_extra=map_list("dataset")
    )
    feast_project: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Project of the Feast registry."
    )
    objects: list[Annotated[str, Field(max_length=256)]] | None = Field(
        None,
        max_length=64,
        description="Feast objects that belong to this FeatureSet, as `kind/name`; removed with it.",
        json_schema_extra=SET_LIST,
    )
    materialized_until: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="Time up to which values are in the online store (RFC 3339)."
    )
    last_materialized_time: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="When values last went to the online store."
    )
    job: ObjectName | None = Field(None, description="Job that applies or materializes.")


class FeatureSet(Resource):
    """Features for training and serving, kept in Feast."""

    names: ClassVar = NAME_PREFIX
    kind_name: ClassVar = "FeatureSet"
    plural: ClassVar = "featuresets"
    short_names: ClassVar = ("fs",)
    columns: ClassVar = (
        Column(name="Until", path=".status.materializedUntil"),
        Column(name="Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Reason", path='.status.conditions[?(@.type=="Ready")].reason'),
        Column(name="Message", path='.status.conditions[?(@.type=="Ready")].message', priority=1),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
    )

    spec: FeatureSetSpec
    status: FeatureSetStatus = Field(default_factory=FeatureSetStatus)
