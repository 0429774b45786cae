"""Many rollouts changed at once: Slipway beside Argo Rollouts and Flagger, on one API server, in one run.

Each contender has the same number of objects in namespaces of its own, and each turn runs one controller alone: start,
one rollout to see that it works, then all others changed at once, until the last one is promoted. Turns take turns
(interleaved rounds), so that what else the machine does meets all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.apiserver import AUDIT_DELAY, ApiServer, api_server
from benchmarks.contenders import FIRST_WEIGHT, Contender
from benchmarks.contenders.argo import Argo
from benchmarks.contenders.flagger import Flagger
from benchmarks.contenders.slipway import Slipway
from benchmarks.gateway import Statistics
from benchmarks.process import Controller, machine
from benchmarks.stage import Stage, following
from slipway.runtime.resources import Object

CONTENDERS: tuple[Contender, ...] = (Slipway(), Argo(), Flagger())
NAMESPACES = 10
WARM_SECONDS = 5.0
REST_SECONDS = 45.0
"""After the last promotion: what is removed later (30 s in Argo Rollouts) is gone before the idle time is measured."""
IDLE_SECONDS = 30.0
_AT_ONCE = 16
_PAUSE = 0.2
_PATIENCE = 1800.0

Name = tuple[str, str]
"""Namespace and name of a rollout."""
Say = Callable[[str], None]


@dataclass
class _Seen:
    """What the watch told of one rollout."""

    release: str = ""
    before: str = ""
    weighted_at: float | None = None
    promoted_at: float | None = None


@dataclass
class Progress:
    """Follows all rollouts of a contender."""

    contender: Contender
    rollouts: dict[Name, _Seen] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def seen(self, event: str, obj: Object) -> None:
        """Take an event in."""
        meta = obj["metadata"]
        if event == "DELETED":
            return
        now, look = time.monotonic(), self.contender.look(obj)
        one = self.rollouts.setdefault((meta["namespace"], meta["name"]), _Seen())
        one.release = look.release
        promoted = bool(look.release) and look.release != one.before
        if one.weighted_at is None and (promoted or look.weight >= FIRST_WEIGHT):
            one.weighted_at = now
        if one.promoted_at is None and promoted:
            one.promoted_at = now
        self.changed.set()

    def begin(self) -> None:
        """From now on only another release than the present one counts."""
        for one in self.rollouts.values():
            one.before, one.weighted_at, one.promoted_at = one.release, None, None

    async def until_known(self, names: Sequence[Name], controller: Controller) -> None:
        """Wait until each rollout has a release and nothing is under way; raises as `until_promoted`."""
        await self._until(lambda: [name for name in names if not self._of(name).release], controller)

    async def until_promoted(self, names: Sequence[Name], controller: Controller) -> None:
        """:raises TimeoutError: they are not all promoted in time; :raises RuntimeError: the controller ended"""
        await self._until(lambda: [name for name in names if self._of(name).promoted_at is None], controller)

    def _of(self, name: Name) -> _Seen:
        return self.rollouts.get(name, _Seen())

    async def _until(self, waiting: Callable[[], list[Name]], controller: Controller) -> None:
        deadline = time.monotonic() + _PATIENCE
        while late := waiting():
            controller.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.contender.name}: {len(late)} are not ready, {late[:3]} among them")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 1.0)
            await asyncio.sleep(_PAUSE)  # times are taken when events come; looking at all of them need not be quick


@dataclass(frozen=True)
class Bench:
    """What a run needs."""

    server: ApiServer
    folder: Path
    names: dict[str, list[Name]]
    say: Say

    def start(self, contender: Contender, flags: Sequence[str]) -> Controller:
        """Start a contender's controller."""
        kubeconfig = self.server.kubeconfig(contender.name)
        return Controller(contender.command(kubeconfig, flags), self.folder / f"{contender.name}.log")


async def measure(rollouts: int, rounds: int, contenders: Sequence[Contender], say: Say) -> dict[str, Any]:
    """Run the benchmark.

    Returns: machine, workload, and for each contender and variant one entry a round; see `_turn`.
    """
    for contender in contenders:
        contender.build()
    before = machine()
    turns: list[dict[str, Any]] = []
    async with _bench(rollouts, contenders, say) as bench:
        for contender in contenders:
            await _prepare(bench, contender)
        number = 1
        for _ in range(rounds):
            for variant in ("default", "raised"):
                number += 1
                for contender in contenders:
                    if variant in contender.variants:
                        turns.append(await _turn(bench, contender, variant, number))
                        say(_sentence(turns[-1]))
    return {
        "machine": {**before, "loadAfter": machine()["load"]},
        "workload": {"rollouts": rollouts, "namespaces": NAMESPACES, "steps": [FIRST_WEIGHT, 50, 100]},
        "turns": turns,
    }


@asynccontextmanager
async def _bench(rollouts: int, contenders: Sequence[Contender], say: Say) -> AsyncIterator[Bench]:
    statistics = Statistics()
    with TemporaryDirectory(prefix="slipway-bench-logs-") as folder:
        async with api_server([each.name for each in contenders]) as server, statistics.serving():
            say("API server")
            # The player follows Slipway's types too, and Flagger writes the HTTPRoutes that Slipway's CRDs define.
            await server.install([*Slipway().crds(), *(m for c in contenders if c.name != "slipway" for m in c.crds())])
            say("CRDs")
            for contender in contenders:
                await contender.prepare(server, statistics.port)
            async with Stage(server, statistics).playing():
                yield Bench(server, Path(folder), {c.name: _names(c.name, rollouts) for c in contenders}, say)


