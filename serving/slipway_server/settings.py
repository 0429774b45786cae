"""Settings of the server: flags as KServe passes them, and `SLIPWAY_*` from the environment."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway_server.errors import StartError

log = logging.getLogger("slipway.server")


@dataclass(frozen=True)
class FeastConnection:
    """The PostgreSQL database that has Feast's registry and online values."""

    host: str
    port: int
    database: str
    username: str
    password: str


@dataclass(frozen=True)
class PredictionLogSettings:
    """Where predictions are logged, and which.

    :param prefix: folder of this version, ending in `/`
    :param redact: inputs whose values are left out
    """

    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str
    prefix: str
    sample_percent: int
    redact: frozenset[str]
    flush_seconds: float


@dataclass(frozen=True)
class AbstainSettings:
    """When an answer of the model is no prediction.

    :param below: confidence under which it is none
    :param baseline: whether the version's baseline answers instead
    """

    below: float
    baseline: bool


@dataclass(frozen=True)
class Settings:
    """What decides how one server behaves. Times are seconds."""

    model_dir: Path
    model_name: str
    http_port: int
    manifest_digest: str | None
    model_version: str | None
    feast: FeastConnection | None
    features_timeout: float
    fail_on_missing: bool
    registry_refresh: float
    requests_kept: int
    drain_minimum: float
    drain_quiet: float
    drain_maximum: float
    predictions: PredictionLogSettings | None
    abstain: AbstainSettings | None


def read_settings(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags and environment. StartError names the variable, its value and what it should be."""
    flags = _parser().parse_known_args(argv)[0]
    return Settings(
        model_dir=Path(flags.model_dir),
        model_name=flags.model_name,
        http_port=flags.http_port,
        manifest_digest=environ.get("SLIPWAY_MANIFEST_DIGEST") or None,
        model_version=environ.get("SLIPWAY_MODEL_VERSION") or None,
        feast=_feast(environ),
        features_timeout=_number(environ, "SLIPWAY_FEATURES_TIMEOUT_MS", "50", least=1) / 1000,
        fail_on_missing=_choice(environ, "SLIPWAY_FEATURES_ON_MISSING", ("UseDefaults", "Fail")) == "Fail",
        registry_refresh=_number(environ, "SLIPWAY_FEATURES_REFRESH_SECONDS", "60", least=1),
        requests_kept=int(_number(environ, "SLIPWAY_REQUESTS_KEPT", "10000", least=1)),
        drain_minimum=_number(environ, "SLIPWAY_DRAIN_SECONDS", "5", least=0),
        drain_quiet=_number(environ, "SLIPWAY_DRAIN_QUIET_SECONDS", "1", least=0),
        drain_maximum=_number(environ, "SLIPWAY_DRAIN_MAX_SECONDS", "25", least=0),
        predictions=_predictions(environ),
        abstain=_abstain(environ),
    )


def _parser() -> argparse.ArgumentParser:
    """Flags that are needed before the KServe SDK is imported; the SDK reads its own from the same command line."""
    parser = argparse.ArgumentParser(prog="slipway-model-server", allow_abbrev=False)
    parser.add_argument("--model_dir", default="/mnt/models", help="Folder with manifest.json and model.joblib.")
    parser.add_argument("--model_name", default="model", help="Name in the URL: /v1/models/NAME:predict.")
    parser.add_argument("--http_port", type=int, default=8080, help="Port of the REST protocols.")
    return parser


def _feast(environ: Mapping[str, str]) -> FeastConnection | None:
    host = environ.get("SLIPWAY_FEAST_HOST")
    if not host:
        return None
    missing = [f"SLIPWAY_FEAST_{part}" for part in ("DATABASE", "USERNAME") if not environ.get(f"SLIPWAY_FEAST_{part}")]
    if missing:
        raise StartError(f"SLIPWAY_FEAST_HOST is set and {' and '.join(missing)} is not: set the whole connection.")
    return FeastConnection(
        host=host,
        port=int(_number(environ, "SLIPWAY_FEAST_PORT", "5432", least=1)),
        database=environ["SLIPWAY_FEAST_DATABASE"],
        username=environ["SLIPWAY_FEAST_USERNAME"],
        password=environ.get("SLIPWAY_FEAST_PASSWORD", ""),
    )


def _predictions(environ: Mapping[str, str]) -> PredictionLogSettings | None:
    """None when nothing is to be logged. A store that is not known is no reason not to serve: that is logged only."""
    name = "SLIPWAY_PREDICTION_LOG"
    prefix = environ.get(f"{name}_PREFIX")
    if not prefix:
        return None
    keys = [f"{name}_S3_{part}" for part in ("ENDPOINT", "BUCKET", "ACCESS_KEY", "SECRET_KEY")]
    missing = [key for key in keys if not environ.get(key)]
    if missing:
        log.warning("%s_PREFIX is set and %s is not: predictions are not logged", name, " and ".join(missing))
        return None
    endpoint, bucket, access_key, secret_key = (environ[key] for key in keys)
    return PredictionLogSettings(
        endpoint=endpoint,
        bucket=bucket,
        region=environ.get(f"{name}_S3_REGION") or "us-east-1",
        access_key=access_key,
        secret_key=secret_key,
        prefix=prefix.rstrip("/") + "/",
        sample_percent=int(_number(environ, f"{name}_SAMPLE_PERCENT", "100", least=1)),
        redact=frozenset(part for part in environ.get(f"{name}_REDACT", "").split(",") if part),
        flush_seconds=_number(environ, f"{name}_FLUSH_SECONDS", "15", least=0.01),
    )


def _abstain(environ: Mapping[str, str]) -> AbstainSettings | None:
    """None when every answer is a prediction."""
    fallback = _choice(environ, "SLIPWAY_ABSTAIN_FALLBACK", ("None", "Baseline"))
    name = "SLIPWAY_ABSTAIN_BELOW"
    if not environ.get(name):
        return None
    below = _number(environ, name, "", least=0)
    if not 0.5 < below <= 1:
        raise StartError(f"{name} is {environ[name]!r}: set a number greater than 0.5 and at most 1.")
    return AbstainSettings(below, fallback == "Baseline")


def _number(environ: Mapping[str, str], name: str, default: str, *, least: float) -> float:
    text = environ.get(name) or default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < 1e9:
        raise StartError(f"{name} is {text!r}: set a number of at least {least:g}.")
    return value


def _choice(environ: Mapping[str, str], name: str, values: tuple[str, ...]) -> str:
    text = environ.get(name) or values[0]
    if text not in values:
        raise StartError(f"{name} is {text!r}: set one of {', '.join(values)}.")
    return text
