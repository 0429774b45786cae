"""KServe's REST server with our readiness, errors, middleware and a drain at the end."""

from __future__ import annotations

import asyncio
import logging
import signal
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kserve import ModelServer
from kserve.errors import InvalidInput, ModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer

from slipway_server.drain import Drain
from slipway_server.errors import Refused
from slipway_server.middleware import Tracing
from slipway_server.model import SlipwayModel
from slipway_server.predictionlog import PredictionLog
from slipway_server.requestlog import RequestLog, current
from slipway_server.settings import Settings

log = logging.getLogger("slipway.server")

_KEEP_ALIVE = 65
"""Seconds; longer than gateways keep idle connections, so that they close first and no request meets a closed one."""
_LAST_PREDICTIONS = 5.0
"""Seconds that the prediction log gets after the last request; they fit into the pod's grace period after the drain."""
_APP = "kserve.model_server:app"


class ReadyDataPlane(DataPlane):  # type: ignore[misc]
    """Not ready while draining or before features can be looked up; predictions are answered all the while."""

    def __init__(self, drain: Drain, model: SlipwayModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._drain = drain
        self._model = model

    async def ready(self) -> bool:
        """Readiness of the server."""
        return not self._drain.started and await self._model.healthy()

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """Readiness of the model; the SDK passes true before a prediction, which only asks whether there is a model."""
        self.get_model_from_registry(model_name)
        return disable_predictor_health_check or await self.ready()


class DrainingServer(uvicorn.Server):
    """Uvicorn that stops on SIGTERM only once the drain is finished; SIGINT stops at once."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        """Signal handler."""
        if sig == signal.SIGTERM:
            self._drain.begin()
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; true stops the server."""
        stop: bool = await super().on_tick(counter)
        return stop or self._drain.finished


class SlipwayRESTServer(RESTServer):  # type: ignore[misc]
    """The SDK's endpoints, with our errors, middleware and `/slipway/requests/ID`."""

    def __init__(
        self,
        *args: Any,
        drain: Drain,
        version: str,
        requests: RequestLog,
        predictions: PredictionLog | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._drain = drain
        self._predictions = predictions
        self._version = version
        self._requests = requests
        self._server = DrainingServer(self.config, drain)

    def _register_endpoints(self, app: FastAPI) -> None:
        super()._register_endpoints(app)
        app.add_api_route("/slipway/requests/{request_id}", self._request, methods=["GET"])

    async def _request(self, request_id: str) -> JSONResponse:
        """What is known about a recent prediction request."""
        record = self._requests.get(request_id)
        if record is None:
            sentence = (
                f"This server has no request {request_id}: it keeps the newest only, and another server may have it."
            )
            return JSONResponse({"error": sentence}, 404)
        return JSONResponse(record.wire())

    def _add_middlewares(self, app: FastAPI) -> None:
        app.add_middleware(
            Tracing, version=self._version, requests=self._requests, drain=self._drain, predictions=self._predictions
        )

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(Refused, _answer_refused)
        app.add_exception_handler(InvalidInput, _answer_invalid)
        app.add_exception_handler(ModelNotFound, _answer_not_found)
        # The middleware answers what is left, with the version and the request's id in its headers.
        app.exception_handlers.pop(Exception, None)


async def _answer_refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return _sentence(str(error), error.status, error.detail)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    return _sentence(f"The request cannot be read: {error}", 400)


async def _answer_not_found(_: Request, error: Exception) -> JSONResponse:
    return _sentence(str(error), 404)


def _sentence(text: str, status: int, detail: str | None = None) -> JSONResponse:
    current().error = f"{text} ({detail})" if detail else text
    return JSONResponse({"error": text}, status)


class SlipwayModelServer(ModelServer):  # type: ignore[misc]
    """The SDK's server for exactly one model, REST only."""

    def __init__(self, settings: Settings, model: SlipwayModel, predictions: PredictionLog | None) -> None:
        super().__init__(http_port=settings.http_port, enable_grpc=False, workers=1)
        self._predictions = predictions
        drain = Drain(settings.drain_minimum, settings.drain_quiet, settings.drain_maximum)
        self.dataplane = ReadyDataPlane(drain, model, model_registry=self.registered_models)
        self.register_model(model)
        self._rest_server = SlipwayRESTServer(
            _APP,
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            event_loop=self.event_loop,
            grace_period=int(settings.drain_maximum),
            timeout_keep_alive=_KEEP_ALIVE,
            drain=drain,
            version=model.version,
            requests=RequestLog(settings.requests_kept),
            predictions=predictions,
        )

    def run(self) -> None:
        """Serve until a signal. OSError-free: uvicorn logs a port that is taken and exits."""
        log.info("Serving", extra={"fields": {"port": self.http_port}})
        asyncio.run(self._rest_server.start())
        if self._predictions is not None:
            self._predictions.close(_LAST_PREDICTIONS)
