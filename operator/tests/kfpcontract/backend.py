"""The API server: its services over one database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kfp_server_api.models import V2beta1GetHealthzResponse

from kfpcontract.database import Call, Database, Settings
from kfpcontract.experiments import Experiments
from kfpcontract.pipelines import Pipelines
from kfpcontract.runs import Runs
from kfpcontract.status import Refused
from kfpcontract.workflows import Workflows


class Backend:
    """Answers calls that the contract has read.

    :param clock: gives the time
    """

    def __init__(self, workflows: Workflows, clock: Callable[[], datetime], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.workflows = workflows
        self.database = Database(clock)
        self.experiments = Experiments(self.database, self.settings)
        self.pipelines = Pipelines(self.database, self.settings)
        self.runs = Runs(self.database, self.settings, workflows, self.experiments, self.pipelines)

    async def answer(self, call: Call) -> Any:
        """An instance of the operation's response. :raises Refused, UploadRefused: it is answered with an error"""
        for service in (self, self.runs, self.experiments, self.pipelines):
            handler = getattr(service, call.operation.name, None)
            if handler is not None:
                return await handler(call)
        raise Refused("Unimplemented", f"unknown method {call.operation.name}")

    async def healthz_service_get_healthz(self, _: Call) -> V2beta1GetHealthzResponse:
        """Whether it is there, and how it is installed."""
        return V2beta1GetHealthzResponse(multi_user=self.settings.multi_user, pipeline_store="database")
