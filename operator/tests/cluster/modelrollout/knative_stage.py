"""Plays KServe and Knative on a real API server, by the state machine that is derived from their sources."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.modelrollout.director import NAME, made
from unit.modelrollout.knative_play import KnativePlay

from slipway.adapters.knative import REVISION_LABEL
from slipway.adapters.kserve import POD_LABEL
from slipway.runtime.client import Client
from slipway.runtime.errors import AlreadyExists, ApiError
from slipway.runtime.resources import INFERENCE_SERVICE, POD, SERVICE_ACCOUNT, Object


class KnativeStage:
    """Takes in the rollout's InferenceService again and again, and keeps pods of the revisions that have servers."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.play = KnativePlay(slow=1)
        self.served: list[dict[str, int]] = []

    async def run(self) -> None:
        account = {"metadata": {"name": "default", "namespace": self._namespace}}
        with contextlib.suppress(AlreadyExists):
            await self._client.create(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", **account})
        while True:
            with contextlib.suppress(ApiError):  # somebody wrote in between: the next look sees it
                await self._look()
            await asyncio.sleep(0.2)

    async def _look(self) -> None:
        service = await self._client.find(INFERENCE_SERVICE.key(NAME, self._namespace))
        if service is None:
            return
        status = self.play.kserve(service)
        for step in ("configuration", "start", "configuration", "route"):
            getattr(self.play, step)()
        if self.play.shares():
            self.served.append(self.play.shares())
        await self._keep_pods(service)
        if service.get("status") != status:
            await self._client.replace_status(service, INFERENCE_SERVICE, status)

    async def _keep_pods(self, service: Object) -> None:
        wanted = self.play.servers()
        found = {each["metadata"]["name"] for each in await self._client.list(POD, self._namespace)}
        for name in found - set(wanted):
            await self._client.delete(POD.key(name, self._namespace))
        for name in set(wanted) - found:
            labels = {**service["metadata"]["labels"], POD_LABEL: NAME, REVISION_LABEL: name}
            container = {"name": "kserve-container", "image": "server"}
            spec = {"containers": [container], "automountServiceAccountToken": False}
            pod = made(POD, {"name": name, "namespace": self._namespace, "labels": labels}, spec)
            live = await self._client.create(POD, pod)
            ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            await self._client.replace_status(live, POD, ready)


@asynccontextmanager
async def knative_staged(client: Client, namespace: str) -> AsyncIterator[KnativeStage]:
    """A stage that plays until the block ends."""
    stage = KnativeStage(client, namespace)
    task = asyncio.create_task(stage.run())
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
