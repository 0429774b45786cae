"""A small world in memory: objects as the API server keeps them, an artifact store, Jobs that somebody plays.

Everything of ours in it is real: stores, executor, reconciler, controllers. One rule is enforced on every write:
records never change. And it notes what each Job was asked, so that tests can say that nothing is asked twice.
"""

# ruff: noqa: ARG002 - doubles have the signatures of what they stand for
from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.engines import KubeflowEngine, LocalEngine
from slipway.adapters.engines.base import Engines
from slipway.adapters.kfp.api import KfpApi, Wire
from slipway.adapters.kfp.port import Kubeflow
from slipway.adapters.network import Network
from slipway.adapters.outbound import Answer, Refused, Request
from slipway.adapters.secrets import Secrets
from slipway.contracts.digests import digest_json
from slipway.contracts.jobs import SourceObject
from slipway.controllers import pipeline_ir
from slipway.controllers.computepool import ComputePoolController
from slipway.controllers.dataset import DatasetController
from slipway.controllers.datasetversion import DatasetVersionController
from slipway.controllers.featureset import FeatureSetController
from slipway.controllers.modelproject import ModelProjectController
from slipway.controllers.modelversion import ModelVersionController
from slipway.controllers.platform import PlatformController
from slipway.controllers.shared.work import Runner
from slipway.controllers.trainingrun import TrainingRunController
from slipway.runtime import errors
from slipway.runtime.controller import Controller, Io
from slipway.runtime.engine import watched_types
from slipway.runtime.execute import Executor
from slipway.runtime.metrics import Metrics
from slipway.runtime.queue import Done
from slipway.runtime.reconcile import Reconciler, named
from slipway.runtime.resources import (
    ALL_TYPES,
    DATASET_VERSION,
    EVENT,
    JOB,
    MODEL_VERSION,
    NAMESPACE,
    POD,
    Catalogue,
    Key,
    Object,
    ResourceType,
)
from slipway.runtime.stores import Stores

M = TypeVar("M", bound=BaseModel)

NS = "flights"
START = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
PIPELINE = "sha256:" + "b" * 64


