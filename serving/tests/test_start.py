"""What a server refuses to load, each with one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.search import some

from slipway.contracts.digests import canonical_json, digest_bytes

DIGEST = "sha256:" + "a" * 64


def refused(folder: Path, **environment: str) -> str:
    """The sentence with which a server exits."""
    flags = ["--model_dir", str(folder), "--model_name", "flight-delays", "--http_port", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "slipway_server", *flags],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model to spoil."""
    return shutil.copytree(model_folder, tmp_path / "model")


def rewrite(folder: Path, **changes: object) -> None:
    """Change the manifest without keeping its digest."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(canonical_json(manifest | changes))


def test_another_manifest_than_approved(folder: Path) -> None:
    sentence = refused(folder, SLIPWAY_MANIFEST_DIGEST=DIGEST)
    assert digest_bytes((folder / "manifest.json").read_bytes()) in sentence
    assert DIGEST in sentence
    assert sentence.endswith("nothing was loaded.")


def test_changed_model(folder: Path) -> None:
    data = bytearray((folder / "model.joblib").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.joblib").write_bytes(data)
    sentence = refused(folder)
    assert "model.joblib has digest" in sentence
    assert "changed after the model was registered" in sentence


def test_missing_model(folder: Path) -> None:
    (folder / "model.joblib").unlink()
    assert "model.joblib is in the manifest and cannot be read" in refused(folder)


def test_changed_baseline(folder: Path) -> None:
    (folder / "baseline.joblib").write_bytes(b"another")
    rewrite(folder, baseline={"path": "baseline.joblib", "digest": DIGEST, "size": 7})
    assert "baseline.joblib has digest" in refused(folder)


def test_missing_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert "cannot be read (No such file or directory)" in refused(folder)


def test_manifest_that_is_none(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": 3}')
    assert "is not a model manifest: files:" in refused(folder)


def test_file_outside_of_the_folder(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    files = [*manifest["files"], {"path": "../../etc/hostname", "digest": DIGEST, "size": 1}]
    rewrite(folder, files=files, modelDigest=digest_bytes(canonical_json(files)))
    assert "outside of the model's folder" in refused(folder)


def test_files_that_the_model_digest_does_not_cover(folder: Path) -> None:
    rewrite(folder, modelDigest=DIGEST)
    assert "modelDigest" in refused(folder)


def test_manifest_without_the_model(folder: Path) -> None:
    rewrite(folder, files=[], modelDigest=digest_bytes(b"[]"))
    assert "does not list model.joblib" in refused(folder)


BAD_SETTINGS = [
    ("SLIPWAY_FEATURES_TIMEOUT_MS", "soon"),
    ("SLIPWAY_FEATURES_ON_MISSING", "Maybe"),
    ("SLIPWAY_DRAIN_SECONDS", "-1"),
    ("SLIPWAY_REQUESTS_KEPT", "nan"),
    ("SLIPWAY_ABSTAIN_BELOW", "0.5"),
    ("SLIPWAY_ABSTAIN_BELOW", "1.01"),
    ("SLIPWAY_ABSTAIN_FALLBACK", "Guess"),
]


@pytest.mark.parametrize("setting", some(BAD_SETTINGS, 2), ids="=".join)
def test_bad_setting(folder: Path, setting: tuple[str, str]) -> None:
    name, value = setting
    sentence = refused(folder, **{name: value})
    assert sentence.startswith(f"{name} is {value!r}: set ")


def test_half_a_connection(folder: Path) -> None:
    sentence = refused(folder, SLIPWAY_FEAST_HOST="db")
    assert "SLIPWAY_FEAST_DATABASE and SLIPWAY_FEAST_USERNAME is not" in sentence


def test_model_that_is_no_classifier(folder: Path, register: Callable[[Path], None]) -> None:
    import joblib

    joblib.dump({"not": "a model"}, folder / "model.joblib")
    register(folder)
    assert "is a dict with classes []" in refused(folder)


@pytest.mark.slow
def test_model_that_cannot_be_unpickled(folder: Path, register: Callable[[Path], None]) -> None:
    (folder / "model.joblib").write_bytes(b"nonsense")
    register(folder)
    assert "cannot be loaded" in refused(folder)
