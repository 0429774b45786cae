"""Plays what stands around controllers: workloads become ready at once, and a gateway takes every route in.

The same player for all contenders. It writes nothing but status, and the EndpointSlice that an InferenceService's
Service would have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.apiserver import ApiServer
from benchmarks.gateway import Statistics
from slipway.adapters.envoy_stats import cluster_name
from slipway.adapters.gateway import weights_of
from slipway.adapters.kserve import PORT, SERVICE_LABEL, predictor_of
from slipway.runtime.errors import ApiError, NotFound, Unavailable
from slipway.runtime.resources import ENDPOINT_SLICE, HTTP_ROUTE, INFERENCE_SERVICE, Object, ResourceType

DEPLOYMENT = ResourceType("apps", "v1", "Deployment", "deployments")
REPLICA_SET = ResourceType("apps", "v1", "ReplicaSet", "replicasets")
PARENT: Final = {"name": "models", "namespace": "slipway-system"}
_AT_ONCE: Final = 16
_TRIES: Final = 20
_PAUSE: Final = 0.5
_EPOCH: Final = "2026-11-23T08:00:00Z"


class Stage:
    """Plays for every namespace.

    :param statistics: of the proxy: it knows the clusters of all routes
    """

    def __init__(self, server: ApiServer, statistics: Statistics) -> None:
        self._server = server
        self._statistics = statistics
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._played: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """Play while the block runs; what goes wrong ends it."""
        parts: dict[ResourceType, Callable[[Object], Awaitable[None]]] = {
            DEPLOYMENT: self._deployment,
            REPLICA_SET: self._replica_set,
            INFERENCE_SERVICE: self._inference_service,
            HTTP_ROUTE: self._route,
        }
        async with following(self._server, {type_: self._player(type_, play) for type_, play in parts.items()}):
            yield
        for task in self._tasks:
            task.cancel()

    def _player(self, type_: ResourceType, play: Callable[[Object], Awaitable[None]]) -> Callable[[str, Object], None]:
        def seen(event: str, obj: Object) -> None:
            meta = obj["metadata"]
            if event == "DELETED":
                self._played.pop(meta["uid"], None)
                if type_ == INFERENCE_SERVICE:
                    self._statistics.remove(_cluster(obj))
                    self._start(lambda: self._remove_endpoints(obj))
                return
            generation = meta.get("generation", 1)
            if self._played.get(meta["uid"], 0) < generation:
                self._played[meta["uid"]] = generation
                self._start(lambda: play(obj))

        return seen

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._bounded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bounded(self, work: Callable[[], Awaitable[None]]) -> None:
        for _ in range(_TRIES):
            try:
                async with self._room:
                    return await work()
            except NotFound:  # deleted in between
                return None
            except (ApiError, Unavailable):  # the API server is busy
                await asyncio.sleep(_PAUSE)
        return None

    async def _status(self, type_: ResourceType, obj: Object, status: Object) -> None:
        await self._server.client.merge(type_.key_of(obj), {"status": status}, "status")

    async def _deployment(self, obj: Object) -> None:
        replicas = obj["spec"].get("replicas", 1)
        counted = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
        conditions = [
            {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        ]
        generation = obj["metadata"]["generation"]
        await self._status(DEPLOYMENT, obj, {**counted, "observedGeneration": generation, "conditions": conditions})

    async def _replica_set(self, obj: Object) -> None:
        replicas = obj["spec"].get("replicas", 1)
        counted = dict.fromkeys(("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"), replicas)
        await self._status(REPLICA_SET, obj, {**counted, "observedGeneration": obj["metadata"]["generation"]})

    async def _inference_service(self, obj: Object) -> None:
        """As KServe and the endpoint controller do: labels of the InferenceService, addresses of ready pods."""
        meta = obj["metadata"]
        name = meta["name"]
        endpoints = {
            "apiVersion": ENDPOINT_SLICE.api_version,
            "kind": ENDPOINT_SLICE.kind,
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": {**meta["labels"], SERVICE_LABEL: predictor_of(name)},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        }
        await self._server.client.apply(ENDPOINT_SLICE, endpoints)
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": _EPOCH}]
        await self._status(INFERENCE_SERVICE, obj, {"observedGeneration": 1, "conditions": conditions})

    async def _remove_endpoints(self, obj: Object) -> None:
        await self._server.client.delete(ENDPOINT_SLICE.key(obj["metadata"]["name"], obj["metadata"]["namespace"]))

    async def _route(self, obj: Object) -> None:
        generation, namespace = obj["metadata"]["generation"], obj["metadata"]["namespace"]
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": kind,
                "message": "",
                "observedGeneration": generation,
                "lastTransitionTime": _EPOCH,
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parent = {
            "parentRef": PARENT,
            "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
            "conditions": conditions,
        }
        await self._status(HTTP_ROUTE, obj, {"parents": [parent]})
        for service in weights_of(obj):
            self._statistics.add(cluster_name(namespace, predictor_of(service), PORT))


def _cluster(service: Object) -> str:
    meta = service["metadata"]
    return cluster_name(meta["namespace"], predictor_of(meta["name"]), PORT)


@asynccontextmanager
async def following(
    server: ApiServer, seen: Mapping[ResourceType, Callable[[str, Object], None]]
) -> AsyncIterator[None]:
    """Follow types while the block runs; an error of one ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.follow(type_, each)) for type_, each in seen.items()]
        yield
        for task in tasks:
            task.cancel()
