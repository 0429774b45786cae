"""Passwords of one cluster, made once and kept in its folder."""

import secrets
from pathlib import Path

from pydantic import BaseModel, Field


class S3Credentials(BaseModel):
    """Keys of one identity of the artifact store."""

    access_key: str
    secret_key: str


class Credentials(BaseModel):
    """Everything secret about a cluster.

    Attributes:
        admin: may do everything in the artifact store.
        trainer: reads the bucket and writes below ``runs/`` only: what the teams' own code gets.
        predictions: puts objects below ``predictions/`` and nothing else: what model servers log with.
        kfp: reads and writes below ``kfp/`` only: what Kubeflow Pipelines' launcher hands over with.
        postgres_password: of the feature store's database user.
    """

    admin: S3Credentials
    trainer: S3Credentials
    predictions: S3Credentials = Field(default_factory=lambda: _keys())
    kfp: S3Credentials = Field(default_factory=lambda: _keys())
    postgres_password: str


def of_cluster(folder: Path) -> Credentials:
    """The cluster's credentials, made now if it has none."""
    file = folder / "credentials.json"
    if not file.exists():
        file.touch(mode=0o600)
        made = Credentials(admin=_keys(), trainer=_keys(), postgres_password=secrets.token_urlsafe(24))
        file.write_text(made.model_dump_json())
    text = file.read_text()
    found = Credentials.model_validate_json(text)
    if found.model_dump_json() != text:  # a cluster of a time before one of the identities
        file.write_text(found.model_dump_json())
    return found


def _keys() -> S3Credentials:
    return S3Credentials(access_key=secrets.token_hex(10).upper(), secret_key=secrets.token_urlsafe(30))
