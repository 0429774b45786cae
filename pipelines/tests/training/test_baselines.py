"""The stored baseline, as a model server loads it and asks it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.api.modelversion import InputField
from slipway_pipelines.training.baselines import LOGISTIC, fit_baselines, store_baseline
from slipway_pipelines.training.frames import conform
from slipway_pipelines.training.sdk import TrainingData
from slipway_server.model import Classifier

KINDS = {"carrier": "String", "hour": "Integer", "distance": "Double", "rainy": "Boolean", "departure": "Timestamp"}
FIELDS = [InputField.model_validate({"name": n, "type": k, "source": "Request"}) for n, k in KINDS.items()]
ROWS = 400


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Flights that are late when the carrier is AA, with missing values everywhere."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "carrier": random.choice(["AA", "UA", None], ROWS),
            "hour": random.choice([6.0, 18.0, np.nan], ROWS),
            "distance": random.uniform(100, 2500, ROWS),
            "rainy": random.choice([True, False, None], ROWS),
            "departure": pd.to_datetime(["2013-01-01"] * ROWS),
        }
    )
    late = (frame["carrier"] == "AA").to_numpy()
    features = conform(frame, FIELDS)
    return TrainingData(features, late, features.head(0), late[:0], {}, 0, tuple(FIELDS))


def test_a_server_answers_by_it_as_the_judge_did(data: TrainingData, tmp_path: Path) -> None:
    models = fit_baselines(data)
    store_baseline(models, tmp_path / "baseline.joblib")
    served = Classifier(tmp_path / "baseline.joblib", FIELDS)
    columns: dict[str, list[Any]] = {
        "carrier": ["AA", "UA", None, "never seen"],
        "hour": [6, None, 18, 7],
        "distance": [300.0, None, 100.0, 900.0],
        "rainy": [True, None, False, True],
        "departure": [datetime(2013, 1, 1, 12), None, None, None],
    }
    found = served.probabilities(columns)
    assert found[0] > 0.9
    assert found[1] < 0.1
    asked = conform(pd.DataFrame(columns), FIELDS)
    assert found == pytest.approx(list(np.asarray(models[LOGISTIC].predict_proba(asked))[:, 1]))


def test_it_is_small_and_the_same_each_time(data: TrainingData, tmp_path: Path) -> None:
    for name in ("first", "second"):
        store_baseline(fit_baselines(data), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert (tmp_path / "first").stat().st_size < 100_000
