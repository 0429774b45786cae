"""TrainingRun: checks that a run may start, drives its engine, records the ModelVersion."""

from slipway.controllers.trainingrun.controller import TrainingRunController

__all__ = ["TrainingRunController"]
