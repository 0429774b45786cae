"""The controller of Platforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from slipway.adapters.artifacts import Artifacts
from slipway.adapters.engines.base import Engines
from slipway.adapters.network import Network
from slipway.controllers.platform.observe import PlatformSnapshot, observe
from slipway.controllers.platform.plan import plan
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import PLATFORM, Key, ResourceType


class PlatformController:
    """Asks stores and engines whether they answer; makes the bucket."""

    type: ResourceType = PLATFORM

    def __init__(self, artifacts: Artifacts, network: Network, engines: Engines) -> None:
        self._artifacts = artifacts
        self._network = network
        self._engines = engines
        self.ports: Mapping[str, Any] = {"artifacts": artifacts}

    @property
    def watches(self) -> Sequence[Watch]:
        """Nothing: Secrets and the Gateway are asked for each time."""
        return ()

    async def observe(self, io: Io, key: Key) -> PlatformSnapshot | None:
        """Ask each part."""
        self._artifacts.secrets.bind(io.client)
        return await observe(io, self._artifacts, self._network, self._engines, key)

    def plan(self, snapshot: PlatformSnapshot, now: datetime) -> Plan:
        """Decide; pure."""
        return plan(snapshot, now)
