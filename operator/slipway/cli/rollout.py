"""`slipway rollout`, also `kubectl slipway rollout`: watch a rollout, and control it by orders.

An order is one annotation, `slipway.dev/order`, which names a version and its author; the operator answers in
`status.orders`. So whatever these commands do, `kubectl annotate` and Git can do too.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
import yaml
from rich.console import Console
from rich.live import Live

from slipway.api.meta import parse_duration
from slipway.api.modelrollout import ModelRollout
from slipway.api.rollout_control import Verb
from slipway.cli.rollout_cluster import RolloutCluster, RolloutError, View, sentences
from slipway.cli.rollout_view import changes, history_line, order_line, tree
from slipway.contracts.orders import Order, new_token, version_before
from slipway.runtime.conditions import timestamp

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Watch a rollout, and control it.\n\n"
    "An order names the version that it is about, acts once, and is recorded with your user name: what promotes one"
    " version can never promote another. A command waits some seconds for the operator's answer, and ends with code 1"
    " when the order is not possible.\n\n"
    "Examples:\n\n"
    "  slipway rollout status flight-delays --watch\n\n"
    "  slipway rollout promote flight-delays\n\n"
    "  slipway rollout undo flight-delays --wait",
)

HEARD_WITHIN = 20.0
"""Seconds that the operator gets to answer an order."""
_LOOK = 1.0
_LINES = 2000

Name = Annotated[str, typer.Argument(help="The ModelRollout.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Its namespace. Defaults to the context's.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Kubeconfig file. Defaults to kubectl's.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until what was ordered has come about; code 1 if it fails.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long --wait waits, such as 90s or 1h.")]


class Format(StrEnum):
    """Forms for programs."""

    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format | None, typer.Option("--output", "-o", help="For programs.")]

P = ParamSpec("P")
R = TypeVar("R")


def _command(function: Callable[P, R]) -> Callable[P, R]:
    """Ends with a sentence and code 1 when something cannot be done, and quietly on Ctrl-C."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with sentences():
                return function(*args, **kwargs)
        except RolloutError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


# ---- looking ---------------------------------------------------------------------------------------------------------
@app.command()
@_command
def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until no version is on its way; code 1 if it was rolled back.")
    ] = False,
    output: Output = None,
    timeout: Timeout = "1h",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show versions with their weights and servers, steps, checks, orders and Events.

    On a terminal it is a tree, with --watch a live one. Elsewhere --watch and --wait print a line for each change.
    """
    cluster = RolloutCluster(kubeconfig, context, namespace)
    view = cluster.view(name, _now())
    if output is not None:
        _print(_machine(view), output)
    elif not (watch or wait):
        _console().print(tree(view, _now()))
    elif Console().is_terminal:
        _live(cluster, view, _deadline(timeout) if wait else None)
    else:
        _lines(cluster, view, _deadline(timeout) if wait else None)


@app.command()
@_command
def history(
    name: Name,
    output: Output = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what became of versions, who ordered what, and which versions are rejected; newest first."""
    told = RolloutCluster(kubeconfig, context, namespace).rollout(name).status
    if output is not None:
        wire = told.wire()
        _print({key: wire.get(key, []) for key in ("history", "orders", "rejected")}, output)
        return
    for entry in told.history or ():
        typer.echo(history_line(entry))
    for heading, lines in (
        ("orders:", [order_line(each) for each in told.orders or ()]),
        ("rejected:", [f"{each.name} ({each.reason}): {each.message}" for each in told.rejected or ()]),
    ):
        if lines:
            typer.echo("\n".join([heading, *(f"  {line}" for line in lines)]))


