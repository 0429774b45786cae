"""Values that stand in for features that are missing."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.api.meta import Scalar
from slipway.contracts.jobs import FeatureRequest, TrainingFeatureSet


def feature_defaults(feature_sets: Sequence[TrainingFeatureSet | FeatureRequest]) -> dict[str, Scalar]:
    """The declared defaults by feature. Whoever feeds a model applies them where a value is null."""
    return {
        feature.name: feature.default
        for feature_set in feature_sets
        for view in feature_set.views
        for feature in view.features
        if feature.default is not None
    }
