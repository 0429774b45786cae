"""DatasetVersion: says what a record means, and deletes its data where that was asked for."""

from slipway.controllers.datasetversion.controller import DatasetVersionController

__all__ = ["DatasetVersionController"]
