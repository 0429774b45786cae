"""`make bench`: measures the operator and the serving path on the local cluster where the flights example serves."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import operator_at_rest, serving_overhead
from slipway_demo.acts import ROLLOUT, Play
from slipway_demo.install import install
from slipway_demo.story import Story
from slipway_demo.world import status

RESULTS = Path(__file__).parent / "results" / "slice.json"


def run(
    idle_seconds: Annotated[float, typer.Option(min=30, help="How long the operator is watched at rest.")] = 90,
    rate: Annotated[float, typer.Option(min=1, max=100, help="Requests a second.")] = 20,
    seconds: Annotated[float, typer.Option(min=10, max=300, help="How long each path is measured.")] = 45,
) -> None:
    """Measure operator memory, idle writes and the gateway's overhead; write benchmarks/results/slice.json."""
    with Story("benchmarks", plain=True) as story:
        with story.add("Cluster and Slipway").running() as node:
            play = Play(install(node), story)
        if status(play.get("ModelRollout", ROLLOUT)).get("phase") != "Healthy":
            print("The flights example does not serve here: run `make demo` first.")
            raise typer.Exit(1)
        with story.add("operator at rest").running():
            at_rest = operator_at_rest.measure(play.world, idle_seconds)
        with story.add("serving overhead").running():
            serving = serving_overhead.measure(play, rate, seconds)
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processors": os.cpu_count(), "kernel": platform.release().split("-")[0]},
        "operatorAtRest": at_rest,
        "servingOverhead": serving,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    app()
