"""Kubernetes quantities, as far as pools need them."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?")


def quantity(text: str) -> Decimal:
    """The number that a quantity such as `500m` or `2Gi` stands for. ValueError on anything else."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 4Gi")
    return Decimal(found[1]) * _UNITS[found[2] or ""]


def plain(number: Decimal) -> str:
    """A number without exponent or trailing zeros, as people write quantities."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
