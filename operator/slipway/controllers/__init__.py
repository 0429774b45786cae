"""The controllers of all kinds, and the one list of them that the operator runs."""

from __future__ import annotations

from functools import cache
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.adapters.engines import engines
from slipway.adapters.envoy_stats import GatewayStatistics
from slipway.adapters.measurements import Measurements
from slipway.adapters.network import Network
from slipway.adapters.secrets import Secrets
from slipway.adapters.webhooks import Webhooks
from slipway.contracts.digests import digest_bytes
from slipway.controllers.analysistemplate import AnalysisTemplateController, ClusterAnalysisTemplateController
from slipway.controllers.computepool import ComputePoolController
from slipway.controllers.dataset import DatasetController
from slipway.controllers.datasetversion import DatasetVersionController
from slipway.controllers.featureset import FeatureSetController
from slipway.controllers.modelproject import ModelProjectController
from slipway.controllers.modelrollout import Doors, ModelRolloutController
from slipway.controllers.modelrollout.errands import Office
from slipway.controllers.modelversion import ModelVersionController
from slipway.controllers.platform import PlatformController
from slipway.controllers.shared.work import Runner
from slipway.controllers.trainingrun import TrainingRunController
from slipway.runtime.controller import Controller
from slipway.runtime.settings import Settings


def pipeline_ir() -> bytes:
    """The compiled pipeline that this release carries."""
    from slipway_pipelines.compiled import training_ir

    return training_ir()


@cache
def pipeline_digest() -> str:
    """Its digest."""
    return digest_bytes(pipeline_ir())


def all_controllers(settings: Settings) -> list[Controller[Any]]:
    """Every controller, wired with its adapters; the order has no meaning."""
    secrets = Secrets()
    artifacts = Artifacts(secrets)
    runner = Runner(settings.runner_image, settings.image_pull_policy)
    known = engines(secrets, pipeline_ir)
    return [
        PlatformController(artifacts, Network(), known),
        ComputePoolController(),
        ModelProjectController(secrets, pipeline_digest),
        DatasetController(artifacts, runner),
        DatasetVersionController(artifacts, runner),
        FeatureSetController(artifacts, runner),
        TrainingRunController(artifacts, runner, known, pipeline_digest),
        ModelVersionController(artifacts, runner),
        ModelRolloutController(
            GatewayStatistics(),
            Doors(settings.namespace),
            Measurements(secrets),
            Office.of(artifacts, runner),
            Webhooks(secrets),
        ),
        AnalysisTemplateController(),
        ClusterAnalysisTemplateController(),
    ]
