"""What the API says of a run, read leniently: fields may be missing, and there may be more than we know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from slipway.api.meta import parse_time
from slipway.contracts.stages import TASKS

SUCCEEDED = frozenset({"SUCCEEDED", "SKIPPED"})
STARTED = frozenset({"RUNNING", "SUCCEEDED", "FAILED", "CANCELING", "CANCELED"})
"""States of a task that has begun; one that is skipped never did."""


@dataclass(frozen=True)
class Task:
    """A task of a run. :param name: as the pipeline calls it, or `NAME-driver` for what prepares it"""

    name: str
    state: str = ""
    error: str = ""
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True)
class ApiRun:
    """A run, as the API has it.

    :param state: in the API's words; one that we do not know counts as active
    :param cancelled: whether somebody had it ended
    :param error: what the API says went wrong
    """

    id: str
    state: str = ""
    cancelled: bool = False
    error: str = ""
    tasks: tuple[Task, ...] = ()
    finished: datetime | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.state in SUCCEEDED

    @property
    def active(self) -> bool:
        """Whether it may still do something."""
        return self.state not in SUCCEEDED and self.state not in ("FAILED", "CANCELED")


def run_id(uid: str, attempt: int) -> str:
    """The id of an attempt of a TrainingRun: the same whoever asks, and however often."""
    try:
        space = UUID(uid)
    except ValueError:  # an API server may name objects as it likes
        space = uuid5(UUID(int=0), uid)
    return str(uuid5(space, str(attempt)))


def parse_run(found: Mapping[str, Any]) -> ApiRun:
    """A run from its JSON; anything that is not as expected is left out."""
    history = [_state(each) for each in _list(found.get("state_history"))]
    state = _state(found)
    return ApiRun(
        id=str(found.get("run_id") or ""),
        state=state,
        cancelled=state in ("CANCELING", "CANCELED") or "CANCELING" in history,
        error=_message(found.get("error")) or _last_error(found.get("state_history")),
        tasks=tuple(_tasks(found)),
        finished=_time(found.get("finished_at")),
    )


def _tasks(found: Mapping[str, Any]) -> Iterable[Task]:
    details = _dict(found.get("run_details"))
    for each in _list(details.get("task_details")) or _list(found.get("tasks")):
        name = each.get("display_name") or each.get("name")
        if not isinstance(name, str):
            continue
        yield Task(
            name=name,
            state=_state(each),
            error=_message(each.get("error")) or _last_error(each.get("state_history")),
            started=_time(each.get("start_time")),
            ended=_time(each.get("end_time")),
        )


def progress(tasks: Iterable[Task]) -> tuple[str, int] | None:
    """Stage and percent: of the furthest task of ours that has started. None: none has, or tasks are not told."""
    begun = [TASKS[each.name] for each in tasks if each.name in TASKS and each.state in STARTED]
    if not begun:
        return None
    furthest = max(begun, key=lambda info: info.percent)
    return furthest.stage, furthest.percent


def failed_task(tasks: Iterable[Task]) -> Task | None:
    """The task of ours, or its driver, that failed; None where that is not told."""
    names = {*TASKS, *(f"{name}-driver" for name in (*TASKS, "root", "produce", "judge"))}
    failed = [each for each in tasks if each.state == "FAILED" and each.name in names]
    failed.sort(key=lambda each: (each.ended is None, each.ended))
    return failed[0] if failed else None


def _state(found: Mapping[str, Any]) -> str:
    state = found.get("state")
    return state if isinstance(state, str) else ""


def _message(error: Any) -> str:
    text = _dict(error).get("message")
    return text if isinstance(text, str) else ""


def _last_error(history: Any) -> str:
    told = [text for each in _list(history) if (text := _message(each.get("error")))]
    return told[-1] if told else ""


def _time(text: Any) -> datetime | None:
    """A time; None for the epoch, which stands for none."""
    if not isinstance(text, str):
        return None
    try:
        found = parse_time(text)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found if found.year > 1970 else None


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
