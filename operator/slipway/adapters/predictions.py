"""The prediction log as servers and Jobs are told about it: folders, and the environment of a model server."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.contracts.jobs import Store
from slipway.runtime.resources import Object

_VARIABLE = "SLIPWAY_PREDICTION_LOG"


@dataclass(frozen=True)
class PredictionLogging:
    """What a rollout's servers log, and where to.

    :param redact: inputs whose values are left out, in order
    """

    store: Store
    sample_percent: int
    redact: tuple[str, ...] = ()


def rollout_folder(namespace: str, rollout: str) -> str:
    """Folder of a rollout's predictions."""
    return f"predictions/{namespace}/{rollout}/"


def version_folder(namespace: str, rollout: str, version: str) -> str:
    """Folder of a version's predictions; `date=…/hour=…/` follow."""
    return f"{rollout_folder(namespace, rollout)}{version}/"


def prediction_secret(project: str) -> str:
    """Name of a project's copy of the credentials that may put predictions and nothing else."""
    return f"{project}-slipway-s3-predictions"


def environment(logging: PredictionLogging, folder: str, project: str) -> list[Object]:
    """Settings of a server. It starts without the Secret too, and then logs nothing."""
    values = {
        "PREFIX": folder,
        "SAMPLE_PERCENT": str(logging.sample_percent),
        "REDACT": ",".join(logging.redact),
        "S3_ENDPOINT": logging.store.endpoint,
        "S3_BUCKET": logging.store.bucket,
        "S3_REGION": logging.store.region,
    }
    found: list[Object] = [{"name": f"{_VARIABLE}_{name}", "value": value} for name, value in values.items() if value]
    secret = {"name": prediction_secret(project), "optional": True}
    for name, key in (("S3_ACCESS_KEY", "accessKey"), ("S3_SECRET_KEY", "secretKey")):
        found.append({"name": f"{_VARIABLE}_{name}", "valueFrom": {"secretKeyRef": {**secret, "key": key}}})
    return found
