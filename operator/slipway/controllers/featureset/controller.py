"""The controller of FeatureSets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.controllers.featureset.observe import FeatureSetSnapshot, observe
from slipway.controllers.featureset.plan import plan
from slipway.controllers.shared import links
from slipway.controllers.shared.work import Runner
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    JOB,
    MODEL_PROJECT,
    PLATFORM,
    Key,
    Object,
    ResourceType,
)


class FeatureSetController:
    """Applies definitions, materializes values, clears the store when a FeatureSet goes."""

    type: ResourceType = FEATURE_SET

    def __init__(self, artifacts: Artifacts, runner: Runner) -> None:
        self._artifacts = artifacts
        self._runner = runner
        self.ports: Mapping[str, Any] = {"artifacts": artifacts}

    @property
    def watches(self) -> Sequence[Watch]:
        """Jobs (its own, and those of neighbours that write to the same Feast project), datasets, project, Platform."""
        return (
            *links.jobs_of(FEATURE_SET),
            links.of_namespace(JOB, FEATURE_SET, _may_wait_for),
            links.of_namespace(DATASET, FEATURE_SET, _reads),
            links.of_namespace(DATASET_VERSION, FEATURE_SET, links.same_project),
            links.of_namespace(MODEL_PROJECT, FEATURE_SET, links.same_project),
            links.everyone(PLATFORM, FEATURE_SET),
        )

    async def observe(self, io: Io, key: Key) -> FeatureSetSnapshot | None:
        """Read what the plan needs."""
        self._artifacts.secrets.bind(io.client)
        return await observe(io, self._artifacts, key)

    def plan(self, snapshot: FeatureSetSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now, self._runner)


def _reads(feature_set: Object, dataset: Object) -> bool:
    name = dataset["metadata"]["name"]
    return any(
        (view["source"].get(kind) or {}).get("datasetRef", {}).get("name") == name
        for view in feature_set["spec"].get("views") or ()
        for kind in ("aggregate", "dataset")
    )


def _may_wait_for(feature_set: Object, job: Object) -> bool:
    """Whether a Job that writes to Feast has just ended, on which a neighbour may wait."""
    marks = job["metadata"].get("labels") or {}
    ended = any(each["status"] == "True" for each in (job.get("status") or {}).get("conditions") or ())
    gone = bool(job["metadata"].get("deletionTimestamp"))
    writes = marks.get("slipway.dev/stage") in ("features", "teardown")
    return writes and (ended or gone) and marks.get("slipway.dev/project") == feature_set["spec"]["projectRef"]["name"]
