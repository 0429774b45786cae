"""`copy-pipeline` against a real store: what is kept, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.contracts.jobs import CopyPipelineRequest
from slipway.contracts.pipelines import LIMIT
from slipway_pipelines.store import MissingObjectError, ObjectStore

PREFIX = "jobs/flights/copy-1/"


def run(store: ObjectStore, file: Path) -> tuple[int, str]:
    """The Job as a process of its own: exit code and log."""
    request = CopyPipelineRequest.model_validate(
        {
            "store": {"endpoint": store.endpoint, "bucket": store.bucket},
            "prefix": PREFIX,
            "image": "registry/pipelines:1",
            "path": "/flights.yaml",
            "file": str(file),
        }
    )
    digest = store.put_json(f"{PREFIX}request.json", request.wire())
    variables = {
        "SLIPWAY_S3_ENDPOINT": store.endpoint,
        "SLIPWAY_S3_BUCKET": store.bucket,
        "SLIPWAY_S3_ACCESS_KEY": "test",
        "SLIPWAY_S3_SECRET_KEY": "test-secret",
    }
    arguments = ["copy-pipeline", "--request", f"{PREFIX}request.json", "--digest", digest, "--prefix", PREFIX]
    ended = subprocess.run(
        [sys.executable, "-m", "slipway_pipelines.main", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("content", [b"a: 1\n", b"", b"#" * LIMIT])
def test_the_bytes_are_kept_beside_the_request(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    for _ in range(2):  # a pod that was killed after its last write is run again
        code, log = run(store, file)
        assert code == 0, log
        assert store.get_json(f"{PREFIX}result.json") == {"key": f"{PREFIX}pipeline.yaml"}
        assert store.get_bytes(f"{PREFIX}pipeline.yaml") == content


def large(file: Path) -> None:
    file.write_bytes(b"#" * (LIMIT + 1))


def link(file: Path) -> None:
    """What an image could leave to have this process read its own credentials."""
    file.symlink_to("/proc/self/environ")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (large, f"has {LIMIT + 1} bytes, and a pipeline may have {LIMIT}: move data out of it."),
        (link, "is no file: name the YAML file."),
        (os.mkfifo, "is no file: name the YAML file."),
        (Path.mkdir, "is no file: name the YAML file."),
    ],
)
def test_what_is_none_is_refused(
    store: ObjectStore, tmp_path: Path, make: Callable[[Path], Any], sentence: str
) -> None:
    file = tmp_path / "file"
    make(file)
    code, log = run(store, file)
    assert code == 0, log
    assert "Traceback" not in log
    refusal = store.get_json(f"{PREFIX}result.json")["refusal"]
    assert refusal["reason"] == "InvalidPipeline"
    assert refusal["message"] == f"spec.pipeline.image.path: /flights.yaml of image registry/pipelines:1 {sentence}"
    with pytest.raises(MissingObjectError):
        store.get_bytes(f"{PREFIX}pipeline.yaml")


def test_no_copy_is_an_outage(store: ObjectStore, tmp_path: Path) -> None:
    code, log = run(store, tmp_path / "file")
    assert code == 1
    assert "Traceback" not in log
    with pytest.raises(MissingObjectError):
        store.get_bytes(f"{PREFIX}result.json")


def test_it_is_light() -> None:
    code = (
        "import sys, slipway_pipelines.main, slipway_pipelines.training.copied;"
        "print({'kfp', 'feast', 'pandas', 'sklearn', 'duckdb'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "set()\n"
