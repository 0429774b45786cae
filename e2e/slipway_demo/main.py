"""`make demo`: four acts on a real cluster, in one live tree."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from slipway_cluster.errors import ClusterError
from slipway_demo.acts import ROLLOUT, Facts, Play
from slipway_demo.chain import Chain
from slipway_demo.install import install
from slipway_demo.story import Node, Story
from slipway_demo.world import NeverHappenedError

ACTS = (
    ("Act 1: from real flights to a model that serves", "first_version"),
    ("Act 2: a poisoned month is blocked by a sentence", "poisoned_month"),
    ("Act 3: version 2 is canaried while the operator is killed", "second_version"),
    ("Act 4: version 3 passes offline, fails on users, and is rolled back", "bad_version"),
)


def perform(story: Story, name: str = "slipway") -> Play:
    """Installs and plays all acts; every failure raises. The clients are stopped and their counts kept."""
    with story.add("Cluster and Slipway").running() as stage:
        installed = install(stage, name)
    play = Play(installed, story)
    with story.add("Remove what an earlier demo left").running():
        play.clear()
    try:
        for title, method in ACTS:
            act = story.add(title)
            with act.running(), Chain(installed.world, play.namespace, act.add("objects")), _counting(play, act):
                getattr(play, method)(act)
    finally:
        play.stop_clients()
    return play


@contextmanager
def _counting(play: Play, act: Node) -> Iterator[None]:
    """Shows the client's counters while an act runs."""
    line = act.add("client")
    stop = threading.Event()

    def show() -> None:
        while not stop.wait(5.0):
            counts = play.counts()
            if counts.sent:
                line.set(
                    f"{counts.ok:,} answered, {counts.version_errors} errors of a version, {counts.lost} lost",
                    "running",
                )

    thread = threading.Thread(target=show, name="counting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        line.set(line.detail, "done")


def table(facts: Facts) -> Table:
    """What happened, in one table."""
    out = Table(title="What happened", show_header=True, title_justify="left")
    for column in ("version", "score", "outcome", "answers", "own 5xx"):
        out.add_column(column)
    for version, score, outcome in facts.versions:
        kinds = facts.counts.versions.get(version, {})
        out.add_row(version, score, outcome, f"{kinds.get('ok', 0):,}", str(kinds.get("version", 0)))
    return out


def demo(
    name: Annotated[str, typer.Option(help="Name of the local cluster.")] = "slipway",
    plain: Annotated[bool | None, typer.Option(help="Plain lines instead of a live tree.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the facts to this file, as JSON.")] = None,
) -> None:
    """Play the flights story: data, features, training, canary and rollback on a real local cluster."""
    console = Console()
    story = Story("Slipway", plain=plain if plain is not None else not sys.stdout.isatty(), console=console)
    try:
        with story:
            play = perform(story, name)
    except (ClusterError, NeverHappenedError, RuntimeError, AssertionError) as error:
        console.print(f"The demo stopped: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    _end(console, story, play)
    if out:
        out.write_text(json.dumps(asdict(play.facts), indent=2))
    if play.facts.counts.lost:
        raise typer.Exit(1)


def _end(console: Console, story: Story, play: Play) -> None:
    facts = play.facts
    console.print()
    console.print(table(facts))
    console.print(
        f"{facts.counts.sent:,} requests: {facts.counts.ok:,} answered, {facts.counts.version_errors} errors that"
        f" version 3 made, {facts.counts.lost} lost. Median {facts.counts.p50:.1f} ms,"
        f" 99 % within {facts.counts.p99:.1f} ms.",
        highlight=False,
    )
    stages = ", ".join(f"{node.title.split(':')[0]} {node.seconds:.0f} s" for node in story.root.children)
    console.print(f"Time: {stages}.", highlight=False)
    kubeconfig = play.world.kubeconfig
    host = play.host()
    flight = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "distance": 1400, "weekday": 4, "dep_hour": 17}
    instance = json.dumps({"instances": [flight]})
    commands = [
        f"curl -s{f' -H host:{host}' if host else ''} {play.url()}/v1/models/{ROLLOUT}:predict -d '{instance}'",
        f"export KUBECONFIG={kubeconfig}",
        f"kubectl get mlops -n {play.namespace}",
        f"kubectl get modelrollout {ROLLOUT} -n {play.namespace} --watch",
        f"bin/slipway why {facts.counts.last_request_id} -n {play.namespace} --kubeconfig {kubeconfig}",
    ]
    console.print("\nTry:", highlight=False)
    for command in commands:
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of `python -m slipway_demo.main`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(demo)
    app()


if __name__ == "__main__":
    main()
