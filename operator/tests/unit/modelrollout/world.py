"""A world in which rollouts run fast: objects as the API server keeps them, a KServe, a gateway, clients, two clocks.

Snapshots are made by the controller's own `observe` from real stores; only what other programs would do is played.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from unit.modelrollout.receivers import Receivers

from slipway.adapters.envoy_stats import BOUNDS, Counters, Interest, Reading, Tally, WindowStats
from slipway.adapters.gateway import Aside, aside_of, mirror_cluster, references_of, weights_of
from slipway.adapters.kserve import SERVICE_LABEL, VERSION_ANNOTATION, entry_of, inference_service_of, predictor_of
from slipway.adapters.labels import JOB_NAME
from slipway.adapters.measurements import Answer, Heard, Token
from slipway.api.analysis import Provider
from slipway.api.modelrollout import ModelRolloutStatus
from slipway.controllers.modelrollout import ModelRolloutController
from slipway.controllers.modelrollout.access_facts import Doors
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.runtime.controller import Apply, Call, Create, Delete, Io, Plan
from slipway.runtime.resources import (
    ANALYSIS_TEMPLATE,
    CLUSTER_ANALYSIS_TEMPLATE,
    ENDPOINT_SLICE,
    GATEWAY,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    JOB,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    PLATFORM,
    POD,
    Key,
    Object,
    ResourceType,
)
from slipway.runtime.stores import Stores

NAMESPACE = "flights"
NAME = "delays"
PROJECT = "flight-delays"
START = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)

STEPS: list[Object] = [
    {"name": "first-users", "setWeight": 5},
    {"name": "watch", "analyze": {"for": "20s"}},
    {"name": "quarter", "setWeight": 25},
    {"name": "watch-quarter", "analyze": {"for": "20s"}},
    {"name": "everyone", "setWeight": 100},
]
CHECKS: list[Object] = [
    {"name": "success", "metric": "successPercent", "min": "99", "minimumRequests": 20, "window": "30s"},
    {
        "name": "fast",
        "metric": "shareBelowMilliseconds",
        "bound": 100,
        "compareToStable": {"maxDrop": "5"},
        "minimumRequests": 20,
        "window": "30s",
    },
]


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def copied(value: Any) -> Any:
    """A copy of what JSON can say: `copy.deepcopy` takes ten times as long, and this is done for each write."""
    if isinstance(value, Mapping):
        return {name: copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class Behaviour:
    """How the servers of a version answer: 5xx and slow answers, in percent."""

    failing: int = 0
    slow: int = 0


@dataclass
class Counts:
    """Requests that were answered in one second."""

    at: float
    requests: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    fast: dict[str, int] = field(default_factory=dict)


class Gateway:
    """Takes routes in after a while, splits requests by the weights in force, and counts answers."""

    def __init__(self) -> None:
        self.answering = True
        self.counted: list[Counts] = []
        self.in_force: dict[str, int] = {}
        self.aside: Aside | None = None
        self.clusters: set[str] = set()
        self.watched_since = 0.0
        self.marks: dict[str, tuple[str, float]] = {}
        self.clock = 0.0
        self.lives = 0
        self.totals: dict[str, Counters] = {}
        self.before: dict[str, dict[str, Counters]] = {}

    def restart_operator(self) -> None:
        """What was sampled is in the operator's memory only."""
        self.watched_since, self.marks = self.clock, {}
        self.lives += 1

    def forget(self, owner: str) -> None:
        self.marks.pop(owner, None)

    def read(self, owner: str, interest: Interest) -> Reading:
        if self.marks.get(owner, ("", 0.0))[0] != interest.mark:
            self.marks[owner] = (interest.mark, self.clock)
            self.before[owner] = dict(self.totals)
        since = max(self.marks[owner][1], self.watched_since)
        windows = {
            (cluster, length): self._window(cluster, max(since, self.clock - length))
            for cluster in interest.clusters
            for length in interest.windows
        }
        tally = self._tally(owner, interest) if interest.tally else Tally()
        return Reading(1, 1, frozenset(self.clusters & set(interest.clusters)), windows, tally)

    def _tally(self, owner: str, interest: Interest) -> Tally:
        before = self.before[owner]
        counts = {
            each: self.totals.get(each, Counters()).since(before.get(each, Counters())) for each in interest.clusters
        }
        return Tally(f"{self.lives}/{self.marks[owner][1]}", counts)

    def count(self, counts: Counts) -> None:
        """Keep what was answered in one second."""
        self.counted = [*self.counted, counts][-120:]
        for cluster, requests in counts.requests.items():
            fast = counts.fast[cluster]
            below = tuple(fast if bound < 1000 else requests for bound in BOUNDS)
            gained = Counters(requests, counts.failed[cluster], requests, below)
            self.totals[cluster] = self.totals.get(cluster, Counters()) + gained

    def _window(self, cluster: str, since: float) -> WindowStats:
        inside = [each for each in self.counted if each.at > since]
        requests = sum(each.requests.get(cluster, 0) for each in inside)
        failed = sum(each.failed.get(cluster, 0) for each in inside)
        fast = sum(each.fast.get(cluster, 0) for each in inside)
        below = {bound: fast if bound < 1000 else requests for bound in BOUNDS}
        return WindowStats(requests, failed, requests, below, self.clock - since)


