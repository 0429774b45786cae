"""Connections that break, API servers that go away, Leases that change hands: nothing is lost, nobody writes twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from slipway.runtime.client import Client
from slipway.runtime.conditions import find
from slipway.runtime.errors import Fenced, Unavailable
from slipway.runtime.resources import CONFIG_MAP, LEASE, Object

pytestmark = pytest.mark.usefixtures("toy_crds")

FAST = {"lease_seconds": 6.0, "lease_renew_seconds": 4.0, "lease_retry_seconds": 0.5}
PATIENT = {"lease_seconds": 90.0, "lease_renew_seconds": 80.0, "lease_retry_seconds": 1.0}


class Wire:
    """A TCP proxy to the API server that can be cut: the operator's own network."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def drop(self) -> None:
        """Break all connections; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    async def cut(self) -> None:
        """Break all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        up: asyncio.StreamWriter | None = None
        try:
            down, up = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(up)
            await asyncio.gather(_copy(reader, up), _copy(down, writer))
        except OSError:
            pass
        finally:
            for end in (writer, up):
                if end is not None:
                    end.transport.abort()
                    self._writers.discard(end)
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@pytest_asyncio.fixture
async def new_wire(control_plane: Any, kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Any]:
    """Makes a Wire and the kubeconfig that goes through it."""
    wires: list[Wire] = []
    config = kubeconfig.read_text()  # noqa: ASYNC240 - a small local file

    async def make() -> tuple[Wire, str]:
        wire = Wire(int(control_plane.url.rpartition(":")[2]))
        await wire.connect()
        wires.append(wire)
        file = tmp_path / f"wire-{len(wires)}.kubeconfig"
        file.write_text(config.replace(control_plane.url, f"https://127.0.0.1:{wire.port}"))
        return wire, str(file)

    yield make
    for wire in wires:
        await wire.cut()


def restart_api_server(control_plane: Any) -> None:
    """Kill the API server and start it anew on the same etcd: its watch cache begins now, older watches are too old."""
    old = control_plane._processes["kube-apiserver"]
    old.kill()
    old.wait()
    control_plane._processes["kube-apiserver"] = subprocess.Popen(
        old.args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
    )
    control_plane._watch_over()


async def wait_for_api(client: Client, eventually: Any) -> None:
    async def answers() -> bool:
        try:
            await client.list(CONFIG_MAP)
        except Exception:
            return False
        return True

    await eventually(answers, 60)


