"""What must hold at every moment of every rollout, whatever happens; judged on the writes that a watcher saw.

The API server numbers all writes of one etcd in one order, so writes of different kinds can be put in line and judged
as if somebody had looked after each of them. Pure: `watcher.py` sees the writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLLOUT, ROUTE, ENDPOINTS = "ModelRollout", "HTTPRoute", "EndpointSlice"
GENERAL_RULES = ("model", "model-keys")
"""Rules that split requests by weight: for callers without and with a key."""
_SERVICE_LABEL = "kubernetes.io/service-name"

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Write:
    """An object as one write left it.

    :param revision: its resourceVersion: the place among all writes
    :param gone: it was deleted
    """

    revision: int
    kind: str
    key: Key
    body: Mapping[str, Any]
    gone: bool = False

    @classmethod
    def of(cls, kind: str, obj: Mapping[str, Any], *, gone: bool = False) -> Write:
        """From an object as the API server gives it."""
        meta = obj["metadata"]
        return cls(int(meta["resourceVersion"]), kind, (meta["namespace"], meta["name"]), obj, gone)


@dataclass
class _Rollout:
    """What is known of a rollout after the writes so far."""

    status: Mapping[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    """Version by InferenceService, of all that ever had servers."""
    weights: dict[str, int] = field(default_factory=dict)
    beside: frozenset[str] = frozenset()
    """InferenceServices that get copies, or requests with certain headers."""
    ended: set[tuple[str, str]] = field(default_factory=set)
    """Attempts (version, when it began) whose weight fell to zero."""

    @property
    def rejected(self) -> set[str]:
        return {entry["name"] for entry in self.status.get("rejected") or ()}


class Invariants:
    """Takes writes in, in their order; `broken` has a sentence for each rule that one of them broke."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.servers: dict[Key, dict[str, int]] = {}
        """Ready servers by namespace and InferenceService, and in that by EndpointSlice."""
        self._rollouts: dict[Key, _Rollout] = {}

    def take(self, writes: Iterable[Write]) -> None:
        """Judge further writes, all of them newer than those before."""
        for write in sorted(set_of(writes), key=lambda each: each.revision):
            for sentence in self._judge(write):
                namespace, name = write.key
                self.broken.append(f"{write.kind} {namespace}/{name} at revision {write.revision}: {sentence}")

    def ready(self, namespace: str, service: str) -> int:
        """Ready servers of an InferenceService."""
        return sum(self.servers.get((namespace, service), {}).values())

    def _judge(self, write: Write) -> Iterator[str]:
        if write.kind == ENDPOINTS:
            self._count(write)
        elif write.kind == ROLLOUT:
            yield from self._status(write)
        elif write.key in self._rollouts and not (write.body["metadata"].get("deletionTimestamp") or write.gone):
            yield from self._route(write.key, write.body, self._rollouts[write.key])
        elif write.key in self._rollouts:
            self._rollouts[write.key].weights = {}

    def _count(self, write: Write) -> None:
        service = (write.body["metadata"].get("labels") or {}).get(_SERVICE_LABEL, "")
        slices = self.servers.setdefault((write.key[0], _inference_service(service)), {})
        slices[write.key[1]] = 0 if write.gone else ready_servers(write.body)

    def _status(self, write: Write) -> Iterator[str]:
        if write.gone:
            self._rollouts.pop(write.key, None)
            return
        known = self._rollouts.setdefault(write.key, _Rollout())
        known.status = write.body.get("status") or {}
        served = known.status.get("versions") or []
        known.versions |= {each["service"]: each["name"] for each in served}
        desired = sum(each["desiredWeight"] for each in served)
        if desired not in (0, 100):
            yield f"status.versions wants weights that add up to {desired}."
        yield from _rejected_with_requests(known)

    def _route(self, key: Key, route: Mapping[str, Any], known: _Rollout) -> Iterator[str]:
        before, beside = known.weights, known.beside
        for rule in _rules(route):
            weights = _weights(rule)
            if sum(weights.values()) != 100:
                yield f"weights add up to {sum(weights.values())}: {weights}."
            known.weights = weights
        known.beside = frozenset(_beside(route))
        raised = {service for service, weight in known.weights.items() if weight > before.get(service, 0)}
        for service in sorted(raised | (known.beside - beside)):
            if not self.ready(key[0], service):
                yield f"{service} gets requests ({known.weights.get(service, 0)} %), and none of its servers is ready."
        yield from _rejected_with_requests(known)
        yield from _falls(known, before)


def _falls(known: _Rollout, before: Mapping[str, int]) -> Iterator[str]:
    """A candidate's weight rises until its attempt ends: then it is zero, and stays so."""
    candidate = known.status.get("candidate")
    attempt = (str(candidate), str(known.status.get("candidateSince")))
    for service in {*before, *known.weights}:
        if candidate is None or known.versions.get(service) != candidate:
            continue
        was, is_now = before.get(service, 0), known.weights.get(service, 0)
        if 0 < is_now < was:
            yield f"the weight of {candidate} falls from {was} to {is_now}."
        if is_now < was:
            known.ended.add(attempt)
        elif is_now > was and attempt in known.ended:
            yield f"the weight of {candidate} rises to {is_now} after its attempt had ended."


def _rejected_with_requests(known: _Rollout) -> Iterator[str]:
    for service in sorted({each for each, weight in known.weights.items() if weight} | known.beside):
        version = known.versions.get(service)
        if version in known.rejected:
            yield f"{version} is rejected, and gets requests ({known.weights.get(service, 0)} %)."


def set_of(writes: Iterable[Write]) -> list[Write]:
    """Each write once, though a watch that began anew saw it twice."""
    return list({(each.revision, each.kind, each.key): each for each in writes}.values())


def ready_servers(endpoints: Mapping[str, Any]) -> int:
    """How many addresses of an EndpointSlice take requests."""
    entries = endpoints.get("endpoints") or ()
    return sum(len(each.get("addresses") or ()) for each in entries if (each.get("conditions") or {}).get("ready"))


def _rules(route: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [rule for rule in route["spec"].get("rules") or () if rule.get("name", "model") in GENERAL_RULES]


def _weights(rule: Mapping[str, Any]) -> dict[str, int]:
    return {_inference_service(each["name"]): int(each.get("weight", 1)) for each in rule.get("backendRefs") or ()}


def _beside(route: Mapping[str, Any]) -> Iterator[str]:
    for rule in route["spec"].get("rules") or ():
        for each in rule.get("filters") or ():
            if each["type"] == "RequestMirror":
                yield _inference_service(each["requestMirror"]["backendRef"]["name"])
        if rule.get("name", "model") not in GENERAL_RULES:
            yield from (name for name, weight in _weights(rule).items() if weight)


def _inference_service(predictor: str) -> str:
    return predictor.removesuffix("-predictor")
