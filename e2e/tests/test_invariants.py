"""The rules that a watcher holds rollouts to: each is broken once here, and a whole way breaks none."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from slipway_demo.invariants import ENDPOINTS, ROLLOUT, ROUTE, Invariants, Write

OLD, NEW = "prices-old", "prices-new"
SERVICES = {OLD: "v1", NEW: "v2"}


class Cluster:
    """Writes in the order of the calls."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self._revisions = count(1)

    def _write(self, kind: str, name: str, body: dict[str, Any], *, gone: bool = False, **meta: Any) -> None:
        version = str(next(self._revisions))
        metadata = {"namespace": "shop", "name": name, "resourceVersion": version, **meta}
        self.writes.append(Write.of(kind, {"metadata": metadata, **body}, gone=gone))

    def servers(self, service: str, ready: int, *, waiting: int = 0) -> None:
        entries = [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}] * ready
        entries += [{"addresses": ["10.0.0.2"], "conditions": {"ready": False}}] * waiting
        labels = {"kubernetes.io/service-name": f"{service}-predictor"}
        self._write(ENDPOINTS, f"{service}-predictor-x1", {"endpoints": entries}, labels=labels)

    def status(self, stable: str | None, candidate: str | None = None, since: str = "t1", **more: Any) -> None:
        versions = [
            {"name": name, "service": service, "desiredWeight": more.pop(service, 0)}
            for service, name in SERVICES.items()
        ]
        told = {"stable": stable, "candidate": candidate, "candidateSince": since, "versions": versions, **more}
        self._write(ROLLOUT, "prices", {"status": told})

    def route(
        self, weights: dict[str, int], *, headers: str = "", copies: str = "", gone: bool = False, name: str = "prices"
    ) -> None:
        refs = [{"name": f"{service}-predictor", "weight": weight} for service, weight in weights.items()]
        rule: dict[str, Any] = {"name": "model", "backendRefs": refs, "filters": [{"type": "URLRewrite"}]}
        if copies:
            target = {"backendRef": {"name": f"{copies}-predictor"}}
            rule["filters"].append({"type": "RequestMirror", "requestMirror": target})
        rules = [rule]
        if headers:
            rules.append({"name": "headers", "backendRefs": [{"name": f"{headers}-predictor", "weight": 1}]})
        self._write(ROUTE, name, {"spec": {"rules": rules}}, gone=gone)

    def broken(self) -> list[str]:
        judge = Invariants()
        judge.take(reversed(self.writes))
        return [sentence.partition(": ")[2] for sentence in judge.broken]


@pytest.fixture
def cluster() -> Cluster:
    """Version 1 serves, version 2 is ready and has no requests."""
    made = Cluster()
    made.servers(OLD, 1)
    made.status("v1", **{OLD: 100})
    made.route({OLD: 100})
    made.status("v1", "v2", **{OLD: 100})
    made.servers(NEW, 1)
    made.route({OLD: 100, NEW: 0})
    return made


def test_a_whole_way_breaks_nothing(cluster: Cluster) -> None:
    cluster.route({OLD: 100, NEW: 0}, copies=NEW)
    for weight in (0, 5, 25, 100):
        cluster.route({OLD: 100 - weight, NEW: weight}, headers=NEW)
        cluster.status("v1", "v2", **{OLD: 100 - weight, NEW: weight})
    cluster.route({NEW: 100})
    cluster.status("v2", **{NEW: 100})
    # A person goes back.
    cluster.status("v2", "v1", since="t2", **{NEW: 100})
    cluster.route({NEW: 100, OLD: 0})
    cluster.route({NEW: 0, OLD: 100})
    cluster.status("v1", rejected=[{"name": "v2"}], **{OLD: 100})
    cluster.route({OLD: 100})
    cluster.servers(NEW, 0)
    cluster.route({}, gone=True)
    assert cluster.broken() == []


def test_a_failing_version_may_come_back_as_another_attempt(cluster: Cluster) -> None:
    cluster.route({OLD: 75, NEW: 25})
    cluster.route({OLD: 100})
    cluster.status("v1", rejected=[{"name": "v2"}], **{OLD: 100})
    cluster.status("v1", "v2", since="t2", **{OLD: 100})
    cluster.route({OLD: 75, NEW: 25})
    assert cluster.broken() == []


def test_weights_add_up(cluster: Cluster) -> None:
    cluster.route({OLD: 90, NEW: 5})
    cluster.status("v1", "v2", **{OLD: 90, NEW: 5})
    assert cluster.broken() == [
        "weights add up to 95: {'prices-old': 90, 'prices-new': 5}.",
        "status.versions wants weights that add up to 95.",
    ]


@pytest.mark.parametrize("beside", ["headers", "copies"])
def test_nothing_is_sent_to_a_version_without_servers(cluster: Cluster, beside: str) -> None:
    cluster.servers(NEW, 0, waiting=1)
    cluster.route({OLD: 100, NEW: 0}, **{beside: NEW})
    cluster.route({OLD: 95, NEW: 5})
    assert cluster.broken() == [
        "prices-new gets requests (0 %), and none of its servers is ready.",
        "prices-new gets requests (5 %), and none of its servers is ready.",
    ]


def test_a_version_that_loses_its_servers_breaks_nothing_until_it_gets_more(cluster: Cluster) -> None:
    cluster.route({OLD: 95, NEW: 5})
    cluster.servers(NEW, 0)
    cluster.route({OLD: 95, NEW: 5})
    assert cluster.broken() == []


@pytest.mark.parametrize("route", [{"weights": {OLD: 95, NEW: 5}}, {"weights": {OLD: 100}, "headers": NEW}])
def test_a_rejected_version_gets_nothing(cluster: Cluster, route: dict[str, Any]) -> None:
    cluster.route(**route)
    cluster.status("v1", rejected=[{"name": "v2"}], **{OLD: 100})
    (sentence,) = cluster.broken()
    assert sentence.startswith("v2 is rejected, and gets requests")


def test_a_weight_does_not_fall_but_to_zero(cluster: Cluster) -> None:
    cluster.route({OLD: 75, NEW: 25})
    cluster.route({OLD: 90, NEW: 10})
    assert "the weight of v2 falls from 25 to 10." in cluster.broken()


def test_an_attempt_that_ended_does_not_go_on(cluster: Cluster) -> None:
    cluster.route({OLD: 75, NEW: 25})
    cluster.route({OLD: 100, NEW: 0})
    cluster.route({OLD: 75, NEW: 25})
    assert cluster.broken() == ["the weight of v2 rises to 25 after its attempt had ended."]


def test_other_routes_are_not_looked_at(cluster: Cluster) -> None:
    cluster.route({OLD: 1}, name="somebody-elses")
    assert cluster.broken() == []
