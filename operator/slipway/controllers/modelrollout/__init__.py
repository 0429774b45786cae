"""ModelRollouts: one InferenceService a version, and the way of requests from one version to the next."""

from slipway.controllers.modelrollout.access_facts import Doors
from slipway.controllers.modelrollout.controller import ModelRolloutController

__all__ = ["Doors", "ModelRolloutController"]
