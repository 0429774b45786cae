"""The page about Kubeflow Pipelines has every reason that the engine gives, and every field of the endpoint."""

from __future__ import annotations

import re
from pathlib import Path

import slipway
from slipway.api.platform import KubeflowPipelines
from slipway.api.reasons import Reason

CODE = Path(slipway.__file__).parent / "adapters"
PAGE = Path(slipway.__file__).parents[2] / "docs" / "training" / "kubeflow-pipelines.md"
GOING_WELL = {"Running", "Succeeded"}
TOLD_BY_TASKS = {
    "TrainingCodeFailed",
    "EntrypointNotFound",
    "EvaluationFailed",
    "DigestMismatch",
    "PlatformUnavailable",
}
TOLD_BY_PODS = {"ImageUnavailable", "WaitingForPool", "DependencyMissing"}


def test_every_reason_is_in_the_table() -> None:
    files = [*(CODE / "kfp").glob("*.py"), CODE / "engines" / "kubeflow.py"]
    given = {name for file in files for name in re.findall(r"\bReason\.(\w+)", file.read_text())}
    table = PAGE.read_text().partition("## When something is wrong")[2].partition("\n## ")[0]
    told = set(re.findall(r"\| `(\w+)` \|", table))
    assert given >= {"EndpointRefused", "LauncherMisconfigured"}
    assert (given | TOLD_BY_TASKS | TOLD_BY_PODS) - GOING_WELL == told
    assert told <= {str(reason) for reason in Reason}


def test_every_field_is_explained() -> None:
    page = PAGE.read_text()
    for field in KubeflowPipelines.model_fields.values():
        assert field.alias is not None
        assert f"`{field.alias}" in page, field.alias
