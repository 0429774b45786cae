"""Experiments: groups of runs, each of one namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kfp_server_api.models import V2beta1Experiment, V2beta1ListExperimentsResponse

from kfpcontract.database import EPOCH, Call, Database, Settings
from kfpcontract.listing import page_of
from kfpcontract.status import Refused, invalid, not_found

_LONGEST_NAME = 128
_FIELDS: Mapping[str, Callable[[V2beta1Experiment], Any]] = {
    "id": lambda each: each.experiment_id,
    "experiment_id": lambda each: each.experiment_id,
    "name": lambda each: each.display_name,
    "display_name": lambda each: each.display_name,
    "created_at": lambda each: each.created_at,
    "namespace": lambda each: each.namespace,
    "storage_state": lambda each: each.storage_state,
    "last_run_created_at": lambda each: each.last_run_created_at,
}


class Experiments:
    """The experiment service."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def experiment_service_create_experiment(self, call: Call) -> V2beta1Experiment:
        """One with the name and namespace of another is refused."""
        wanted: V2beta1Experiment = call.body
        if not wanted.display_name:
            raise Refused("Internal", "Experiment must have a non-empty name")
        if len(wanted.display_name) > _LONGEST_NAME:
            raise Refused("Internal", f"Experiment.Name length cannot exceed {_LONGEST_NAME}")
        namespace = (wanted.namespace or "") if self._settings.multi_user else ""
        if self._settings.multi_user and not namespace:
            raise invalid("An experiment cannot have an empty namespace in multi-user mode")
        return self._make(wanted.display_name, namespace, wanted.description)

    async def experiment_service_get_experiment(self, call: Call) -> V2beta1Experiment:
        return self.of(call.places["experiment_id"])

    async def experiment_service_list_experiments(self, call: Call) -> V2beta1ListExperimentsResponse:
        namespace = (call.query.get("namespace") or "") if self._settings.multi_user else ""
        rows = [each for each in self._database.experiments.values() if (each.namespace or "") == namespace]
        found, total, token = page_of(rows, call, _FIELDS)
        return V2beta1ListExperimentsResponse(experiments=found, total_size=total, next_page_token=token)

    async def experiment_service_archive_experiment(self, call: Call) -> dict[str, Any]:
        """Its runs are archived, too."""
        experiment = self.of(call.places["experiment_id"])
        experiment.storage_state = "ARCHIVED"
        for row in self._database.runs.values():
            if row.run.experiment_id == experiment.experiment_id:
                row.run.storage_state = "ARCHIVED"
        return {}

    async def experiment_service_unarchive_experiment(self, call: Call) -> dict[str, Any]:
        self.of(call.places["experiment_id"]).storage_state = "AVAILABLE"
        return {}

    async def experiment_service_delete_experiment(self, call: Call) -> dict[str, Any]:
        """Its runs stay."""
        experiment = self.of(call.places["experiment_id"])
        if experiment.experiment_id == self._database.default_experiment:
            raise Refused("Aborted", "The default experiment cannot be deleted")
        del self._database.experiments[experiment.experiment_id]
        return {}

    def of(self, experiment_id: str) -> V2beta1Experiment:
        """:raises Refused: NotFound"""
        found = self._database.experiments.get(experiment_id)
        if found is None:
            raise not_found("Experiment", experiment_id)
        return found

    def default(self) -> V2beta1Experiment:
        """The experiment of runs that name none."""
        if not self._database.default_experiment:
            made = self._make("Default", "", "All runs created without specifying an experiment will be grouped here.")
            self._database.default_experiment = made.experiment_id
        return self.of(self._database.default_experiment)

    def _make(self, name: str, namespace: str, description: str | None) -> V2beta1Experiment:
        for each in self._database.experiments.values():
            if each.display_name == name and (each.namespace or "") == namespace:
                raise Refused(
                    "AlreadyExists",
                    f"Failed to create a new experiment. The name {name} already exists. Please specify a new name",
                )
        made = V2beta1Experiment(
            experiment_id=self._database.new_id(),
            display_name=name,
            description=description,
            namespace=namespace,
            storage_state="AVAILABLE",
            created_at=self._database.now(),
            last_run_created_at=EPOCH,
        )
        self._database.experiments[made.experiment_id] = made
        return made
