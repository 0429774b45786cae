"""How fast a failing version loses its requests: from the first failing window's end to a route without its weight.

The counters of a played Envoy jump at a moment that we choose: every window that ends at that moment or later fails.
The time ends when the API server tells the HTTPRoute that gives the version nothing. Many candidates are watched at
the same time, and one after another fails at a random moment. In some runs the leading operator is killed at that very
moment, and a standby has to wait for the Lease to run out.
"""

from __future__ import annotations

import asyncio
import random
import statistics as numbers
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.apiserver import ApiServer, api_server
from benchmarks.contenders.slipway import Slipway, rollout, service_name, version
from benchmarks.gateway import Statistics
from benchmarks.process import Controller, machine
from benchmarks.stage import Stage, following
from slipway.adapters.envoy_stats import cluster_name
from slipway.adapters.gateway import weights_of
from slipway.adapters.kserve import PORT, predictor_of
from slipway.runtime.resources import HTTP_ROUTE, LEASE, MODEL_ROLLOUT, MODEL_VERSION, Object
from slipway.runtime.settings import Settings

RATE = 50.0
BURST = 200
WEIGHT = 30
STEPS: list[Object] = [
    {"name": "some", "setWeight": WEIGHT},
    {"name": "hold", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]
CHECKS: list[Object] = [
    {"name": "success", "metric": "successPercent", "min": "95", "minimumRequests": 20, "window": "10s"}
]
_SETTLE = 5.0
_NAMESPACE = "reaction"
_STABLE, _CANDIDATE = 1, 2

Say = Callable[[str], None]


@dataclass
class Watcher:
    """What the API server told of routes, rollouts and the Lease."""

    weights: dict[str, dict[str, int]] = field(default_factory=dict)
    stable: set[str] = field(default_factory=set)
    measured: set[str] = field(default_factory=set)
    zero_at: dict[str, float] = field(default_factory=dict)
    holder: str = ""
    holder_since: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def route(self, _event: str, obj: Object) -> None:
        name = obj["metadata"]["name"]
        weights = weights_of(obj)
        candidate = service_name(name, _CANDIDATE)
        if self.weights.get(name, {}).get(candidate) and not weights.get(candidate):
            self.zero_at[name] = time.monotonic()
        self.weights[name] = weights
        self.changed.set()

    def rollout(self, _event: str, obj: Object) -> None:
        name, status = obj["metadata"]["name"], obj.get("status") or {}
        if status.get("phase") == "Healthy":
            self.stable.add(name)
        holds = (status.get("step") or {}).get("name") == "hold"
        if holds and [each["verdict"] for each in status.get("checks") or ()] == ["Success"]:
            self.measured.add(name)
        self.changed.set()

    def lease(self, _event: str, obj: Object) -> None:
        if obj["metadata"]["name"] != Settings().lease_name:
            return  # the API server has a Lease too
        holder = obj["spec"].get("holderIdentity") or ""
        if holder != self.holder:
            self.holder, self.holder_since = holder, time.monotonic()
        self.changed.set()

    async def until(self, what: str, true: Callable[[], bool], seconds: float = 300.0) -> None:
        """:raises TimeoutError: it never became true"""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError as error:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}") from error


@dataclass
class Scene:
    """A run on its way."""

    server: ApiServer
    statistics: Statistics
    watcher: Watcher
    folder: Path
    operators: list[Controller] = field(default_factory=list)

    def start(self) -> None:
        """Start an operator: the first leads, a second one waits for the Lease."""
        command = Slipway().command(self.server.kubeconfig(Slipway.name), ())
        self.operators.append(Controller(command, self.folder / f"operator-{len(self.operators)}.log"))

    def fail(self, name: str) -> float:
        """The candidate of a rollout fails from now on; returns the moment."""
        service = predictor_of(service_name(name, _CANDIDATE))
        return self.statistics.fail(cluster_name(_NAMESPACE, service, PORT), BURST)


