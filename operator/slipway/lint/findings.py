"""What a check says, and about which part of an object."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity = Literal["error", "warning"]

FieldPath: TypeAlias = tuple[str | int, ...]
"""Where a value is in an object: property names and list indices."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one object.

    `key` means the property's name rather than its value. `code` is a stable word for tools.
    """

    path: FieldPath
    code: str
    message: str
    severity: Severity = "error"
    key: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A problem with its place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int
    severity: Severity
    code: str
    message: str


def dotted(path: FieldPath) -> str:
    """A path as people write it: `spec.columns[0].name`; a key with dots stands in brackets."""
    out = ""
    for part in path:
        if isinstance(part, int) or "." in part or "/" in part:
            out += f"[{part}]"
        else:
            out += f".{part}" if out else part
    return out


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean X?` when a known word is near, else nothing."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f": did you mean {by_lower[near[0]]}?" if near else ""
