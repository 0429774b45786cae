"""Code that nobody trusts: what it sees, and that nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.contracts.stages import TASKS
from slipway_pipelines.training.isolation import bare_environment, task_environment, untrusted

SECRETS = {
    "SLIPWAY_S3_SECRET_KEY": "s3",
    "SLIPWAY_FEAST_PASSWORD": "feast",
    "AWS_SECRET_ACCESS_KEY": "aws",
}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TEAM_SETTING", "x")


@pytest.mark.parametrize(
    ("task", "secrets"),
    [
        ("features", {"SLIPWAY_S3_SECRET_KEY"}),
        ("baselines", set()),
        ("train", set()),
        ("verify", {"SLIPWAY_S3_SECRET_KEY"}),
        ("evaluate", set()),
        ("register", {"SLIPWAY_S3_SECRET_KEY", "SLIPWAY_FEAST_PASSWORD"}),
    ],
)
def test_a_task_has_the_credentials_that_it_needs(task: str, secrets: set[str]) -> None:
    environment = task_environment(TASKS[task], {"PYTHONHASHSEED": "0"})
    assert environment.keys() & SECRETS.keys() == secrets
    assert environment["TEAM_SETTING"] == "x"
    assert environment["PYTHONHASHSEED"] == "0"


def test_an_untrusted_process_has_none() -> None:
    assert not bare_environment().keys() & {*SECRETS, "TEAM_SETTING"}


ESCAPE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
"""


def test_what_it_leaves_behind_is_killed_and_nobody_else(tmp_path: Path) -> None:
    ours = subprocess.Popen(["sleep", "600"])
    try:
        with untrusted([sys.executable, "-c", ESCAPE, str(tmp_path / "pid")], tmp_path / "log") as process:
            assert process.wait(60) == 0, (tmp_path / "log").read_text()
            escaped = int((tmp_path / "pid").read_text())
            os.kill(escaped, 0)
        end = time.monotonic() + 10
        while Path(f"/proc/{escaped}").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert ours.poll() is None
    finally:
        ours.kill()
        ours.wait()
