"""The kinds, in the order in which people meet them."""

from __future__ import annotations

from slipway.api.analysis import AnalysisTemplate, ClusterAnalysisTemplate
from slipway.api.computepool import ComputePool
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.api.meta import Resource
from slipway.api.modelproject import ModelProject
from slipway.api.modelrollout import ModelRollout
from slipway.api.modelversion import ModelVersion
from slipway.api.platform import Platform
from slipway.api.trainingrun import TrainingRun

KindInfo = type[Resource]

KINDS: tuple[KindInfo, ...] = (
    Platform,
    ComputePool,
    ModelProject,
    Dataset,
    DatasetVersion,
    FeatureSet,
    TrainingRun,
    ModelVersion,
    ModelRollout,
    AnalysisTemplate,
    ClusterAnalysisTemplate,
)


def kind_named(name: str) -> KindInfo:
    """The model of a kind by its name. KeyError when there is none."""
    return {kind.kind_name: kind for kind in KINDS}[name]
