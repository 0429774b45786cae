"""Training code of the example: `flights.train:train`.

Only classes of scikit-learn go into the model, so that any model server of Slipway can load it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from slipway_pipelines.training.sdk import TrainingData

CARRIER = "carrier"
DEFAULTS: dict[str, Any] = {
    "iterations": 80,
    "learning_rate": 0.05,
    "leaves": 15,
    "rows_in_leaf": 200,
    "unknown_carriers": "ignore",
}


def train(data: TrainingData) -> Pipeline:
    """Gradient-boosted trees on ordinal categories.

    Parameters: `iterations`, `learning_rate`, `leaves`, `rows_in_leaf`, and `unknown_carriers`: `ignore` treats a
    carrier that training never saw as missing; `error` refuses it, as encoders do by default. ValueError for others.
    """
    given = DEFAULTS | dict(data.parameters)
    unknown = set(given) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"parameters has {', '.join(sorted(unknown))}: use {', '.join(DEFAULTS)}")
    others = [name for name in data.categorical if name != CARRIER]
    encode = make_column_transformer(
        (_carrier_encoder(str(given["unknown_carriers"])), [CARRIER]),
        (_lenient_encoder(), others),
        ("passthrough", data.numeric),
        verbose_feature_names_out=False,
    )
    trees = HistGradientBoostingClassifier(
        categorical_features=list(range(1 + len(others))),
        max_iter=int(given["iterations"]),
        learning_rate=float(given["learning_rate"]),
        max_leaf_nodes=int(given["leaves"]),
        min_samples_leaf=int(given["rows_in_leaf"]),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=data.seed,
    )
    # One thread: several that share a busy core with others wait for each other, and take ten times as long.
    with threadpool_limits(limits=1):
        return make_pipeline(encode, trees).fit(data.features, data.labels)


def _carrier_encoder(unknown: str) -> OrdinalEncoder:
    if unknown == "ignore":
        return _lenient_encoder()
    if unknown == "error":
        return OrdinalEncoder(handle_unknown="error")
    raise ValueError(f"parameters.unknown_carriers is {unknown!r}: use ignore or error")


def _lenient_encoder() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
