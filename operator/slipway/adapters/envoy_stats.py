"""Statistics of a gateway's Envoy proxies, without Prometheus: one scraper a proxy, shared by all rollouts.

Counters are per proxy pod, start at zero with the proxy, and vanish with the cluster. So this module keeps a short
series of samples in memory for each proxy and cluster, made monotonic across resets, and answers what was counted in a
window, summed over the proxies. Nothing survives a restart: the first sample is a baseline, so a restarted operator has
seen no requests, which no check takes for success.

Requests are counted when they are answered (`upstream_rq_Nxx`), which includes answers that Envoy made itself because a
server did not answer (503, 504). Where the gateway repeats failed requests, the failed try is in no counter of its own
cluster, whatever the failure; the cluster that was asked instead counts it (`upstream_rq_retry`).

Envoy merges its histograms every few seconds, so times lag behind answers: shares of times are computed over the
requests that the histogram has counted (`timed`), never over `answered`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp

logger = logging.getLogger(__name__)

BOUNDS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
"""Upper bounds in milliseconds of Envoy's default histogram that checks may use."""

FILTER: Final = (
    r"^cluster\.(service/[^.]*|httproute/.*-mirror-[0-9]+)"
    r"\.(upstream_rq_(time|retry|[1-5]xx)|membership_healthy|grpc\..*\.[0-9]+)$"
)
"""Makes Envoy print only what is read here; it matches Envoy's own names, not Prometheus' ones."""

INTERVAL: Final = 1.0
TIMEOUT: Final = 3.0
LEASE: Final = 15.0
"""Seconds for which a proxy is scraped after the last rollout asked for it."""
STALE: Final = 5.0
"""Seconds after which a proxy that does not answer counts as unreachable."""
POINTS: Final = 512
"""Samples kept for one proxy and cluster: longer horizons are kept more coarsely."""
_MARGIN: Final = 15.0
_LIMIT: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Counters:
    """What one proxy has counted for one cluster since it knows it.

    :param answered: requests by answer, whatever the code
    :param failed: answers with 5xx
    :param timed: requests in the histogram of times
    :param below: requests within each of `BOUNDS`
    :param repeated: requests that came here after another cluster had failed them
    """

    answered: int = 0
    failed: int = 0
    timed: int = 0
    below: tuple[int, ...] = (0,) * len(BOUNDS)
    repeated: int = 0

    def __add__(self, other: Counters) -> Counters:
        below = tuple(a + b for a, b in zip(self.below, other.below, strict=True))
        return Counters(
            self.answered + other.answered,
            self.failed + other.failed,
            self.timed + other.timed,
            below,
            self.repeated + other.repeated,
        )

    def since(self, earlier: Counters) -> Counters:
        """The increase; a counter that fell was reset, and has counted from zero."""
        answers_reset = self.answered < earlier.answered or self.failed < earlier.failed
        times_reset = self.timed < earlier.timed
        first = Counters() if answers_reset else earlier
        times = Counters() if times_reset else earlier
        below = tuple(max(0, a - b) for a, b in zip(self.below, times.below, strict=True))
        return Counters(
            self.answered - first.answered,
            self.failed - first.failed,
            self.timed - times.timed,
            below,
            self.repeated - (0 if self.repeated < earlier.repeated else earlier.repeated),
        )


