"""A steady client: so many requests a second, whatever the answers do, and every answer counted.

    python -m flights.client --url http://127.0.0.1:8080/flight-delays --model flight-delays --rate 20 --seconds 60

Open loop: a request is sent when its time has come, not when an answer has arrived, so slow answers do not thin the
load out. Each answer is one of:

    ok        status below 500 from a model server
    version   a 5xx that a version of the model gave: its header `x-slipway-version` is there
    lost      anything else: connection refused or reset, no answer in time, or an error that the gateway made

`--live` prints counters as JSON lines to stderr; the summary goes to stdout. Exit code 1 when a request was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp

VERSION_HEADER = "x-slipway-version"
_LATE = 0.1
_NEWCOMER_MONTHS = [8, 9]
Kind = Literal["ok", "version", "lost"]
Instance = dict[str, Any]


@dataclass
class Tally:
    """Every answer, counted. Latencies are milliseconds."""

    sent: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    by_version: dict[str, Counter[Kind]] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    failed_ids: list[str] = field(default_factory=list)
    """Request ids of the first answers with a version's 5xx, for `slipway why`."""
    last_id: str = ""
    late_starts: int = 0
    """Requests sent more than a tenth of a second late: the client, not the server, was the bottleneck."""

    def answer(self, status: int, version: str | None, request_id: str | None, milliseconds: float) -> None:
        """Count an answer."""
        kind = classify(status, version)
        self.kinds[kind] += 1
        self.statuses[str(status)] += 1
        self.latencies.append(milliseconds)
        self.last_id = request_id or self.last_id
        if version is not None:
            self.by_version.setdefault(version, Counter())[kind] += 1
        if kind == "lost":
            self.losses[f"{status} without {VERSION_HEADER}"] += 1
        elif kind == "version" and request_id and len(self.failed_ids) < 10:
            self.failed_ids.append(request_id)

    def lose(self, why: str) -> None:
        """Count a request without an answer."""
        self.kinds["lost"] += 1
        self.losses[why] += 1

    def summary(self) -> dict[str, Any]:
        """The JSON form."""
        ordered = sorted(self.latencies)
        return {
            "sent": self.sent,
            "ok": self.kinds["ok"],
            "versionErrors": self.kinds["version"],
            "lost": self.kinds["lost"],
            "statuses": dict(sorted(self.statuses.items())),
            "versions": {name: dict(kinds) for name, kinds in sorted(self.by_version.items())},
            "losses": dict(self.losses),
            "latencyMilliseconds": {f"p{q}": quantile(ordered, q) for q in (50, 90, 99)} if ordered else {},
            "lateStarts": self.late_starts,
            "failedRequestIds": self.failed_ids,
            "lastRequestId": self.last_id,
        }


def classify(status: int, version: str | None) -> Kind:
    """What an answer means: only a model server sets the version's header."""
    if version is None:
        return "lost"
    return "version" if status >= 500 else "ok"


def quantile(ordered: Sequence[float], percent: int) -> float:
    """Nearest-rank quantile of sorted values, in thousandths."""
    rank = max(0, -(-len(ordered) * percent // 100) - 1)
    return round(ordered[rank], 3)


@dataclass(frozen=True)
class Newcomer:
    """Flights of a carrier that begins to fly in mid-run: every `every`-th request after `after` seconds."""

    instances: Sequence[Instance]
    after: float
    every: int


@dataclass(frozen=True)
class Load:
    """What to send. `seconds` bounds the run; None runs until `stop` is set."""

    url: str
    """URL of the rollout, without the protocol's path."""
    model: str
    rate: float
    seconds: float | None
    instances: Sequence[Instance]
    host: str | None = None
    """Host header, where the gateway tells models apart by it."""
    timeout: float = 10.0
    newcomer: Newcomer | None = None


async def run(load: Load, tally: Tally, stop: asyncio.Event) -> None:
    """Send until the time is over or `stop` is set, then wait for the last answers."""
    headers = {"host": load.host} if load.host else {}
    limits = aiohttp.ClientTimeout(total=load.timeout)
    url = f"{load.url.rstrip('/')}/v1/models/{load.model}:predict"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limits, headers=headers) as session,
        asyncio.TaskGroup() as requests,
    ):
        began = time.monotonic()
        while load.seconds is None or tally.sent < load.seconds * load.rate:
            due = tally.sent / load.rate
            if await _stopped(stop, began + due - time.monotonic()):
                break
            tally.late_starts += time.monotonic() - began - due > _LATE
            requests.create_task(_send(session, url, choose(load, tally.sent, due), tally))
            tally.sent += 1


