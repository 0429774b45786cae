"""ComputePool: what a class of nodes has, who holds it, and who may."""

from slipway.controllers.computepool.controller import ComputePoolController
from slipway.controllers.computepool.quota import Admission, Holding, admit, holdings

__all__ = ["Admission", "ComputePoolController", "Holding", "admit", "holdings"]
