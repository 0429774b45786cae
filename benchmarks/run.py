"""`make bench`: measures what is asked for, keeps it in `results/`, and writes the page's tables and plots anew."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import kfp, local_cluster, page, reaction, rollouts

RESULTS = Path(__file__).parent / "results"


class Part(StrEnum):
    """What can be measured."""

    SLICE = "slice"
    REACTION = "reaction"
    ROLLOUTS = "rollouts"
    KFP = "kfp"


def run(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure; by default everything.")] = None,
    count: Annotated[int, typer.Option(min=20, help="rollouts: how many are changed at once.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="rollouts: how often each contender has its turn.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="rollouts: only these contenders.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="reaction: rollouts that fail.")] = 30,
    kills: Annotated[int, typer.Option(min=1, help="reaction: rollouts that fail as the leader is killed.")] = 5,
    watched: Annotated[int, typer.Option(min=0, help="reaction: further candidates that do well.")] = 65,
    training_runs: Annotated[int, typer.Option(min=1, help="kfp: how many are created at once.")] = 500,
    idle_seconds: Annotated[float, typer.Option(min=30, help="slice: how long the operator is watched.")] = 90,
    rate: Annotated[float, typer.Option(min=1, max=100, help="slice: requests a second.")] = 20,
    seconds: Annotated[float, typer.Option(min=10, max=300, help="slice: how long each path is measured.")] = 45,
) -> None:
    """Measure; write benchmarks/results and docs/benchmarks.md."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    for part in parts or list(Part):
        if part is Part.SLICE:
            try:
                _keep(part, local_cluster.measure(idle_seconds, rate, seconds))
            except local_cluster.NotServing as error:
                print(error, file=sys.stderr)
                raise typer.Exit(1) from error
        elif part is Part.REACTION:
            _keep(part, asyncio.run(reaction.measure(runs, kills, watched, _say)))
        elif part is Part.KFP:
            _keep(part, asyncio.run(kfp.measure(training_runs, _say)))
        else:
            chosen = [each for each in rollouts.CONTENDERS if not only or each.name in only]
            _keep(part, asyncio.run(rollouts.measure(count, rounds, chosen, _say)))
    page.write()


def _keep(part: Part, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    whole = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **result}
    (RESULTS / f"{part}.json").write_text(json.dumps(whole, indent=2) + "\n")


def _say(sentence: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {sentence}", flush=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    app()
