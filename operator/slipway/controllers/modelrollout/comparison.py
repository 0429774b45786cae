"""Confidence intervals for two shares: how the new version's answers compare with the stable version's.

Each share gets Wilson's score interval (E. B. Wilson, "Probable inference, the law of succession, and statistical
inference", J. Am. Stat. Assoc. 22:209-212, 1927). The interval of the difference is Newcombe's hybrid score interval
(R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven methods",
Statistics in Medicine 17:873-890, 1998, method 10). The interval of the ratio recovers variances from the same limits
(A. Donner and G. Y. Zou, "Closed-form confidence intervals for functions of the normal mean and standard deviation",
Statistical Methods in Medical Research 21:347-359, 2012). All stay right where shares are near 0 or 1, as here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist


@dataclass(frozen=True)
class Share:
    """`part` of `whole` requests; `whole` is above 0."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        return self.part / self.whole


Interval = tuple[float, float]


def quantile(confidence: float) -> float:
    """The normal quantile of a two-sided interval; `confidence` in percent, such as 95."""
    return NormalDist().inv_cdf(0.5 + confidence / 200)


def wilson(share: Share, z: float) -> Interval:
    """Wilson's score interval of a share."""
    n, p = share.whole, share.value
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not move a limit that is 0 or 1 exactly.
    low = 0.0 if share.part == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if share.part == share.whole else min(1.0, (middle + half) / scale)
    return low, high


def difference(one: Share, other: Share, confidence: float) -> Interval:
    """Interval of `one - other`, in parts of 1."""
    z = quantile(confidence)
    (l1, u1), (l2, u2) = wilson(one, z), wilson(other, z)
    p1, p2 = one.value, other.value
    return p1 - p2 - sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2), p1 - p2 + sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2)


def ratio(one: Share, other: Share, confidence: float) -> Interval:
    """Interval of `one / other`; the upper limit is infinite where `other` may be 0."""
    z = quantile(confidence)
    (l1, u1), (l2, u2) = wilson(one, z), wilson(other, z)
    p1, p2 = one.value, other.value
    product = p1 * p2
    # Multiplied out, so that nothing is divided by 2 * p2 - u2, which may be 0.
    spread = product + sqrt(max(0.0, product * product - l1 * u2 * (2 * p1 - l1) * (2 * p2 - u2)))
    low = l1 * (2 * p1 - l1) / spread if spread and l1 else 0.0
    widest = product + sqrt(max(0.0, product * product - u1 * l2 * (2 * p1 - u1) * (2 * p2 - l2)))
    below = l2 * (2 * p2 - l2)
    return low, widest / below if below > 0 else inf
