"""Steps with running clocks, for terminals."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class LiveReporter:
    """Shows running steps with a clock and what they took last time; those that are done stay above, if they took time.

    The display starts with the first step and ends with the last.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[expected]}"),
            console=self._console,
            transient=True,
        )
        self._running: dict[str, TaskID] = {}

    def __enter__(self) -> LiveReporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, name: str, estimate: float | None) -> None:
        """Show a step and its clock."""
        expected = f"about {estimate:.0f} s" if estimate and estimate >= 1 else ""
        self._running[name] = self._progress.add_task(name, total=None, expected=expected)

    def finished(self, name: str, seconds: float) -> None:
        """Keep a line of it."""
        self._end(name, f"[green]✓[/] {name} [dim]{seconds:.1f} s")

    def failed(self, name: str, seconds: float) -> None:
        """Keep a line of it."""
        self._end(name, f"[red]✗[/] {name} [dim]{seconds:.1f} s")

    def said(self, sentence: str) -> None:
        """Keep it as a line."""
        self._console.print(f"  {sentence}", highlight=False, markup=False)

    def _end(self, name: str, line: str) -> None:
        self._progress.remove_task(self._running.pop(name))
        self._console.print(line, highlight=False)
