"""Writes the tables and plots of docs/benchmarks.md from benchmarks/results, so that no number is copied by hand."""

from __future__ import annotations

import json
import re
import statistics as numbers
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.charts import Panel

_HERE = Path(__file__).parent
RESULTS = _HERE / "results"
PAGE = _HERE.parent / "docs" / "benchmarks.md"
IMAGES = PAGE.parent / "images"
TARGET_SECONDS = 3.0
"""Median time from the first failing window's end to 0 % weight."""

Result = Mapping[str, Any]
_MARKED = re.compile(r"(<!-- begin (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
TITLES = {"slipway": "Slipway", "argo-rollouts": "Argo Rollouts 1.9.1", "flagger": "Flagger 1.44.0"}


def files() -> dict[Path, str]:
    """What the results make of the page and of its plots."""
    results = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    made: dict[Path, str] = {PAGE: render(PAGE.read_text(), results)}
    if "rollouts" in results:
        made[IMAGES / "benchmark-rollouts.svg"] = rollouts_plot(results["rollouts"])
    if "reaction" in results:
        made[IMAGES / "benchmark-reaction.svg"] = reaction_plot(results["reaction"])
    return made


def write() -> None:
    """Write them."""
    for file, text in files().items():
        file.write_text(text)


def stale() -> list[Path]:
    """Files that say something else than the results."""
    return [file for file, text in files().items() if not file.exists() or file.read_text() != text]


def render(page: str, results: Mapping[str, Result]) -> str:
    """The page with each marked part written anew; a part without results says so.

    :raises KeyError: the page marks a part that nobody writes
    """

    def part(match: re.Match[str]) -> str:
        result, table = _TABLES[match["name"]]
        text = table(results[result]) if result in results else "*Not measured yet.*\n"
        return f"{match[1]}{text}{match[3]}"

    return _MARKED.sub(part, page)


# ---- reaction --------------------------------------------------------------------------------------------------------
def reaction(result: Result) -> str:
    """Runs with and without a kill."""
    rows = [
        ("the operator runs", *_seconds(result["running"])),
        ("its leader is killed at that moment", *_seconds(result["killed"])),
    ]
    lead = result["killed"]["standbyLed"]
    after = [all_ - led for all_, led in zip(result["killed"]["seconds"], lead, strict=True)]
    words = (
        f"{result['candidates']} candidates were watched at the same time. After a kill the standby led after"
        f" {numbers.median(lead):.1f} s (median; a Lease lasts {result['leaseSeconds']:g} s) and needed"
        f" {numbers.median(after):.1f} s from there.\n"
    )
    table = _table(("", "runs", "median, s", "worst, s"), rows)
    return f"{table}\n{words}{_machine(result)}\n![Every run](images/benchmark-reaction.svg)\n"


def reaction_plot(result: Result) -> str:
    """Every run as a dot."""
    rows = {"the operator runs": result["running"]["seconds"], "leader killed": result["killed"]["seconds"]}
    return charts.dots("From the failing window's end to 0 % weight, seconds", rows, TARGET_SECONDS, "s")


def _seconds(summary: Result) -> tuple[str, str, str]:
    return str(summary["runs"]), f"{summary['median']:.2f}", f"{summary['worst']:.2f}"


# ---- rollouts --------------------------------------------------------------------------------------------------------
def rollouts(result: Result) -> str:
    """One row for each contender with its flags; medians where there were several rounds."""
    rows = [
        (
            label,
            f"{_median(turns, 'seconds', 'firstWeight', 'last'):.0f}",
            f"{_median(turns, 'seconds', 'promoted', 'last'):.0f}",
            f"{_median(turns, 'controllerCpuSeconds'):.1f}",
            f"{_median(turns, 'apiServerCpuSeconds'):.1f}",
            f"{_median(turns, 'peakMebibytes'):.0f}",
            f"{_median(turns, 'writesEach'):.1f}",
            f"{_median(turns, 'readsEach'):.1f}",
        )
        for label, turns in _grouped(result).items()
    ]
    head = (
        *("", "all at the first weight, s", "all promoted, s", "controller CPU, s", "API server CPU, s"),
        *("peak RSS, MiB", "writes each", "reads each"),
    )
    workload = result["workload"]
    words = (
        f"{workload['rollouts']} rollouts in {workload['namespaces']} namespaces, all but one changed at once; weights"
        f" {', '.join(map(str, workload['steps']))}; median of {max(map(len, _grouped(result).values()))} round(s).\n"
    )
    table = _table(head, rows)
    return f"{table}\n{words}{_machine(result)}\n![Side by side](images/benchmark-rollouts.svg)\n"


def idle(result: Result) -> str:
    """The same controllers when nothing happens."""
    rows = [
        (
            label,
            f"{_median(turns, 'idle', 'processorPercent'):.1f}",
            f"{_median(turns, 'idle', 'readsPerSecond'):.1f}",
            f"{_median(turns, 'idle', 'writesPerSecond'):.2f}",
            f"{_median(turns, 'idle', 'leaseWritesPerSecond'):.2f}",
        )
        for label, turns in _grouped(result).items()
    ]
    return _table(("", "CPU, % of a core", "reads/s", "writes/s", "Lease writes/s"), rows)


def rollouts_plot(result: Result) -> str:
    """Wall, processor, memory and requests side by side."""
    grouped = _grouped(result)

    def panel(title: str, unit: str, *path: str) -> Panel:
        return Panel(title, {label: round(_median(turns, *path), 1) for label, turns in grouped.items()}, unit)

    count = result["workload"]["rollouts"]
    return charts.bars(
        [
            panel(f"Until all of {count} are promoted", "s", "seconds", "promoted", "last"),
            panel("Processor time of the controller", "s", "controllerCpuSeconds"),
            panel("Peak memory of the controller", "MiB", "peakMebibytes"),
            panel("API writes for each rollout", "", "writesEach"),
            panel("API reads for each rollout", "", "readsEach"),
        ]
    )


def _grouped(result: Result) -> dict[str, list[Result]]:
    """Turns by contender and flags, in the order of the contenders."""
    found: dict[str, list[Result]] = {}
    order = list(TITLES)
    for turn in sorted(result["turns"], key=lambda each: (order.index(each["contender"]), each["variant"])):
        label = TITLES[turn["contender"]]
        if turn["flags"]:
            label += f", QPS {turn['flags'][0].partition('=')[2]}"
        found.setdefault(label, []).append(turn)
    return found


def _median(turns: Sequence[Result], *path: str) -> float:
    values = []
    for turn in turns:
        value: Any = turn
        for name in path:
            value = value[name]
        values.append(float(value))
    return numbers.median(values)


# ---- Kubeflow Pipelines ----------------------------------------------------------------------------------------------
def kfp(result: Result) -> str:
    """What runs on Kubeflow Pipelines cost the operator."""
    seconds = result["seconds"]
    rows = [
        ("all submitted, s", f"{seconds['submitted']:.0f}"),
        ("all ended and recorded, s", f"{seconds['ended']:.0f}"),
        ("runs at the endpoint", str(result["atEndpoint"])),
        ("requests to the endpoint, each", f"{result['endpointRequestsEach']:.1f}"),
        ("API writes, each", f"{result['apiWritesEach']:.1f}"),
        ("API reads, each", f"{result['apiReadsEach']:.1f}"),
        ("operator's memory at rest, MiB", f"{result['restMebibytes']:.0f}"),
        ("operator's peak memory, MiB", f"{result['peakMebibytes']:.0f}"),
        ("operator's processor time, s", f"{result['cpuSeconds']:.0f}"),
    ]
    asked = result["endpointRequests"]
    most = ", ".join(f"{name.partition('_service_')[2] or name} {count}" for name, count in list(asked.items())[:4])
    words = f"{result['runs']} runs in {result['namespaces']} namespaces. Requests to the endpoint by kind: {most}, …\n"
    return f"{_table(('', ''), rows)}\n{words}{_machine(result)}"


# ---- the local cluster -----------------------------------------------------------------------------------------------
def at_rest(result: Result) -> str:
    """The operator with nothing to do."""
    found = result["operatorAtRest"]
    rows = [
        ("memory, MiB", f"{found['memoryMebibytes']:.0f}"),
        ("processor, % of a core", f"{found['processorPercent']:.2f}"),
        (f"writes in {found['seconds']:.0f} s, without the Lease", str(sum(found["writes"].values()))),
        ("Lease writes a second", f"{found['leaseWritesPerSecond']:.2f}"),
    ]
    return _table(("", ""), rows)


def serving(result: Result) -> str:
    """A prediction on its two ways."""
    found = result["servingOverhead"]
    rows = [
        (
            way,
            str(found["requests"][way]),
            str(found["lost"][way]),
            *(f"{found['milliseconds'][way][p]:.1f}" for p in _P),
        )
        for way in ("server", "gateway")
    ]
    words = f"Through the gateway the median takes {found['gatewayToServer']:.2f} times as long.\n"
    return _table(("", "requests", "lost", *(f"{p}, ms" for p in _P)), rows) + "\n" + words


_P = ("p50", "p90", "p99")
_TABLES: Mapping[str, tuple[str, Callable[[Result], str]]] = {
    "reaction": ("reaction", reaction),
    "rollouts": ("rollouts", rollouts),
    "idle": ("rollouts", idle),
    "kfp": ("kfp", kfp),
    "at-rest": ("slice", at_rest),
    "serving": ("slice", serving),
}
"""By the name in the page: which result, and who writes it."""


def _machine(result: Result) -> str:
    machine = result["machine"]
    load = f"; load average {machine['load'][0]} before" if "load" in machine else ""
    after = f", {machine['loadAfter'][0]} after" if "loadAfter" in machine else ""
    return f"Measured {result['at'][:10]} on {machine['processors']} cores, Linux {machine['kernel']}{load}{after}.\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(head), _row(["---", *(["---:"] * (len(head) - 1))]), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        wrong = stale()
        for file in wrong:
            print(f"{file} differs from benchmarks/results: run `make generate`", file=sys.stderr)
        sys.exit(bool(wrong))
    write()
