"""Names of Feast objects. FeatureSets of one Feast project share its name space, so names carry the FeatureSet's."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.api.featureset import View
from slipway.api.reasons import Reason
from slipway.contracts.digests import digest_bytes, short
from slipway_pipelines.errors import RefusalError

TABLE_LIMIT = 63 - len("_ek")
"""PostgreSQL cuts names after 63 bytes without an error; Feast's index on an online table adds three."""
HASH = 10
SHORTEST = 20


def feast_view(project: str, feature_set: str, view: str) -> str:
    """Name of a view's FeatureView: `flight_features__origin_weather`; long ones are cut and end in a hash.

    The online table is named `PROJECT_VIEW`, which has to fit PostgreSQL. RefusalError when the project leaves no room.
    """
    room = TABLE_LIMIT - len(project) - 1
    if room < SHORTEST:
        raise RefusalError(
            Reason.InvalidSpec,
            f"The Feast project {project} leaves no room for names of views in PostgreSQL's 63 characters: "
            "shorten the name of the namespace or of the ModelProject.",
        )
    full = f"{_slug(feature_set)}__{view}"
    if len(full) <= room:
        return full
    return f"{full[: room - HASH - 1]}_{short(digest_bytes(full.encode()), HASH)}"


def feast_entity(feature_set: str, entity: str) -> str:
    """Name of an entity; its join key is the entity's own name."""
    return f"{_slug(feature_set)}__{entity}"


def feature_references(project: str, feature_set: str, views: Sequence[View]) -> list[str]:
    """Every feature of the views as Feast refers to it, `VIEW:FEATURE`."""
    return [
        f"{feast_view(project, feature_set, view.name)}:{feature.name}" for view in views for feature in view.features
    ]


def _slug(name: str) -> str:
    """The name of an object of Kubernetes as an identifier; one with dots gets a hash, so that no two are alike."""
    slug = name.replace("-", "_").replace(".", "_")
    return f"{slug}_{short(digest_bytes(name.encode()), 6)}" if "." in name else slug
