"""The controllers of all kinds, and the one list of them that the operator runs."""

from __future__ import annotations

from typing import Any

from slipway.runtime.controller import Controller
from slipway.runtime.settings import Settings


def all_controllers(settings: Settings) -> list[Controller[Any]]:  # noqa: ARG001 - each controller takes its share
    """Every controller, wired with its adapters; the order has no meaning."""
    return []
