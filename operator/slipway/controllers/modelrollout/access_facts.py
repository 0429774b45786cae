"""What the plan knows about consumers: their credentials as found, the gateway's policies, and what callers did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from slipway.adapters import access
from slipway.adapters.access import Issuer, Standing
from slipway.adapters.issuer import ClusterFacts
from slipway.adapters.kserve import SERVICE_LABEL, predictor_of
from slipway.adapters.secrets import Secrets
from slipway.adapters.usage import ConsumerUsage, Usage
from slipway.api.meta import parse_time
from slipway.api.modelrollout import ModelRollout
from slipway.api.platform import GatewayParentRef
from slipway.api.rollout_consumers import Consumer
from slipway.runtime.controller import Io
from slipway.runtime.resources import (
    BACKEND_TRAFFIC_POLICY,
    ENDPOINT_SLICE,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    POD,
    SECURITY_POLICY,
    Key,
    Object,
    label_value,
    owner_label,
    uid_of,
)

LEAST_KEY = 16
"""Characters that an API key needs: a shorter one can be guessed."""


@dataclass(frozen=True)
class LivePolicy:
    """A policy as it is stored.

    :param targets: names of routes and rules that it names
    """

    uid: str
    created: datetime
    standing: Standing
    targets: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class AccessFacts:
    """What one look found.

    :param served: whether the gateway's policies can be written at all
    :param keys: API keys by client id
    :param problems: credentials that cannot be used: a sentence each
    :param issuer: who signs tokens of ServiceAccounts
    :param policies: of the rollout, by name; rate limits and the network's policy too
    :param stored_keys: what the gateway's Secret holds; None without one
    :param closed: the value that the live route asks for while it is closed
    :param proxy_namespaces: where the gateway's proxies run
    :param operator_namespace: where the operator runs
    :param usage: by consumer
    """

    served: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    issuer: Issuer | None = None
    policies: Mapping[str, LivePolicy] = field(default_factory=dict)
    stored_keys: Mapping[str, str] | None = None
    closed: str = ""
    proxy_namespaces: tuple[str, ...] = ()
    operator_namespace: str = ""
    usage: Mapping[str, Usage] = field(default_factory=dict)


class UsageReader(Protocol):
    """See `slipway.adapters.usage.ConsumerUsage`."""

    def read(self, owner: str, servers: tuple[str, ...], known: Mapping[str, Usage]) -> Mapping[str, Usage]: ...

    def forget(self, owner: str) -> None: ...


class Doors:
    """What is asked about consumers outside of memory: Secrets, the API server's issuer and types, model servers.

    :param namespace: the operator's
    """

    def __init__(
        self,
        namespace: str = "slipway-system",
        secrets: Secrets | None = None,
        cluster: ClusterFacts | None = None,
        usage: UsageReader | None = None,
    ) -> None:
        self.namespace = namespace
        self.secrets = secrets or Secrets()
        self.cluster = cluster or ClusterFacts()
        self.usage = usage or ConsumerUsage()

    async def observe(
        self, io: Io, rollout: ModelRollout, parent: GatewayParentRef | None, route: Object | None, services: list[str]
    ) -> AccessFacts:
        """Everything about consumers. Without any, only what may be left of them, from memory.

        :raises Unavailable: the API server does not answer
        """
        namespace, name = str(rollout.metadata.namespace), rollout.metadata.name
        consumers = rollout.spec.consumers
        policies = _policies(io, namespace, name, parent)
        closed = access.closed_by(route) if route is not None else ""
        owner = f"{namespace}/{name}"
        if not consumers or rollout.metadata.deletion_timestamp:
            self.usage.forget(owner)
            return AccessFacts(policies=policies, closed=closed)
        self.secrets.bind(io.client)
        keys, problems = await self._keys(namespace, consumers)
        stored = await self.secrets.read(namespace, access.keys_secret_name(name)) if keys or policies else None
        return AccessFacts(
            served=await self._served(io),
            keys=keys,
            problems=problems,
            issuer=await self.cluster.issuer(io) if _subjects(consumers) else None,
            policies=policies,
            stored_keys=stored.values if stored else None,
            closed=closed,
            proxy_namespaces=_proxy_namespaces(io, parent),
            operator_namespace=self.namespace,
            usage=self._usage(io, rollout, services),
        )

    async def _served(self, io: Io) -> bool:
        for type_ in (SECURITY_POLICY, BACKEND_TRAFFIC_POLICY):
            if not await self.cluster.serves(io, type_):
                return False
        return True

    async def _keys(self, namespace: str, consumers: Iterable[Consumer]) -> tuple[dict[str, str], tuple[str, ...]]:
        keys: dict[str, str] = {}
        problems: list[str] = []
        for consumer in consumers:
            for index, source in enumerate(consumer.api_key.secret_refs if consumer.api_key else ()):
                if "Serving" not in consumer.access:
                    continue
                found = await self.secrets.read(namespace, source.name)
                value = (found.values.get(source.key, "") if found else "").strip()
                problem = _problem(value, found is not None, keys)
                if problem:
                    problems.append(f"Consumer {consumer.name}: entry {source.key} of Secret {source.name} {problem}")
                else:
                    keys[access.client_id(consumer.name, index)] = value
        return keys, tuple(problems)

    def _usage(self, io: Io, rollout: ModelRollout, services: list[str]) -> Mapping[str, Usage]:
        """By consumer: callers are known to servers by key or by ServiceAccount."""
        namespace, consumers = str(rollout.metadata.namespace), rollout.spec.consumers
        known = {
            each.name: Usage(each.requests, each.errors, parse_time(each.last_seen) if each.last_seen else None)
            for each in rollout.status.consumers or ()
        }
        found = self.usage.read(f"{namespace}/{rollout.metadata.name}", _servers(io, namespace, services), known)
        return {
            each.name: _sum(usage for caller, usage in found.items() if consumer_of(caller, each))
            for each in consumers
            if "Serving" in each.access
        }


def consumer_of(caller: str, consumer: Consumer) -> bool:
    """Whether what a server calls a caller is this consumer; its totals of earlier times have its name."""
    if caller == consumer.name:
        return True
    account = consumer.service_account_ref
    if account is not None:
        return caller == access.subject(account.namespace, account.name)
    return caller.rpartition(".")[0] == consumer.name


def _sum(usages: Iterable[Usage]) -> Usage:
    found = list(usages)
    seen = [each.last_seen for each in found if each.last_seen is not None]
    return Usage(sum(e.requests for e in found), sum(e.errors for e in found), max(seen, default=None))


def _problem(value: str, exists: bool, keys: Mapping[str, str]) -> str:
    if not exists:
        return "cannot be read, for there is no such Secret: create it."
    if not value:
        return "is missing or empty: set it."
    if len(value) < LEAST_KEY:
        return f"has fewer than {LEAST_KEY} characters: make a longer key."
    if not value.isascii() or not value.isprintable():
        return "has characters that no header can carry: make another key."
    if value in keys.values():
        return "is a key that another entry has already: make another."
    return ""


def _subjects(consumers: Iterable[Consumer]) -> bool:
    return any(each.service_account_ref is not None and "Serving" in each.access for each in consumers)


def _policies(io: Io, namespace: str, name: str, parent: GatewayParentRef | None) -> dict[str, LivePolicy]:
    """Policies of a rollout by kind and name, as `SecurityPolicy/NAME`."""
    owner = {owner_label(MODEL_ROLLOUT.kind): label_value(name)}
    return {
        f"{type_.kind}/{each['metadata']['name']}": LivePolicy(
            uid_of(each),
            parse_time(each["metadata"]["creationTimestamp"]),
            access.standing(each, parent) if parent is not None else Standing(),
            frozenset(
                (str(target["name"]), str(target.get("sectionName", "")))
                for target in each["spec"].get("targetRefs") or ()
            ),
        )
        for type_ in (SECURITY_POLICY, BACKEND_TRAFFIC_POLICY, NETWORK_POLICY)
        for each in io.list(type_, namespace, owner)
    }


def _proxy_namespaces(io: Io, parent: GatewayParentRef | None) -> tuple[str, ...]:
    if parent is None:
        return ()
    labels = dict(zip(access.PROXY_LABELS, (parent.name, parent.namespace), strict=True))
    return tuple(sorted({str(each["metadata"]["namespace"]) for each in io.list(POD, labels=labels)}))


def _servers(io: Io, namespace: str, services: Iterable[str]) -> tuple[str, ...]:
    """Base URLs of model servers: addresses and ports behind the Services of the rollout's versions."""
    found = set()
    for service in services:
        for slice_ in io.list(ENDPOINT_SLICE, namespace, {SERVICE_LABEL: predictor_of(service)}):
            found |= set(_addresses(slice_))
    return tuple(sorted(found))


def _addresses(slice_: Mapping[str, Any]) -> Iterable[str]:
    ports = [each["port"] for each in slice_.get("ports") or () if each.get("port")]
    for endpoint in slice_.get("endpoints") or ():
        for address in endpoint.get("addresses") or ():
            for port in ports[:1]:
                yield f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def policy_key(kind_and_name: str, namespace: str) -> Key:
    """The key of a policy that `AccessFacts.policies` has."""
    kind, _, name = kind_and_name.partition("/")
    types = {each.kind: each for each in (SECURITY_POLICY, BACKEND_TRAFFIC_POLICY, NETWORK_POLICY)}
    return types[kind].key(name, namespace)
