"""Callers that the gateway names: what is taken for a name, and how many are told apart."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from slipway_server import metrics
from slipway_server.requestlog import consumer_of

PLANNER = "system:serviceaccount:crews:planner"


@pytest.mark.parametrize("name", ["site.0", PLANNER, "a", "x" * 253])
def test_names_that_a_gateway_gives_are_taken(name: str) -> None:
    assert consumer_of(name) == name


@pytest.mark.parametrize("header", [None, "", 'a"} 1', "a b", "a\nb", "é", "x" * 1000])
def test_anything_else_is_no_name(header: str | None) -> None:
    assert consumer_of(header) is None


def counted(consumer: str, code: int) -> float:
    labels = {"consumer": consumer, "code": str(code)}
    return REGISTRY.get_sample_value("slipway_consumer_requests_total", labels) or 0.0


def test_callers_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_known", set())
    monkeypatch.setattr(metrics, "CONSUMERS_KEPT", 3)
    before = counted("other", 200)
    for number in range(5):
        metrics.count_consumer(f"bound-{number}", 200)
    metrics.count_consumer("bound-0", 200)
    metrics.count_consumer("bound-0", 429)
    assert [counted(f"bound-{number}", 200) for number in range(5)] == [2, 1, 1, 0, 0]
    assert counted("other", 200) - before == 2
    assert counted("bound-0", 429) == 1
