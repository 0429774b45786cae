"""Compiled pipelines (IR YAML), as package data; importing this costs nothing."""

from __future__ import annotations

from importlib import resources

TRAINING = "training.yaml"


def training_ir() -> bytes:
    """The bytes of the compiled training pipeline; their SHA-256 is a run's `pipelineDigest`."""
    return resources.files(__name__).joinpath(TRAINING).read_bytes()
