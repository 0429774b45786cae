"""Fixtures on a real kube-apiserver and etcd: one control plane for each test process, a namespace for each test.

A control plane takes about four seconds to start and its API server idles at a few percent of a core, so with
pytest-xdist each worker has its own: nothing is shared, nothing has to be cleaned up between tests but namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
import yaml
from cluster.admission.conftest import Api, install_objects
from cluster.admission.conftest import install_crds as install_own_crds
from prometheus_client import CollectorRegistry

from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.controller import Controller
from slipway.runtime.errors import ApiError, NotFound
from slipway.runtime.main import Operator
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import ALL_TYPES, EVENT, LEASE, NAMESPACE, Object, ResourceType
from slipway.runtime.settings import Settings
from slipway_cluster.controlplane import ControlPlane

CRD = ResourceType(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """An API server and its etcd, for all tests of this process."""
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def guarded() -> Iterator[ControlPlane]:
    """One more, with all that is installed, policies too: they would keep other tests from making records."""
    with ControlPlane() as running:
        api = Api(running.kubeconfig())
        install_own_crds(api)
        kinds = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
        install_objects(api, (*kinds, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"))
        api.close()
        yield running


@pytest.fixture(scope="session")
def kubeconfig(control_plane: ControlPlane) -> Path:
    """An administrator's kubeconfig."""
    return control_plane.kubeconfig()


@pytest.fixture
def connection(kubeconfig: Path) -> Connection:
    return Connection(str(kubeconfig))


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of one test; `metrics.write_requests()` counts what was written through `client`."""
    return Metrics(CollectorRegistry())


@pytest_asyncio.fixture
async def client(connection: Connection) -> AsyncIterator[Client]:
    """An administrator's client: the test's own hands, counted apart from the operator's."""
    own = Client(await connection.api(), Metrics(CollectorRegistry()), field_manager="test")
    try:
        yield own
    finally:
        await own.close()


@pytest_asyncio.fixture
async def namespace(client: Client, toy_types: list[ResourceType]) -> AsyncIterator[str]:
    """A fresh namespace, whose objects are removed afterwards: operators watch the whole cluster.

    The namespace itself stays behind: without kube-controller-manager no namespace ever finishes deleting.
    """
    name = f"test-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    for type_ in (*toy_types, *(each for each in ALL_TYPES if each.namespaced and each not in (EVENT, LEASE))):
        await remove_all(client, type_, name)


@pytest.fixture(scope="session")
def toy_types() -> list[ResourceType]:
    """Further types whose objects `namespace` removes; tests with kinds of their own add them."""
    return []


async def remove_all(client: Client, type_: ResourceType, namespace: str = "") -> None:
    """Delete all objects of a type, finalizers or not."""
    with contextlib.suppress(NotFound):  # the type is not served
        for obj in await client.list(type_, namespace):
            key = type_.key_of(obj)
            with contextlib.suppress(NotFound):
                if obj["metadata"].get("finalizers"):
                    await client.merge(key, {"metadata": {"finalizers": None}})
                await client.delete(key)


class InstallCrds(Protocol):
    async def __call__(self, *manifests: Object) -> None:
        """Apply CRDs and wait until the API server serves them."""
        ...


@pytest.fixture
def install_crds(client: Client) -> InstallCrds:
    async def install(*manifests: Object) -> None:
        for manifest in manifests:
            await client.apply(CRD, manifest)
        for manifest in manifests:
            served = ResourceType(
                manifest["spec"]["group"],
                manifest["spec"]["versions"][0]["name"],
                manifest["spec"]["names"]["kind"],
                manifest["spec"]["names"]["plural"],
            )
            await wait_until(partial(_is_served, client, served))

    return install


@pytest_asyncio.fixture
async def slipway_crds(install_crds: InstallCrds) -> None:
    """The project's own CRDs, from `crds/`."""
    files = sorted((REPOSITORY / "crds").glob("*.yaml"))
    assert files, "crds/ is empty: run `make generate`"
    await install_crds(*(each for file in files for each in yaml.load_all(file.read_text(), yaml.CSafeLoader) if each))


class StartOperator(Protocol):
    async def __call__(
        self, controllers: Sequence[Controller[Any]], *, leading: bool = True, kubeconfig: str = "", **settings: Any
    ) -> Operator:
        """Start an operator in the background; with `leading`, wait until it holds the Lease."""
        ...


@pytest_asyncio.fixture
async def start_operator(namespace: str, connection: Connection) -> AsyncIterator[StartOperator]:
    """Starts operators that are stopped at the end of the test; a failure of one fails the test."""
    async with AsyncExitStack() as stack:

        async def start(
            controllers: Sequence[Controller[Any]], *, leading: bool = True, kubeconfig: str = "", **settings: Any
        ) -> Operator:
            chosen = {
                "namespace": namespace,
                "kubeconfig": kubeconfig or connection.kubeconfig,
                "bind": "127.0.0.1",
                "port": 0,
                **settings,
            }
            operator = Operator(Settings(**chosen), lambda _: controllers)
            await stack.enter_async_context(_running(operator))
            if leading:
                await wait_until(lambda: operator.engine is not None and operator.health().leader)
            return operator

        yield start


@asynccontextmanager
async def _running(operator: Operator) -> AsyncIterator[None]:
    task = asyncio.create_task(operator.run())
    try:
        yield
    finally:
        operator.stop()
        await asyncio.wait_for(task, 30)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """`await eventually(condition, seconds=60)`: the first true value of a (perhaps async) function."""
    return wait_until


async def wait_until(condition: Callable[[], Any], seconds: float = 60.0, pause: float = 0.03) -> Any:
    """Poll until the condition holds; a test waits for states, never for times.

    :raises AssertionError: it did not hold in time; says what it gave last
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not true after {seconds:g} s; last: {value!r}")
        await asyncio.sleep(pause)


async def _is_served(client: Client, type_: ResourceType) -> bool:
    try:
        await client.list(type_)
    except ApiError:
        return False
    return True


async def lease_of(client: Client, namespace: str, name: str = "slipway-operator") -> Object | None:
    return await client.find(LEASE.key(name, namespace))
