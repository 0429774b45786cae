"""Quality metrics of predicted probabilities, by scikit-learn's definitions; `docs/training/metrics.md` explains each.

A prediction is true where the probability is at least 0.5. A metric that is not defined on the rows at hand (no rows,
or only one class where both are needed) is None, never a number that looks like a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from slipway.api.common import QualityMetric
from slipway.contracts import decisions
from slipway.contracts.decisions import DECISION_THRESHOLD

Labels: TypeAlias = npt.NDArray[np.bool_]
Probabilities: TypeAlias = npt.NDArray[np.float64]

QUALITY_METRICS: tuple[str, ...] = get_args(QualityMetric)
CALIBRATION_BINS = 10

Metrics = Mapping[str, float | None]


def quality(labels: Labels, probabilities: Probabilities) -> dict[str, float | None]:
    """Every quality metric of predictions; arrays of one length. Undefined ones are None."""
    if not len(labels):
        return dict.fromkeys(QUALITY_METRICS)
    from sklearn import metrics as sk

    predicted = probabilities >= DECISION_THRESHOLD
    some, both = bool(labels.any()), bool(labels.any() and not labels.all())
    return {
        "rocAuc": float(sk.roc_auc_score(labels, probabilities)) if both else None,
        "averagePrecision": float(sk.average_precision_score(labels, probabilities)) if some else None,
        "accuracy": float(sk.accuracy_score(labels, predicted)),
        "f1": float(sk.f1_score(labels, predicted, zero_division=0)) if some else None,
        "precision": float(sk.precision_score(labels, predicted, zero_division=0)) if some else None,
        "recall": float(sk.recall_score(labels, predicted)) if some else None,
        "logLoss": float(sk.log_loss(labels, probabilities, labels=[False, True])),
        "brierScore": float(sk.brier_score_loss(labels, probabilities, labels=[False, True])),
        "expectedCalibrationError": expected_calibration_error(labels, probabilities),
    }


def expected_calibration_error(labels: Labels, probabilities: Probabilities) -> float:
    """Mean distance between probability and share of true labels over ten bins of equal width, weighted by rows."""
    return sum(
        bin["rows"] * abs(bin["meanProbability"] - bin["positiveShare"]) for bin in calibration(labels, probabilities)
    ) / len(labels)


def calibration(labels: Labels, probabilities: Probabilities) -> list[dict[str, float]]:
    """The calibration curve: rows, mean probability and share of true labels of each bin that has rows."""
    index = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    curve = []
    for number in range(CALIBRATION_BINS):
        chosen = index == number
        rows = int(chosen.sum())
        if rows:
            curve.append(
                {
                    "rows": rows,
                    "meanProbability": float(probabilities[chosen].mean()),
                    "positiveShare": float(labels[chosen].mean()),
                }
            )
    return curve


def roc_curve(labels: Labels, probabilities: Probabilities, points: int = 101) -> list[dict[str, float]]:
    """At most `points` points of the ROC curve, evenly chosen among its corners; empty with one class only."""
    if labels.all() or not labels.any():
        return []
    from sklearn import metrics as sk

    false_positive, true_positive, _ = sk.roc_curve(labels, probabilities)
    chosen = np.unique(np.linspace(0, len(false_positive) - 1, points).round().astype(int))
    return [
        {"falsePositiveRate": float(false_positive[i]), "truePositiveRate": float(true_positive[i])} for i in chosen
    ]


def coverage(probabilities: Probabilities, confidence: float) -> float | None:
    """Share of predictions whose class has at least the probability `confidence`; None without rows."""
    return decisions.coverage(probabilities.tolist(), confidence)
