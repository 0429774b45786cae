"""A rollout as a tree for people, and as lines that say what changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from slipway.api.meta import parse_time
from slipway.api.modelrollout import HistoryEntry, ModelRolloutStatus, ServedVersion
from slipway.api.rollout_analysis import AnalysisRun
from slipway.api.rollout_control import OrderStatus
from slipway.api.rollout_experiment import ExperimentStatus
from slipway.cli import rollout_experiments
from slipway.cli.rollout_cluster import Happening, Server, View

_MARKS = {
    "Healthy": "[green]✔[/]",
    "Paused": "[yellow]‖[/]",
    "RollingBack": "[red]↩[/]",
    "Waiting": "[dim]○[/]",
}
_VERDICTS = {"Success": "[green]✔[/]", "Failed": "[red]✘[/]", "Inconclusive": "[yellow]?[/]"}
_PROGRESS = {"Done": "[green]✔[/]", "Running": "[cyan]▶[/]", "Waiting": "[dim]·[/]"}
_ANALYSES = {
    "Successful": "[green]✔[/]",
    "Failed": "[red]✘[/]",
    "Inconclusive": "[yellow]?[/]",
    "Error": "[red]![/]",
    "Skipped": "[dim]·[/]",
}
_ORDERS_SHOWN = 5
_HISTORY_SHOWN = 5


def clock(time: str | datetime) -> str:
    """Time of day in UTC, with the day when it is not today."""
    moment = parse_time(time) if isinstance(time, str) else time
    moment = moment.astimezone(UTC)
    today = moment.date() == datetime.now(UTC).date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"


def tree(view: View, now: datetime) -> Tree:
    """Everything about a rollout."""
    rollout, status = view.rollout, view.rollout.status
    mark = _MARKS.get(status.phase or "", "[cyan]▶[/]")
    head = f"{mark} [bold]{rollout.metadata.name}[/]  {rollout.metadata.namespace}  [bold]{status.phase or 'New'}[/]"
    top = Tree(f"{head}  [dim]{escape(status.url or '')}[/]")
    for line in _sentences(status):
        top.add(line)
    _versions(top, view, now)
    _steps(top, status, now)
    for check in status.checks or ():
        top.add(f"{_VERDICTS[check.verdict]} check {check.name}: {escape(check.message)}")
    for run in status.analysis or ():
        top.add(_analysis(run))
    for experiment in (status.experiments or [])[:1]:
        _experiment(top, experiment, now)
    _people(top, status)
    _history(top, status)
    if view.events:
        events = top.add("[bold]events[/]")
        for event in view.events:
            events.add(Text(event_line(event), style="yellow" if event.kind == "Warning" else ""))
    return top


def _sentences(status: ModelRolloutStatus) -> Iterator[str]:
    """The conditions, the one that a person must act on first."""
    order = {"Stalled": 0, "Ready": 1}
    for each in sorted(status.conditions or (), key=lambda one: order.get(one.type, 2)):
        bad = (each.status == "True") == (each.type == "Stalled")
        style = "red" if bad and each.type in ("Stalled", "Ready") else "dim" if each.type == "Progressing" else ""
        text = f"{each.type}={each.status} {each.reason}: {escape(each.message)}"
        yield f"[{style}]{text}[/]" if style else text


def _versions(top: Tree, view: View, now: datetime) -> None:
    if not view.rollout.status.versions:
        return
    branch = top.add("[bold]versions[/]  [dim]weights: desired, accepted by the gateway, observed[/]")
    for version in view.rollout.status.versions:
        line = branch.add(_version(version, now))
        for server in view.servers.get(version.service, ()):
            line.add(_server(server))


def _version(version: ServedVersion, now: datetime) -> str:
    weights = [f"{version.desired_weight} %"]
    weights.append("-" if version.accepted_weight is None else f"{version.accepted_weight} %")
    weights.append("-" if version.observed_percent is None else f"{version.observed_percent} %")
    mark = "[green]●[/]" if version.ready else "[yellow]○[/]"
    warm = f"  [dim]warm for {left(version.keep_until, now)}[/]" if version.keep_until else ""
    return f"{mark} {version.role.lower():9} {version.name}  {', '.join(weights)}{warm}"


def _server(server: Server) -> str:
    mark = "[green]●[/]" if server.ready else "[yellow]○[/]"
    restarts = f"  restarts {server.restarts}" if server.restarts else ""
    trouble = f"  [red]{escape(server.trouble)}[/]" if server.trouble else ""
    return f"{mark} [dim]{server.name}[/]{restarts}{trouble}"


def _steps(top: Tree, status: ModelRolloutStatus, now: datetime) -> None:
    if status.candidate is None:
        return
    branch = top.add(f"[bold]steps[/] of {status.candidate}")
    for step in status.plan or ():
        since = f"  [dim]for {age(status.step.started_at, now)}[/]" if _runs(status, step.name) and status.step else ""
        branch.add(f"{_PROGRESS[step.state]} {step.name}: {escape(step.does)}{since}")
    if status.promote_full is not None:
        branch.add(f"[cyan]▶[/] no further steps: {escape(status.promote_full.reason)}")


def _analysis(run: AnalysisRun) -> str:
    where = f" {run.step}" if run.step else ""
    passed = ", let pass by a person" if run.promoted else ""
    metrics = ", ".join(f"{each.name} {each.phase}" for each in run.metrics)
    message = f": {escape(run.message)}" if run.message else f": {metrics}" if metrics else ""
    return f"{_ANALYSES.get(run.phase, '[cyan]▶[/]')} analysis {run.kind}{where} {run.phase}{passed}{message}"


def _experiment(top: Tree, experiment: ExperimentStatus, now: datetime) -> None:
    since = experiment.started_at if experiment.phase == "Running" else None
    branch = top.add(f"{rollout_experiments.head(experiment)}{f'  [dim]for {age(since, now)}[/]' if since else ''}")
    for line in rollout_experiments.lines(experiment):
        branch.add(line)


def _runs(status: ModelRolloutStatus, step: str) -> bool:
    return status.step is not None and status.step.name == step


def _people(top: Tree, status: ModelRolloutStatus) -> None:
    if status.paused is not None:
        top.add(f"[yellow]‖ paused by {escape(status.paused.by)} at {clock(status.paused.since)}[/]")
    if status.undo is not None:
        undo = status.undo
        top.add(f"↩ {escape(undo.by)} goes back from {undo.version} to {undo.to} since {clock(undo.since)}")
    if status.orders:
        branch = top.add("[bold]orders[/]")
        for order in status.orders[:_ORDERS_SHOWN]:
            branch.add(escape(order_line(order)))


def _history(top: Tree, status: ModelRolloutStatus) -> None:
    if status.history:
        branch = top.add("[bold]history[/]")
        for entry in status.history[:_HISTORY_SHOWN]:
            branch.add(escape(history_line(entry)))


# ---- lines -----------------------------------------------------------------------------------------------------------
def order_line(order: OrderStatus) -> str:
    """Who ordered what, and what came of it."""
    verdict = "" if order.obeyed else "not possible: "
    return f"{clock(order.at)} {order.by}: {order.order} {order.version}: {verdict}{order.message}"


def history_line(entry: HistoryEntry) -> str:
    """What became of a version."""
    before = f" over {entry.from_}" if entry.from_ and entry.outcome == "Promoted" else ""
    reason = f" ({entry.reason})" if entry.reason and entry.reason != entry.outcome else ""
    return f"{clock(entry.at)} {entry.name} {entry.outcome}{before}{reason}{f' by {entry.by}' if entry.by else ''}"


def event_line(event: Happening) -> str:
    """An Event."""
    return f"{clock(event.at)} {event.reason}: {event.message}"


def changes(before: View | None, after: View) -> Iterator[str]:
    """Plain lines of what is new: phase, step and weight, verdicts, orders, the end of versions."""
    old, new = before.rollout.status if before else ModelRolloutStatus(), after.rollout.status
    if _place(old) != _place(new):
        yield _place(new)
    said = {each.name: each.verdict for each in old.checks or ()}
    for check in new.checks or ():
        if said.get(check.name) != check.verdict:
            yield f"check {check.name} {check.verdict}: {check.message}"
    yield from rollout_experiments.changes(old, new)
    if before is None:
        return
    known = {each.token for each in old.orders or ()}
    for order in reversed(new.orders or []):
        if order.token not in known:
            yield order_line(order)
    for entry in reversed(new.history or []):
        if entry not in (old.history or []):
            yield history_line(entry)


def _place(status: ModelRolloutStatus) -> str:
    served = f"{status.phase or 'New'}: stable {status.stable or 'none'}"
    if status.candidate is None:
        return served
    step = f", step {status.step.name}" if status.step else ""
    weights = {each.name: each.accepted_weight for each in status.versions or ()}
    accepted = weights.get(status.candidate)
    return f"{served}, {status.candidate} {status.weight or 0} % (accepted {accepted or 0} %){step}"


# ---- durations -------------------------------------------------------------------------------------------------------
def age(since: str, now: datetime) -> str:
    """How long ago, in words that fit into a line."""
    return _short((now - parse_time(since)).total_seconds())


def left(until: str, now: datetime) -> str:
    """How long still."""
    return _short((parse_time(until) - now).total_seconds())


def _short(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 7200 else f"{whole // 3600}h"
