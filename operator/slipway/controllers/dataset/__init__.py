"""Dataset: looks at its source and makes DatasetVersions."""

from slipway.controllers.dataset.controller import DatasetController

__all__ = ["DatasetController"]
