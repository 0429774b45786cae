"""The controller of ModelRollouts: reads stores and the gateway's statistics into one Snapshot."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from slipway.adapters import gateway as gw
from slipway.adapters import labels
from slipway.adapters.envoy_stats import Interest, Reading, proxy_urls
from slipway.adapters.kserve import (
    POD_LABEL,
    SERVICE_LABEL,
    VERSION_ANNOTATION,
    Trouble,
    entry_of,
    inference_service_of,
    is_transformed,
    predictor_of,
)
from slipway.adapters.measurements import Heard, Measurements, Token
from slipway.adapters.runtimes import GRPC
from slipway.adapters.secrets import Reader, Secrets
from slipway.adapters.templates import Templates
from slipway.adapters.webhooks import Answer, Webhooks
from slipway.api.analysis import Provider
from slipway.api.computepool import ComputePool
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import GatewayParentRef, Platform
from slipway.api.reasons import Reason
from slipway.controllers.computepool.quota import holdings, holdings_of_runs
from slipway.controllers.modelrollout import checks, experiments, retry_facts, rivals, waiting
from slipway.controllers.modelrollout.access_facts import Doors
from slipway.controllers.modelrollout.analysis import PORT_NAME
from slipway.controllers.modelrollout.errands import Errands, Office
from slipway.controllers.modelrollout.facts import (
    Snapshot,
    read_pins,
    read_route,
    read_server,
    read_versions,
)
from slipway.controllers.modelrollout.knative_facts import translate
from slipway.controllers.modelrollout.layout import UNROUTED
from slipway.controllers.modelrollout.lived import Attention, Lived
from slipway.controllers.modelrollout.plan import plan as make_plan
from slipway.controllers.modelrollout.predictionlog import logging_of
from slipway.controllers.modelrollout.sources import gateway_windows, read_jobs, read_templates, references
from slipway.controllers.modelrollout.strategy import expand
from slipway.controllers.shared.links import jobs_of
from slipway.runtime.client import Client
from slipway.runtime.controller import Io, Plan, Watch, owned, referring
from slipway.runtime.resources import (
    ANALYSIS_TEMPLATE,
    BACKEND_TRAFFIC_POLICY,
    CLUSTER_ANALYSIS_TEMPLATE,
    COMPUTE_POOL,
    DATASET,
    ENDPOINT_SLICE,
    GATEWAY,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    JOB,
    MODEL_PROJECT,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    NAMESPACE,
    NETWORK_POLICY,
    PLATFORM,
    POD,
    SECURITY_POLICY,
    TRAINING_RUN,
    Key,
    Object,
    is_deleting,
    label_value,
    owner_label,
)
from slipway.runtime.stores import Stores

_PROJECT_FIELD = ("spec", "projectRef", "name")
_PATH_FIELD = ("spec", "routing", "path")
_PROXY_LABELS = ("gateway.envoyproxy.io/owning-gateway-name", "gateway.envoyproxy.io/owning-gateway-namespace")


class Statistics(Protocol):
    """What the gateway has counted: see `slipway.adapters.envoy_stats.GatewayStatistics`."""

    def read(self, owner: str, interest: Interest) -> Reading: ...

    def forget(self, owner: str) -> None: ...


class Webcalls(Protocol):
    """Endpoints that are called: see `slipway.adapters.webhooks.Webhooks`."""

    def bind(self, client: Reader) -> None: ...

    def read(self, owner: str) -> Mapping[str, Answer]: ...

    def forget(self, owner: str) -> None: ...


@dataclass(frozen=True)
class _Setting:
    """The surroundings that a rollout needs: where routes attach, where servers go, or why that is not known."""

    parent: GatewayParentRef | None
    statistics_port: int
    pool: ComputePool | None
    obstacle: Trouble | None
    platform: Platform | None = None


class Measuring(Protocol):
    """Measurements that wait for the network: see `slipway.adapters.measurements.Measurements`."""

    def bind(self, client: Client) -> None: ...

    async def begin(self, token: Token, namespace: str, provider: Provider) -> None: ...

    def read(self, owner: str) -> Heard: ...

    def forget(self, owner: str) -> None: ...


class ModelRolloutController:
    """Keeps rollouts true.

    :param statistics: the gateway's, shared by all rollouts
    :param doors: what is asked about consumers
    :param measurements: of templates' metrics, shared by all rollouts
    :param office: Jobs over the prediction log; without it there are none
    :param webhooks: calls the endpoints of hooks and alerts
    :param monotonic: seconds of a clock that does not step
    """

    type = MODEL_ROLLOUT
    observed_by_standby = True  # a window of statistics takes time that a failing version must not have
    ready_condition = "Progressing"  # an outage of the API server's webhooks takes no user's version away

    def __init__(
        self,
        statistics: Statistics,
        doors: Doors | None = None,
        measurements: Measuring | None = None,
        office: Office | None = None,
        webhooks: Webcalls | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._statistics = statistics
        self._office = office
        self._doors = doors or Doors()
        self._measurements = measurements or Measurements(Secrets())
        self._webhooks: Webcalls = webhooks or Webhooks(Secrets())
        self._attention = Attention(monotonic)

    @property
    def ports(self) -> Mapping[str, Any]:
        return {PORT_NAME: self._measurements, "webhooks": self._webhooks}

    @property
    def watches(self) -> Sequence[Watch]:
        return (
            owned(INFERENCE_SERVICE, MODEL_ROLLOUT),
            owned(HTTP_ROUTE, MODEL_ROLLOUT),
            owned(SECURITY_POLICY, MODEL_ROLLOUT),
            owned(BACKEND_TRAFFIC_POLICY, MODEL_ROLLOUT),
            owned(NETWORK_POLICY, MODEL_ROLLOUT),
            referring(MODEL_VERSION, MODEL_ROLLOUT, _same_project),
            referring(PLATFORM, MODEL_ROLLOUT, lambda _rollout, _platform: True),
            referring(COMPUTE_POOL, MODEL_ROLLOUT, _uses_pool),
            referring(DATASET, MODEL_ROLLOUT, _logs_same_project),
            referring(ANALYSIS_TEMPLATE, MODEL_ROLLOUT, _uses_template),
            referring(CLUSTER_ANALYSIS_TEMPLATE, MODEL_ROLLOUT, _uses_template),
            *jobs_of(MODEL_ROLLOUT),
            Watch(MODEL_PROJECT, _nobody),
            Watch(MODEL_ROLLOUT, _rivals),
            Watch(ENDPOINT_SLICE, _of_slice),
            Watch(POD, _of_pod),
            Watch(GATEWAY, _nobody),
            Watch(JOB, _nobody),
            Watch(TRAINING_RUN, _nobody),
        )

    async def observe(self, io: Io, key: Key) -> Snapshot | None:
        """Everything that the plan needs, from memory; a Namespace is asked for where a pool is not for all of them."""
        obj, owner = io.get(key), f"{key.namespace}/{key.name}"
        if obj is None or is_deleting(obj):
            self._webhooks.forget(owner)
        if obj is None:
            self._attention.forget(owner)
            return None
        self._webhooks.bind(io.client)
        rollout = ModelRollout.model_validate(obj)
        live_route = _own(io.get(HTTP_ROUTE.key(key.name, key.namespace)), key.name)
        setting = await _setting(io, rollout, live_route)
        servers = {
            each["metadata"]["name"]: read_server(each, *_around(io, each))
            for each in io.owned(obj, INFERENCE_SERVICE)
            if VERSION_ANNOTATION in (each["metadata"].get("annotations") or {})
        }
        conflict = rivals.rival(
            rollout,
            io.where(MODEL_ROLLOUT, {_PATH_FIELD: rollout.spec.routing.path}),
            lambda name, namespace: _own(io.get(HTTP_ROUTE.key(name, namespace)), name),
        )
        parent = setting.parent
        templates = read_templates(io, rollout)
        routes = io.owned(obj, HTTP_ROUTE)
        snapshot = Snapshot(
            obj=obj,
            rollout=rollout,
            versions=read_versions(
                io.where(MODEL_VERSION, {_PROJECT_FIELD: rollout.spec.project_ref.name}, key.namespace),
                rollout.spec.project_ref.name,
            ),
            servers=servers,
            pins=read_pins(routes, key.name, parent) if parent else {},
            route=read_route(live_route, rollout, parent) if live_route is not None and parent else None,
            parent=parent,
            pool=setting.pool,
            pool_held=_held(io, rollout, setting.pool),
            url=_url(io, rollout, parent) if parent else None,
            reading=_reading(self._statistics, io, rollout, setting, templates),
            templates=templates,
            heard=self._heard(io, rollout),
            jobs=read_jobs(io, obj),
            obstacle=setting.obstacle,
            conflict=conflict,
            predictions=logging_of(rollout, setting.platform, io.list(DATASET, key.namespace)),
            errands=self._office.observe(io, rollout, setting.platform) if self._office is not None else Errands(),
            token=secrets.token_hex(16),
            retry=await retry_facts.read(io, self._doors.cluster, rollout, parent),
            access=await self._doors.observe(io, rollout, parent, live_route, list(servers)),
            answers=self._webhooks.read(owner),
            allowed_hosts=tuple(setting.platform.spec.webhooks.allowed_hosts) if setting.platform else (),
        )
        return self._attend(io, translate(io, snapshot, setting.platform), setting.platform)

    def _attend(self, io: Io, snapshot: Snapshot, platform: Platform | None) -> Snapshot:
        """Add what time has passed for whom, and why missing servers are nobody's fault."""
        status = snapshot.rollout.status
        obstacle = snapshot.obstacle or rivals.obstacle(snapshot)
        server = snapshot.server_of(status.candidate) if status.candidate else None
        excuse = waiting.excuse(server, platform, revisions=snapshot.knative is not None)
        states = waiting.states(server, excuse, obstacle, waiting.attempt_of(status))
        lived = self._lived(io, snapshot, states)
        return replace(snapshot, obstacle=obstacle, excuse=excuse, lived=lived)

    def _lived(self, io: Io, snapshot: Snapshot, states: Mapping[str, tuple[str, bool]]) -> Lived:
        status, meta = snapshot.rollout.status, snapshot.rollout.metadata
        members, experiments_ = status.versions or (), status.experiments or ()
        began = [
            status.step.started_at if status.step else None,
            *(each.drained_at for each in members),
            *(at for each in experiments_[:1] for at in (each.begun_at, each.started_at)),
        ]
        return self._attention.look(
            f"{meta.namespace}/{meta.name}",
            io.clock(),
            begun=filter(None, began),
            ends=[each.keep_until for each in members if each.keep_until],
            states={**states, UNROUTED: (meta.uid, snapshot.route is None and meta.deletion_timestamp is not None)},
        )

    def _heard(self, io: Io, rollout: ModelRollout) -> Heard:
        owner = rollout.metadata.uid
        if not any(each.phase == "Running" for each in rollout.status.analysis or ()):
            self._measurements.forget(owner)
            return Heard()
        self._measurements.bind(io.client)
        return self._measurements.read(owner)

    def plan(self, snapshot: Snapshot, now: datetime) -> Plan:
        return make_plan(snapshot, now)


