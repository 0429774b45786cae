"""A small world with a contract server in it, and an operator that can be killed at each of its calls.

Objects, store and Workflows are in memory; the API of Kubeflow Pipelines is spoken over real HTTP. Every call that
changes something outside of the operator, and every request to the API, is a point at which the operator may end:
before the call has any effect, after all of it and before the answer, or while the request is on its way.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from kfpcontract.backend import Backend
from kfpcontract.database import Call, Settings
from kfpcontract.faults import ServerDied
from kfpcontract.machinery import Ending, Execution, Machinery
from kfpcontract.operations import Operation
from kfpcontract.server import ContractServer
from kfpcontract.workflows import Object, merged, named
from unit.controllers.things import PROJECT, SYSTEM, foundation, platform, project, registered
from unit.controllers.world import NS, PIPELINE, MemoryApi, MemoryArtifacts, QuietNetwork, World

from slipway.adapters.artifacts import Location
from slipway.adapters.engines import engines
from slipway.adapters.secrets import Secrets
from slipway.controllers import pipeline_ir
from slipway.controllers.computepool import ComputePoolController
from slipway.controllers.modelproject import ModelProjectController
from slipway.controllers.modelversion import ModelVersionController
from slipway.controllers.platform import PlatformController
from slipway.controllers.shared.work import Runner
from slipway.controllers.trainingrun import TrainingRunController
from slipway.runtime import errors
from slipway.runtime.controller import Controller
from slipway.runtime.engine import watched_types
from slipway.runtime.resources import (
    CONFIG_MAP,
    DATASET_VERSION,
    MODEL_PROJECT,
    PLATFORM,
    TRAINING_RUN,
    WORKFLOW,
    Key,
    ResourceType,
)

When = Literal["before", "after", "in flight"]
"""In flight: a request is on its way, and has its effect only when another operator has looked for it."""
RUN = "first"
TURNS = 60
TURN_SECONDS = 10.0


class Killed(BaseException):
    """The operator's process is gone: nothing of it may catch this."""


@dataclass(frozen=True)
class Point:
    """Where the operator is killed.

    :param number: of the call, from 1
    """

    number: int
    when: When


@dataclass
class Witness:
    """Sees every call of the operator, and kills it at one.

    :param point: where; None: nowhere
    """

    point: Point | None = None
    calls: list[str] = field(default_factory=list)
    killed_at: str = ""

    def sees(self, call: str, when: When) -> bool:
        """Whether the operator dies here; counts the call."""
        if when == "before":
            self.calls.append(call)
        if self.point is None or self.point.number != len(self.calls) or self.point.when != when:
            return False
        self.point, self.killed_at = None, f"{when} call {len(self.calls)}, {call}"
        return True

    def sees_again(self, when: When) -> bool:
        """Whether the operator dies at the call that was just counted, in another way."""
        if self.point != Point(len(self.calls), when):
            return False
        self.point, self.killed_at = None, f"{when} call {len(self.calls)}, {self.calls[-1]}"
        return True

    def dies(self, call: str, when: When) -> None:
        """:raises Killed: here"""
        if self.sees(call, when):
            raise Killed(self.killed_at)


