"""Baselines that every model is compared with: the majority class, and a plain logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway_pipelines.training.metrics import Labels, Probabilities
from slipway_pipelines.training.sdk import Estimator, TrainingData

if TYPE_CHECKING:
    import pandas as pd

MAJORITY, LOGISTIC = "majority", "logistic"
_ITERATIONS = 300
_CATEGORIES = 100


class Majority:
    """Answers every row with the share of true labels among the rows that train."""

    def __init__(self, labels: Labels) -> None:
        self.classes_ = np.array([False, True])
        self._share = float(labels.mean())

    def predict_proba(self, features: pd.DataFrame) -> Probabilities:
        """The same two probabilities for every row."""
        return np.tile([1 - self._share, self._share], (len(features), 1))


def store_baseline(models: Mapping[str, Estimator], path: Path) -> None:
    """Writes the baseline that servers may fall back to: the one that tells rows apart."""
    import joblib

    joblib.dump(models[LOGISTIC], path)


def fit_baselines(data: TrainingData) -> dict[str, Estimator]:
    """The fitted baselines by name. Deterministic; columns of type Timestamp are not used."""
    return {MAJORITY: Majority(data.labels), LOGISTIC: _logistic(data)}


def _logistic(data: TrainingData) -> Any:
    """One-hot for categories (the hundred most frequent), median and standard score for numbers, no tuning."""
    from sklearn.compose import ColumnTransformer
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=_CATEGORIES)
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    model = make_pipeline(
        ColumnTransformer([("categories", encoder, data.categorical), ("numbers", numbers, data.numeric)]),
        LogisticRegression(max_iter=_ITERATIONS),
    )
    with warnings.catch_warnings():
        # A baseline that has not quite converged is a baseline still; it is the same in every run.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(data.features, data.labels)
