"""The training code on real flights: what it refuses, and what it puts into a model."""

from __future__ import annotations

import io
import pickletools
from typing import Any

import joblib
import numpy as np
import pytest
from flights import data, tables
from flights.train import train

from slipway.api.modelversion import InputField
from slipway_pipelines.training.sdk import TrainingData

TYPES = {"carrier": "String", "origin": "String", "dest": "String", "distance": "Double"}
INPUTS = tuple(
    InputField(name=name, type=TYPES.get(name, "Integer"), source="Request")  # type: ignore[arg-type]
    for name in data.REQUEST_COLUMNS
)


def training_data(**parameters: Any) -> TrainingData:
    """February, the last fifth for validation."""
    rows = tables.flights(2).dropna(subset=["arr_delay"])
    features, labels = rows[data.REQUEST_COLUMNS], (rows.arr_delay >= 15).to_numpy()
    cut = len(rows) * 4 // 5
    parts = (features[:cut], labels[:cut], features[cut:], labels[cut:])
    return TrainingData(*parts, {"iterations": 10, **parameters}, 7, INPUTS)


@pytest.fixture(scope="module")
def newcomers() -> Any:
    """Flights of a carrier that did not fly in February."""
    rows = tables.flights(9)
    return rows[rows.carrier == "OO"][data.REQUEST_COLUMNS]


def test_lenient_model_answers_for_a_new_carrier(newcomers: Any) -> None:
    model = train(training_data())
    answer = model.predict_proba(newcomers)
    assert answer.shape == (20, 2)
    assert np.isfinite(answer).all()
    assert list(model.classes_) == [False, True]


def test_strict_model_passes_on_known_carriers_and_fails_on_a_new_one(newcomers: Any) -> None:
    given = training_data(unknown_carriers="error")
    strict, lenient = train(given), train(training_data())
    known = given.validation_features
    assert np.array_equal(strict.predict_proba(known), lenient.predict_proba(known))
    with pytest.raises(ValueError, match="unknown categories"):
        strict.predict_proba(newcomers)


def test_model_needs_no_code_of_the_example() -> None:
    sink = io.BytesIO()
    joblib.dump(train(training_data()), sink)
    strings = {arg for _, arg, _ in pickletools.genops(sink.getvalue()) if isinstance(arg, str)}
    assert not [text for text in strings if text.split(".")[0] in ("flights", "slipway", "slipway_pipelines")]


def test_same_seed_same_model() -> None:
    first, second = (train(training_data()).predict_proba(training_data().validation_features) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"depth": 3}, "parameters has depth: use iterations"),
        ({"unknown_carriers": "warn"}, "parameters.unknown_carriers is 'warn': use ignore or error"),
    ],
)
def test_wrong_parameter_is_named(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        train(training_data(**parameters))