class MemoryArtifacts(Artifacts):
    """An artifact store as a dictionary; an etag is the content's digest."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__(secrets)
        self.objects: dict[str, bytes] = {}
        self.buckets: set[str] = {"slipway"}
        self.down = False

    async def put(self, location: Location, key: str, data: bytes) -> None:
        self._answer()
        self.objects[key] = data

    async def get(self, location: Location, key: str) -> bytes | None:
        self._answer()
        return self.objects.get(key)

    async def list(self, location: Location, prefix: str, limit: int = 20_000) -> list[SourceObject]:
        self._answer()
        keys = sorted(key for key in self.objects if key.startswith(prefix))[:limit]
        return [
            SourceObject(key=key, etag=digest_json(self.objects[key].decode()), size=len(self.objects[key]))
            for key in keys
        ]

    async def bucket(self, location: Location) -> Any:
        self._answer()
        return "Ready" if location.bucket in self.buckets else "Missing"

    async def make_bucket(self, location: Location) -> None:
        self.buckets.add(location.bucket)

    async def delete(self, location: Location, prefixes: Sequence[str], limit: int = 1000) -> None:
        for prefix in prefixes:
            for key in [key for key in self.objects if key.startswith(prefix)][:limit]:
                del self.objects[key]

    def write(self, key: str, model: BaseModel) -> None:
        """What a Job writes."""
        self.objects[key] = model.model_dump_json(by_alias=True, exclude_none=True).encode()

    def _answer(self) -> None:
        if self.down:
            raise errors.Unavailable("The store does not answer.", reason="PlatformUnavailable")


class QuietNetwork(Network):
    """Every address answers."""

    async def refuses(self, host: str, port: int) -> str:
        return ""


class MemoryApi:
    """The part of `Client` that the runtime uses, over dictionaries."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.objects: dict[Key, Object] = {}
        self.events: list[Object] = []
        self.writes: list[tuple[str, Key]] = []
        self._clock = clock
        self._version = 0

    async def get(self, key: Key) -> Object:
        if key not in self.objects:
            raise errors.NotFound(404, "NotFound", f"{key} not found")
        return copy.deepcopy(self.objects[key])

    async def find(self, key: Key) -> Object | None:
        return copy.deepcopy(self.objects.get(key))

    async def list(self, type_: ResourceType, namespace: str = "", label_selector: str = "") -> list[Object]:
        wanted = dict(pair.split("=") for pair in label_selector.split(",") if pair)
        return [
            copy.deepcopy(obj)
            for key, obj in self.objects.items()
            if key.type == type_ and wanted.items() <= (obj["metadata"].get("labels") or {}).items()
        ]

    async def create(self, type_: ResourceType, manifest: Mapping[str, Any]) -> Object:
        if type_ == EVENT:
            self.events.append(dict(manifest))
            return dict(manifest)
        key = type_.key_of(manifest)
        if key in self.objects:
            raise errors.AlreadyExists(409, "AlreadyExists", f"{key} exists")
        self._check_namespace(key)
        self.writes.append(("create", key))
        return self.put(type_, copy.deepcopy(dict(manifest)))

    async def apply(self, type_: ResourceType, manifest: Mapping[str, Any], *, force: bool = True) -> Object:
        key = type_.key_of(manifest)
        live = self.objects.get(key)
        assert type_ not in (JOB, DATASET_VERSION, MODEL_VERSION), f"{key} never changes, so it is never applied"
        self._check_namespace(key)
        self.writes.append(("apply", key))
        merged = _merge(copy.deepcopy(live), manifest) if live else copy.deepcopy(dict(manifest))
        return self.put(type_, merged)

    async def replace_status(self, obj: Mapping[str, Any], type_: ResourceType, status: Mapping[str, Any]) -> Object:
        key = type_.key_of(obj)
        live = await self.get(key)
        if live["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise errors.Conflict(409, "Conflict", f"{key} changed")
        self.writes.append(("status", key))
        return self.put(type_, {**live, "status": json.loads(json.dumps(status))})

    async def merge(self, key: Key, patch: Mapping[str, Any], subresource: str = "") -> Object:
        live = await self.get(key)
        self.writes.append(("merge", key))
        live["metadata"]["finalizers"] = patch["metadata"]["finalizers"]
        if live["metadata"].get("deletionTimestamp") and not live["metadata"]["finalizers"]:
            self._drop(key)
            return live
        return self.put(key.type, live)

    async def delete(self, key: Key, *, uid: str = "", propagation: str = "Background", **_: Any) -> bool:
        live = self.objects.get(key)
        if live is None or (uid and live["metadata"]["uid"] != uid):
            return False
        self.writes.append(("delete", key))
        if live["metadata"].get("finalizers"):
            marked = copy.deepcopy(live)
            marked["metadata"]["deletionTimestamp"] = _text(self._clock())
            self.put(key.type, marked)
        else:
            self._drop(key)
        return True

    # What happens beside the operator

    def put(self, type_: ResourceType, obj: Object) -> Object:
        """Store an object as the API server would."""
        key = type_.key_of(obj)
        live = self.objects.get(key)
        self._version += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self._version)
        if live is None:
            meta.setdefault("uid", str(uuid.UUID(int=self._version)))
            meta.setdefault("creationTimestamp", _text(self._clock()))
            meta["generation"] = 1
        elif live.get("spec") != obj.get("spec"):
            assert type_ not in (DATASET_VERSION, MODEL_VERSION), f"{key} is a record and was changed"
            meta["generation"] = live["metadata"]["generation"] + 1
        obj.setdefault("apiVersion", type_.api_version)
        obj.setdefault("kind", type_.kind)
        self.objects[key] = copy.deepcopy(obj)
        return obj

    def _drop(self, key: Key) -> None:
        uid = self.objects.pop(key)["metadata"]["uid"]
        for child, obj in list(self.objects.items()):  # the garbage collector
            owners = obj["metadata"].get("ownerReferences") or ()
            if owners and all(each["uid"] == uid for each in owners) and child in self.objects:
                self._drop(child)

    def _check_namespace(self, key: Key) -> None:
        namespace = self.objects.get(NAMESPACE.key(key.namespace)) if key.namespace else None
        if namespace is not None and namespace["metadata"].get("deletionTimestamp"):
            raise errors.Forbidden(403, "Forbidden", f"namespace {key.namespace} is being terminated")