def choose(load: Load, number: int, seconds: float) -> Instance:
    """The instance of the request with this number, due after so many seconds."""
    newcomer = load.newcomer
    if newcomer and seconds >= newcomer.after and number % newcomer.every == 0:
        return newcomer.instances[number // newcomer.every % len(newcomer.instances)]
    return load.instances[number % len(load.instances)]


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until `stop` is set."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await stop.wait()
    except TimeoutError:
        return stop.is_set()


async def _send(session: aiohttp.ClientSession, url: str, instance: Instance, tally: Tally) -> None:
    started = time.perf_counter()
    try:
        async with session.post(url, json={"instances": [instance]}) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        tally.lose(type(error).__name__)
        return
    milliseconds = (time.perf_counter() - started) * 1000
    tally.answer(answer.status, answer.headers.get(VERSION_HEADER), answer.headers.get("x-request-id"), milliseconds)


async def tell(tally: Tally, every: float, show: Callable[[dict[str, Any]], None]) -> None:
    """Show the counters again and again, until cancelled."""
    while True:
        await asyncio.sleep(every)
        show(tally.summary())


async def main(args: argparse.Namespace) -> Tally:
    """Run the load that the command line asks for; SIGINT and SIGTERM end it early, with its summary."""
    tally, stop = Tally(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    live = asyncio.create_task(tell(tally, 1.0, _print_live)) if args.live else None
    try:
        await run(_load(args), tally, stop)
    finally:
        if live:
            live.cancel()
    return tally


def _print_live(counters: dict[str, Any]) -> None:
    print(json.dumps(counters), file=sys.stderr, flush=True)


def _load(args: argparse.Namespace) -> Load:
    newcomer = None
    if args.newcomer:
        found = _package_instances(_NEWCOMER_MONTHS, 100, args.newcomer)
        newcomer = Newcomer(found, args.newcomer_after, max(1, round(100 / args.newcomer_percent)))
    if args.instances:
        instances = [json.loads(line) for line in Path(args.instances).read_text().splitlines()]
    else:
        instances = _package_instances(args.months, 2000, None)
    return Load(args.url, args.model, args.rate, args.seconds, instances, args.host, args.timeout, newcomer)


def _package_instances(months: Sequence[int], count: int, carrier: str | None) -> list[Instance]:
    from flights.data import instances

    found = instances(months, count, carrier=carrier)
    if not found:
        raise SystemExit(f"No flight of {carrier} in months {months}: name another carrier with --newcomer.")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m flights.client", description="Steady load with real flights.")
    top.add_argument("--url", required=True, help="URL of the rollout, such as http://127.0.0.1:8080/flight-delays.")
    top.add_argument("--model", default="flight-delays", help="Name of the ModelRollout.")
    top.add_argument("--host", help="Host header.")
    top.add_argument("--rate", type=float, default=20, help="Requests a second.")
    top.add_argument("--seconds", type=float, default=60, help="How long.")
    top.add_argument("--timeout", type=float, default=10, help="Seconds after which a request is lost.")
    top.add_argument("--months", type=_months, default=[6, 7], help="Months whose flights are asked about.")
    top.add_argument("--instances", help="File with instances as JSON lines, instead of months.")
    top.add_argument("--newcomer", help="Carrier that begins to fly in mid-run, such as OO.")
    top.add_argument("--newcomer-after", type=float, default=10, help="Seconds after which it does.")
    top.add_argument("--newcomer-percent", type=float, default=20, help="Its share of requests from then on.")
    top.add_argument("--live", action="store_true", help="Print counters to stderr every second.")
    return top


def _months(text: str) -> list[int]:
    from flights.data import months

    return months(text)


if __name__ == "__main__":
    counted = asyncio.run(main(parser().parse_args()))
    print(json.dumps(counted.summary(), indent=2))
    raise SystemExit(1 if counted.kinds["lost"] else 0)