# ---- orders ----------------------------------------------------------------------------------------------------------
@app.command()
@_command
def promote(
    name: Name,
    step: Annotated[str | None, typer.Argument(help="The step that waits. Defaults to the present one.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Skip all remaining steps. Checks go on.")] = False,
    wait: Wait = False,
    timeout: Timeout = "10m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """End the step or the analysis that waits for a person, or with --full skip all remaining steps.

    Weights still rise only when servers are ready and the gateway has accepted what it was told before.
    """
    if full and step:
        raise RolloutError("--full is about all remaining steps: leave out STEP.")

    def order(rollout: ModelRollout, user: str) -> Order:
        told = rollout.status
        if told.candidate is None and told.stable is not None and _is_held_after_promotion(rollout):
            return _order("promote", told.stable, user, step=step or "postPromotion")
        candidate = _candidate(rollout)
        if full:
            return _order("promote-full", candidate, user)
        present = step or (told.step.name if told.step else None)
        if present is None:
            raise RolloutError(f"Version {candidate} has not come to its first step yet.")
        return _order("promote", candidate, user, step=present)

    def done(rollout: ModelRollout, given: Order) -> bool:
        if full:
            return rollout.status.stable == given.version and rollout.status.candidate is None
        told = rollout.status.step
        return rollout.status.candidate != given.version or told is None or told.name != given.step

    _give(RolloutCluster(kubeconfig, context, namespace), name, order, done if wait else None, timeout)


@app.command()
@_command
def pause(name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Hold the version on its way at its present weight. Its checks go on, and may still reject it."""
    _give(RolloutCluster(kubeconfig, context, namespace), name, lambda it, me: _order("pause", _candidate(it), me))


@app.command()
@_command
def resume(name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Let a paused version go on."""
    _give(RolloutCluster(kubeconfig, context, namespace), name, lambda it, me: _order("resume", _candidate(it), me))


@app.command()
@_command
def abort(
    name: Name,
    wait: Wait = False,
    timeout: Timeout = "10m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Send all requests back to the stable version at once; the version on its way is rejected."""

    def done(rollout: ModelRollout, given: Order) -> bool:
        accepted = {each.name: each.accepted_weight for each in rollout.status.versions or ()}
        return rollout.status.candidate != given.version and not accepted.get(given.version)

    _give(
        RolloutCluster(kubeconfig, context, namespace),
        name,
        lambda it, me: _order("abort", _candidate(it), me),
        done if wait else None,
        timeout,
    )


@app.command()
@_command
def retry(
    name: Name,
    version: Annotated[str, typer.Argument(help="The rejected ModelVersion.")],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Let a rejected version be tried again, by the steps."""
    _give(RolloutCluster(kubeconfig, context, namespace), name, lambda _, me: _order("retry", version, me))


@app.command()
@_command
def undo(
    name: Name,
    to: Annotated[
        str | None, typer.Option("--to", help="The ModelVersion to go back to. Defaults to the one before.")
    ] = None,
    wait: Wait = False,
    timeout: Timeout = "10m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Go back to an earlier version that passed its gates.

    While it is warm, or within spec.rollback.window, it takes all requests without steps; else it takes the steps. The
    version that is left is not selected again until `retry`, or until a newer one passes.
    """

    def order(rollout: ModelRollout, user: str) -> Order:
        told = rollout.status
        if told.stable is None:
            raise RolloutError(f"ModelRollout {name} has no version that users rely on yet: there is nothing to undo.")
        rejected = [each.name for each in told.rejected or ()]
        target = to or version_before(told.stable, told.history or (), rejected)
        if target is None:
            raise RolloutError("No earlier version is known that may serve again: name one with --to.")
        return _order("undo", told.stable, user, target=target)

    def done(rollout: ModelRollout, given: Order) -> bool:
        return rollout.status.stable == given.target

    _give(RolloutCluster(kubeconfig, context, namespace), name, order, done if wait else None, timeout)


def _order(verb: Verb, version: str, user: str, *, step: str = "", target: str = "") -> Order:
    return Order(verb, version, new_token(), user, step=step, target=target)


def _is_held_after_promotion(rollout: ModelRollout) -> bool:
    """Whether the analysis of the version that was just promoted waits for a person."""
    return any(
        run.kind == "PostPromotion" and run.phase in ("Failed", "Inconclusive", "Error") and not run.promoted
        for run in rollout.status.analysis or ()
        if run.version == rollout.status.stable
    )


def _candidate(rollout: ModelRollout) -> str:
    if rollout.status.candidate is None:
        stable = rollout.status.stable
        serves = f"{stable} serves everybody" if stable else "nothing serves"
        raise RolloutError(f"No version is on its way in ModelRollout {rollout.metadata.name}: {serves}.")
    return rollout.status.candidate


def _give(
    cluster: RolloutCluster,
    name: str,
    order: Callable[[ModelRollout, str], Order],
    done: Callable[[ModelRollout, Order], bool] | None = None,
    timeout: str = "10m",
) -> None:
    """Give an order and tell the operator's answer; with `done`, also wait for what was ordered."""
    deadline = _deadline(timeout)
    user = cluster.user()
    given = cluster.give(name, lambda rollout: order(rollout, user), HEARD_WITHIN)
    typer.echo(f"ordered: {given}", err=True)
    answer = cluster.answer(name, given, HEARD_WITHIN)
    if answer is None:
        raise RolloutError(
            f"The operator did not answer within {HEARD_WITHIN:.0f} s. The order stays: it acts when it is heard."
        )
    if not answer.obeyed:
        raise RolloutError(f"{answer.order} {answer.version} is not possible: {answer.message}")
    typer.echo(answer.message)
    if done is not None:
        _wait(cluster, name, given, done, deadline)


def _wait(
    cluster: RolloutCluster, name: str, given: Order, done: Callable[[ModelRollout, Order], bool], deadline: float
) -> None:
    """Until it has come about. RolloutError when the version is rejected instead, or time is over."""
    subject = given.target or given.version
    before: View | None = None
    while True:
        view = View(cluster.rollout(name))
        for line in changes(before, view):
            typer.echo(line)
        if done(view.rollout, given):
            return
        rejected = {each.name: each.message for each in view.rollout.status.rejected or ()}
        if given.verb != "abort" and subject in rejected:
            raise RolloutError(f"Version {subject} was rejected: {rejected[subject]}")
        _sleep(deadline)
        before = view


# ---- display ---------------------------------------------------------------------------------------------------------
def _live(cluster: RolloutCluster, view: View, deadline: float | None) -> None:
    """A tree that is drawn anew each second; with a deadline, until nothing is on its way."""
    name = view.rollout.metadata.name
    with Live(tree(view, _now()), auto_refresh=False, screen=deadline is None, vertical_overflow="visible") as display:
        while deadline is None or not _is_over(view):
            _sleep(deadline)
            view = cluster.view(name, _now())
            display.update(tree(view, _now()), refresh=True)
    _judge(view)


def _lines(cluster: RolloutCluster, view: View, deadline: float | None) -> None:
    """A line for each change, for logs."""
    before: View | None = None
    while True:
        for line in changes(before, view):
            typer.echo(f"{timestamp(_now())} {line}")
        sys.stdout.flush()
        if deadline is not None and _is_over(view):
            break
        _sleep(deadline)
        before, view = view, View(cluster.rollout(view.rollout.metadata.name))
    _judge(view)


def _is_over(view: View) -> bool:
    told = view.rollout.status
    return told.candidate is None and told.phase in ("Healthy", "Waiting")


def _judge(view: View) -> None:
    """Code 1 when the last version was given up."""
    last = next(iter(view.rollout.status.history or ()), None)
    if last is not None and last.outcome == "RolledBack":
        rejected = {each.name: each.message for each in view.rollout.status.rejected or ()}
        raise RolloutError(f"Version {last.name} was rolled back: {rejected.get(last.name, last.reason or '')}")


def _machine(view: View) -> dict[str, Any]:
    rollout = view.rollout
    return {
        "name": rollout.metadata.name,
        "namespace": rollout.metadata.namespace,
        "status": rollout.status.wire(),
        "servers": {service: [asdict(each) for each in pods] for service, pods in view.servers.items()},
        "events": [{**asdict(each), "at": timestamp(each.at)} for each in view.events],
    }


def _print(value: Any, output: Format) -> None:
    text = json.dumps(value, indent=2) if output is Format.JSON else yaml.safe_dump(value, sort_keys=False).rstrip()
    typer.echo(text)


def _console() -> Console:
    """In a pipe every line is whole, so that a name can be searched for."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_LINES)


def _now() -> datetime:
    return datetime.now(UTC)


def _deadline(timeout: str) -> float:
    if not re.fullmatch(r"([0-9]{1,5}(h|m|s|ms)){1,4}", timeout):
        raise RolloutError(f"--timeout: {timeout} is not a duration such as 90s, 15m or 1h.")
    return time.monotonic() + parse_duration(timeout).total_seconds()


def _sleep(deadline: float | None) -> None:
    """Until the next look. RolloutError when time is over."""
    if deadline is not None and time.monotonic() > deadline:
        raise RolloutError("Time is over; the order stays. Look with `slipway rollout status`.")
    time.sleep(_LOOK)
