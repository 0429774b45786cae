"""FeatureSet: keeps Feast's definitions and online values true to the newest data."""

from slipway.controllers.featureset.controller import FeatureSetController

__all__ = ["FeatureSetController"]
