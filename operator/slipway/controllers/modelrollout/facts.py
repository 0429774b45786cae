"""What the plan of a rollout knows: frozen facts, read from objects and statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from slipway.adapters import gateway as gw
from slipway.adapters import kserve, webhooks
from slipway.adapters.envoy_stats import Reading
from slipway.adapters.knative import KnativeFacts
from slipway.adapters.kserve import Model, Readiness, Trouble
from slipway.adapters.measurements import Answer, Heard
from slipway.adapters.predictions import PredictionLogging
from slipway.adapters.templates import Templates
from slipway.api.computepool import ComputePool
from slipway.api.meta import parse_time
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import GatewayParentRef
from slipway.api.rollout_steps import Step
from slipway.controllers.modelrollout.access_facts import AccessFacts
from slipway.controllers.modelrollout.errands import Errands
from slipway.controllers.modelrollout.lived import Lived
from slipway.controllers.modelrollout.memory import Memory
from slipway.controllers.modelrollout.retry_facts import RetryFacts
from slipway.controllers.modelrollout.strategy import expand
from slipway.runtime.resources import Object, is_deleting, uid_of


@dataclass(frozen=True)
class Version:
    """A ModelVersion of the project.

    :param created: when it was recorded: the newest is the last one recorded
    :param outputs: fields of its answers as names and types; empty when the record does not say
    :param baseline: whether its servers can fall back to one
    :param inputs: as the record has them
    """

    model: Model
    created: datetime
    passed: bool
    outputs: tuple[tuple[str, str], ...] = ()
    baseline: bool = False
    inputs: Sequence[Mapping[str, Any]] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(frozen=True)
class Server:
    """An InferenceService of the rollout.

    :param wanted: the least number of servers that it was told to have
    """

    name: str
    version: str
    uid: str
    created: datetime
    readiness: Readiness
    deleting: bool = False
    wanted: int = 1

    @property
    def alive(self) -> bool:
        """Whether it can answer requests now."""
        return self.readiness.answers and not self.deleting

    @property
    def ready(self) -> bool:
        """Whether it may get more requests than it has."""
        return self.readiness.ready and not self.deleting


@dataclass(frozen=True)
class Pin:
    """A pin route."""

    uid: str
    token: str
    created: datetime
    acceptance: gw.Acceptance
    deleting: bool = False


@dataclass(frozen=True)
class Route:
    """The weighted route.

    :param weights: by InferenceService, the stable one first
    :param aside: what a version gets beside its weight
    :param references: InferenceServices that it names anywhere
    :param serves: whether its host names and path are those of the spec
    :param memory: orders of people that outlive a lost status
    :param session: the candidate whose clients are kept, and the seed of their cookies
    :param controller: the program that runs the Gateway
    :param hostnames: that it has now
    :param path: that it has now
    """

    uid: str
    weights: Mapping[str, int]
    acceptance: gw.Acceptance
    rejected: tuple[str, ...] = ()
    aside: gw.Aside | None = None
    references: frozenset[str] = frozenset()
    serves: bool = True
    memory: Memory = field(default_factory=Memory)
    session: str = ""
    deleting: bool = False
    controller: str = ""
    hostnames: tuple[str, ...] = ()
    path: str = "/"


@dataclass(frozen=True)
class MeasuringJob:
    """A Job that measures for a template. :param answer: None while it runs"""

    uid: str
    answer: Answer | None


@dataclass(frozen=True)
class Snapshot:
    """Everything that one look found.

    :param obj: the ModelRollout as it is stored
    :param rollout: the same, typed
    :param versions: ModelVersions of the project, by name
    :param servers: by name
    :param pins: by name of the InferenceService
    :param route: the weighted route
    :param parent: the Gateway
    :param pool: where servers go, with `poolRef`
    :param pool_held: units of the pool that the project holds, its stable servers among them
    :param url: where clients send predictions
    :param reading: what the gateway counted
    :param obstacle: why nothing new can be made at present
    :param conflict: an older rollout that has the same URL
    :param predictions: what servers log; None for nothing
    :param templates: that the rollout names, as far as they exist
    :param heard: measurements that wait for the network
    :param jobs: Jobs that measure, by name
    :param errands: Jobs over the prediction log
    :param token: random, for a pin route that may have to be made
    :param access: what was found about declared consumers
    :param answers: what endpoints of hooks and alerts answered, by key
    :param allowed_hosts: what may be called beside Services of the namespace
    :param retry: what was found of the patch that repeats failed requests
    :param knative: what Knative mode adds; None in Standard mode
    :param lived: how much time has passed as this process lived through it
    :param excuse: why missing servers are no fault of the candidate
    """

    obj: Object
    rollout: ModelRollout
    versions: Mapping[str, Version] = field(default_factory=dict)
    servers: Mapping[str, Server] = field(default_factory=dict)
    pins: Mapping[str, Pin] = field(default_factory=dict)
    route: Route | None = None
    parent: GatewayParentRef | None = None
    pool: ComputePool | None = None
    pool_held: int = 0
    url: str | None = None
    reading: Reading = field(default_factory=Reading)
    obstacle: Trouble | None = None
    conflict: str | None = None
    predictions: PredictionLogging | None = None
    templates: Templates = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    jobs: Mapping[str, MeasuringJob] = field(default_factory=dict)
    errands: Errands = field(default_factory=Errands)
    token: str = ""
    access: AccessFacts = field(default_factory=AccessFacts)
    answers: Mapping[str, webhooks.Answer] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    retry: RetryFacts = field(default_factory=RetryFacts)
    knative: KnativeFacts | None = None
    lived: Lived = field(default_factory=Lived)
    excuse: Trouble | None = None

    @property
    def name(self) -> str:
        return self.rollout.metadata.name

    @property
    def namespace(self) -> str:
        return str(self.rollout.metadata.namespace)

    def cluster_of(self, service: str) -> str:
        """The gateway's name for what a version answers."""
        return gw.cluster_of(self.rollout, service)

    @cached_property
    def steps(self) -> list[Step]:
        """The steps that a candidate takes: readers use this and never the spec, which may name a strategy instead."""
        return expand(self.rollout.spec)

    @property
    def other_gateway(self) -> str:
        """Who runs the Gateway, where that is known and is not Envoy Gateway; empty otherwise."""
        if self.route is None or self.parent is None or not self.route.controller:
            return ""
        if self.route.controller.startswith(gw.ENVOY_GATEWAY):
            return ""
        return f"Gateway {self.parent.namespace}/{self.parent.name} is run by {self.route.controller}"

    def server_of(self, version: str | None) -> Server | None:
        """The InferenceService of a version."""
        return next((each for each in self.servers.values() if each.version == version), None)

    def backend_of(self, version: str | None, service: str) -> str:
        """Name of the Service by which requests enter a version; empty while it has none in Knative mode."""
        if self.knative is not None:
            return self.knative.revision_of(version or "")
        return kserve.entry_of(service, transformed=self.rollout.spec.serving.transformer is not None)


