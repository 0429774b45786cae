"""YAML as kubectl reads it, with positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.lint.documents import Document, files_of, read
from slipway.lint.findings import Finding, Problem


def parsed(tmp_path: Path, text: str) -> list[Document | Finding]:
    file = tmp_path / "objects.yaml"
    file.write_text(text)
    return list(read(file, "objects.yaml"))


def value_of(tmp_path: Path, scalar: str) -> Any:
    (document,) = parsed(tmp_path, f"a: {scalar}\n")
    assert isinstance(document, Document)
    return document.value["a"]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("2027-03-31", "2027-03-31"),
        ("2027-03-31T10:00:00Z", "2027-03-31T10:00:00Z"),
        ("1e3", 1000.0),
        ("0.1", 0.1),
        (".5", 0.5),
        ("-7", -7),
        ("1:30", "1:30"),
        ("0x10", 16),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("'1'", "1"),
        ("1.2.3", "1.2.3"),
        ("1m", "1m"),
    ],
)
def test_scalars_are_what_kubectl_makes_of_them(tmp_path: Path, scalar: str, value: Any) -> None:
    found = value_of(tmp_path, scalar)
    assert found == value
    assert type(found) is type(value)


def test_positions_of_values_and_of_keys(tmp_path: Path) -> None:
    (document,) = parsed(tmp_path, "kind: A\nspec:\n  list:\n  - {name: x}\n")
    assert isinstance(document, Document)
    value = document.place(Problem(("spec", "list", 0, "name"), "code", "m"))
    key = document.place(Problem(("spec", "list"), "code", "m", key=True))
    absent = document.place(Problem(("spec", "list", 0, "missing", "below"), "code", "m"))
    assert (value.line, value.column) == (4, 12)
    assert (key.line, key.column) == (3, 3)
    assert (absent.line, absent.column) == (4, 5)


def test_documents_lists_and_empty_parts(tmp_path: Path) -> None:
    text = "---\n# nothing\n---\nkind: A\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n"
    found = [each for each in parsed(tmp_path, text) if isinstance(each, Document)]
    assert [each.kind for each in found] == ["A", "B", "C"]
    place = found[2].place(Problem(("kind",), "code", "m"))
    assert (place.line, place.column) == (9, 9)


def test_anchors_and_merges(tmp_path: Path) -> None:
    (document,) = parsed(tmp_path, "a: &x {one: 1, two: 2}\nb: {<<: *x, two: 3}\n")
    assert isinstance(document, Document)
    assert document.value["b"] == {"one": 1, "two": 3}
    assert document.problems == []


def test_keys_that_stand_twice(tmp_path: Path) -> None:
    (document,) = parsed(tmp_path, "kind: A\nspec: 1\nspec: 2\n")
    assert isinstance(document, Document)
    (finding,) = [document.place(each) for each in document.problems]
    assert (finding.line, finding.message) == (3, "spec stands twice in the same object")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\n", "this is no YAML"),
        ("a: {{ .Values.x }}\n", "this is no YAML"),
        ("- a\n", "a Kubernetes object has properties"),
        ("a: !!python/object:os.system x\n", "this is no YAML"),
        ("\ta: 1\n", "this is no YAML"),
    ],
)
def test_what_is_no_object_is_said(tmp_path: Path, text: str, message: str) -> None:
    (finding,) = parsed(tmp_path, text)
    assert isinstance(finding, Finding)
    assert finding.severity == "error"
    assert message in finding.message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    (finding,) = read(file, "a.yaml")
    assert isinstance(finding, Finding)
    assert "cannot be read" in finding.message


def test_files_below_folders(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.json", "sub/notes.md", ".git/d.yaml"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    found = files_of([tmp_path, tmp_path / "b.yaml"])
    assert [each.relative_to(tmp_path).as_posix() for each in found] == ["a.yml", "b.yaml", "sub/c.json"]
