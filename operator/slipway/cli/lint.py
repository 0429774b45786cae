"""`slipway lint -f PATH…`: checks files offline, with file, line and column."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from slipway.lint import Report


class Format(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def lint(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files, and folders with YAML files.", show_default=False)
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="The same, as kubectl spells it; may be given often.", show_default=False),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="text for people, json for programs, github for annotations in CI.")
    ] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
) -> None:
    """Check Slipway's objects in YAML files without a cluster: schema, rules, and what they name.

    A warning is something that files alone cannot tell, such as a name that may be in the cluster.

    Exit status: 0 without errors, 1 with errors, 2 when a path cannot be read.
    """
    chosen = [*(paths or []), *(file or [])]
    if not chosen:
        _refuse("Name at least one file or folder: slipway lint -f DIR.")
    for path in chosen:
        if not path.exists():
            _refuse(f"{path} does not exist.")
    try:
        from slipway.lint import lint as run
    except ModuleNotFoundError as error:
        _refuse(f"{error.name} is not installed: install slipway with the extra `lint`.")
    report = run(chosen)
    _PRINTERS[output](report)
    failed = report.errors or (strict and report.warnings)
    raise typer.Exit(1 if failed else 0)


def _refuse(message: str) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _text(report: Report) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for finding in report.findings:
        line = Text(f"{finding.file}:{finding.line}:{finding.column}: ")
        line.append(finding.severity, style="bold red" if finding.severity == "error" else "yellow")
        line.append(f": {finding.message} ")
        line.append(f"[{finding.code}]", style="dim")
        console.print(line)
    summary = f"{_count(report.objects, 'object')} in {_count(report.files, 'file')}: "
    numbers = ((report.errors, "error"), (report.warnings, "warning"))
    found = [_count(number, word) for number, word in numbers if number]
    console.print(summary + (", ".join(found) or "nothing to complain about"))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _json(report: Report) -> None:
    typer.echo(
        json.dumps(
            {
                "files": report.files,
                "objects": report.objects,
                "findings": [asdict(finding) for finding in report.findings],
            },
            indent=2,
        )
    )


def _github(report: Report) -> None:
    for finding in report.findings:
        place = f"file={_property(finding.file)},line={finding.line},col={finding.column}"
        typer.echo(f"::{finding.severity} {place},title={_property(finding.code)}::{_data(finding.message)}")
    print(f"{report.errors} errors, {report.warnings} warnings", file=sys.stderr)


def _data(text: str) -> str:
    """Escaped as the runner's commands want it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_PRINTERS: dict[Format, Callable[[Report], None]] = {Format.TEXT: _text, Format.JSON: _json, Format.GITHUB: _github}
