"""ModelVersion: says what a record means, where it serves, and deletes its artifact where that was asked for."""

from slipway.controllers.modelversion.controller import ModelVersionController

__all__ = ["ModelVersionController"]