async def unanswered(request: Request) -> Answer:
    """No pipelines endpoint answers."""
    raise Refused(f"nothing listens at {request.url}.")


class World:
    """A cluster in memory with all controllers of data, features, training and records."""

    def __init__(self, wire: Wire = unanswered) -> None:
        self.now = START
        self.api = MemoryApi(lambda: self.now)
        self.secrets = Secrets(clock=lambda: self.now.timestamp())
        self.artifacts = MemoryArtifacts(self.secrets)
        runner = Runner("runner:1")
        api = KfpApi(self.secrets, wire=wire, clock=lambda: self.now.timestamp())
        self.kfp = Kubeflow(api, clock=lambda: self.now.timestamp())
        known: Engines = {"Local": LocalEngine(), "KubeflowPipelines": KubeflowEngine(self.kfp, pipeline_ir)}
        self.controllers: list[Controller[Any]] = [
            PlatformController(self.artifacts, QuietNetwork(), known),
            ComputePoolController(),
            ModelProjectController(self.secrets, lambda: PIPELINE),
            DatasetController(self.artifacts, runner),
            DatasetVersionController(self.artifacts, runner),
            FeatureSetController(self.artifacts, runner),
            TrainingRunController(self.artifacts, runner, known, lambda: PIPELINE),
            ModelVersionController(self.artifacts, runner),
        ]
        self.types = watched_types(self.controllers)
        self.jobs_made: list[str] = []
        self.asked: list[str] = []
        """For each Job: its owner, what it does, and its request without its own folder."""
        self.restart()

    def restart(self) -> None:
        """A fresh operator: empty memory, new stores."""
        self.stores = Stores(self.types)
        io = Io(self.stores, self.api, lambda: self.now)  # type: ignore[arg-type] # the part of Client that is used
        catalogue = Catalogue((*ALL_TYPES, *self.types))
        executor = Executor(self.api, self.stores, catalogue, lambda: self.now)  # type: ignore[arg-type]
        self.names = {each.type: name for name, each in named(self.controllers).items()}
        self.reconciler = Reconciler(named(self.controllers), io, executor, Metrics(CollectorRegistry()), lambda *_: 9)
        self.sync()

    def sync(self) -> None:
        """The watches deliver everything."""
        for type_ in self.types:
            store = self.stores.of(type_)
            live = {key: obj for key, obj in self.api.objects.items() if key.type == type_ and _selected(type_, obj)}
            for key in list(store.keys()):
                known = store.get(key)
                if key not in live and known is not None:
                    store.remove(known)
            for key, obj in live.items():
                known = store.get(key)
                if known is None or known["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                    store.put(copy.deepcopy(obj))

    def put(self, type_: ResourceType, obj: Object) -> Object:
        """A person applies an object; the status stays."""
        live = self.api.objects.get(type_.key_of(obj))
        merged = copy.deepcopy(obj)
        if live is not None:
            merged = {**copy.deepcopy(live), **{name: merged[name] for name in merged if name != "metadata"}}
            merged["metadata"]["annotations"] = obj["metadata"].get("annotations", {})
        stored = self.api.put(type_, merged)
        self.sync()
        return stored

    async def delete(self, type_: ResourceType, name: str, namespace: str = NS) -> None:
        """A person deletes an object."""
        await self.api.delete(type_.key(name, namespace if type_.namespaced else ""))
        self.api.writes.pop()
        self.sync()

    def get(self, type_: ResourceType, name: str, namespace: str = NS) -> Object:
        """An object that must be there."""
        return self.api.objects[type_.key(name, namespace if type_.namespaced else "")]

    def all(self, type_: ResourceType) -> list[Object]:
        """All objects of a type, oldest first."""
        return [obj for key, obj in self.api.objects.items() if key.type == type_]

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile; seconds until the next look."""
        before = {each["metadata"]["name"] for each in self.all(JOB)}
        outcome = await self.reconciler.reconcile(self.names[key.type], key)
        for job in self.all(JOB):
            if job["metadata"]["name"] not in before:
                self.jobs_made.append(job["metadata"]["name"])
                request = {name: value for name, value in self.request_of(job).items() if name != "prefix"}
                stage = job["metadata"]["labels"]["slipway.dev/stage"]
                self.asked.append(digest_json([job["metadata"]["ownerReferences"][0]["uid"], stage, request]))
        self.sync()
        return outcome.requeue_after if isinstance(outcome, Done) else 1.0

    def keys(self) -> list[Key]:
        """Everything that a controller reconciles."""
        return [key for key in self.api.objects if key.type in self.names]

    async def settle(self, limit: int = 40) -> None:
        """Reconcile everything until nothing is written any more."""
        for _ in range(limit):
            before = len(self.api.writes)
            for key in self.keys():
                await self.reconcile(key)
            if len(self.api.writes) == before:
                return
        raise AssertionError(f"does not settle: {self.api.writes[-12:]}")

    async def writes_of(self, keys: Iterable[Key] | None = None) -> list[tuple[str, Key]]:
        """What one more look at everything writes."""
        before = len(self.api.writes)
        for key in list(keys if keys is not None else self.keys()):
            await self.reconcile(key)
        return self.api.writes[before:]

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)

    # Jobs, as the cluster would run them

    def jobs(self, stage: str = "") -> list[Object]:
        """Jobs that have not ended."""
        return [
            job
            for job in self.all(JOB)
            if not (job.get("status") or {}).get("conditions")
            and stage in ("", job["metadata"]["labels"]["slipway.dev/stage"])
        ]

    def request_of(self, job: Object) -> dict[str, Any]:
        """The request that a Job was started with."""
        found: dict[str, Any] = json.loads(self.artifacts.objects[_argument(job, "--request")])
        return found

    def run(self, job: Object) -> None:
        """Its pod starts."""
        pod = {
            "metadata": {
                "name": f"{job['metadata']['name']}-pod",
                "namespace": job["metadata"]["namespace"],
                "labels": {
                    **job["spec"]["template"]["metadata"]["labels"],
                    "batch.kubernetes.io/job-name": job["metadata"]["name"],
                },
                "ownerReferences": [{"uid": job["metadata"]["uid"], "kind": "Job", "name": "", "apiVersion": ""}],
            },
            "status": {"phase": "Running"},
        }
        self.api.put(POD, pod)
        self.sync()

    def end(self, job: Object, result: BaseModel | None, condition: str = "Complete", reason: str = "") -> None:
        """It ends: the result is written, then the status."""
        if result is not None:
            self.artifacts.write(f"{_argument(job, '--prefix')}result.json", result)
        ended = copy.deepcopy(self.api.objects[JOB.key_of(job)])
        ended["status"] = {
            "conditions": [
                {"type": condition, "status": "True", "reason": reason, "lastTransitionTime": _text(self.now)}
            ]
        }
        self.api.put(JOB, ended)
        self.sync()


def ready(obj: Object, kind: str = "Ready") -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return "", "", ""


def _argument(job: Object, name: str) -> str:
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return str(arguments[arguments.index(name) + 1])


def _selected(type_: ResourceType, obj: Object) -> bool:
    """Whether a watch with the type's selector, `NAME`, `NAME=VALUE` or `NAME in (A,B)`, delivers the object."""
    name, _, values = type_.selector.replace(" in ", "=").partition("=")
    if name and not values:
        return name in (obj["metadata"].get("labels") or {})
    return not name or (obj["metadata"].get("labels") or {}).get(name) in values.strip("()").split(",")


def _merge(live: Any, wanted: Any) -> Any:
    if isinstance(live, dict) and isinstance(wanted, Mapping):
        return {**live, **{key: _merge(live.get(key), value) for key, value in wanted.items()}}
    return copy.deepcopy(wanted)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
