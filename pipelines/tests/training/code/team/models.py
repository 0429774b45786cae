"""Training functions: one that is good, and those that go wrong in a way each."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from slipway_pipelines.training.sdk import TrainingData


def train(data: TrainingData) -> Pipeline:
    """Gradient boosting on all inputs."""
    assert isinstance(data.parameters["max_iter"], int), "an integer hyperparameter stays one"
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = Pipeline(
        [
            ("encode", ColumnTransformer([("c", encode, data.categorical), ("n", "passthrough", data.numeric)])),
            (
                "boost",
                HistGradientBoostingClassifier(
                    max_iter=int(data.parameters["max_iter"]),
                    learning_rate=float(data.parameters["learning_rate"]),
                    random_state=data.seed,
                ),
            ),
        ]
    )
    return model.fit(data.features, data.labels)


class Noise:
    """A model whose state shows every random generator, and the order of a set of strings."""

    classes_ = np.array([False, True])

    def __init__(self) -> None:
        self.state = [random.random(), float(np.random.rand()), list({"a", "b", "c", "d", "e"})]

    def predict_proba(self, features: Any) -> Any:
        """Half and half."""
        return np.full((len(features), 2), 0.5)


def noise(data: TrainingData) -> Noise:  # noqa: ARG001 - the signature of a training function
    """Uses the global random generators."""
    return Noise()


def fails(data: TrainingData) -> Any:
    """Asks for a column that is not there."""
    return data.features["no_such_column"]


def leaves(data: TrainingData) -> Any:  # noqa: ARG001
    """Ends the process."""
    sys.exit(0)


def regressor(data: TrainingData) -> Any:
    """Returns what is no classifier."""
    return data.features.mean(numeric_only=True)


def local_class(data: TrainingData) -> Any:  # noqa: ARG001
    """Returns what cannot be stored."""

    class Hidden(Noise):
        pass

    return Hidden()


class Thief:
    """A model that, when it is unpickled, looks for credentials: its own, its parent's, and those of all others."""

    classes_ = np.array([False, True])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        seen = str(dict(os.environ))
        for process in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
            try:
                with open(f"/proc/{process}/environ") as file:  # noqa: PTH123
                    seen += file.read()
            except OSError:
                continue
        if "SLIPWAY_S3_SECRET_KEY" in seen:
            raise RuntimeError("found the credentials")

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": "thief"}

    def predict_proba(self, features: Any) -> Any:
        """Half and half."""
        return np.full((len(features), 2), 0.5)


def thief(data: TrainingData) -> Thief:  # noqa: ARG001
    """A model that steals."""
    return Thief()


class Broken(Noise):
    """A model that answers a few rows, and NaN for many."""

    def predict_proba(self, features: Any) -> Any:
        """NaN for more rows than a check asks for."""
        return np.full((len(features), 2), 0.5 if len(features) < 10 else np.nan)


def broken(data: TrainingData) -> Broken:  # noqa: ARG001
    """A model that fails later."""
    return Broken()