# ---- who is woken ----------------------------------------------------------------------------------------------------
def _same_project(rollout: Object, version: Object) -> bool:
    return bool(rollout["spec"]["projectRef"] == version["spec"]["projectRef"])


def _logs_same_project(rollout: Object, dataset: Object) -> bool:
    return bool(rollout["spec"].get("predictionLog")) and _same_project(rollout, dataset)


def _uses_pool(rollout: Object, pool: Object) -> bool:
    reference = (rollout["spec"].get("serving") or {}).get("poolRef") or {}
    return bool(reference.get("name") == pool["metadata"]["name"])


def _uses_template(rollout: Object, template: Object) -> bool:
    clusterwide = template["kind"] == CLUSTER_ANALYSIS_TEMPLATE.kind
    wanted = (clusterwide, template["metadata"]["name"])
    return wanted in {(each.cluster_scope, each.name) for each in references(ModelRollout.model_validate(rollout))}


def _rivals(changed: Object, stores: Stores) -> Iterable[Key]:
    """Rollouts with the same path, which may have waited for this one to go."""
    for other in stores.where(MODEL_ROLLOUT, {_PATH_FIELD: changed["spec"]["routing"]["path"]}):
        yield MODEL_ROLLOUT.key_of(other)


def _of_slice(slice_: Object, stores: Stores) -> Iterable[Key]:
    service = (slice_["metadata"].get("labels") or {}).get(SERVICE_LABEL, "")
    yield from _of_service(inference_service_of(service), slice_["metadata"]["namespace"], stores)


