"""Feast definitions of FeatureSet flight-features.

Generated from FeatureSets by `python -m slipway_pipelines.features.repo`: change those instead.
"""

from __future__ import annotations

import os
from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String

# Where values are: a folder, or `s3://BUCKET/features/flights` with SLIPWAY_S3_ENDPOINT.
VALUES = os.environ.get("SLIPWAY_FEATURE_VALUES", "data")
ENDPOINT = os.environ.get("SLIPWAY_S3_ENDPOINT") if VALUES.startswith("s3://") else None
TAGS = {"slipway.dev/featureset": "flight-features", "slipway.dev/namespace": "flights"}

carrier_entity = Entity(
    name="flight_features__carrier",
    join_keys=["carrier"],
    value_type=ValueType.STRING,
    description="Two-letter code of the airline",
    tags=TAGS,
)

origin_entity = Entity(
    name="flight_features__origin",
    join_keys=["origin"],
    value_type=ValueType.STRING,
    description="Airport of departure",
    tags=TAGS,
)

carrier_history_source = FileSource(
    name="flight_features__carrier_history",
    path=f"{VALUES}/flight-features/latest/carrier_history.parquet",
    s3_endpoint_override=ENDPOINT,
    timestamp_field="event_timestamp",
    created_timestamp_column="created_timestamp",
    tags=TAGS,
)

carrier_history_view = FeatureView(
    name="flight_features__carrier_history",
    entities=[carrier_entity],
    schema=[
        Field(name="carrier", dtype=String),
        Field(
            name="late_share_7d",
            dtype=Float64,
            description="Share of late arrivals among those of the last week",
            tags={"owner": "dana", "default": "0.23"},
        ),
    ],
    source=carrier_history_source,
    ttl=timedelta(hours=336),
    tags=TAGS,
    owner="dana",
    description="Aggregates of flights over 168h, every 1h.",
)

origin_now_source = FileSource(
    name="flight_features__origin_now",
    path=f"{VALUES}/flight-features/latest/origin_now.parquet",
    s3_endpoint_override=ENDPOINT,
    timestamp_field="event_timestamp",
    created_timestamp_column="created_timestamp",
    tags=TAGS,
)

origin_now_view = FeatureView(
    name="flight_features__origin_now",
    entities=[origin_entity],
    schema=[
        Field(name="origin", dtype=String),
        Field(
            name="late_share_6h",
            dtype=Float64,
            description="Share of late arrivals among the airport's flights that landed in the last six hours",
            tags={"owner": "dana", "default": "0.23"},
        ),
    ],
    source=origin_now_source,
    ttl=timedelta(hours=24),
    tags=TAGS,
    owner="dana",
    description="Aggregates of flights over 6h, every 1h.",
)

origin_weather_source = FileSource(
    name="flight_features__origin_weather",
    path=f"{VALUES}/flight-features/latest/origin_weather.parquet",
    s3_endpoint_override=ENDPOINT,
    timestamp_field="event_timestamp",
    created_timestamp_column="created_timestamp",
    tags=TAGS,
)

origin_weather_view = FeatureView(
    name="flight_features__origin_weather",
    entities=[origin_entity],
    schema=[
        Field(name="origin", dtype=String),
        Field(name="wind_speed", dtype=Float64, tags={"owner": "dana", "default": "10.4"}),
        Field(name="visib", dtype=Float64, tags={"owner": "dana", "default": "10.0"}),
        Field(name="precip", dtype=Float64, tags={"owner": "dana", "default": "0.0"}),
        Field(name="pressure", dtype=Float64, tags={"owner": "dana", "default": "1017.6"}),
    ],
    source=origin_weather_source,
    ttl=timedelta(hours=6),
    tags=TAGS,
    owner="dana",
    description="Rows of weather as they are.",
)
