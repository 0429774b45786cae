"""One tree of what happens: live in a terminal, one line a change elsewhere (CI, pipes)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

State = Literal["waiting", "running", "done", "failed"]
_MARKS: dict[State, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
}


@dataclass
class Node:
    """One line of the story and what belongs to it."""

    story: Story
    title: str
    depth: int
    state: State = "waiting"
    detail: str = ""
    estimate: float | None = None
    """Seconds that it is expected to take, shown while it runs."""
    started: float | None = None
    ended: float | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        if self.started is None:
            return 0.0
        return (self.ended or self.story.clock()) - self.started

    def add(self, title: str, *, estimate: float | None = None) -> Node:
        """A line below this one."""
        child = Node(self.story, title, self.depth + 1, estimate=estimate)
        self.children.append(child)
        return child

    def set(self, detail: str, state: State | None = None) -> None:
        """Says how it stands; nothing is printed when nothing changed."""
        if state == "running" and self.started is None:
            self.started = self.story.clock()
        if state in ("done", "failed"):
            self.started = self.started if self.started is not None else self.story.clock()
            self.ended = self.story.clock()
        changed = detail != self.detail or (state is not None and state != self.state)
        self.detail = detail
        self.state = state or self.state
        if changed:
            self.story.changed(self)

    @contextmanager
    def running(self, detail: str = "") -> Iterator[Node]:
        """Runs while the block does; an exception marks it failed."""
        self.set(detail, "running")
        try:
            yield self
        except BaseException as error:
            self.set(str(error).splitlines()[0] if str(error) else type(error).__name__, "failed")
            raise
        if self.state == "running":
            self.set(self.detail, "done")


class Story:
    """The tree. `plain` prints lines; otherwise a live tree is redrawn four times a second."""

    def __init__(self, title: str, *, plain: bool, console: Console | None = None) -> None:
        self.console = console or Console()
        self.plain = plain
        self.clock: Callable[[], float] = time.monotonic
        self.start = self.clock()
        self.root = Node(self, title, -1, state="running", started=self.start)
        self._live: Live | None = None
        self._lock = threading.Lock()

    def add(self, title: str, *, estimate: float | None = None) -> Node:
        """A line at the top level."""
        return self.root.add(title, estimate=estimate)

    def __enter__(self) -> Story:
        if not self.plain:
            self._live = Live(get_renderable=self.tree, console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def changed(self, node: Node) -> None:
        """Prints one line in plain mode; the live tree redraws itself."""
        if not self.plain:
            return
        elapsed = self.clock() - self.start
        took = f" ({node.seconds:.1f} s)" if node.state in ("done", "failed") else ""
        with self._lock:
            self.console.print(
                f"{elapsed:7.1f} s {'  ' * node.depth}{_MARKS[node.state][0]} {node.title}"
                f"{': ' + node.detail if node.detail else ''}{took}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def tree(self) -> Tree:
        """The tree as it stands."""
        top = Tree(Text(f"{self.root.title}  {_clock(self.clock() - self.start)}", style="bold"))
        for child in self.root.children:
            self._render(top, child)
        return top

    def _render(self, parent: Tree, node: Node) -> None:
        mark, style = _MARKS[node.state]
        line = Text(f"{mark} ", style=style)
        line.append(node.title, style="bold" if node.depth == 0 else "")
        if node.detail:
            line.append(f"  {node.detail}", style="dim" if node.state == "done" else "")
        if node.state == "running" and node.estimate:
            line.append(f"  {node.seconds:.0f} of about {node.estimate:.0f} s", style="dim")
        elif node.started is not None and node.seconds >= 0.5:
            line.append(f"  {node.seconds:.0f} s", style="dim")
        branch = parent.add(line)
        collapsed = node.depth == 0 and node.state == "done" and len(node.children) > 8
        for child in [] if collapsed else node.children:
            self._render(branch, child)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