async def measure(runs: int, kills: int, watched: int, say: Say) -> dict[str, Any]:
    """Run the benchmark.

    :param runs: rollouts that fail while the operator runs
    :param kills: rollouts that fail at the moment in which the leader is killed
    :param watched: further rollouts with a candidate, which is watched and does not fail

    Returns: machine; seconds of the runs (all, median, worst), and of the runs with a kill also when the standby led.
    """
    before = machine()
    names = [f"model-{number}" for number in range(runs + kills + watched)]
    async with _scene() as scene:
        await _begin(scene, names, say)
        seconds = [await _fail(scene, name) for name in names[:runs]]
        say(f"{runs} rollouts failed: median {numbers.median(seconds):.2f} s, worst {max(seconds):.2f} s")
        killed = []
        for name in names[runs : runs + kills]:
            killed.append(await _fail_and_kill(scene, name))
            say(f"with the leader killed: {killed[-1]['seconds']} s")
    return {
        "machine": {**before, "loadAfter": machine()["load"]},
        "candidates": len(names),
        "check": CHECKS[0],
        "leaseSeconds": Settings().lease_seconds,
        "running": _summary(seconds),
        "killed": {
            **_summary([each["seconds"] for each in killed]),
            "standbyLed": [each["standbyLed"] for each in killed],
        },
    }


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    statistics, watcher = Statistics(RATE), Watcher()
    with TemporaryDirectory(prefix="slipway-bench-logs-") as folder:
        async with api_server([Slipway.name]) as server, statistics.serving():
            await server.install(Slipway().crds())
            await Slipway().prepare(server, statistics.port)
            await server.namespace(_NAMESPACE)
            follow = {HTTP_ROUTE: watcher.route, MODEL_ROLLOUT: watcher.rollout, LEASE: watcher.lease}
            scene = Scene(server, statistics, watcher, Path(folder))
            try:
                async with Stage(server, statistics).playing(), following(server, follow):
                    yield scene
            finally:
                for operator in scene.operators:
                    operator.kill()


async def _begin(scene: Scene, names: Sequence[str], say: Say) -> None:
    """All rollouts with a stable version and a candidate that gets some requests and does well."""
    scene.start()
    client = scene.server.client
    for name in names:
        await client.create(MODEL_ROLLOUT, rollout(_NAMESPACE, name, steps=STEPS, checks=CHECKS))
        await client.create(MODEL_VERSION, version(_NAMESPACE, name, _STABLE))
    await scene.watcher.until("all have a stable version", lambda: scene.watcher.stable >= set(names))
    for name in names:
        await client.create(MODEL_VERSION, version(_NAMESPACE, name, _CANDIDATE))
    await scene.watcher.until("all candidates are measured", lambda: scene.watcher.measured >= set(names))
    scene.start()
    await asyncio.sleep(_SETTLE)
    say(f"{len(names)} candidates have {WEIGHT} % and do well")


async def _fail(scene: Scene, name: str) -> float:
    await asyncio.sleep(random.uniform(0.3, 1.7))  # at any moment between two looks
    begin = scene.fail(name)
    await scene.watcher.until(f"{name} is rolled back", lambda: name in scene.watcher.zero_at)
    return scene.watcher.zero_at[name] - begin


async def _fail_and_kill(scene: Scene, name: str) -> dict[str, float]:
    begin = scene.fail(name)
    leader = scene.operators.pop(0)
    leader.kill()
    await scene.watcher.until(f"{name} is rolled back", lambda: name in scene.watcher.zero_at)
    seconds = scene.watcher.zero_at[name] - begin
    took_over = scene.watcher.holder_since - begin
    scene.start()
    await asyncio.sleep(_SETTLE)
    return {"seconds": round(seconds, 2), "standbyLed": round(took_over, 2)}


def _summary(seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "runs": len(seconds),
        "median": round(numbers.median(seconds), 2),
        "worst": round(max(seconds), 2),
        "seconds": [round(each, 2) for each in seconds],
    }
