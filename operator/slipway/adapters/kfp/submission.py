"""A run as it is handed over to an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.adapters.kfp.document import Document
from slipway.adapters.kfp.endpoint import Endpoint
from slipway.api.meta import Scalar


@dataclass(frozen=True)
class Submission:
    """A run to create.

    :param namespace: of its pods
    :param api_namespace: what requests name; empty for single-user installations
    :param group: name of the project's experiment and of its pipeline
    :param own: the document has a pipeline of the team's own, which the endpoint may find fault with
    :param fresh: nobody can have asked for it before, for its request was not even kept
    """

    endpoint: Endpoint
    run_id: str
    name: str
    description: str
    namespace: str
    api_namespace: str
    group: str
    document: Document
    parameters: Mapping[str, Scalar]
    root: str
    own: bool = False
    fresh: bool = False

    def run(self, experiment: str, pipeline: str, version: str) -> dict[str, Any]:
        """The request, in the API's words."""
        found: dict[str, Any] = {
            "run_id": self.run_id,
            "display_name": self.name,
            "description": self.description,
            "experiment_id": experiment,
            "pipeline_version_reference": {"pipeline_id": pipeline, "pipeline_version_id": version},
            "runtime_config": {"parameters": dict(self.parameters), "pipeline_root": self.root},
        }
        if self.endpoint.service_account:
            found["service_account"] = self.endpoint.service_account
        return found