class Probes:
    """What metrics that wait for the network would measure, by name of the metric; counts what was asked.

    `latency` is in seconds of the world; `values` holds answers in their order, the last one for ever.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[Answer]] = {}
        self.latency = 0
        self.asked: list[Token] = []
        self.clock = 0.0
        self._begun: dict[Token, tuple[float, Answer]] = {}

    def bind(self, client: object) -> None:
        pass

    async def begin(self, token: Token, namespace: str, provider: Provider) -> None:  # noqa: ARG002 - a protocol's
        if token in self._begun:
            return
        self._begun = {
            each: known
            for each, known in self._begun.items()
            if (each.owner, each.metric) != (token.owner, token.metric)
        }
        self.asked.append(token)
        values = self.values.get(token.metric.rpartition("/")[2], [Answer([1.0])])
        ordinal = int(token.measurement.rpartition("/")[2])
        self._begun[token] = (self.clock + self.latency, values[min(ordinal, len(values) - 1)])

    def read(self, owner: str) -> Heard:
        mine = {token: known for token, known in self._begun.items() if token.owner == owner}
        return Heard(
            frozenset(token for token, (at, _) in mine.items() if at > self.clock),
            {token: answer for token, (at, answer) in mine.items() if at <= self.clock},
        )

    def forget(self, owner: str) -> None:
        self._begun = {token: known for token, known in self._begun.items() if token.owner != owner}

    def restart_operator(self) -> None:
        self._begun.clear()


class World:
    """One rollout and everything around it."""

    def __init__(self, spec: Mapping[str, Any] | None = None) -> None:
        self.now = START
        self.monotonic = 0.0
        self.rate = 100
        self.named_rate = 10
        """Requests a second with the headers that a rule looks for, beside the others."""
        self.behaviour: dict[str, Behaviour] = {}
        self.gateway = Gateway()
        self.kserve_answering = True
        self.unready: set[str] = set()
        """InferenceServices without a server."""
        self.untransformed: set[str] = set()
        """InferenceServices without a transformer that answers."""
        self.doubted: set[str] = set()
        """InferenceServices that KServe calls not ready though servers answer (a rolling update, say)."""
        self.room = 1000
        """Servers that one InferenceService can have."""
        self.units = 1000
        """Servers that all can have together; who has some keeps them."""
        self.probes = Probes()
        self.receivers = Receivers(self._seconds)
        self.doors: Doors | None = None
        self.controller = self.new_controller()
        types = {MODEL_ROLLOUT, *(watch.type for watch in self.controller.watches)}
        self.stores = Stores(types)
        self._io = Io(self.stores, None, self._clock)  # type: ignore[arg-type]
        self._version = 100
        self.events: list[str] = []
        self.notes: dict[str, str] = {}
        """What Events of a reason said last."""
        self.writes = 0
        self._make_surroundings(spec or {})

    def new_controller(self) -> ModelRolloutController:
        """As a new process has it: without memory."""
        return ModelRolloutController(
            self.gateway, self.doors, self.probes, webhooks=self.receivers, monotonic=self._seconds
        )

    def _clock(self) -> datetime:
        return self.now

    def _seconds(self) -> float:
        return self.gateway.clock

    def _make_surroundings(self, spec: Mapping[str, Any]) -> None:
        parent = {"namespace": "slipway-system", "name": "models"}
        secret = {"namespace": "slipway-system", "name": "s3"}
        s3 = {"endpoint": "http://store:8333", "bucket": "slipway", "secretRef": secret}
        platform = {
            "artifacts": {"s3": s3},
            "features": {"postgres": {"secretRef": secret}},
            "gateway": {"parentRef": parent},
        }
        self.put(PLATFORM, {"metadata": {"name": "default"}, "spec": platform})
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        gateway = {"metadata": dict(parent), "spec": {"listeners": [listener]}}
        self.put(GATEWAY, gateway)
        labels = {
            "gateway.envoyproxy.io/owning-gateway-name": "models",
            "gateway.envoyproxy.io/owning-gateway-namespace": "slipway-system",
        }
        pod = {
            "metadata": {"name": "envoy-1", "namespace": "envoy", "labels": labels},
            "status": {"podIP": "10.0.0.9", "phase": "Running"},
        }
        self.put(POD, pod)
        rollout = {
            "projectRef": {"name": PROJECT},
            "routing": {"hostnames": ["models.example.com"], "path": "/delays"},
            "steps": STEPS,
            "checks": CHECKS,
            "version": {"policy": "NewestPassing"},
            **spec,
        }
        self.put(MODEL_ROLLOUT, {"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": rollout})

    # ---- objects -----------------------------------------------------------------------------------------------------
    @property
    def rollout(self) -> Object:
        found = self.stores.get(MODEL_ROLLOUT.key(NAME, NAMESPACE))
        assert found is not None
        return found

    @property
    def status(self) -> ModelRolloutStatus:
        return ModelRolloutStatus.model_validate(self.rollout.get("status") or {})

    @property
    def changes(self) -> int:
        """How often anything was written, by whomever."""
        return self._version

    def condition(self, kind: str) -> tuple[str, str, str] | None:
        found = [each for each in self.status.conditions or () if each.type == kind]
        return (found[0].status, found[0].reason, found[0].message) if found else None

    def get(self, type_: ResourceType, name: str) -> Object | None:
        return self.stores.get(type_.key(name, NAMESPACE if type_.namespaced else ""))

    def put(self, type_: ResourceType, obj: Mapping[str, Any]) -> Object:
        """Store an object as the API server would: with uid, generation, times and a new resource version."""
        self._version += 1
        new: Object = copied(obj)
        meta = new["metadata"]
        meta.setdefault("uid", f"uid-{self._version}")
        meta.setdefault("creationTimestamp", text(self.now))
        meta.setdefault("generation", 1)
        meta["resourceVersion"] = str(self._version)
        new.setdefault("apiVersion", type_.api_version)
        new.setdefault("kind", type_.kind)
        before = self.stores.get(type_.key_of(new))
        if before is not None:
            meta["generation"] = before["metadata"]["generation"] + (before.get("spec") != new.get("spec"))
        self.stores.of(type_).put(new)
        return new

    def edit(self, type_: ResourceType, name: str, change: Mapping[str, Any]) -> None:
        """Change top-level parts of an object (`spec` is merged by its own keys)."""
        obj = copied(self.get(type_, name)) or {}
        obj["spec"] = {**obj["spec"], **(change.get("spec") or {})}
        obj["metadata"]["annotations"] = {
            **(obj["metadata"].get("annotations") or {}),
            **(change.get("annotations") or {}),
        }
        if "status" in change:
            obj["status"] = change["status"]
        self.put(type_, obj)

    def annotate(self, **annotations: str) -> None:
        named = {f"slipway.dev/{name}": value for name, value in annotations.items()}
        self.edit(MODEL_ROLLOUT, NAME, {"annotations": named})

    def pin(self, version: str | None) -> None:
        policy = {"policy": "Pinned", "modelVersionRef": {"name": version}} if version else {"policy": "NewestPassing"}
        self.edit(MODEL_ROLLOUT, NAME, {"spec": {"version": policy}})

    def add_version(self, number: int, *, passed: bool = True, failing: int = 0, slow: int = 0) -> str:
        """A ModelVersion, and how its servers will answer."""
        digest = f"{number:010x}" + "a" * 54
        name = f"{PROJECT}-{digest[:10]}"
        kinds = ("parameters", "configuration", "featurePipeline", "trainingSet", "validationSet", "testSet", "code")
        digests = dict.fromkeys((*kinds, "pipeline"), f"sha256:{'b' * 64}")
        folder = f"s3://slipway/models/{NAMESPACE}/{PROJECT}/{digest[:10]}"
        spec = {
            "projectRef": {"name": PROJECT},
            "run": {"name": "run", "uid": "u"},
            "datasetVersionRef": {"name": "flights-1"},
            "digests": {**digests, "model": f"sha256:{digest}", "image": "runner"},
            "artifact": folder,
            "manifest": f"{folder}/manifest.json",
            "manifestDigest": f"sha256:{'c' * 64}",
            "inputs": [{"name": "carrier", "type": "String", "source": "Request"}],
            "metrics": [],
            "score": "0.8",
            "verdicts": [],
            "passed": passed,
            "evaluation": f"{folder}/evaluation.json",
        }
        self.put(MODEL_VERSION, {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
        self.behaviour[self.service(name)] = Behaviour(failing, slow)
        return name

    @staticmethod
    def service(version: str) -> str:
        return f"{NAME}-{version.removeprefix(PROJECT + '-')}"

    def remove(self, type_: ResourceType, name: str) -> None:
        obj = self.get(type_, name)
        if obj is not None:
            self._version += 1
            meta = {**obj["metadata"], "resourceVersion": str(self._version)}
            self.stores.of(type_).remove({**obj, "metadata": meta})

    def weights(self) -> dict[str, int]:
        route = self.get(HTTP_ROUTE, NAME)
        return weights_of(route) if route else {}

    def aside(self) -> Aside | None:
        route = self.get(HTTP_ROUTE, NAME)
        return aside_of(route) if route else None

    # ---- what the operator does --------------------------------------------------------------------------------------
    def observe(self) -> Snapshot:
        look = self.controller.observe(self._io, MODEL_ROLLOUT.key(NAME, NAMESPACE))
        snapshot: Snapshot | None = None
        try:
            look.send(None)  # nothing in this world has to be waited for
        except StopIteration as done:
            snapshot = done.value
        assert snapshot is not None
        return snapshot

    def plan(self) -> Plan:
        return self.controller.plan(self.observe(), self.now)

    def reconcile(self, crash_after: int | None = None, plan: Plan | None = None) -> Plan:
        """One pass; with `crash_after`, the operator ends after so many actions and writes no status."""
        plan = plan or self.plan()
        for action in plan.actions[:crash_after]:
            self.execute(action)
        if crash_after is not None:
            self.restart_operator()
            return plan
        if plan.status is not None:
            status = json.loads(json.dumps(plan.status))
            if status != (self.rollout.get("status") or {}):
                self.writes += 1
                self.events += [note.reason for note in plan.events]
                self.notes |= {note.reason: note.message for note in plan.events}
                self.put(MODEL_ROLLOUT, {**self.rollout, "status": status})
        return plan

    def restart_operator(self) -> None:
        """What is only in the operator's memory is lost."""
        self.gateway.restart_operator()
        self.probes.restart_operator()
        self.controller = self.new_controller()

    def execute(self, action: object) -> None:
        if isinstance(action, Apply):
            self._apply(action.manifest)
        elif isinstance(action, Delete):
            self._delete(action.key, action.uid)
        elif isinstance(action, Create):
            self.make_job(action.manifest)
        elif isinstance(action, Call):
            with contextlib.suppress(StopIteration):
                getattr(self.controller.ports[action.port], action.method)(**action.arguments).send(None)
        else:
            raise AssertionError(action)

    def make_job(self, manifest: Mapping[str, Any]) -> None:
        """A Job of the rollout; one that is there already stays."""
        if self.get(JOB, manifest["metadata"]["name"]) is None:
            owner = {"kind": "ModelRollout", "apiVersion": "slipway.dev/v1alpha1", "name": NAME, "uid": self._uid}
            self.writes += 1
            self.put(JOB, {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}})

    def end_jobs(self, exit_code: int) -> int:
        """Every Job that runs ends with this exit code; how many did."""
        running = [each for each in self.stores.list(JOB, NAMESPACE) if not each.get("status")]
        for job in running:
            name = job["metadata"]["name"]
            condition = {"type": "Failed" if exit_code else "Complete", "status": "True"}
            ended = {"name": "measure", "state": {"terminated": {"exitCode": exit_code}}}
            pod = {
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {JOB_NAME: name}},
                "status": {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [ended]},
            }
            self.put(POD, pod)
            self.put(JOB, {**job, "status": {"conditions": [condition]}})
        return len(running)

    def add_template(self, name: str, *metrics: Object, args: Sequence[Object] = (), cluster: bool = False) -> None:
        """An AnalysisTemplate, or a ClusterAnalysisTemplate."""
        type_ = CLUSTER_ANALYSIS_TEMPLATE if cluster else ANALYSIS_TEMPLATE
        meta = {"name": name} if cluster else {"name": name, "namespace": NAMESPACE}
        self.put(type_, {"metadata": meta, "spec": {"args": list(args), "metrics": list(metrics)}})

    def _apply(self, manifest: Mapping[str, Any]) -> None:
        type_ = INFERENCE_SERVICE if manifest["kind"] == "InferenceService" else HTTP_ROUTE
        live = self.get(type_, manifest["metadata"]["name"])
        owner = {"kind": "ModelRollout", "apiVersion": "slipway.dev/v1alpha1", "name": NAME, "uid": self._uid}
        kept = {name: value for name, value in (live or {"metadata": {}})["metadata"].items() if name != "annotations"}
        meta = {**kept, **manifest["metadata"], "ownerReferences": [owner]}
        meta["labels"] = {**meta["labels"], "slipway.dev/modelrollout": NAME}
        wanted = {**(live or {}), **manifest, "metadata": meta}
        if live is None or {**wanted, "metadata": None} != {**live, "metadata": None} or meta != live["metadata"]:
            self.writes += 1
            self.put(type_, wanted)

    @property
    def _uid(self) -> str:
        return str(self.rollout["metadata"]["uid"])

    def _delete(self, key: Key, uid: str) -> None:
        obj = self.stores.get(key)
        if obj is not None and obj["metadata"]["uid"] == uid:
            self.writes += 1
            self.remove(key.type, key.name)

    # ---- what others do ----------------------------------------------------------------------------------------------
    def let_kserve_work(self) -> None:
        """Servers of every InferenceService become ready at once, but for those that are told not to."""
        if not self.kserve_answering:
            return
        services = self.stores.list(INFERENCE_SERVICE, NAMESPACE)
        free = self.units - sum(self._keeps(obj) for obj in services)
        for obj in services:
            name = obj["metadata"]["name"]
            ready = name not in self.unready
            says = ready and name not in self.doubted
            status = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": str(says)}]}
            if obj.get("status") != status:
                self.put(INFERENCE_SERVICE, {**obj, "status": status})
            wanted, keeps = min(self.room, int(obj["spec"]["predictor"]["minReplicas"])), self._keeps(obj)
            started = max(0, min(wanted - keeps, free))
            free -= started
            self._set_endpoints(name, keeps + started if ready else 0)
            if "transformer" in obj["spec"]:
                count = 0 if name in self.untransformed else int(obj["spec"]["transformer"]["minReplicas"])
                self._set_endpoints(entry_of(name, transformed=True), count)
        alive = {obj["metadata"]["name"] for obj in self.stores.list(INFERENCE_SERVICE, NAMESPACE)}
        for slice_ in list(self.stores.list(ENDPOINT_SLICE, NAMESPACE)):
            if inference_service_of(slice_["metadata"]["name"]) not in alive:
                self.remove(ENDPOINT_SLICE, slice_["metadata"]["name"])

    def _keeps(self, obj: Object) -> int:
        """Servers that an InferenceService has and still wants."""
        return min(self.endpoints(obj["metadata"]["name"]), int(obj["spec"]["predictor"]["minReplicas"]))

    def _set_endpoints(self, name: str, count: int) -> None:
        live = self.get(ENDPOINT_SLICE, name)
        endpoints = [{"addresses": [f"10.0.1.{each}"], "conditions": {"ready": True}} for each in range(count)]
        if live is None or live["endpoints"] != endpoints:
            labels = {SERVICE_LABEL: name if name.endswith("-transformer") else predictor_of(name)}
            meta = {**(live["metadata"] if live else {}), "name": name, "namespace": NAMESPACE, "labels": labels}
            self.put(ENDPOINT_SLICE, {"metadata": meta, "endpoints": endpoints})

    def entrance(self, service: str) -> str:
        """The name under which a version's first servers have their EndpointSlice."""
        transformed = "transformer" in self.rollout["spec"].get("serving", {})
        return entry_of(service, transformed=True) if transformed else service

    def counted_as(self, service: str) -> str:
        transformed = "transformer" in self.rollout["spec"].get("serving", {})
        return f"service/{NAMESPACE}/{entry_of(service, transformed=transformed)}/80/http"

    def endpoints(self, service: str) -> int:
        live = self.get(ENDPOINT_SLICE, service)
        return sum(each["conditions"]["ready"] for each in live["endpoints"]) if live else 0

    def let_gateway_work(self) -> None:
        """Take in every route as it is now."""
        if not self.gateway.answering:
            return
        clusters = set()
        for obj in self.stores.list(HTTP_ROUTE, NAMESPACE):
            weights, generation = weights_of(obj), obj["metadata"]["generation"]
            clusters |= {self.counted_as(service) for service in references_of(obj)}
            kinds = ["Accepted", "ResolvedRefs"]
            conditions = [{"type": kind, "status": "True", "observedGeneration": generation} for kind in kinds]
            if any(not self.endpoints(self.entrance(service)) for service in weights):
                lacking = {"type": "BackendsAvailable", "status": "False", "reason": "EndpointsNotFound"}
                conditions.append({**lacking, "observedGeneration": generation})
            parent = {"namespace": "slipway-system", "name": "models"}
            status = {"parents": [{"parentRef": parent, "conditions": conditions}]}
            if obj.get("status") != status:
                self.put(HTTP_ROUTE, {**obj, "status": status})
        self.gateway.in_force, self.gateway.aside = self.weights(), self.aside()
        if self.gateway.aside is not None and self.gateway.aside.copied:
            clusters.add(mirror_cluster(NAMESPACE, NAME))
        self.gateway.clusters = clusters

    def pass_time(self, seconds: float) -> None:
        """Time goes by on both clocks, and clients send requests."""
        for _ in range(int(seconds)):
            self.now += timedelta(seconds=1)
            self.gateway.clock += 1
            self.probes.clock += 1
            counts = Counts(self.gateway.clock)
            for service, weight in self.gateway.in_force.items():
                self._count(counts, service, self.rate * weight // 100)
            aside = self.gateway.aside
            if aside is not None and aside.headers:
                self._count(counts, aside.service, self.named_rate)
            if aside is not None and aside.copied:
                self._count(counts, aside.service, self.rate * aside.copied // 100, mirror_cluster(NAMESPACE, NAME))
            self.gateway.count(counts)

    def _count(self, counts: Counts, service: str, requests: int, cluster: str = "") -> None:
        cluster = cluster or self.counted_as(service)
        behaviour = self.behaviour.get(service, Behaviour())
        answers = self.endpoints(service) and self.endpoints(self.entrance(service))
        failing = behaviour.failing if answers else 100
        for numbers, count in (
            (counts.requests, requests),
            (counts.failed, requests * failing // 100),
            (counts.fast, requests * (100 - behaviour.slow) // 100),
        ):
            numbers[cluster] = numbers.get(cluster, 0) + count

    def step(self, seconds: int = 1) -> Plan:
        """Everybody works, a second passes, and the operator looks."""
        self.let_kserve_work()
        self.let_gateway_work()
        self.pass_time(seconds)
        return self.reconcile()

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.step()

    def run_until(self, phase: str, limit: int = 400) -> None:
        """Run until the rollout is in a phase."""
        for _ in range(limit):
            self.step()
            if self.status.phase == phase:
                return
        raise AssertionError(f"not {phase} after {limit} s: {json.dumps(self.rollout['status'], indent=1)}")

    def serve_first(self) -> str:
        """A world in which a first version serves everybody."""
        name = self.add_version(1)
        self.run_until("Healthy")
        for _ in range(6):
            self.step(5)
        return name


def version_of(service: Mapping[str, Any]) -> str:
    return str(service["metadata"]["annotations"][VERSION_ANNOTATION])


__all__ = ["CHECKS", "NAME", "NAMESPACE", "POD", "PROJECT", "STEPS", "Behaviour", "World", "version_of"]
