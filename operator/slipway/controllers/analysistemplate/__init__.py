"""AnalysisTemplates and ClusterAnalysisTemplates: whether rollouts can use them."""

from slipway.controllers.analysistemplate.controller import (
    AnalysisTemplateController,
    ClusterAnalysisTemplateController,
)

__all__ = ["AnalysisTemplateController", "ClusterAnalysisTemplateController"]
