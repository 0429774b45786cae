"""Experiments of a rollout for people: a line for each version that takes part, and lines that say what changed."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape

from slipway.api.modelrollout import ModelRolloutStatus
from slipway.api.rollout_experiment import ExperimentStatus, ExperimentVersion

_PHASES = {
    "Starting": "[yellow]○[/]",
    "Running": "[cyan]▶[/]",
    "Completed": "[green]✔[/]",
    "Aborted": "[yellow]✘[/]",
}
_VERDICTS = {"Better": "[green]better[/]", "Worse": "[red]worse[/]", "NoDifference": "no difference"}


def head(run: ExperimentStatus) -> str:
    """What experiment it is, and what it found."""
    message = f": {escape(run.message)}" if run.message else ""
    return f"{_PHASES[run.phase]} experiment {run.step} {run.phase}{message}"


def lines(run: ExperimentStatus) -> Iterator[str]:
    """A line for each version."""
    width = max((len(each.name) for each in run.versions), default=0)
    for each in run.versions:
        yield f"{each.name:{width}}  {each.version or '-'}  {', '.join(_parts(each))}"


def _parts(version: ExperimentVersion) -> Iterator[str]:
    yield f"{version.percent} %"
    counted = version.counted
    if counted is not None:
        yield f"{counted.requests} requests, {counted.failed} failed"
    if version.value is not None:
        yield f"{version.value} % good"
    if version.median_milliseconds is not None:
        yield f"median {version.median_milliseconds} ms"
    if version.verdict in _VERDICTS:
        yield f"{_VERDICTS[version.verdict]} ({version.difference_low} to {version.difference_high} points)"
    elif version.verdict is not None:
        yield "too few requests"
    if version.message is not None:
        yield f"[yellow]left: {escape(version.message)}[/]"


def changes(old: ModelRolloutStatus, new: ModelRolloutStatus) -> Iterator[str]:
    """Plain lines of what is new in the newest experiment: its phase, and who left."""
    if not new.experiments:
        return
    after = new.experiments[0]
    before = next(
        (each for each in old.experiments or () if (each.step, each.begun_at) == (after.step, after.begun_at)), None
    )
    if before is None or before.phase != after.phase:
        yield f"experiment {after.step} {after.phase}{f': {after.message}' if after.message else ''}"
    left = {each.name for each in before.versions if each.state == "Left"} if before is not None else set()
    for each in after.versions:
        if each.state == "Left" and each.name not in left:
            yield f"experiment {after.step}: {each.name} left: {each.message}"
