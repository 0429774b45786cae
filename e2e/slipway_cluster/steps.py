"""Work in named steps that say how long they take."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from slipway_cluster import paths

Work = Callable[[], object]


class Reporter(Protocol):
    """What shows steps to a person. Methods may be called from several threads."""

    def started(self, name: str, estimate: float | None) -> None:
        """A step begins; ``estimate`` is what it took last time, in seconds."""

    def finished(self, name: str, seconds: float) -> None:
        """A step is done."""

    def failed(self, name: str, seconds: float) -> None:
        """A step raised; the error follows by itself."""

    def said(self, sentence: str) -> None:
        """Something to know between steps."""


class PlainReporter:
    """One line for each step that takes noticeable time: for logs and CI."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def started(self, name: str, estimate: float | None) -> None:
        """Print what to expect."""
        self._print(f"… {name}" + (f" (last time {estimate:.0f} s)" if estimate and estimate >= 1 else ""))

    def finished(self, name: str, seconds: float) -> None:
        """Print how long it took."""
        self._print(f"✓ {name} {seconds:.1f} s")

    def failed(self, name: str, seconds: float) -> None:
        """Print that it did not work."""
        self._print(f"✗ {name} {seconds:.1f} s")

    def said(self, sentence: str) -> None:
        """Print it."""
        self._print(f"  {sentence}")

    def _print(self, line: str) -> None:
        with self._lock:
            print(line, file=sys.stderr, flush=True)


class SilentReporter:
    """Shows nothing: for programs."""

    def started(self, name: str, estimate: float | None) -> None:
        """Show nothing."""

    def finished(self, name: str, seconds: float) -> None:
        """Show nothing."""

    def failed(self, name: str, seconds: float) -> None:
        """Show nothing."""

    def said(self, sentence: str) -> None:
        """Show nothing."""


class Steps:
    """Runs steps, one after the other or side by side, and remembers how long each took."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._file = paths.cache() / "timings.json"
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step."""
        self._reporter.started(name, self._timings().get(name))
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._reporter.failed(name, time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        self._reporter.finished(name, seconds)
        self._remember(name, seconds)

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        self._reporter.said(sentence)

    def together(self, *work: Work) -> None:
        """Run several pieces of work side by side; the first error is raised when all have ended."""
        with ThreadPoolExecutor(max_workers=len(work)) as pool:
            running = [pool.submit(one) for one in work]
        for one in running:
            one.result()

    def _timings(self) -> dict[str, float]:
        try:
            return dict(json.loads(self._file.read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _remember(self, name: str, seconds: float) -> None:
        with self._lock:
            timings = self._timings()
            # A step that found everything as wanted says nothing about how long its work takes.
            if seconds < max(1, timings.get(name, 0) / 4):
                return
            timings[name] = round(seconds, 1)
            unfinished = self._file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(timings, indent=1))
            unfinished.rename(self._file)
