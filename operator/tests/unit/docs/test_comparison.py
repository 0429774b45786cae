"""The comparison with other tools: what we say of ourselves is shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "rollouts" / "comparison.md"
_LINK = re.compile(r'\[[^]]+\]\((\.\./\.\./[^ )]+\.py) "([a-z0-9_]+)"\)')
_TABLE_ROW = re.compile(r"^\| (?!---)(.+) \|$", re.MULTILINE)
OURS = 1


def rows() -> list[list[str]]:
    """Cells of all rows but the headings."""
    found = [[cell.strip() for cell in row.split(" | ")] for row in _TABLE_ROW.findall(PAGE.read_text())]
    return [row for row in found if row[OURS] != "Slipway" and not set(row[0]) <= set("-|")]


def test_every_row_has_a_cell_for_each() -> None:
    assert len(rows()) > 30
    assert {len(row) for row in rows()} == {6}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_what_we_say_we_do_is_shown_by_a_test(row: list[str]) -> None:
    ours = row[OURS]
    if ours.startswith("no"):
        assert "](" not in ours
        return
    links = _LINK.findall(ours)
    assert links, f"{row[0]}: no test is linked"
    for path, name in links:
        file = (PAGE.parent / path).resolve()
        assert file.is_relative_to(ROOT)
        assert file.is_file(), path
        assert re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE), f"{path} has no {name}"


def test_no_other_link_to_a_python_file_escapes_the_check() -> None:
    text = PAGE.read_text()
    assert text.count(".py") == len(_LINK.findall(text))
