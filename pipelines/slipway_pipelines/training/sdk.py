"""What a team's training code is given, and what it gives back.

A training function is named by `spec.code.image.entrypoint`, such as `flights.train:train`:

    def train(data: TrainingData) -> Estimator:
        model = Pipeline([...])
        return model.fit(data.features, data.labels)

It is called once, in a process without network credentials, after `random`, `numpy.random` and Python's string hashing
were seeded. What it returns is stored with joblib, so it must be importable where it is served: use classes of
scikit-learn, or of a package that is in the model server's image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from slipway.api.meta import Scalar
from slipway.api.modelversion import InputField

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

CATEGORICAL_TYPES = ("String", "Boolean")


class Estimator(Protocol):
    """A fitted classifier, such as a scikit-learn Pipeline, whose `classes_` are false and true, in this order."""

    @property
    def classes_(self) -> Any:
        """`[False, True]`: what the columns of `predict_proba` stand for."""

    def predict_proba(self, features: pd.DataFrame, /) -> Any:
        """Probabilities of shape (rows, 2), false before true, for a frame with the columns of `inputs`."""


@dataclass(frozen=True)
class TrainingData:
    """One run's data. Frames have one column an input, in the order of `inputs`.

    Integer columns are int64 (float64 with NaN when a value is missing), Double float64 with NaN, String and Boolean
    objects with None when missing (a Boolean column without missing values is bool), Timestamp datetime64[us] in UTC
    without a zone. The model server hands a model the same types. Sensitive columns are never among them.
    """

    features: pd.DataFrame
    """Rows that train, oldest first."""
    labels: npt.NDArray[np.bool_]
    """Their labels, of the same length."""
    validation_features: pd.DataFrame
    """Rows that validate: for early stopping, thresholds and calibration."""
    validation_labels: npt.NDArray[np.bool_]
    """Their labels."""
    parameters: Mapping[str, Scalar]
    """`spec.parameters` of the run."""
    seed: int
    """`spec.seed` of the run: pass it on as `random_state`."""
    inputs: tuple[InputField, ...]
    """The columns, with type and source."""

    @property
    def categorical(self) -> list[str]:
        """Names of the String and Boolean columns."""
        return [field.name for field in self.inputs if field.type in CATEGORICAL_TYPES]

    @property
    def numeric(self) -> list[str]:
        """Names of the Integer and Double columns."""
        return [field.name for field in self.inputs if field.type in ("Integer", "Double")]