class WatchedApi(MemoryApi):
    """The API server, with a witness of every write.

    :param blind: Workflows may not be listed
    """

    def __init__(self, clock: Callable[[], Any], witness: Witness, *, blind: bool = False) -> None:
        super().__init__(clock)
        self._witness = witness
        self._blind = blind

    async def list(self, type_: ResourceType, namespace: str = "", label_selector: str = "") -> list[Object]:
        if self._blind and type_ == WORKFLOW:
            raise errors.Forbidden(403, "Forbidden", "workflows.argoproj.io is forbidden")
        return await super().list(type_, namespace, label_selector)

    async def create(self, type_: ResourceType, manifest: Mapping[str, Any]) -> Object:
        call = f"create {type_.kind}"
        self._witness.dies(call, "before")
        made = await super().create(type_, manifest)
        self._witness.dies(call, "after")
        return made

    async def apply(self, type_: ResourceType, manifest: Mapping[str, Any], *, force: bool = True) -> Object:
        call = f"apply {type_.kind}"
        self._witness.dies(call, "before")
        made = await super().apply(type_, manifest, force=force)
        self._witness.dies(call, "after")
        return made

    async def replace_status(self, obj: Mapping[str, Any], type_: ResourceType, status: Mapping[str, Any]) -> Object:
        call = f"status of {type_.kind}"
        self._witness.dies(call, "before")
        made = await super().replace_status(obj, type_, status)
        self._witness.dies(call, "after")
        return made

    async def merge(self, key: Key, patch: Mapping[str, Any], subresource: str = "") -> Object:
        call = f"merge {key.type.kind}"
        self._witness.dies(call, "before")
        made = await super().merge(key, patch, subresource)
        self._witness.dies(call, "after")
        return made

    async def delete(self, key: Key, *, uid: str = "", propagation: str = "Background", **given: Any) -> bool:
        call = f"delete {key.type.kind}"
        self._witness.dies(call, "before")
        done = await super().delete(key, uid=uid, propagation=propagation, **given)
        self._witness.dies(call, "after")
        return done


class WatchedArtifacts(MemoryArtifacts):
    """The store, with a witness of every object that is written."""

    def __init__(self, secrets: Secrets, witness: Witness) -> None:
        super().__init__(secrets)
        self._witness = witness

    async def put(self, location: Location, key: str, data: bytes) -> None:
        self._witness.dies("put", "before")
        await super().put(location, key, data)
        self._witness.dies("put", "after")


