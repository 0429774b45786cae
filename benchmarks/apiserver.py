"""A real API server whose audit log tells how many requests each controller made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from slipway.runtime.client import Client
from slipway.runtime.connection import Connection
from slipway.runtime.errors import AlreadyExists, NotFound
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import NAMESPACE, Object, ResourceType
from slipway_cluster.controlplane import ControlPlane

CRD = ResourceType(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
READS = frozenset({"get", "list"})
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_LEASES = "leases"
_SERVED_SECONDS = 120.0
_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Requests:
    """What one user asked of the API server in some time.

    :param reads: gets and lists; watches are not counted
    :param writes: all but the Lease's renewals
    :param leases: writes of Leases
    :param by: writes and reads by verb and resource
    """

    reads: int
    writes: int
    leases: int
    by: Mapping[str, int]


class ApiServer:
    """An API server of its own, with the CRDs of everything that is measured."""

    def __init__(
        self, control_plane: ControlPlane, audit: Path, session: aiohttp.ClientSession, client: Client
    ) -> None:
        self._control_plane = control_plane
        self._audit = audit
        self._session = session
        self.client = client

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig of a user who may do everything, and whose requests are counted."""
        return self._control_plane.kubeconfig(user, ["system:masters"])

    def mark(self) -> int:
        """A place in the audit log, for `requests`."""
        return self._audit.stat().st_size if self._audit.exists() else 0

    def requests(self, user: str, since: int) -> Requests:
        """What a user asked for since a mark."""
        with self._audit.open("rb") as log:
            log.seek(since)
            return count(log, user)

    async def cpu_seconds(self) -> float:
        """Processor time that the API server has used so far."""
        async with self._session.get(f"{self._control_plane.url}/metrics") as answer:
            text = await answer.text()
        for family in text_string_to_metric_families(text):
            if family.name == "process_cpu_seconds":
                return float(family.samples[0].value)
        raise LookupError("the API server does not tell its processor time")

    async def install(self, manifests: Iterable[Object]) -> None:
        """Apply CRDs and wait until they are served."""
        types = []
        for manifest in manifests:
            await self.client.apply(CRD, manifest)
            spec = manifest["spec"]
            version = next(each["name"] for each in spec["versions"] if each["served"])
            types.append(ResourceType(spec["group"], version, spec["names"]["kind"], spec["names"]["plural"]))
        deadline = asyncio.get_running_loop().time() + _SERVED_SECONDS
        for type_ in types:
            while not await self.client.serves(type_):
                if asyncio.get_running_loop().time() > deadline:
                    raise TimeoutError(f"{type_} is not served")
                await asyncio.sleep(0.5)

    async def namespace(self, name: str) -> None:
        """Make a namespace."""
        with contextlib.suppress(AlreadyExists):
            await self.client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def follow(self, type_: ResourceType, seen: Callable[[str, Object], None]) -> None:
        """Hand every event of a type over (its word and the object), for ever; begins with all that there is.

        :raises NotFound: the type is not served
        """
        url = f"{self._control_plane.url}{type_.path()}"
        forever = aiohttp.ClientTimeout(total=None, sock_read=None)
        while True:
            async with self._session.get(url, params={"watch": "true"}, timeout=forever) as answer:
                if answer.status == 404:
                    raise NotFound(404, "NotFound", f"{type_} is not served")
                if answer.status == 429:  # a CRD was just made: its storage is not ready
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                answer.raise_for_status()
                rest = b""
                async for part in answer.content.iter_any():
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        event: dict[str, Any] = json.loads(line)
                        seen(event["type"], event["object"])


@asynccontextmanager
async def api_server(users: Iterable[str]) -> AsyncIterator[ApiServer]:
    """An API server that counts the requests of these users."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        audit = folder / "audit.log"
        (folder / "policy.yaml").write_text(json.dumps(_policy(list(users))))
        arguments = [
            f"--audit-policy-file={folder / 'policy.yaml'}",
            f"--audit-log-path={audit}",
            "--audit-log-maxsize=100000",
            "--audit-log-mode=batch",
            "--audit-log-batch-max-wait=500ms",
        ]
        with ControlPlane(server_arguments=arguments) as control_plane:
            api = await Connection(str(control_plane.kubeconfig())).api()
            client = Client(api, Metrics(CollectorRegistry()), field_manager="benchmark")
            connector = aiohttp.TCPConnector(limit=0, ssl=api.rest_client.ssl_context)
            try:
                async with aiohttp.ClientSession(connector=connector) as session:
                    yield ApiServer(control_plane, audit, session, client)
            finally:
                await client.close()


AUDIT_DELAY = 1.5
"""Seconds after which the audit log has what happened: it is written in batches, so that it delays nobody."""


def count(log: Iterable[bytes], user: str) -> Requests:
    """What a user asked for, from lines of an audit log; a last line that is not complete yet is left out."""
    counted: Counter[tuple[str, str]] = Counter()
    for line in log:
        if line.endswith(b"\n"):
            event = json.loads(line)
            if event["user"]["username"] == user:
                counted[event["verb"], _resource(event)] += 1
    leases = sum(n for (verb, resource), n in counted.items() if resource == _LEASES and verb in WRITES)
    return Requests(
        reads=sum(n for (verb, resource), n in counted.items() if verb in READS and resource != _LEASES),
        writes=sum(n for (verb, _), n in counted.items() if verb in WRITES) - leases,
        leases=leases,
        by={f"{verb} {resource}": n for (verb, resource), n in counted.most_common() if verb in READS | WRITES},
    )


def _policy(users: list[str]) -> Object:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata", "users": users}, {"level": "None"}],
    }


def _resource(event: Mapping[str, Any]) -> str:
    reference = event.get("objectRef") or {}
    name = str(reference.get("resource", ""))
    return f"{name}/{reference['subresource']}" if reference.get("subresource") else name
