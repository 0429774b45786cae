"""`slipway why`: the answer as a tree."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from slipway.cli.why import Answer, tree

RECORD: dict[str, Any] = {
    "id": "r-1",
    "version": "delays-1",
    "at": "2026-11-23T09:00:00.000+00:00",
    "status": 200,
    "milliseconds": 12.5,
    "instances": 3,
    "features": {"queue": {"hit": 2, "default": 1}},
}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"sources": {"none": 1, "model": 2}}, "decided: 2 by model, 1 by none"),
        ({}, "feature queue: 2 from hit, 1 from default"),
    ],
)
def test_a_request_whose_version_is_gone_is_still_told(more: dict[str, Any], says: str) -> None:
    console = Console(record=True, width=120)
    console.print(tree(Answer("flights", "pod-1", RECORD | more, None, None, None)))
    text = console.export_text()
    assert says in text
    assert ("decided" in text) == bool(more)
    assert "ModelVersion delays-1 is gone" in text