class WorldWorkflows:
    """Workflows among the world's objects, where the operator sees them.

    :param made: names of all that were ever made
    """

    def __init__(self, api: MemoryApi) -> None:
        self.made: list[str] = []
        self._api = api

    async def create(self, manifest: Object) -> Object:
        made = self._api.put(WORKFLOW, named(manifest, len(self.made) + 1))
        self.made.append(made["metadata"]["name"])
        return copy.deepcopy(made)

    async def get(self, namespace: str, name: str) -> Object | None:
        return copy.deepcopy(self._api.objects.get(WORKFLOW.key(name, namespace)))

    async def list(self) -> list[Object]:
        return [copy.deepcopy(obj) for key, obj in self._api.objects.items() if key.type == WORKFLOW]

    async def merge(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Object | None:
        live = self._api.objects.get(WORKFLOW.key(name, namespace))
        return None if live is None else self._api.put(WORKFLOW, merged(live, patch))

    async def delete(self, namespace: str, name: str) -> bool:
        return self._api.objects.pop(WORKFLOW.key(name, namespace), None) is not None


class KfpWorld(World):
    """A cluster in memory with one TrainingRun, and Kubeflow Pipelines beside it.

    :param settings: how that is installed
    :param point: where the operator is killed, once the TrainingRun is there
    :param spec: fields of the TrainingRun
    :param blind: the operator may not see Workflows, as where the endpoint is in another cluster
    """

    def __init__(
        self,
        settings: Settings,
        point: Point | None = None,
        spec: Mapping[str, Any] | None = None,
        *,
        blind: bool = False,
    ) -> None:
        self.blind = blind
        super().__init__()
        self.witness = Witness()
        self._spec = dict(spec or {})
        self._looks_at_platform = True
        self._point = point
        self.api = WatchedApi(lambda: self.now, self.witness, blind=blind)
        self.artifacts = WatchedArtifacts(self.secrets, self.witness)
        self.workflows = WorldWorkflows(self.api)
        self.backend = Backend(self.workflows, lambda: self.now, settings)
        self.server = ContractServer(self.backend)
        self.server.watchers.append(self._watch)
        self.machinery = Machinery(self.backend, work=self._work)
        self.types = watched_types(self._controllers())
        self._operator: asyncio.Task[None] | None = None
        self._open = True
        self._arrives = asyncio.Event()
        self.restart()

    @classmethod
    @asynccontextmanager
    async def living(
        cls,
        point: Point | None = None,
        spec: Mapping[str, Any] | None = None,
        *,
        blind: bool = False,
        **settings: Any,
    ) -> AsyncIterator[KfpWorld]:
        """A world whose contract server answers, and whose TrainingRun was just made."""
        world = cls(Settings(**{"multi_user": True, **settings}), point, spec, blind=blind)
        async with world.server.serving():
            await world._begin()
            yield world

    def restart(self) -> None:
        """A fresh operator: nothing of the last one's memory is left."""
        if getattr(self, "_open", False):
            self.secrets = self.artifacts.secrets = Secrets(clock=lambda: self.now.timestamp())
            self.controllers = self._controllers()
        super().restart()

    def sync(self) -> None:
        """The watches deliver everything, but Workflows where they may not be seen."""
        super().sync()
        if self.blind:
            store = self.stores.of(WORKFLOW)
            for key in list(store.keys()):
                known = store.get(key)
                if known is not None:
                    store.remove(known)

    def _controllers(self) -> list[Controller[Any]]:
        known = engines(self.secrets, pipeline_ir)
        port = known["KubeflowPipelines"].ports["kfp"]
        port.clock = port.api.clock = lambda: self.now.timestamp()
        runner = Runner("runner:1")
        return [
            PlatformController(self.artifacts, QuietNetwork(), known),
            ComputePoolController(),
            ModelProjectController(self.secrets, lambda: PIPELINE),
            TrainingRunController(self.artifacts, runner, known, lambda: PIPELINE),
            ModelVersionController(self.artifacts, runner),
        ]

    async def _begin(self) -> None:
        foundation(self)
        namespace = {"policy": "Project"}
        endpoint = {"endpoint": self.server.url, "namespace": namespace}
        pipelines = {"engine": "KubeflowPipelines", "kubeflowPipelines": endpoint}
        self.put(PLATFORM, platform(pipelines=pipelines))
        bare = project()
        del bare["spec"]["training"]
        self.put(MODEL_PROJECT, bare)
        self.put(CONFIG_MAP, launcher())
        self.api.put(DATASET_VERSION, dataset_version())
        await self.settle()
        assert self.get(PLATFORM, "default")["status"]["conditions"], "it is looked at"
        self.server.calls.clear()
        self.witness.calls.clear()
        self.witness.point = self._point
        self.put(TRAINING_RUN, training_run(**self._spec))
        self._looks_at_platform = False

    def keys(self) -> list[Key]:
        """Everything that is reconciled; the Platform, which asks how the endpoint is, only before the run."""
        known = super().keys()
        return known if self._looks_at_platform else [key for key in known if key.type != PLATFORM]

    # What happens beside the operator

    async def _work(self, execution: Execution, ending: Ending) -> Ending:
        """What the tasks of a run leave in the store."""
        asked: dict[str, Any] = {}
        for name in ("data", "code", "goals", "run"):
            asked |= json.loads(execution.arguments[name])
        if ending.phase == "Succeeded":
            self.artifacts.write(asked["result"], registered(asked))
        return ending

    async def _watch(self, operation: str, phase: When) -> None:
        """The operator dies while it waits for an answer."""
        if self._operator is None or self._operator.done():
            return
        if self.witness.sees(operation, phase):
            self._operator.cancel()
            if phase == "before":
                raise ServerDied
        elif phase == "before" and self.witness.sees_again("in flight"):
            self._operator.cancel()
            await self._arrives.wait()

    async def live(self) -> None:
        """An operator works until there is nothing to do, and dies where it should; then another one goes on."""
        self._operator = asyncio.create_task(self.settle())
        try:
            await self._operator
        except (Killed, asyncio.CancelledError):
            if not self.witness.killed_at:
                raise
            self.restart()
            await self._next()

    async def _next(self) -> None:
        """The next operator's first look; then what was in flight arrives."""
        self._operator = asyncio.create_task(self.settle())
        await self._operator
        if not self._arrives.is_set():
            self._arrives.set()
            await asyncio.sleep(0.05)
        self.sync()

    async def turn(self) -> None:
        """The operator works, Kubeflow Pipelines takes a step, time passes; nothing takes longer than that."""
        await self.live()
        await self.server.rest()
        await self.machinery.step()
        self.sync()
        self.advance(TURN_SECONDS)

    async def to_the_end(self, happens: Callable[[int], Awaitable[None]] | None = None) -> None:
        """Turn after turn until the run has ended or is gone, and then some, in which nothing may happen.

        :param happens: what happens beside all that, before each turn
        """
        for number in range(TURNS):
            if happens is not None:
                await happens(number)
            await self.turn()
            if self.ended():
                break
        else:
            raise AssertionError(f"it does not end: {self.story()}")
        self.advance(3600)
        await self.machinery.settle()
        self.sync()
        await self.live()

    async def person_deletes(self) -> None:
        """Somebody deletes the TrainingRun: no call of the operator."""
        await MemoryApi.delete(self.api, TRAINING_RUN.key(RUN, NS))
        self.api.writes.pop()
        self.sync()

    def call_of_run(self) -> Call:
        """A call about the newest run of the endpoint, by whoever else uses it."""
        run_id = list(self.backend.database.runs)[-1]
        return Call(Operation("somebody", "POST", ""), {"run_id": run_id})

    def ended(self) -> bool:
        """Whether the TrainingRun has come to an end, or is gone."""
        gone = TRAINING_RUN.key(RUN, NS) not in self.api.objects
        return gone or self.status().get("phase") in ("Succeeded", "Failed")

    def status(self) -> dict[str, Any]:
        """The TrainingRun's."""
        run = self.api.objects.get(TRAINING_RUN.key(RUN, NS))
        return dict((run or {}).get("status") or {})

    def reason(self) -> str:
        """Why the TrainingRun is as it is."""
        conditions = {each["type"]: each for each in self.status().get("conditions") or ()}
        return str(conditions.get("Succeeded", {}).get("reason", ""))

    def story(self) -> str:
        """What happened, for a test that fails."""
        status = self.status()
        messages = [each["message"] for each in status.get("conditions") or ()]
        calls = [f"{each.operation}:{each.status}" for each in self.server.calls[-12:]]
        return f"{status.get('phase')} {messages}, last calls {calls}"


def launcher(namespace: str = NS) -> Object:
    """The ConfigMap of KFP's launcher."""
    secret = {"secretName": f"{PROJECT}-slipway-s3", "accessKeyKey": "accessKey", "secretKeyKey": "secretKey"}
    default = {
        "endpoint": "s3.local:8333",
        "region": "us-east-1",
        "disableSSL": True,
        "credentials": {"fromEnv": False, "secretRef": secret},
    }
    providers = yaml.safe_dump({"s3": {"default": default}})
    return {"metadata": {"name": "kfp-launcher", "namespace": namespace}, "data": {"providers": providers}}


def dataset_version() -> Object:
    """Data that passed."""
    folder = f"s3://slipway/datasets/{NS}/flights/versions/0123456789"
    digest = "sha256:" + "d" * 64
    spec = {
        "projectRef": {"name": PROJECT},
        "datasetRef": {"name": "flights"},
        "digest": digest,
        "sourceDigest": digest,
        "verdict": "Passed",
        "rows": 100,
        "partitions": 1,
        "manifest": f"{folder}/manifest.json",
        "report": f"{folder}/report.json",
    }
    return {"metadata": {"name": "flights-0123456789", "namespace": NS}, "spec": spec}


def training_run(**spec: Any) -> Object:
    """A run of the team's own."""
    training = project()["spec"]["training"]
    template = {name: training[name] for name in ("inputs", "code", "parameters")}
    whole = {
        **template,
        "projectRef": {"name": PROJECT},
        "datasetVersionRef": {"name": "flights-0123456789"},
        **spec,
    }
    return {"metadata": {"name": RUN, "namespace": NS}, "spec": whole}


__all__ = ["NS", "RUN", "SYSTEM", "KfpWorld", "Killed", "Point"]