# ---- from objects ----------------------------------------------------------------------------------------------------
def read_versions(objects: Iterable[Object], project: str) -> dict[str, Version]:
    """ModelVersions of a project that are not being deleted."""
    found: dict[str, Version] = {}
    for obj in objects:
        if is_deleting(obj) or obj["spec"]["projectRef"]["name"] != project:
            continue
        # Read as they are: there may be hundreds, this is done each second, and only the operator writes them.
        spec = obj["spec"]
        model = Model(
            name=obj["metadata"]["name"],
            digest=spec["digests"]["model"],
            artifact=spec["artifact"],
            manifest_digest=spec["manifestDigest"],
            online_features=bool(spec.get("featureService")),
        )
        outputs = tuple((each["name"], each["type"]) for each in spec.get("outputs") or ())
        baseline = "baselineDigest" in spec
        inputs = spec["inputs"]
        found[model.name] = Version(model, _created(obj), bool(spec["passed"]), outputs, baseline, inputs)
    return found


def read_server(obj: Object, slices: Iterable[Object], pods: Iterable[Object], before: Iterable[Object]) -> Server:
    """One InferenceService."""
    meta = obj["metadata"]
    return Server(
        name=meta["name"],
        version=(meta.get("annotations") or {}).get(kserve.VERSION_ANNOTATION, ""),
        uid=uid_of(obj),
        created=_created(obj),
        readiness=kserve.readiness(obj, slices, pods, before),
        deleting=is_deleting(obj),
        wanted=int(obj["spec"]["predictor"].get("minReplicas") or 1),
    )


def read_route(obj: Object, rollout: ModelRollout, parent: GatewayParentRef) -> Route:
    """The weighted route."""
    return Route(
        uid=uid_of(obj),
        weights=gw.weights_of(obj),
        acceptance=gw.acceptance(obj, parent),
        rejected=gw.rejected_of(obj),
        aside=gw.aside_of(obj),
        session=gw.session_of(obj),
        references=gw.references_of(obj),
        serves=gw.serves(obj, rollout.spec.routing),
        memory=Memory.read(gw.memory_of(obj)),
        deleting=is_deleting(obj),
        controller=gw.controller_of(obj, parent),
        hostnames=tuple(obj["spec"].get("hostnames") or ()),
        path=gw.path_of(obj) or rollout.spec.routing.path,
    )


def read_pins(objects: Sequence[Object], rollout: str, parent: GatewayParentRef) -> dict[str, Pin]:
    """Pin routes by the InferenceService that they are for."""
    found: dict[str, Pin] = {}
    for obj in objects:
        weights = gw.weights_of(obj)
        service = next(iter(weights), "")
        if obj["metadata"]["name"] == gw.pin_of(service, rollout):
            found[service] = Pin(
                uid_of(obj), gw.token_of(obj), _created(obj), gw.acceptance(obj, parent), is_deleting(obj)
            )
    return found


def _created(obj: Mapping[str, Any]) -> datetime:
    return parse_time(obj["metadata"]["creationTimestamp"])
