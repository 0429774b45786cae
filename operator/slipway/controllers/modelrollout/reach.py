"""Whether requests for a version would find its servers, as far as the gateway tells. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.controllers.modelrollout.facts import Snapshot

SETTLE = timedelta(seconds=5)
"""How long a gateway without statistics gets to bring a new cluster to its proxies."""
UNKNOWN_CLUSTER = timedelta(seconds=30)
"""How long statistics may not know a cluster until we go on without them (they never will without `mergeBackends`)."""


def is_reachable(snapshot: Snapshot, service: str, now: datetime) -> bool:
    """Whether every proxy knows a version's cluster: by its statistics, or, without any, after a while."""
    pin = snapshot.pins.get(service)
    if pin is None or pin.deleting or not pin.acceptance.accepted:
        return False
    reading, age = snapshot.reading, now - pin.created
    if snapshot.cluster_of(service) in reading.known:
        return True
    return age >= (UNKNOWN_CLUSTER if reading.reachable else SETTLE)


def may_join(snapshot: Snapshot, service: str, now: datetime) -> bool:
    """Whether a version without requests may stand in the weighted route."""
    server = snapshot.servers.get(service)
    if server is None or server.deleting:
        return False
    attached = snapshot.route is not None and service in snapshot.route.weights
    return attached or (server.ready and is_reachable(snapshot, service, now))
