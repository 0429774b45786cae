"""A contract server on loopback, and the published client as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import kfp_server_api
import pytest
import pytest_asyncio
import yaml
from kfpcontract.backend import Backend
from kfpcontract.database import Settings
from kfpcontract.machinery import Machinery
from kfpcontract.server import Access, ContractServer
from kfpcontract.workflows import MemoryWorkflows

from slipway_pipelines import compiled

START = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)


class Installation:
    """A contract server, what is behind it, and a client of it."""

    def __init__(self, server: ContractServer, machinery: Machinery, workflows: MemoryWorkflows, clock: Clock) -> None:
        self.server = server
        self.backend = server.backend
        self.machinery = machinery
        self.workflows = workflows
        self.clock = clock

    def client(self, token: str = "") -> kfp_server_api.ApiClient:
        """The published client."""
        configuration = kfp_server_api.Configuration(host=self.server.url)
        configuration.retries = False
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        return kfp_server_api.ApiClient(configuration)

    async def ask(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Have the client ask, beside the server's loop."""
        return await asyncio.to_thread(method, *arguments, **named)

    @property
    def runs(self) -> kfp_server_api.RunServiceApi:
        return kfp_server_api.RunServiceApi(self.client())

    @property
    def experiments(self) -> kfp_server_api.ExperimentServiceApi:
        return kfp_server_api.ExperimentServiceApi(self.client())

    @property
    def pipelines(self) -> kfp_server_api.PipelineServiceApi:
        return kfp_server_api.PipelineServiceApi(self.client())

    @property
    def uploads(self) -> kfp_server_api.PipelineUploadServiceApi:
        return kfp_server_api.PipelineUploadServiceApi(self.client())

    async def refused(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> kfp_server_api.ApiException:
        """The error with which a request is answered."""
        with pytest.raises(kfp_server_api.ApiException) as caught:
            await self.ask(method, *arguments, **named)
        return caught.value


class Install(Protocol):
    async def __call__(self, access: Access | None = None, **settings: Any) -> Installation:
        """Start a contract server; `settings` are fields of `Settings`."""
        ...


@pytest_asyncio.fixture
async def install() -> AsyncIterator[Install]:
    """Starts contract servers that end with the test."""
    async with AsyncExitStack() as stack:

        async def start(access: Access | None = None, **settings: Any) -> Installation:
            clock = Clock()
            workflows = MemoryWorkflows(clock)
            backend = Backend(workflows, clock, Settings(**settings))
            server = ContractServer(backend, access)
            await stack.enter_async_context(server.serving())
            return Installation(server, Machinery(backend), workflows, clock)

        yield start


@pytest_asyncio.fixture
async def kfp(install: Callable[..., Awaitable[Installation]]) -> Installation:
    """A contract server with everything as it is installed by default."""
    return await install()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The compiled pipeline as a file to upload."""
    path = tmp_path / "training.yaml"
    path.write_bytes(compiled.training_ir())
    return path


IR: dict[str, Any] = yaml.load(compiled.training_ir(), yaml.CSafeLoader)
"""The compiled pipeline."""
ARGUMENTS = {"data": "{}", "code": "{}", "goals": "{}", "run": "{}"}
"""Of the compiled pipeline."""