def text_is(client: Client, namespace: str, name: str, text: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        found = await client.find(CONFIG_MAP.key(name, namespace))
        return found is not None and found["data"]["text"] == text

    return check


async def test_watches_that_break_go_on_where_they_were(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, new_wire: Any
) -> None:
    wire, kubeconfig = await new_wire()
    operator = await start_operator([toy.controller()], kubeconfig=kubeconfig)
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await eventually(text_is(client, namespace, "a", "1"))
    engine = operator.engine

    for number in range(2, 5):
        wire.drop()
        await client.merge(toy.type.key("a", namespace), {"spec": {"text": str(number)}})
        await eventually(text_is(client, namespace, "a", str(number)))

    assert operator.engine is engine  # the same term of leadership


async def test_an_outage_is_backed_off_and_made_good_afterwards(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, new_wire: Any
) -> None:
    wire, kubeconfig = await new_wire()
    operator = await start_operator([toy.controller()], kubeconfig=kubeconfig, **PATIENT)
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await eventually(text_is(client, namespace, "a", "1"))
    engine = operator.engine
    key = toy.type.key("a", namespace)

    await wire.cut()
    await client.merge(key, {"spec": {"text": "2"}})
    await client.delete(CONFIG_MAP.key("a", namespace))
    engine.stores.of(CONFIG_MAP).remove(engine.stores.get(CONFIG_MAP.key("a", namespace)))
    engine.queue.add(("WidgetController", key))
    await eventually(lambda: engine.queue.failures(("WidgetController", key)) >= 2)
    await wire.connect()

    await eventually(text_is(client, namespace, "a", "2"), 30)

    async def told() -> bool:  # the status follows the ConfigMap
        status = (await client.get(key)).get("status") or {}
        ready = find(status.get("conditions") or (), "Ready")
        return ready is not None and ready["reason"] != "Unavailable"

    await eventually(told)
    assert operator.engine is engine


@pytest.mark.slow
async def test_what_was_deleted_while_the_watch_was_too_old_is_noticed(
    client: Client,
    namespace: str,
    toy: Any,
    start_operator: Any,
    eventually: Any,
    new_wire: Any,
    control_plane: Any,
) -> None:
    """kopf lists anew after `410 Gone`, but does not tell what the new list no longer has."""
    wire, kubeconfig = await new_wire()
    operator = await start_operator([toy.controller()], kubeconfig=kubeconfig, **PATIENT)
    for name in ("a", "b"):
        await client.create(toy.type, toy.widget(namespace, name, text="1"))
        await eventually(text_is(client, namespace, name, "1"))
    engine = operator.engine

    await wire.cut()
    restart_api_server(control_plane)
    await wait_for_api(client, eventually)
    await client.delete(CONFIG_MAP.key("a", namespace))
    await wire.connect()

    await eventually(text_is(client, namespace, "a", "1"), 60)
    assert operator.engine is engine


async def test_a_standby_takes_over_from_a_leader_that_ends_without_waiting_for_its_lease(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    first = await start_operator([toy.controller()], identity="first", **PATIENT)
    second = await start_operator([toy.controller()], leading=False, identity="second", **PATIENT)
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await eventually(text_is(client, namespace, "a", "1"))
    await eventually(lambda: second.health().ready())
    assert not second.health().leader

    first.stop()
    await eventually(lambda: second.health().leader)  # far sooner than the 90 s of the Lease
    await client.merge(toy.type.key("a", namespace), {"spec": {"text": "2"}})
    await eventually(text_is(client, namespace, "a", "2"))

    lease = await client.get(LEASE.key("slipway-operator", namespace))
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("second", 1)


@pytest.mark.parametrize("observes", [False, True])
async def test_a_standby_has_warm_stores_observes_where_it_is_declared_and_writes_nothing(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, observes: bool
) -> None:
    first = await start_operator([toy.controller()], identity="first", **PATIENT)
    own = toy.controller(observed_by_standby=observes)
    second = await start_operator([own], leading=False, identity="second", **PATIENT)
    key = toy.type.key("a", namespace)
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await eventually(text_is(client, namespace, "a", "1"))
    await eventually(lambda: second.health().synced and second.engine.stores.get(key) is not None)
    await eventually(lambda: second.engine.queue.depth() == second.engine.queue.running() == 0)
    assert (key in own.observed) is observes
    assert second.metrics.write_requests() == {}
    warm = second.engine

    first.stop()
    await eventually(lambda: second.health().leader)
    await client.merge(key, {"spec": {"text": "2"}})
    await eventually(text_is(client, namespace, "a", "2"))
    assert second.engine is warm, "a new one would begin with first lists"


async def test_a_leader_in_mid_reconcile_ends_it_before_it_gives_the_lease_up(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def pause(_: Any) -> None:
        started.set()
        await go_on.wait()

    first = await start_operator([toy.controller(before_plan=pause)], identity="first")
    second = await start_operator([toy.controller()], leading=False, identity="second")
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await started.wait()

    first.stop()
    await asyncio.sleep(0.3)
    assert first.health().leader
    assert not second.health().leader
    go_on.set()
    await eventually(lambda: second.health().leader)
    await eventually(text_is(client, namespace, "a", "1"))


async def test_a_leader_that_is_cut_off_stops_writing_before_another_begins(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, new_wire: Any
) -> None:
    wire, kubeconfig = await new_wire()
    first = await start_operator([toy.controller()], identity="first", kubeconfig=kubeconfig, **FAST)
    writer = first.engine._client
    second = await start_operator([toy.controller()], leading=False, identity="second", **FAST)
    overlaps: list[bool] = []

    async def watch_for_overlap() -> None:
        while True:
            overlaps.append(first.lease.valid() and second.lease.valid())
            await asyncio.sleep(0.005)

    watcher = asyncio.create_task(watch_for_overlap())
    await wire.cut()
    await eventually(lambda: second.health().leader, 30)
    manifest: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late", "namespace": namespace}}
    with pytest.raises(Fenced):
        await writer.apply(CONFIG_MAP, manifest)
    await wire.connect()
    with pytest.raises(Fenced):
        await writer.apply(CONFIG_MAP, manifest)
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await eventually(text_is(client, namespace, "a", "1"))
    await eventually(lambda: first.lease.holder() == "second")
    watcher.cancel()

    assert not any(overlaps)
    assert not first.health().leader
    assert first.health().ready()  # it stands by again


@pytest.mark.slow
async def test_leadership_that_was_lost_comes_back_when_nobody_else_wants_it(
    client: Client, namespace: str, toy: Any, start_operator: Any, eventually: Any, new_wire: Any
) -> None:
    wire, kubeconfig = await new_wire()
    operator = await start_operator([toy.controller()], kubeconfig=kubeconfig, **FAST)
    engine = operator.engine
    await wire.cut()
    await eventually(lambda: not operator.health().leader)
    await client.create(toy.type, toy.widget(namespace, "a", text="1"))
    await wire.connect()
    await eventually(text_is(client, namespace, "a", "1"), 30)
    assert operator.engine is not engine


async def test_the_lease_is_a_fence_for_a_request_that_hangs(client: Client, namespace: str) -> None:
    """A write is cut off when what is left of the Lease is over, not after the usual 30 s."""

    class Nearly:
        def remaining(self) -> float:
            return 0.2

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    api = client._api
    own_host = api.configuration.host
    api.configuration.host = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    try:
        with pytest.raises(Unavailable, match="did not answer apply configmaps"):
            await asyncio.wait_for(
                client.fenced(Nearly()).apply(
                    CONFIG_MAP, {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}}
                ),
                10,
            )
    finally:
        api.configuration.host = own_host
        silent.close()


MEMORY_BUDGET = 120 * 1024 * 1024


@pytest.mark.usefixtures("slipway_crds")
async def test_the_real_process_starts_reports_stays_small_and_ends_with_its_lease_given_up(
    client: Client, namespace: str, kubeconfig: Path, eventually: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    arguments = ["--kubeconfig", str(kubeconfig), "--namespace", namespace, "--bind", "127.0.0.1", "--port", "18931"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "slipway.operator", *arguments, stderr=output
        )
    try:
        async with aiohttp.ClientSession() as session:

            async def health() -> dict[str, Any] | None:
                try:
                    async with session.get("http://127.0.0.1:18931/healthz") as answer:
                        found: dict[str, Any] = json.loads(await answer.read())
                        return found if answer.status == 200 and found["leader"] else None
                except aiohttp.ClientError:
                    return None

            found = await eventually(health, 60)
            assert found["queueLagSeconds"] < 10
            async with session.get("http://127.0.0.1:18931/readyz") as answer:
                assert answer.status == 200
            async with session.get("http://127.0.0.1:18931/metrics") as answer:
                lines = (await answer.text()).splitlines()
        (memory,) = [float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes ")]
        assert memory < MEMORY_BUDGET
        assert "slipway_leader 1.0" in lines
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 30)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    lease = await client.get(LEASE.key("slipway-operator", namespace))
    assert not lease["spec"].get("holderIdentity")
