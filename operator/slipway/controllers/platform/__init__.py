"""Platform: whether each store and engine that projects use answers."""

from slipway.controllers.platform.controller import PlatformController

__all__ = ["PlatformController"]
