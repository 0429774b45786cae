"""What the plan of a ModelProject is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.adapters.secrets import SecretData
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.api.modelproject import ModelProject
from slipway.api.modelrollout import ModelRollout
from slipway.api.modelversion import ModelVersion
from slipway.api.platform import Platform
from slipway.api.trainingrun import TrainingRun
from slipway.controllers.shared.typed import Subject


@dataclass(frozen=True)
class Credentials:
    """The Platform's Secrets, as far as they exist."""

    store: SecretData | None = None
    user_code: SecretData | None = None
    feast: SecretData | None = None
    predictions: SecretData | None = None


@dataclass(frozen=True)
class ModelProjectSnapshot:
    """One project with everything that belongs to it.

    :param datasets, feature_sets, runs, versions, rollouts: all of the project, by name
    :param data: every DatasetVersion of the project, by name
    :param bindings: uids of the RoleBindings that it has, by name
    """

    subject: Subject[ModelProject]
    platform: Platform | None = None
    credentials: Credentials = Credentials()
    datasets: tuple[Dataset, ...] = ()
    data: Mapping[str, DatasetVersion] = field(default_factory=dict)
    feature_sets: tuple[FeatureSet, ...] = ()
    runs: tuple[TrainingRun, ...] = ()
    versions: tuple[ModelVersion, ...] = ()
    rollouts: tuple[ModelRollout, ...] = ()
    bindings: Mapping[str, str] = field(default_factory=dict)

    @property
    def dataset(self) -> Dataset | None:
        """The Dataset that the project trains on."""
        training = self.subject.typed.spec.training
        if training is None:
            return None
        return next((each for each in self.datasets if each.metadata.name == training.dataset_ref.name), None)

    @property
    def current(self) -> DatasetVersion | None:
        """The current version of that Dataset."""
        dataset = self.dataset
        return self.data.get(dataset.status.current_version or "") if dataset is not None else None