def _of_pod(pod: Object, stores: Stores) -> Iterable[Key]:
    service = (pod["metadata"].get("labels") or {}).get(POD_LABEL, "")
    yield from _of_service(service, pod["metadata"]["namespace"], stores)


def _of_service(name: str, namespace: str, stores: Stores) -> Iterable[Key]:
    service = stores.get(INFERENCE_SERVICE.key(name, namespace)) if name else None
    for reference in (service or {}).get("metadata", {}).get("ownerReferences") or ():
        if reference["kind"] == MODEL_ROLLOUT.kind:
            yield MODEL_ROLLOUT.key(reference["name"], namespace)


def _nobody(_changed: Object, _stores: Stores) -> Iterable[Key]:
    return ()


# ---- what is read ----------------------------------------------------------------------------------------------------
def _own(route: Object | None, rollout: str) -> Object | None:
    """The route, if it is the rollout's: another one of that name is nothing that we may read or write."""
    labels = (route or {}).get("metadata", {}).get("labels") or {}
    return route if labels.get(owner_label(MODEL_ROLLOUT.kind)) == label_value(rollout) else None


def _around(io: Io, service: Object) -> tuple[list[Object], list[Object], list[Object]]:
    """EndpointSlices and pods of an InferenceService, and EndpointSlices of its transformer."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    return (
        io.list(ENDPOINT_SLICE, namespace, {SERVICE_LABEL: predictor_of(name)}),
        io.list(POD, namespace, {POD_LABEL: name}),
        io.list(ENDPOINT_SLICE, namespace, {SERVICE_LABEL: entry_of(name, transformed=True)})
        if is_transformed(service)
        else [],
    )


async def _setting(io: Io, rollout: ModelRollout, route: Object | None) -> _Setting:
    """Without a Platform, what runs is still looked after at the gateway where it is: a rollback must not wait."""
    obj = io.get(PLATFORM.key("default"))
    platform = Platform.model_validate(obj) if obj is not None else None
    pool, obstacle = await _pool(io, rollout)
    if platform is not None:
        config = platform.spec.gateway
        return _Setting(config.parent_ref, config.statistics_port, pool, obstacle, platform)
    message = "There is no Platform named default: an administrator has to create it."
    parent = gw.parent_of(route) if route is not None else None
    return _Setting(parent, 19001, pool, Trouble(Reason.DependencyMissing, message))


async def _pool(io: Io, rollout: ModelRollout) -> tuple[ComputePool | None, Trouble | None]:
    reference = rollout.spec.serving.pool_ref
    if reference is None:
        return None, None
    obj = io.get(COMPUTE_POOL.key(reference.name))
    if obj is None:
        message = f"spec.serving.poolRef: there is no ComputePool {reference.name}: create it, or name another."
        return None, Trouble(Reason.DependencyMissing, message)
    pool = ComputePool.model_validate(obj)
    if pool.spec.allowed_namespaces is not None:
        namespace = await io.live(NAMESPACE.key(str(rollout.metadata.namespace)))
        found = (namespace or {}).get("metadata", {}).get("labels") or {}
        wanted = pool.spec.allowed_namespaces.selector.match_labels
        if any(found.get(name) != value for name, value in wanted.items()):
            message = (
                f"spec.serving.poolRef: ComputePool {reference.name} is not for namespace"
                f" {rollout.metadata.namespace}: ask an administrator, or name another."
            )
            return None, Trouble(Reason.NotAllowed, message)
    return pool, None


def _held(io: Io, rollout: ModelRollout, pool: ComputePool | None) -> int:
    """Units of a pool with a quota that the project holds; a change of the count wakes the rollout by the pool."""
    if pool is None or pool.spec.quota is None:
        return 0
    marked = {labels.POOL: label_value(pool.metadata.name)}
    objects = [*io.list(JOB, labels=marked), *io.list(INFERENCE_SERVICE, labels=marked)]
    project = label_value(rollout.spec.project_ref.name)
    runs = holdings_of_runs(pool, io.where(TRAINING_RUN, {("spec", "poolRef", "name"): pool.metadata.name}))
    return sum(
        each.units
        for each in (*holdings(pool.metadata.name, objects), *runs)
        if (each.namespace, each.project) == (rollout.metadata.namespace, project)
    )


def _url(io: Io, rollout: ModelRollout, parent: GatewayParentRef) -> str | None:
    return gw.url(gw.routed_of(rollout, parent), io.get(GATEWAY.key(parent.name, parent.namespace)))


def _reading(statistics: Statistics, io: Io, rollout: ModelRollout, setting: _Setting, templates: Templates) -> Reading:
    """Statistics, while there is a candidate that needs them, or a version that was just promoted."""
    namespace, status = str(rollout.metadata.namespace), rollout.status
    owner = f"{namespace}/{rollout.metadata.name}"
    watched = status.candidate is not None or _is_watched(rollout)
    if not watched or setting.parent is None or rollout.metadata.deletion_timestamp:
        statistics.forget(owner)
        return Reading()
    labels = dict(zip(_PROXY_LABELS, (setting.parent.name, setting.parent.namespace), strict=True))
    clusters = [
        gw.cluster_of(rollout, each.service)
        for each in status.versions or ()
        if each.role in ("Stable", "Candidate", "Arm", "Previous")
    ]
    if any(step.mirror is not None for step in expand(rollout.spec)):
        clusters += [gw.mirror_cluster(namespace, rollout.metadata.name, rule) for rule in (0, 1)]
    gateway_checks = [check for check in rollout.spec.checks if check.source == "Gateway"]
    windows = {checks.window_of(check) for check in gateway_checks} | gateway_windows(templates.values())
    interest = Interest(
        proxies=proxy_urls(io.list(POD, labels=labels), setting.statistics_port),
        clusters=tuple(clusters),
        windows=tuple(sorted(windows or {60.0})),
        mark=f"{waiting.attempt_of(rollout.status)}/{experiments.counted_since(rollout.status) or ''}",
        tally=experiments.counted_since(status) is not None,
        grpc=rollout.spec.serving.protocol == GRPC,
    )
    return retry_facts.attribute(statistics.read(owner, interest), rollout)


def _is_watched(rollout: ModelRollout) -> bool:
    runs = rollout.status.analysis or ()
    return any(each.kind == "PostPromotion" and each.phase == "Running" for each in runs)
