"""All Prometheus metrics of the operator, in one place so that the documentation can be checked against it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Metrics of one operator process (tests make one for each runtime that they start)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "slipway_api_requests",
            "Requests to the Kubernetes API; code 0 means that no answer came.",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "slipway_api_request_seconds",
            "Duration of requests to the Kubernetes API.",
            ("verb",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reconciles = Counter(
            "slipway_reconciles",
            "Finished reconciles by kind and outcome (Done, Requeued, or the reason of the error).",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "slipway_reconcile_seconds",
            "Duration of reconciles.",
            ("kind",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.retries = Counter(
            "slipway_reconcile_retries",
            "Reconciles that failed and were queued again.",
            ("kind",),
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "slipway_queue_depth", "Keys that are due and wait for a worker.", registry=self.registry
        )
        self.queue_running = Gauge("slipway_queue_running", "Keys that are reconciled now.", registry=self.registry)
        self.queue_lag = Gauge(
            "slipway_queue_lag_seconds", "How long the oldest due key has waited.", registry=self.registry
        )
        self.watch_events = Counter(
            "slipway_watch_events", "Events that arrived from watches.", ("resource",), registry=self.registry
        )
        self.stored_objects = Gauge(
            "slipway_stored_objects", "Objects held in memory.", ("resource",), registry=self.registry
        )
        self.webhook_calls = Counter(
            "slipway_webhook_calls",
            "Calls of hooks and alerts by outcome: Ok (2xx), Failed, NotSent (refused before it was sent).",
            ("outcome",),
            registry=self.registry,
        )
        self.notices_dropped = Counter(
            "slipway_notices_dropped",
            "Alerts and events for receivers that were given up: the queue was full, or the receiver away too long.",
            registry=self.registry,
        )
        self.leader = Gauge("slipway_leader", "1 while this process holds the Lease.", registry=self.registry)
        self.loop_lag = Gauge(
            "slipway_loop_lag_seconds", "Delay of the last turn of the event loop.", registry=self.registry
        )

    def write_requests(self) -> dict[tuple[str, str, str], float]:
        """Writes so far by (verb, resource, code); reads (get, list, watch) are left out. For tests and benchmarks."""
        found: dict[tuple[str, str, str], float] = {}
        for metric in self.requests.collect():
            for sample in metric.samples:
                labels = sample.labels
                if sample.name.endswith("_total") and labels["verb"] not in ("get", "list", "watch"):
                    found[(labels["verb"], labels["resource"], labels["code"])] = sample.value
        return found