@dataclass(frozen=True)
class WindowStats:
    """What the gateway counted for one version in one window.

    :param requests: answered requests
    :param failed: of these, answers with 5xx
    :param timed: requests whose time is known by now (some seconds behind `requests`)
    :param below: of the timed ones, how many within a bound (milliseconds)
    :param seconds: how much of the window was really watched
    :param repeated: of the requests, those that another version had failed before
    """

    requests: int = 0
    failed: int = 0
    timed: int = 0
    below: Mapping[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    repeated: int = 0

    def __add__(self, other: WindowStats) -> WindowStats:
        """What two clusters counted in the same window."""
        below = {bound: self.below.get(bound, 0) + other.below.get(bound, 0) for bound in {*self.below, *other.below}}
        return WindowStats(
            self.requests + other.requests,
            self.failed + other.failed,
            self.timed + other.timed,
            below,
            max(self.seconds, other.seconds),
            self.repeated + other.repeated,
        )

    def with_hidden(self, other: WindowStats) -> WindowStats:
        """With the failures that clients did not see, since the other version was asked instead."""
        return replace(self, requests=self.requests + other.repeated, failed=self.failed + other.repeated)


@dataclass(frozen=True)
class Tally:
    """Everything that was counted since a mark was first seen, however long ago.

    :param watcher: names this counting; with another operator, or after a gap, another one begins at zero
    """

    watcher: str = ""
    counts: Mapping[str, Counters] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """The gateway's statistics, for one rollout.

    :param proxies: how many proxies there are
    :param reachable: how many of them answered lately
    :param known: clusters that every reachable proxy knows and finds healthy servers for
    :param windows: by cluster and window length in seconds
    :param tally: since the mark, where that was asked for
    """

    proxies: int = 0
    reachable: int = 0
    known: frozenset[str] = frozenset()
    windows: Mapping[tuple[str, float], WindowStats] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def with_hidden(self, one: str, other: str) -> Reading:
        """With the failures that two clusters hid for each other, where failed requests are repeated."""
        pairs = {one: other, other: one}
        return replace(
            self,
            windows={
                (cluster, length): stats.with_hidden(self.windows[pairs[cluster], length])
                if cluster in pairs and (pairs[cluster], length) in self.windows
                else stats
                for (cluster, length), stats in self.windows.items()
            },
        )


def cluster_name(namespace: str, service: str, port: int, protocol: str = "http") -> str:
    """The Envoy cluster that Envoy Gateway makes for a Service with `mergeBackends`.

    :param protocol: `http2` where the Service's port says `kubernetes.io/h2c`
    """
    return f"service/{namespace}/{service}/{port}/{protocol}"


# ---- the text ------------------------------------------------------------------------------------------------------
_LABEL = 'envoy_cluster_name="'
_XX = "envoy_cluster_upstream_rq_xx{"
_RETRY = "envoy_cluster_upstream_rq_retry{"
_COUNT = "envoy_cluster_upstream_rq_time_count{"
_BUCKET = "envoy_cluster_upstream_rq_time_bucket{"
_HEALTHY = "envoy_cluster_membership_healthy{"
_GRPC_PREFIX = "envoy_cluster_grpc_"
_GRPC = re.compile(r"envoy_cluster_grpc_(?:\w+_)?([0-9]{1,2})\{")
"""Answers by gRPC code, where the gateway's EnvoyProxy has `enableGRPCStats`; their HTTP code is always 200.

Envoy takes one word for the service and one for the method out of the name: of a service with a package, words stay.
"""
_GRPC_FAILED = frozenset({"2", "4", "12", "13", "14", "15"})
"""UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: what is 5xx over HTTP."""
_AT = {str(bound): index for index, bound in enumerate(BOUNDS)}


@dataclass(slots=True)
class _Building:
    answered: int = 0
    failed: int = 0
    timed: int = 0
    repeated: int = 0
    healthy: int = 0
    below: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))
    grpc: int = 0
    grpc_failed: int = 0


@dataclass(frozen=True)
class Scrape:
    """One proxy's answer.

    :param counters: by cluster
    :param healthy: clusters with at least one healthy server
    :param grpc: counters by gRPC codes, of clusters that were asked by gRPC
    """

    counters: Mapping[str, Counters]
    healthy: frozenset[str]
    grpc: Mapping[str, Counters] = field(default_factory=dict)


