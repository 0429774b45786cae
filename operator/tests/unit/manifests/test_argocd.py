"""Argo CD's health check, run by Lua: the same script, the same tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

FOLDER = Path(__file__).parents[4] / "manifests" / "argocd"
SCRIPT = (FOLDER / "health.lua").read_text()


def health(obj: dict[str, Any]) -> tuple[str, str]:
    """Status and message that Argo CD would show."""
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from(obj, recursive=True)
    answer = lua.execute(SCRIPT)
    return answer["status"], answer["message"]


def obj(generation: int, observed: int | None, **conditions: str) -> dict[str, Any]:
    status: dict[str, Any] = {
        "conditions": [{"type": kind, "status": value, "message": f"{kind}!"} for kind, value in conditions.items()]
    }
    if observed is not None:
        status["observedGeneration"] = observed
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ({"metadata": {"generation": 1}}, "Progressing", "The operator has not seen this change yet."),
        (obj(2, 1, Ready="True"), "Progressing", "The operator has not seen this change yet."),
        (obj(2, 2), "Progressing", "The operator has not said anything yet."),
        (obj(1, 1, Ready="False"), "Progressing", "Ready!"),
        (obj(1, 1, Ready="Unknown"), "Progressing", "Ready!"),
        (obj(1, 1, Succeeded="Unknown"), "Progressing", "Succeeded!"),
        (obj(1, 1, Ready="True"), "Healthy", "Ready!"),
        (obj(1, 1, Succeeded="True"), "Healthy", "Succeeded!"),
        (obj(1, 1, Succeeded="False"), "Degraded", "Succeeded!"),
        (obj(1, 1, Ready="False", Stalled="True"), "Degraded", "Stalled!"),
        (obj(1, 1, Ready="False", Stalled="False"), "Progressing", "Ready!"),
        (obj(1, 1, Ready="False", Suspended="True"), "Suspended", "Suspended!"),
        (obj(1, 1, Ready="True", Suspended="False"), "Healthy", "Ready!"),
    ],
)
def test_health(given: dict[str, Any], status: str, message: str) -> None:
    assert health(given) == (status, message)


def test_the_patch_has_the_script() -> None:
    patch = yaml.safe_load((FOLDER / "argocd-cm-patch.yaml").read_text())
    customizations = yaml.safe_load(patch["data"]["resource.customizations"])
    assert customizations["slipway.dev/*"]["health.lua"].strip() == SCRIPT.strip()


def test_applications_come_in_order() -> None:
    applications = list(yaml.safe_load_all((FOLDER / "applications.yaml").read_text()))
    waves = [int(each["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for each in applications]
    assert waves == sorted(set(waves))
