"""Engines that execute training runs, behind one port.

An engine is asked in two steps like everything else: `observe` reads what it knows about a run, `advance` decides what
to do next, as actions and a state. A controller knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slipway.adapters.engines.base import PipelineEngine
from slipway.adapters.engines.kubeflow import KubeflowEngine
from slipway.adapters.engines.local import LocalEngine
from slipway.adapters.kfp.api import KfpApi
from slipway.adapters.kfp.port import Kubeflow
from slipway.adapters.secrets import Secrets


def engines(secrets: Secrets, ir: Callable[[], bytes]) -> Mapping[str, PipelineEngine[Any]]:
    """The engines, by the name in `Platform.spec.pipelines.engine`.

    :param ir: gives the bytes of the compiled pipeline that this release carries
    """
    return {"Local": LocalEngine(), "KubeflowPipelines": KubeflowEngine(Kubeflow(KfpApi(secrets)), ir)}


__all__ = ["KubeflowEngine", "LocalEngine", "PipelineEngine", "engines"]
