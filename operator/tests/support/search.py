"""How hard property tests search: a little in `make test`, much in `make test-rollouts`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

THOROUGH = os.environ.get("SLIPWAY_SEARCH") == "thorough"

law = pytest.mark.law
"""Marks a property test, which `make test-rollouts` runs again with more examples."""


def examples(few: int, many: int) -> settings:
    """Settings of a property test: as many examples as the present run can afford."""
    return settings(
        max_examples=many if THOROUGH else few,
        deadline=None,
        # A found history is told as it is: making it short takes minutes, which only a thorough run has.
        phases=tuple(Phase) if THOROUGH else (Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def some(cases: Iterable[Any], few: int) -> list[Any]:
    """Cases of which `make test` takes the first few, and `make test-rollouts` all others."""
    return [each if number < few else pytest.param(each, marks=pytest.mark.slow) for number, each in enumerate(cases)]
