"""Follows rollouts, their routes and their servers on a cluster, and judges every write by `invariants`."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import TracebackType

from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from slipway.api.meta import API_VERSION
from slipway_demo.invariants import ENDPOINTS, ROLLOUT, ROUTE, Invariants, Write
from slipway_demo.world import World

KINDS = {
    ROLLOUT: API_VERSION,
    ROUTE: "gateway.networking.k8s.io/v1",
    ENDPOINTS: "discovery.k8s.io/v1",
}
WATCH_SECONDS = 3
"""A watch ends by itself after this long and goes on where it was: so the end is never far."""
RETRY_SECONDS = 0.5
GONE = 410


class Watcher:
    """Sees every write of three kinds, in all namespaces, while it runs."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._writes: list[Write] = []
        self._judged = 0
        self._places: dict[str, str] = {}
        """By kind: the resourceVersion up to which writes were seen."""
        self._missed: list[str] = []
        self._threads = [threading.Thread(target=self._follow, args=(kind,), daemon=True) for kind in KINDS]

    def __enter__(self) -> Watcher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2 * WATCH_SECONDS)

    def broken(self) -> list[str]:
        """Sentences about every rule that was broken since the last call.

        All that was seen is judged from the start, as a write of one kind may come late to a watch of another.
        """
        with self._lock:
            writes, missed = list(self._writes), self._missed
            self._missed = []
        invariants = Invariants()
        invariants.take(writes)
        fresh, self._judged = invariants.broken[self._judged :], len(invariants.broken)
        return [*missed, *fresh]

    def servers(self, namespace: str) -> list[dict[str, int]]:
        """How many servers of each InferenceService of a namespace were ready, after each write of their endpoints."""
        with self._lock:
            writes = [each for each in self._writes if each.kind == ENDPOINTS and each.key[0] == namespace]
        invariants, told = Invariants(), []
        for write in sorted(writes, key=lambda each: each.revision):
            invariants.take([write])
            told.append({service: invariants.ready(namespace, service) for _, service in invariants.servers})
        return told

    def _follow(self, kind: str) -> None:
        world = World(self._kubeconfig)
        while not self._stop.is_set():
            try:
                if kind not in self._places:
                    self._list(world, kind)
                self._watch(world, kind)
            except ApiException as error:
                if error.status == GONE:
                    self._miss(f"Writes of {kind} were missed: the watch fell too far behind.")
                    del self._places[kind]
                self._stop.wait(RETRY_SECONDS)
            except (HTTPError, OSError, ResourceNotFoundError):
                self._stop.wait(RETRY_SECONDS)  # the API server is away, or its CRDs are not there yet

    def _miss(self, sentence: str) -> None:
        with self._lock:
            self._missed.append(sentence)

    def _list(self, world: World, kind: str) -> None:
        found = json.loads(world.resource(kind, KINDS[kind]).get(serialize=False).data)
        for item in found["items"]:
            self._saw(Write.of(kind, item))
        self._places[kind] = str(found["metadata"]["resourceVersion"])

    def _watch(self, world: World, kind: str) -> None:
        """What happens after the last place, for some seconds."""
        resource = world.resource(kind, KINDS[kind])
        events = resource.watch(resource_version=self._places[kind], timeout=WATCH_SECONDS, allow_watch_bookmarks=True)
        for event in events:
            seen = event["raw_object"]
            self._places[kind] = str(seen["metadata"]["resourceVersion"])
            if event["type"] != "BOOKMARK":
                self._saw(Write.of(kind, seen, gone=event["type"] == "DELETED"))

    def _saw(self, write: Write) -> None:
        with self._lock:
            self._writes.append(write)
