"""Engines that execute training runs, behind one port.

An engine is asked in two steps like everything else: `observe` reads what it knows about a run, `advance` decides what
to do next, as actions and a state. A controller knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.adapters.engines.base import PipelineEngine
from slipway.adapters.engines.local import LocalEngine


def engines() -> Mapping[str, PipelineEngine[Any]]:
    """The engines that this version can drive, by the name in `Platform.spec.pipelines.engine`."""
    return {"Local": LocalEngine()}


__all__ = ["LocalEngine", "PipelineEngine", "engines"]
