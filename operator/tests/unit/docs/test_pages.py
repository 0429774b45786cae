"""Pages that people copy from: every manifest on them is what the API server would take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slipway.lint import lint

DOCS = Path(__file__).parents[4] / "docs"
PAGES = ("rollouts/gateways.md", "rollouts/knative.md", "rollouts/migrate-from-kserve.md")
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def manifests(page: str) -> list[str]:
    """The YAML blocks that hold whole objects; others show a part of one."""
    blocks = _BLOCK.findall((DOCS / page).read_text())
    return [block for block in blocks if block.startswith("apiVersion:")]


@pytest.mark.parametrize("page", PAGES)
def test_manifests_of_a_page_have_no_findings(page: str, tmp_path: Path) -> None:
    blocks = manifests(page)
    assert blocks
    for number, block in enumerate(blocks):
        (tmp_path / f"{number:02}.yaml").write_text(block)
    report = lint([tmp_path])
    assert report.objects > 0
    assert [each for each in report.findings if each.severity == "error"] == []
