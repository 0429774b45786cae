"""How far apart two samples of numbers are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

Numbers = NDArray[np.float64]

_BINS = 10
_SMOOTHING = 0.5
"""Added to each bin's count, so that an empty one makes the index large and not infinite."""
PROBABILITY_BINS = 50


def stability_of_counts(stable: Numbers, candidate: Numbers) -> float | None:
    """Population stability index of counts by bin; None when one sample is empty."""
    if not stable.sum() or not candidate.sum():
        return None
    a = (stable + _SMOOTHING) / (stable.sum() + _SMOOTHING * len(stable))
    b = (candidate + _SMOOTHING) / (candidate.sum() + _SMOOTHING * len(candidate))
    return float(np.sum((a - b) * np.log(a / b)))


def stability(stable: Numbers, candidate: Numbers) -> float | None:
    """Population stability index over the deciles of the stable sample; missing values (NaN) are a bin of their own."""
    known = stable[~np.isnan(stable)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if known.size else np.array([])
    return stability_of_counts(_counts(stable, edges), _counts(candidate, edges))


def _counts(values: Numbers, edges: Numbers) -> Numbers:
    missing = np.isnan(values)
    inside = np.bincount(np.searchsorted(edges, values[~missing], side="left"), minlength=len(edges) + 1)
    return np.append(inside, missing.sum()).astype(float)


def stability_of_categories(stable: Mapping[str, int], candidate: Mapping[str, int]) -> float | None:
    """The same for values with counts; both name the same values."""
    names = sorted(stable)
    return stability_of_counts(
        np.array([stable[each] for each in names], float), np.array([candidate[each] for each in names], float)
    )


def kolmogorov_smirnov(stable: Numbers, candidate: Numbers) -> float | None:
    """Greatest distance of the two cumulative distributions. (SciPy's test also computes a p-value, which means nothing
    for answers to the same requests.)"""
    if not stable.size or not candidate.size:
        return None
    points = np.concatenate([stable, candidate])
    shares = [np.searchsorted(np.sort(each), points, side="right") / each.size for each in (stable, candidate)]
    return float(np.abs(shares[0] - shares[1]).max())


def jensen_shannon(stable: Numbers, candidate: Numbers) -> float | None:
    """Jensen-Shannon distance (base 2: from 0 to 1) of two samples of probabilities, in 50 bins."""
    if not stable.size or not candidate.size:
        return None
    found = jensenshannon(histogram(stable), histogram(candidate), base=2)
    return 0.0 if np.isnan(found) else float(found)  # rounding below zero under the root


def histogram(probabilities: Numbers, bins: int = PROBABILITY_BINS) -> Numbers:
    """Counts of probabilities in bins of equal width."""
    return np.histogram(probabilities, bins=bins, range=(0, 1))[0].astype(float)
