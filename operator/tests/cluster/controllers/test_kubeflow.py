"""Runs on Kubeflow Pipelines with a real API server, a real S3 store, and an operator whose process is killed.

The endpoint is the contract server; its Workflows are objects of the API server, which wake the operator.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cluster.conftest import InstallCrds
from cluster.controllers.conftest import Cluster
from cluster.controllers.test_controllers import PATIENCE, controllers, one
from kfpcontract.backend import Backend
from kfpcontract.database import Settings
from kfpcontract.faults import ServerDied
from kfpcontract.machinery import Ending, Execution, Machinery
from kfpcontract.server import ContractServer
from kfpcontract.workflows import WORKFLOW, WORKFLOW_CRD, ClusterWorkflows
from unit.controllers import things
from unit.kfp.world import RUN, dataset_version, launcher, training_run

from slipway.runtime.errors import Unavailable
from slipway.runtime.resources import (
    CONFIG_MAP,
    DATASET_VERSION,
    MODEL_PROJECT,
    MODEL_VERSION,
    PLATFORM,
    TRAINING_RUN,
    Object,
    ResourceType,
)

pytestmark = pytest.mark.timeout(300)

Eventually = Callable[..., Awaitable[Any]]
STEP_SECONDS = 0.2


class Endpoint:
    """A contract server whose runs go on by themselves."""

    def __init__(self, cluster: Cluster) -> None:
        self.backend = Backend(ClusterWorkflows(cluster.client), lambda: datetime.now(UTC), Settings(multi_user=True))
        self.server = ContractServer(self.backend)
        self.machinery = Machinery(self.backend, work=self._work)
        self._cluster = cluster

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve, and move Workflows, as long as this lasts."""
        async with self.server.serving():
            task = asyncio.create_task(self._move())
            try:
                yield
                assert not task.done(), task.exception()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _move(self) -> None:
        while True:
            with suppress(Unavailable):  # The API server, while it is busy: the next step goes on.
                await self.machinery.step()
            await asyncio.sleep(STEP_SECONDS)

    async def _work(self, execution: Execution, ending: Ending) -> Ending:
        asked: dict[str, Any] = {}
        for text in execution.arguments.values():
            asked |= json.loads(text)
        result = things.registered(asked)
        await self._cluster.bucket.write(asked["result"], json.dumps(result.wire()).encode())
        return ending


@pytest.fixture(scope="session")
def toy_types(toy_types: list[ResourceType]) -> list[ResourceType]:
    """Workflows are removed with a test's namespace, too."""
    return [*toy_types, WORKFLOW]


@pytest_asyncio.fixture
async def endpoint(cluster: Cluster, install_crds: InstallCrds) -> AsyncIterator[Endpoint]:
    """A Platform whose engine is Kubeflow Pipelines, a project with data, and the endpoint."""
    await install_crds(WORKFLOW_CRD)
    found = Endpoint(cluster)
    async with found.running():
        await cluster.platform()
        pipelines = {"engine": "KubeflowPipelines", "kubeflowPipelines": {"endpoint": found.server.url}}
        platform = await cluster.get(PLATFORM, "default")
        await cluster.apply(PLATFORM, things.platform(**{**platform["spec"], "pipelines": pipelines}))
        project = things.project()
        del project["spec"]["training"]
        await cluster.apply(MODEL_PROJECT, project)
        address = platform["spec"]["artifacts"]["s3"]["endpoint"].removeprefix("http://")
        config = launcher()
        config["data"]["providers"] = config["data"]["providers"].replace("s3.local:8333", address)
        await cluster.apply(CONFIG_MAP, config)
        await cluster.apply(DATASET_VERSION, dataset_version())
        yield found


async def _ended(cluster: Cluster) -> Object | None:
    run = await cluster.get(TRAINING_RUN, RUN)
    return run if (run.get("status") or {}).get("phase") in ("Succeeded", "Failed") else None


async def _free(cluster: Cluster) -> bool:
    """Whether nothing holds the run any more."""
    return not (await cluster.get(TRAINING_RUN, RUN))["metadata"].get("finalizers")


async def _check(cluster: Cluster, endpoint: Endpoint, run: Object) -> None:
    assert run["status"]["phase"] == "Succeeded", run["status"]
    version = await one(cluster, MODEL_VERSION)
    assert version is not None
    assert run["status"]["modelVersion"] == version["metadata"]["name"]
    assert list(endpoint.backend.database.runs) == [run["status"]["pipelineRun"]["id"]]
    assert len(await cluster.all(WORKFLOW)) == 1
    assert len(endpoint.machinery.executed) == 1
    assert endpoint.server.remarks == []


async def test_a_run_is_submitted_tracked_and_recorded(
    cluster: Cluster, endpoint: Endpoint, start_operator: Any, eventually: Eventually
) -> None:
    await start_operator(controllers())
    await cluster.apply(TRAINING_RUN, training_run())
    run = await eventually(lambda: _ended(cluster), PATIENCE)
    await _check(cluster, endpoint, run)
    await eventually(lambda: _free(cluster), PATIENCE)


KILLS = (
    ("upload_pipeline_version", "before"),
    ("upload_pipeline_version", "after"),
    ("run_service_create_run", "before"),
    ("run_service_create_run", "after"),
    ("run_service_get_run", "after"),
)
"""One after the other, in one run; each ends the operator's process while it waits for that answer."""


class Operator:
    """The operator as a process, which is killed as a lost node kills it, and then started anew."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path) -> None:
        leases = ("--lease-seconds", "3", "--lease-renew-seconds", "2", "--lease-retry-seconds", "0.5")
        self._command = [
            *(sys.executable, "-m", "slipway.operator", "--kubeconfig", str(kubeconfig), "--namespace", namespace),
            *("--bind", "127.0.0.1", "--port", "0", *leases),
        ]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(self._command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.mark.slow
async def test_the_operators_process_is_killed_again_and_again(
    cluster: Cluster, endpoint: Endpoint, kubeconfig: Path, tmp_path: Path, eventually: Eventually
) -> None:
    operator, left = Operator(kubeconfig, cluster.namespace, tmp_path / "log"), list(KILLS)

    async def kills(operation: str, phase: str) -> None:
        if left and left[0] == (operation, phase):
            left.pop(0)
            operator.kill()
            operator.start()
            if phase == "before":
                raise ServerDied

    endpoint.server.watchers.append(kills)
    operator.start()
    try:
        await cluster.apply(TRAINING_RUN, training_run())
        run = await eventually(lambda: _ended(cluster), 150)
    except AssertionError:
        print((tmp_path / "log").read_text()[-4000:], left, endpoint.server.calls[-8:])
        raise
    finally:
        operator.kill()
    assert left == []
    await _check(cluster, endpoint, run)
