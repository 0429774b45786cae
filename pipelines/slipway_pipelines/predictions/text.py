"""Numbers as text."""

from __future__ import annotations


def decimal(value: float | None) -> str | None:
    """A number with at most six decimals, as statuses have it."""
    if value is None:
        return None
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
