"""The command `slipway lint`, and `slipway crds`: output, exit status, help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from slipway.api import KINDS
from slipway.api.reference import example
from slipway.cli.crds import app as crds
from slipway.cli.lint import lint

app = typer.Typer()
app.command()(lint)
runner = CliRunner()


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "rollout.yaml"
    file.write_text(example("ModelRollout").replace("setWeight: 100", "setWeight: 101"))
    return file


def test_text_has_file_line_and_column(bad: Path) -> None:
    result = runner.invoke(app, ["-f", str(bad)])
    assert result.exit_code == 1
    finding, summary = result.output.splitlines()
    assert finding == f"{bad}:10:33: error: spec.steps[2].setWeight is 101; it must be at most 100 [maximum]"
    assert summary == "1 object in 1 file: 1 error"


def test_json_is_for_programs(bad: Path) -> None:
    result = runner.invoke(app, [str(bad), "--format", "json"])
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert (report["files"], report["objects"]) == (1, 1)
    assert report["findings"] == [
        {
            "file": str(bad),
            "line": 10,
            "column": 33,
            "severity": "error",
            "code": "maximum",
            "message": "spec.steps[2].setWeight is 101; it must be at most 100",
        }
    ]


def test_github_annotations(bad: Path) -> None:
    result = runner.invoke(app, ["-f", str(bad), "--format", "github"])
    assert result.exit_code == 1
    place = f"file={bad},line=10,col=33,title=maximum"
    assert result.stdout == f"::error {place}::spec.steps[2].setWeight is 101; it must be at most 100\n"
    assert result.stderr == "1 errors, 0 warnings\n"


def test_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(example("Dataset"))
    assert runner.invoke(app, [str(file)]).exit_code == 0
    assert runner.invoke(app, [str(file), "--strict"]).exit_code == 1


def test_good_files(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(example("ComputePool"))
    result = runner.invoke(app, [str(file)])
    assert (result.exit_code, result.output) == (0, "1 object in 1 file: nothing to complain about\n")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    nothing = runner.invoke(app, [])
    assert (nothing.exit_code, nothing.stderr) == (2, "Name at least one file or folder: slipway lint -f DIR.\n")
    absent = runner.invoke(app, [str(tmp_path / "absent.yaml")])
    assert (absent.exit_code, absent.stderr) == (2, f"{tmp_path}/absent.yaml does not exist.\n")


def test_the_help_says_what_the_exit_status_means() -> None:
    result = runner.invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert "Exit status: 0 without errors" in result.output
    assert "--strict" in result.output


def test_crds_are_printed() -> None:
    result = runner.invoke(crds, ["print"])
    assert result.exit_code == 0
    printed = [each["spec"]["names"]["kind"] for each in yaml.safe_load_all(result.output)]
    assert printed == [kind.kind_name for kind in KINDS]


@pytest.mark.slow
def test_crds_are_generated_into_a_repository_only(tmp_path: Path) -> None:
    refused = runner.invoke(crds, ["generate", "--root", str(tmp_path)])
    assert refused.exit_code == 2
    assert "is not Slipway's repository" in refused.stderr
    (tmp_path / "pyproject.toml").write_text("")
    assert runner.invoke(crds, ["generate", "--check", "--root", str(tmp_path)]).exit_code == 1
    assert runner.invoke(crds, ["generate", "--root", str(tmp_path)]).exit_code == 0
    assert runner.invoke(crds, ["generate", "--check", "--root", str(tmp_path)]).exit_code == 0
