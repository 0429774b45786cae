"""The operator process: health endpoints at once, then stand by with warm stores, then lead until its Lease ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from slipway.runtime import settings as settings_module
from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.controller import Controller, Measured, ports_of
from slipway.runtime.engine import Engine
from slipway.runtime.errors import UserError
from slipway.runtime.health import Health, HealthServer, Watchdog
from slipway.runtime.lease import Lease, Timing
from slipway.runtime.logging import Format, configure
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import LEASE
from slipway.runtime.settings import Settings

logger = logging.getLogger(__name__)

RESTART_PAUSE = 1.0
KOPF_GRACE = 5.0
"""Seconds for kopf's thread to end after the Lease was given up."""

Build = Callable[[Settings], Sequence[Controller[Any]]]
"""Makes the controllers, wired with their adapters."""


class Operator:
    """One operator process; tests run several in one.

    :param build: called once, before anything is started
    """

    def __init__(self, settings: Settings, build: Build, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.controllers = build(settings)
        for port in (port for controller in self.controllers for port in ports_of(controller).values()):
            if isinstance(port, Measured):
                port.measure(self.metrics)
        self._stop = asyncio.Event()
        self._watchdog = Watchdog(self.metrics)
        self.engine: Engine | None = None
        self.lease: Lease | None = None
        self.server = HealthServer(self.health, self.metrics)

    def stop(self) -> None:
        """End in order: no new reconciles, a short wait for those in flight, the Lease given up."""
        self._stop.set()

    def health(self) -> Health:
        """A snapshot for the health endpoints."""
        leading = self.lease is not None and self.lease.valid()
        lag = self._watchdog.lag
        connected = self.lease is not None and bool(self.lease.holder())
        if self.engine is None:
            return Health(leader=leading, connected=connected, loop_lag_seconds=lag)
        queue = self.engine.queue
        longest = queue.longest_run()
        return Health(
            leader=leading,
            connected=leading or connected,
            synced=self.engine.stores.synced,
            queue_depth=queue.depth(),
            queue_running=queue.running(),
            queue_lag_seconds=queue.lag(),
            longest_run_seconds=longest[1] if longest else 0.0,
            longest_run_key=str(longest[0][1]) if longest else "",
            loop_lag_seconds=lag,
        )

    async def run(self) -> None:
        """Run until `stop`.

        :raises UserError: no cluster to log in to
        :raises OSError: a port is taken
        """
        settings = self.settings
        connection = Connection.detect(settings.kubeconfig, settings.context)
        client = Client(await connection.api(), self.metrics)
        key = LEASE.key(settings.lease_name, settings.namespace)
        timing = Timing(settings.lease_seconds, settings.lease_renew_seconds, settings.lease_retry_seconds)
        self.lease = Lease(client, key, settings.own_identity(), timing)
        watchdog = asyncio.create_task(self._watchdog.run())
        try:
            await self.server.start(settings.bind, settings.port, settings.metrics_port)
            while not self._stop.is_set():
                await self._serve(self.lease, client, connection)
        finally:
            watchdog.cancel()
            await self.server.close()
            await client.close()

    async def _serve(self, lease: Lease, client: Client, connection: Connection) -> None:
        """One term: stand by until the Lease is won, lead until it is lost or given up. Or until the engine fails."""
        settings = self.settings
        engine = self.engine = Engine(
            self.controllers,
            client.fenced(lease),
            connection,
            self.metrics,
            workers=settings.workers,
            resync=settings.resync_seconds,
        )
        run = asyncio.create_task(engine.run(), name="engine")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        hold = asyncio.create_task(self._hold(lease, engine), name="lease")
        try:
            await asyncio.wait((hold, run, stop), return_when=asyncio.FIRST_COMPLETED)
            if run.done() and not stop.done() and run.exception():
                logger.error("the engine ended and is started anew: %s", run.exception())
            await engine.stop(settings.drain_seconds if lease.valid() else 0.0)
        finally:
            for task in (run, hold, stop):
                task.cancel()
            _, held, _ = await asyncio.gather(run, hold, stop, return_exceptions=True)
            await lease.release()
            self.metrics.leader.set(0)
            self.engine = None
            await engine.ended(KOPF_GRACE)
        if isinstance(held, Exception):
            raise held
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), RESTART_PAUSE)

    async def _hold(self, lease: Lease, engine: Engine) -> None:
        """Wait for the Lease, lead, and renew it until it is lost."""
        await lease.acquire()
        self.metrics.leader.set(1)
        engine.lead()
        await lease.keep()


async def _serve(settings: Settings, build: Build) -> None:
    operator = Operator(settings, build)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    await operator.run()


def main(build: Build, arguments: Sequence[str] | None = None) -> None:
    """Run the operator with the settings of the command line; exits with 2 and a sentence when they cannot be."""
    try:
        settings = settings_module.parse(arguments)
        form: Format = "json" if settings.log_format == "json" else "logfmt"
        configure(form, settings.log_level)
        asyncio.run(_serve(settings, build))
    except UserError as error:
        print(f"slipway-operator: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"slipway-operator: cannot listen: {error}", file=sys.stderr)
        sys.exit(2)
