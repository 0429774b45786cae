"""How a probability becomes a decision, and when it is too unsure to be one: the same in training, serving and reports.

The confidence of an answer is the probability of the class that it names. Coverage is the share of answers that have at
least a certain confidence; below it a server abstains where a rollout says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

DECISION_THRESHOLD: Final = 0.5
"""Probability from which `label` is true: what scikit-learn's `predict` does for two classes."""

Source = Literal["model", "baseline", "none"]
"""Who answered: the version's model, its baseline because the model was unsure, or nobody, for the same reason."""


def decision(probability: float) -> bool:
    """The class that a probability of true names."""
    return probability >= DECISION_THRESHOLD


def confidence(probability: float) -> float:
    """The probability of that class: from 0.5 to 1."""
    return max(probability, 1 - probability)


def is_sure(probability: float, least: float) -> bool:
    """Whether an answer has at least the confidence `least`, and so counts as one."""
    return confidence(probability) >= least


def coverage(probabilities: Iterable[float], least: float) -> float | None:
    """Share of answers with at least the confidence `least`, from 0 to 1; None without any."""
    found = [is_sure(each, least) for each in probabilities]
    return sum(found) / len(found) if found else None
