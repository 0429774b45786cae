"""A FeatureSet as Feast objects: entities, sources and views."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipway.api.featureset import Entity, Feature, View
from slipway.api.meta import parse_duration
from slipway_pipelines.features.naming import feast_entity, feast_view
from slipway_pipelines.features.values import CREATED_TIMESTAMP, EVENT_TIMESTAMP

if TYPE_CHECKING:
    import feast

FEATURE_SET_TAG = "slipway.dev/featureset"
NAMESPACE_TAG = "slipway.dev/namespace"


@dataclass(frozen=True)
class Names:
    """Where definitions belong: the Feast project, and the FeatureSet with its namespace."""

    project: str
    namespace: str
    feature_set: str

    @property
    def tags(self) -> dict[str, str]:
        """Tags of every object."""
        return {FEATURE_SET_TAG: self.feature_set, NAMESPACE_TAG: self.namespace}


@dataclass(frozen=True)
class Definitions:
    """Feast's objects of one FeatureSet."""

    entities: list[feast.Entity]
    views: list[feast.FeatureView]

    def objects(self) -> list[Any]:
        """All of them, for `apply`."""
        return [*self.entities, *(view.batch_source for view in self.views), *self.views]

    def names(self) -> list[str]:
        """All of them as `kind/name`, sorted."""
        return sorted(
            [
                *(f"entity/{entity.name}" for entity in self.entities),
                *(f"source/{view.batch_source.name}" for view in self.views if view.batch_source),
                *(f"view/{view.name}" for view in self.views),
            ]
        )


def define(
    names: Names,
    entities: Sequence[Entity],
    views: Sequence[View],
    path: Callable[[str], str],
    s3_endpoint: str | None = None,
) -> Definitions:
    """Feast's objects; `path` gives the Parquet file or `s3://` URI of a view's values.

    The schema is complete, so that Feast opens no source to infer one.
    """
    from feast import Entity as FeastEntity
    from feast import FeatureView, Field, FileSource, ValueType
    from feast.types import Bool, Float64, Int64, String

    value_types = {"String": ValueType.STRING, "Integer": ValueType.INT64}
    field_types = {"Double": Float64, "Integer": Int64, "String": String, "Boolean": Bool}
    by_name = {
        entity.name: FeastEntity(
            name=feast_entity(names.feature_set, entity.name),
            join_keys=[entity.name],
            value_type=value_types[entity.type],
            description=entity.description or "",
            tags=names.tags,
        )
        for entity in entities
    }
    types = {entity.name: field_types[entity.type] for entity in entities}

    def field(feature: Feature) -> Field:
        return Field(
            name=feature.name,
            dtype=field_types[feature.type],
            description=feature.description or "",
            tags=feature_tags(feature),
        )

    def view_of(view: View) -> FeatureView:
        name = feast_view(names.project, names.feature_set, view.name)
        source = FileSource(
            name=name,
            path=path(view.name),
            s3_endpoint_override=s3_endpoint,
            timestamp_field=EVENT_TIMESTAMP,
            created_timestamp_column=CREATED_TIMESTAMP,
            tags=names.tags,
        )
        return FeatureView(
            name=name,
            entities=[by_name[entity] for entity in view.entities],
            schema=[
                *(Field(name=entity, dtype=types[entity]) for entity in view.entities),
                *(field(feature) for feature in view.features),
            ],
            source=source,
            ttl=parse_duration(view.ttl),
            tags=names.tags,
            owner=view_owner(view),
            description=view_description(view),
        )

    return Definitions(list(by_name.values()), [view_of(view) for view in views])


def feature_tags(feature: Feature) -> dict[str, str]:
    """Tags of a feature: who answers for it, and its default as JSON."""
    tags = {"owner": feature.owner} if feature.owner else {}
    return tags | ({"default": json.dumps(feature.default)} if feature.default is not None else {})


def view_owner(view: View) -> str:
    """The owner of all features of a view, or nothing where there are several."""
    owners = {feature.owner for feature in view.features}
    return next(iter(owners)) or "" if len(owners) == 1 else ""


def view_description(view: View) -> str:
    """What a view's values are, in a sentence."""
    if view.source.aggregate:
        source = view.source.aggregate
        return f"Aggregates of {source.dataset_ref.name} over {source.window}, every {source.every}."
    assert view.source.dataset is not None
    return f"Rows of {view.source.dataset.dataset_ref.name} as they are."
