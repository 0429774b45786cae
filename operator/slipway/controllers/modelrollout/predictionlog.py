"""The prediction log of a rollout: what its servers write, and what is left out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from slipway.adapters.artifacts import Location
from slipway.adapters.predictions import PredictionLogging
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.runtime.conditions import Conditions


def logging_of(
    rollout: ModelRollout, platform: Platform | None, datasets: Iterable[Mapping[str, Any]]
) -> PredictionLogging | None:
    """What the servers of a rollout log; None when nothing is to be logged, or nobody gave credentials for it.

    :param datasets: of the namespace; what those of the project call sensitive is left out
    """
    wanted = rollout.spec.prediction_log
    if wanted is None or not wanted.enabled:
        return None
    if platform is None or platform.spec.artifacts.s3.prediction_log_secret_ref is None:
        return None
    sensitive = {
        column["name"]
        for dataset in datasets
        if dataset["spec"]["projectRef"]["name"] == rollout.spec.project_ref.name
        for column in dataset["spec"].get("columns") or ()
        if column.get("sensitive")
    }
    redact = tuple(sorted(sensitive | set(wanted.redact)))
    return PredictionLogging(Location.of(platform).store, wanted.sample_percent, redact)


def state_log(conditions: Conditions, snapshot: Snapshot) -> None:
    """Stated while nothing is logged though it was asked for."""
    wanted = snapshot.rollout.spec.prediction_log
    if wanted is None or not wanted.enabled or snapshot.predictions is not None:
        return
    message = (
        "Nothing is logged: Platform default has no spec.artifacts.s3.predictionLogSecretRef; an administrator has to"
        " name a Secret that may put objects below predictions/."
    )
    conditions.false("PredictionLogAvailable", Reason.DependencyMissing, message)