def parse(text: str) -> Scrape:
    """Read Envoy's Prometheus text. Lines of other metrics are skipped without being taken apart.

    Written by hand because a gateway with many models prints tens of thousands of lines each second.
    """
    found: dict[str, _Building] = {}
    for line in text.splitlines():
        if not line.startswith("envoy_cluster_"):
            continue
        if not line.startswith((_BUCKET, _XX, _RETRY, _COUNT, _HEALTHY, _GRPC_PREFIX)):
            continue
        begin = line.find(_LABEL) + len(_LABEL)
        cluster = line[begin : line.find('"', begin)]
        building = found.get(cluster)
        if building is None:
            building = found[cluster] = _Building()
        if line.startswith(_BUCKET):
            mark = line.rfind('le="') + 4
            index = _AT.get(line[mark : line.find('"', mark)])
            if index is not None:
                building.below[index] = _value(line)
        elif line.startswith(_XX):
            value = _value(line)
            building.answered += value
            if 'envoy_response_code_class="5"' in line:
                building.failed += value
        elif line.startswith(_COUNT):
            building.timed = _value(line)
        elif code := _GRPC.match(line):
            building.grpc += _value(line)
            building.grpc_failed += _value(line) if code[1] in _GRPC_FAILED else 0
        elif line.startswith(_RETRY):
            building.repeated = _value(line)
        elif line.startswith(_HEALTHY):
            building.healthy = _value(line)
    counters = {name: Counters(b.answered, b.failed, b.timed, tuple(b.below), b.repeated) for name, b in found.items()}
    grpc = {name: replace(counters[name], answered=b.grpc, failed=b.grpc_failed) for name, b in found.items() if b.grpc}
    return Scrape(counters, frozenset(name for name, b in found.items() if b.healthy), grpc)


def _value(line: str) -> int:
    return int(float(line[line.rfind(" ") + 1 :]))


# ---- series ----------------------------------------------------------------------------------------------------------
class Series:
    """Samples of one cluster on one proxy, as monotonic sums since the first one.

    :param horizon: seconds for which samples are kept
    """

    def __init__(self, horizon: float) -> None:
        self.horizon = horizon
        self._raw: Counters | None = None
        self._points: deque[tuple[float, Counters]] = deque()
        self._settled = True  # the last point is kept; else the next sample takes its place

    def add(self, at: float, raw: Counters) -> None:
        """Take a sample in; `at` is monotonic. The first is the baseline: what it has counted is before our time."""
        total = Counters() if self._raw is None else self._points[-1][1] + raw.since(self._raw)
        self._raw = raw
        if not self._settled:
            self._points.pop()
        spacing = (self.horizon + _MARGIN) / POINTS
        self._settled = not self._points or at - self._points[-1][0] >= spacing
        self._points.append((at, total))
        while len(self._points) > 2 and self._points[1][0] < at - self.horizon - _MARGIN:
            self._points.popleft()

    def increase(self, since: float) -> tuple[Counters, float]:
        """What was counted after `since`, and how long before the last sample the first one used was taken."""
        if not self._points:
            return Counters(), 0.0
        first = self._points[0]
        for point in reversed(self._points):
            if point[0] <= since:
                first = point
                break
        last = self._points[-1]
        return last[1].since(first[1]), last[0] - max(first[0], since)

    @property
    def total(self) -> Counters:
        """What was counted since the first sample."""
        return self._points[-1][1] if self._points else Counters()

    @property
    def newest(self) -> float:
        """When the last sample was taken; -inf before the first."""
        return self._points[-1][0] if self._points else float("-inf")

    def __len__(self) -> int:
        return len(self._points)


# ---- scraping --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Interest:
    """What a rollout wants to know.

    :param proxies: base URLs of the proxies' statistics, such as `http://10.0.0.7:19001`
    :param clusters: names of Envoy clusters
    :param windows: lengths in seconds
    :param mark: names the present state of the rollout; windows never reach back before the mark was first seen
    :param tally: whether everything since the mark is to be counted too
    :param grpc: whether clients ask by gRPC: then only answers with a gRPC code count
    """

    proxies: tuple[str, ...]
    clusters: tuple[str, ...]
    windows: tuple[float, ...]
    mark: str
    tally: bool = False
    grpc: bool = False