def _names(contender: str, rollouts: int) -> list[Name]:
    return [(f"{contender}-{number % NAMESPACES}", f"model-{number // NAMESPACES}") for number in range(rollouts)]


async def _prepare(bench: Bench, contender: Contender) -> None:
    """Make all rollouts and let the first release become stable."""
    names = bench.names[contender.name]
    for namespace in dict.fromkeys(namespace for namespace, _ in names):
        await bench.server.namespace(namespace)
    progress = Progress(contender)
    controller = bench.start(contender, list(contender.variants.values())[-1])
    begin = time.monotonic()
    try:
        async with following(bench.server, {contender.type: progress.seen}):
            await _each(names, lambda name: contender.make(bench.server, *name))
            await progress.until_promoted(names, controller)
            await asyncio.sleep(WARM_SECONDS)
    finally:
        controller.stop()
    bench.say(f"{contender.name}: {len(names)} rollouts made ({time.monotonic() - begin:.0f} s)")


async def _turn(bench: Bench, contender: Contender, variant: str, number: int) -> dict[str, Any]:
    """One controller, all rollouts changed at once.

    Returns: contender, variant, flags; seconds to the first weight and to the promotion (median and last rollout);
    controllerCpuSeconds and peakMebibytes of the controller; apiServerCpuSeconds; writes and reads a rollout; idle:
    processor percent, reads and writes a second once all is done.
    """
    names = bench.names[contender.name]
    probe, others = names[0], names[1:]
    flags = contender.variants[variant]
    progress = Progress(contender)
    load = machine()["load"]
    controller = bench.start(contender, flags)
    try:
        async with following(bench.server, {contender.type: progress.seen}):
            await progress.until_known(names, controller)
            progress.begin()
            await contender.release(bench.server, *probe, number)
            await progress.until_promoted([probe], controller)
            await asyncio.sleep(WARM_SECONDS)
            result = await _change(bench, contender, controller, progress, others, number)
            peak = controller.peak_mebibytes()
            await asyncio.sleep(REST_SECONDS)
            idle = await _idle(bench, contender, controller)
    finally:
        controller.stop()
    return {
        "contender": contender.name,
        "variant": variant,
        "flags": list(flags),
        "load": load,
        **result,
        "peakMebibytes": round(peak, 1),
        "idle": idle,
    }


async def _change(
    bench: Bench,
    contender: Contender,
    controller: Controller,
    progress: Progress,
    names: Sequence[Name],
    number: int,
) -> dict[str, Any]:
    server = bench.server
    mark, cpu, server_cpu, own = (
        server.mark(),
        controller.cpu_seconds(),
        await server.cpu_seconds(),
        time.process_time(),
    )
    begin = time.monotonic()
    await _each(names, lambda name: contender.release(server, *name, number))
    changed = time.monotonic() - begin
    await progress.until_promoted(names, controller)
    cpu, server_cpu = controller.cpu_seconds() - cpu, await server.cpu_seconds() - server_cpu
    own = time.process_time() - own
    await asyncio.sleep(AUDIT_DELAY)
    requests = server.requests(contender.name, mark)
    count = len(names)
    return {
        "seconds": {
            "changed": round(changed, 1),
            "firstWeight": _spread((progress.rollouts[name].weighted_at for name in names), begin),
            "promoted": _spread((progress.rollouts[name].promoted_at for name in names), begin),
        },
        "controllerCpuSeconds": round(cpu, 1),
        "apiServerCpuSeconds": round(server_cpu, 1),
        "playerCpuSeconds": round(own, 1),
        "writesEach": round(requests.writes / count, 1),
        "readsEach": round(requests.reads / count, 1),
        "requests": dict(requests.by),
    }


async def _idle(bench: Bench, contender: Contender, controller: Controller) -> dict[str, Any]:
    mark, cpu, begin = bench.server.mark(), controller.cpu_seconds(), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    elapsed = time.monotonic() - begin
    cpu = controller.cpu_seconds() - cpu
    await asyncio.sleep(AUDIT_DELAY)
    requests = bench.server.requests(contender.name, mark)
    return {
        "processorPercent": round(cpu / elapsed * 100, 2),
        "readsPerSecond": round(requests.reads / elapsed, 2),
        "writesPerSecond": round(requests.writes / elapsed, 2),
        "leaseWritesPerSecond": round(requests.leases / elapsed, 2),
    }


def _spread(times: Iterable[float | None], begin: float) -> dict[str, float]:
    ordered = sorted(each - begin for each in times if each is not None)
    return {"median": round(ordered[len(ordered) // 2], 1), "last": round(ordered[-1], 1)}


async def _each(names: Sequence[Name], act: Callable[[Name], Awaitable[None]]) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(name: Name) -> None:
        async with room:
            await act(name)

    await asyncio.gather(*(one(name) for name in names))


def _sentence(turn: dict[str, Any]) -> str:
    seconds = turn["seconds"]["promoted"]
    return (
        f"{turn['contender']} ({turn['variant']}): all promoted after {seconds['last']} s, "
        f"{turn['controllerCpuSeconds']} s of CPU, {turn['peakMebibytes']} MiB, "
        f"{turn['writesEach']} writes and {turn['readsEach']} reads each"
    )
