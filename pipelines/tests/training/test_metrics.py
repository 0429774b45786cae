"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slipway_pipelines.training.metrics import QUALITY_METRICS, calibration, coverage, quality, roc_curve

LABELS = np.array([True, True, False, False, False])
PROBABILITIES = np.array([0.9, 0.4, 0.6, 0.2, 0.1])


def test_by_hand() -> None:
    found = quality(LABELS, PROBABILITIES)
    assert set(found) == set(QUALITY_METRICS)
    assert found["rocAuc"] == pytest.approx(5 / 6)  # of six pairs of a true and a false row, one is in the wrong order
    assert found["averagePrecision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert (found["precision"], found["recall"], found["f1"]) == (0.5, 0.5, 0.5)
    assert found["brierScore"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.04 + 0.01) / 5)
    assert found["logLoss"] == pytest.approx(-np.log([0.9, 0.4, 0.4, 0.8, 0.9]).mean())
    assert found["expectedCalibrationError"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.2 + 0.1) / 5)


def test_a_threshold_belongs_to_true() -> None:
    assert quality(np.array([True, False]), np.array([0.5, 0.49]))["accuracy"] == 1


def test_what_one_class_leaves_undefined_is_none() -> None:
    only_false = quality(np.zeros(3, dtype=bool), np.array([0.1, 0.2, 0.9]))
    undefined = {name for name, value in only_false.items() if value is None}
    assert undefined == {"rocAuc", "averagePrecision", "f1", "precision", "recall"}
    assert quality(np.ones(3, dtype=bool), np.array([0.1, 0.2, 0.9]))["rocAuc"] is None
    assert roc_curve(np.ones(3, dtype=bool), np.array([0.1, 0.2, 0.9])) == []


def test_no_rows_no_metrics() -> None:
    assert quality(np.array([], dtype=bool), np.array([])) == dict.fromkeys(QUALITY_METRICS)
    assert coverage(np.array([]), 0.5) is None


def test_certain_probabilities_fall_into_the_last_bin() -> None:
    assert calibration(np.array([True, True]), np.array([1.0, 0.95])) == [
        {"rows": 2, "meanProbability": pytest.approx(0.975), "positiveShare": 1.0}
    ]


def test_coverage_counts_both_classes() -> None:
    assert coverage(np.array([0.9, 0.1, 0.6, 0.4, 0.5]), 0.6) == pytest.approx(4 / 5)
    assert coverage(np.array([0.5]), 0.5) == 1


def test_roc_curve_is_short_and_goes_from_corner_to_corner() -> None:
    random = np.random.default_rng(0)
    curve = roc_curve(random.random(5000) > 0.7, random.random(5000))
    assert len(curve) == 101
    assert curve[0] == {"falsePositiveRate": 0.0, "truePositiveRate": 0.0}
    assert curve[-1] == {"falsePositiveRate": 1.0, "truePositiveRate": 1.0}
