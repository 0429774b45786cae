"""/healthz, /readyz and /metrics, and the watchdog that finds out when the event loop is blocked.

Liveness needs no cleverness for a blocked loop: then nothing here answers, and the kubelet restarts the pod. The
watchdog's part is to say in the log what blocked it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from slipway.runtime.metrics import Metrics

logger = logging.getLogger(__name__)

BEAT = 0.5
BLOCKED_AFTER = 5.0
STUCK_RUN = 300.0
"""Seconds after which one reconcile counts as stuck; its own timeout should have ended it long before."""


@dataclass(frozen=True)
class Health:
    """What the health endpoints answer, as JSON in camelCase; durations in seconds."""

    leader: bool = False
    connected: bool = False
    synced: bool = False
    queue_depth: int = 0
    queue_running: int = 0
    queue_lag_seconds: float = 0.0
    longest_run_seconds: float = 0.0
    longest_run_key: str = ""
    loop_lag_seconds: float = 0.0

    def alive(self) -> bool:
        """Whether the process can still do its work; a restart would help otherwise."""
        return self.longest_run_seconds < STUCK_RUN

    def ready(self) -> bool:
        """Whether this replica leads, or stands by and could take over."""
        return self.connected and self.alive()

    def as_json(self) -> dict[str, object]:
        return {
            _camel(name): round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()
        }


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class HealthServer:
    """Serves until it is closed; `port` and `metrics_port` are the ports that it really has."""

    def __init__(self, health: Callable[[], Health], metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._runners: list[web.AppRunner] = []
        self.port = 0
        self.metrics_port = 0

    async def start(self, bind: str, port: int, metrics_port: int = -1) -> None:
        """Listen; -1 serves the metrics on the same port. :raises OSError: a port is taken"""
        checks = {"/healthz": self._healthz, "/readyz": self._readyz}
        if metrics_port < 0:
            self.port = self.metrics_port = await self._listen(bind, port, {**checks, "/metrics": self._scrape})
        else:
            self.port = await self._listen(bind, port, checks)
            self.metrics_port = await self._listen(bind, metrics_port, {"/metrics": self._scrape})

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(
        self, bind: str, port: int, routes: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
    ) -> int:
        app = web.Application()
        app.add_routes([web.get(path, handler) for path, handler in routes.items()])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, bind, port).start()
        return int(runner.addresses[0][1])

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        health = self._health()
        return web.json_response(health.as_json(), status=200 if health.alive() else 503)

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        health = self._health()
        return web.json_response(health.as_json(), status=200 if health.ready() else 503)

    async def _scrape(self, _: web.Request) -> web.StreamResponse:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


class Watchdog:
    """Measures how late the event loop is; when it is blocked for long, logs the stack that blocks it."""

    def __init__(self, metrics: Metrics, blocked_after: float = BLOCKED_AFTER) -> None:
        self._metrics = metrics
        self._blocked_after = blocked_after
        self._beat_at = time.monotonic()
        self._stopped = threading.Event()
        self.lag = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beat_at = time.monotonic()
        thread = threading.Thread(target=self._observe, args=(threading.get_ident(),), name="watchdog", daemon=True)
        thread.start()
        try:
            while True:
                begun = time.monotonic()
                await asyncio.sleep(BEAT)
                self._beat_at = time.monotonic()
                self.lag = max(0.0, self._beat_at - begun - BEAT)
                self._metrics.loop_lag.set(self.lag)
        finally:
            self._stopped.set()

    def _observe(self, loop_thread: int) -> None:
        told = 0.0
        while not self._stopped.wait(self._blocked_after / 5):
            beat = self._beat_at
            if time.monotonic() - beat > self._blocked_after and told != beat:
                told = beat
                frame = sys._current_frames().get(loop_thread)
                stack = "".join(traceback.format_stack(frame)) if frame else "unknown"
                logger.error("the event loop has been blocked for %.0f s by:\n%s", time.monotonic() - beat, stack)
