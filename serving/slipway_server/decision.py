"""How a probability becomes a decision."""

DECISION_THRESHOLD = 0.5
"""Probability from which `label` is true: what scikit-learn's `predict` does for two classes."""