class _Tallying:
    """Sums up what series gain from look to look, so that no samples of long ago have to be kept."""

    def __init__(self, before: Mapping[tuple[str, str], Counters]) -> None:
        self._watcher = secrets.token_hex(8)
        self._seen = dict(before)
        self._counts: dict[str, Counters] = {}

    def add(self, now: Mapping[tuple[str, str], Counters]) -> Tally:
        """Take in the totals of all series, by proxy and cluster. A series that is new has counted from zero."""
        for (proxy, cluster), total in now.items():
            gain = total.since(self._seen.get((proxy, cluster), Counters()))
            self._counts[cluster] = self._counts.get(cluster, Counters()) + gain
        self._seen.update(now)
        return Tally(self._watcher, dict(self._counts))


@dataclass(slots=True)
class _Tracking:
    interest: Interest
    until: float
    marked_at: float
    tallying: _Tallying | None = None


class _Proxy:
    """One proxy: its series, and the task that scrapes it while somebody is interested."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.series: dict[str, Series] = {}
        self.healthy: frozenset[str] = frozenset()
        self.scraped_at = float("-inf")
        self.task: asyncio.Task[None] | None = None


class GatewayStatistics:
    """Watches the proxies that rollouts ask about, and only while they ask.

    :param interval: seconds between two scrapes of a proxy
    :param clock: monotonic seconds
    """

    def __init__(self, *, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._tracked: dict[str, _Tracking] = {}
        self._proxies: dict[str, _Proxy] = {}

    def read(self, owner: str, interest: Interest) -> Reading:
        """Renew the interest of `owner` (a rollout) for `LEASE` seconds, and answer from what is known.

        Never waits for a proxy: the first call starts the scraping, and a later one has the numbers.
        """
        now = self._clock()
        self._drop_old(now)
        before = self._tracked.get(owner)
        kept = before is not None and before.interest.mark == interest.mark
        marked_at = before.marked_at if before is not None and kept else now
        tallying = before.tallying if before is not None and kept else None
        if interest.tally and tallying is None:
            tallying = _Tallying(self._totals(interest))
        self._tracked[owner] = _Tracking(interest, now + LEASE, marked_at, tallying)
        for base in interest.proxies:
            self._watch(base)
        tally = tallying.add(self._totals(interest)) if tallying is not None else Tally()
        return self._reading(interest, marked_at, now, tally)

    def forget(self, owner: str) -> None:
        """The rollout has no questions any more; scrapers that nobody needs end by themselves."""
        self._tracked.pop(owner, None)

    async def close(self) -> None:
        """End all scrapers and close the connections."""
        tasks = [proxy.task for proxy in self._proxies.values() if proxy.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._proxies.clear()
        self._tracked.clear()

    def _totals(self, interest: Interest) -> dict[tuple[str, str], Counters]:
        return {
            (base, cluster): proxy.series[cluster].total
            for base, proxy in self._proxies.items()
            for cluster in interest.clusters
            if cluster in proxy.series
        }

    def _reading(self, interest: Interest, marked_at: float, now: float, tally: Tally) -> Reading:
        # A proxy that is gone from the list has counted requests of this window: its series count until they are old.
        live = [self._proxies[base] for base in dict.fromkeys(interest.proxies)]
        reachable = [proxy for proxy in live if now - proxy.scraped_at <= STALE]
        known = (
            frozenset.intersection(*(proxy.healthy for proxy in reachable)) & frozenset(interest.clusters)
            if reachable
            else frozenset[str]()
        )
        windows = {
            (cluster, window): self._window(cluster, max(now - window, marked_at))
            for cluster in interest.clusters
            for window in interest.windows
        }
        return Reading(len(live), len(reachable), known, windows, tally)

    def _window(self, cluster: str, since: float) -> WindowStats:
        total, seconds = Counters(), 0.0
        for proxy in self._proxies.values():
            series = proxy.series.get(cluster)
            if series is not None and series.newest > since:
                increase, watched = series.increase(since)
                total, seconds = total + increase, max(seconds, watched)
        below = dict(zip(BOUNDS, total.below, strict=True))
        return WindowStats(total.answered, total.failed, total.timed, below, seconds, total.repeated)

    def _watch(self, base: str) -> None:
        proxy = self._proxies.setdefault(base, _Proxy(base))
        if proxy.task is None or proxy.task.done():
            proxy.task = asyncio.get_running_loop().create_task(self._scrape_while_wanted(proxy), name=f"scrape {base}")

    async def _scrape_while_wanted(self, proxy: _Proxy) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            while wanted := self._wanted(proxy.base):
                begin = self._clock()
                await self._scrape(session, proxy, wanted)
                await asyncio.sleep(max(0.05, self._interval - (self._clock() - begin)))

    def _drop_old(self, now: float) -> None:
        """Forget proxies that nobody scrapes any more and whose samples are too old for any window."""
        for base, proxy in list(self._proxies.items()):
            horizon = max((series.horizon for series in proxy.series.values()), default=0.0)
            if proxy.task is not None and proxy.task.done() and now - proxy.scraped_at > horizon:
                del self._proxies[base]

    def _wanted(self, base: str) -> dict[str, float]:
        """Clusters to sample on a proxy, with the longest window that somebody asks for."""
        now = self._clock()
        for owner in [name for name, tracking in self._tracked.items() if tracking.until < now]:
            del self._tracked[owner]
        wanted: dict[str, float] = {}
        for tracking in self._tracked.values():
            if base in tracking.interest.proxies:
                horizon = max(tracking.interest.windows, default=0.0)
                for cluster in tracking.interest.clusters:
                    wanted[cluster] = max(horizon, wanted.get(cluster, 0.0))
        return wanted

    async def _scrape(self, session: aiohttp.ClientSession, proxy: _Proxy, wanted: Mapping[str, float]) -> None:
        try:
            scrape = parse(await _get(session, proxy.base))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if self._clock() - proxy.scraped_at > STALE:
                logger.debug("%s does not answer: %s", proxy.base, error or type(error).__name__)
            return
        proxy.scraped_at = self._clock()
        proxy.healthy = scrape.healthy
        self._sample(proxy, scrape, wanted)

    def _sample(self, proxy: _Proxy, scrape: Scrape, wanted: Mapping[str, float]) -> None:
        grpc = {cluster for each in self._tracked.values() if each.interest.grpc for cluster in each.interest.clusters}
        for cluster in [name for name in proxy.series if name not in wanted]:
            del proxy.series[cluster]
        for cluster, horizon in wanted.items():
            series = proxy.series.setdefault(cluster, Series(horizon))
            series.horizon = max(series.horizon, horizon)
            # Envoy knows a cluster before it has counted anything: absent counters are zeros.
            counted = scrape.grpc if cluster in grpc else scrape.counters
            series.add(proxy.scraped_at, counted.get(cluster, Counters()))


async def _get(session: aiohttp.ClientSession, base: str) -> str:
    # `usedonly` leaves out counters that never counted: most of them, on most proxies.
    query = {"usedonly": "", "filter": FILTER}
    async with session.get(f"{base}/stats/prometheus", params=query) as answer:
        answer.raise_for_status()
        parts: list[bytes] = []
        size = 0
        async for part in answer.content.iter_chunked(2**16):
            size += len(part)
            if size > _LIMIT:
                raise ValueError(f"more than {_LIMIT} bytes of statistics")
            parts.append(part)
        return b"".join(parts).decode()


def proxy_urls(pods: Iterable[Mapping[str, object]], port: int) -> tuple[str, ...]:
    """Base URLs of the proxies' statistics, from its pods; ended ones and those without address are left out."""
    urls = []
    for pod in pods:
        status = pod.get("status")
        if isinstance(status, Mapping) and status.get("podIP") and status.get("phase") not in ("Succeeded", "Failed"):
            address = str(status["podIP"])
            urls.append(f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}")
    return tuple(sorted(urls))
