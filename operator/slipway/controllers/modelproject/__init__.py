"""ModelProject: access and credentials, runs when something changed, and where the project stands."""

from slipway.controllers.modelproject.controller import ModelProjectController
from slipway.controllers.modelproject.priority import assess

__all__ = ["ModelProjectController", "assess"]
