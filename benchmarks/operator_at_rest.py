"""The operator at rest: memory, processor, and writes to the Kubernetes API."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from slipway_demo.world import World

WRITES = frozenset({"apply", "create", "delete", "patch", "update", "update_status"})
_LEASES = "leases.coordination.k8s.io"


def measure(world: World, seconds: float) -> dict[str, Any]:
    """Watches the operator for so long. Nothing may be under way in the cluster.

    Returns: memoryMebibytes; processorPercent of one core; writes (all but the Lease's renewals, by resource and verb);
    leaseWritesPerSecond.
    """
    before, start = _metrics(world), time.monotonic()
    time.sleep(seconds)
    after, elapsed = _metrics(world), time.monotonic() - start
    grown = after.requests - before.requests
    writes = {f"{verb} {resource}": count for (verb, resource), count in grown.items() if verb in WRITES}
    leases = sum(count for name, count in writes.items() if name.endswith(_LEASES))
    return {
        "seconds": round(elapsed, 1),
        "memoryMebibytes": round(after.memory / 2**20, 1),
        "processorPercent": round((after.processor - before.processor) / elapsed * 100, 2),
        "writes": {name: count for name, count in writes.items() if not name.endswith(_LEASES)},
        "leaseWritesPerSecond": round(leases / elapsed, 2),
    }


class _Sample:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.memory = self.processor = 0.0
        self.requests: Counter[tuple[str, str]] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "process_resident_memory_bytes":
                    self.memory = sample.value
                elif sample.name == "process_cpu_seconds_total":
                    self.processor = sample.value
                elif sample.name == "slipway_api_requests_total":
                    self.requests[sample.labels["verb"], sample.labels["resource"]] += int(sample.value)


def _metrics(world: World) -> _Sample:
    answer = world.core.connect_get_namespaced_service_proxy_with_path(
        "slipway-operator:8080", "slipway-system", "metrics", _preload_content=False
    )
    return _Sample(answer.data.decode())
