"""Verify a model's folder before anything of it is loaded: unpickling runs code, so bytes are checked first."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from slipway.contracts.digests import digest_bytes, digest_json
from slipway.contracts.jobs import ManifestFile, ModelManifest
from slipway_server.errors import StartError

MANIFEST = "manifest.json"
MODEL = "model.joblib"
_CHUNK = 1 << 20


def verified_manifest(folder: Path, expected_digest: str | None) -> ModelManifest:
    """The manifest of the model in `folder`, after every file it names was compared with its digest.

    `expected_digest` is the digest of `manifest.json` itself; without one the manifest is believed.
    StartError names the file, what was expected and what was found.
    """
    manifest = _read(folder / MANIFEST, expected_digest)
    if not any(file.path == MODEL for file in manifest.files):
        raise StartError(f"{folder / MANIFEST} does not list {MODEL}: register the model again.")
    if digest_json([file.wire() for file in manifest.files]) != manifest.model_digest:
        raise StartError(
            f"modelDigest in {folder / MANIFEST} is not the digest of its files: register the model again."
        )
    for file in (*manifest.files, *([manifest.baseline] if manifest.baseline else [])):
        _verify(folder, file)
    return manifest


def _read(path: Path, expected_digest: str | None) -> ModelManifest:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartError(
            f"The manifest {path} cannot be read ({error.strerror}): check that --model_dir is a model's folder."
        ) from error
    found = digest_bytes(data)
    if expected_digest and found != expected_digest:
        raise StartError(
            f"{path} has digest {found}, and SLIPWAY_MANIFEST_DIGEST is {expected_digest}: "
            "the model in the store is not the one that was approved; nothing was loaded."
        )
    try:
        return ModelManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        raise StartError(f"{path} is not a model manifest: {field}: {first['msg']}.") from error


def _verify(folder: Path, file: ManifestFile) -> None:
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StartError(f"{folder / MANIFEST} names {file.path}, which is outside of the model's folder.")
    try:
        found = _digest(path)
    except OSError as error:
        raise StartError(f"{path} is in the manifest and cannot be read ({error.strerror}).") from error
    if found != file.digest:
        raise StartError(
            f"{path} has digest {found}, and the manifest says {file.digest}: "
            "the file was changed after the model was registered; nothing was loaded."
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()
