"""One reconcile from key to outcome: observe, plan, execute, and what each error means.

Errors never leave this module: they become a condition that says what is wrong in a sentence, a line in the log, and a
decision about when to try again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slipway.runtime import errors
from slipway.runtime.conditions import Conditions, Note, find
from slipway.runtime.controller import Controller, Io, Plan, ports_of, ready_condition
from slipway.runtime.execute import Executor
from slipway.runtime.logging import about
from slipway.runtime.metrics import Metrics
from slipway.runtime.queue import EAGER, Done, Failed, Outcome
from slipway.runtime.resources import Key, Object

logger = logging.getLogger(__name__)

TIMEOUT = 120.0
"""Seconds that one reconcile may take: work that needs longer belongs into a Job."""

TRIES_BEFORE_CONDITION = 3
"""A service that is away for a moment is nobody's news."""

QUIET_CAP = 30.0
"""Most seconds between tries when something else must appear first: a watch usually wakes the key earlier."""


@dataclass(frozen=True)
class Verdict:
    """What an error means.

    :param outcome: when to try again
    :param reason: for the metrics and the condition
    :param message: sentence for the condition; empty: no condition
    :param terminal: only a change by the user helps (condition `Stalled`)
    """

    outcome: Outcome
    reason: str
    message: str = ""
    terminal: bool = False


def judge(error: Exception, failures: int) -> Verdict:
    """The meaning of an error after `failures` earlier ones in a row; pure."""
    if isinstance(error, errors.UserError):
        return Verdict(Done(), error.reason, error.message, terminal=True)
    if isinstance(error, errors.MissingDependency):
        return Verdict(Failed(cap=QUIET_CAP), error.reason, error.message)
    if isinstance(error, errors.Unavailable):
        told = failures + 1 >= TRIES_BEFORE_CONDITION
        return Verdict(Failed(error.retry_after or 0.0, QUIET_CAP), error.reason, error.message if told else "")
    if isinstance(error, errors.Fenced):
        return Verdict(Failed(), "Fenced")
    if isinstance(error, errors.Conflict | errors.AlreadyExists):
        return Verdict(Failed(cap=QUIET_CAP), "Conflict")
    if isinstance(error, errors.Forbidden):
        return Verdict(Failed(), "Forbidden", f"The API server does not allow it: {error.message}")
    if isinstance(error, errors.Invalid):
        return Verdict(Failed(), "Rejected", f"The API server rejected what this object needs: {error.message}")
    if isinstance(error, TimeoutError):
        return Verdict(Failed(), "Timeout", f"Reconciling took longer than {TIMEOUT:.0f} s; it is tried again.")
    return Verdict(Failed(), "InternalError", "Slipway has a defect; the operator's log has the details.")


def no_later(outcome: Outcome, plan: Plan | None) -> Outcome:
    """What the plan wanted to look at soon is looked at as soon, though an action failed: a rollback must not wait."""
    if isinstance(outcome, Failed) and plan is not None and plan.requeue_after is not None:
        return replace(outcome, cap=min(outcome.cap, max(plan.requeue_after, EAGER)))
    return outcome


def with_error(obj: Object, status: Mapping[str, Any] | None, ready: str, verdict: Verdict, now: datetime) -> Object:
    """The status that reports an error: the plan's (or the live) one with its ready condition replaced; pure."""
    base = dict(status if status is not None else obj.get("status") or {})
    conditions = Conditions(obj, now)
    conditions.false(ready, verdict.reason, verdict.message)
    if verdict.terminal:
        conditions.true("Stalled", verdict.reason, verdict.message)
    stated = {each["type"]: each for each in conditions.list()}
    kept = {each["type"]: each for each in base.get("conditions") or () if each["type"] != "Stalled"}
    base["conditions"] = [each for _, each in sorted({**kept, **stated}.items())]
    return base


class Reconciler:
    """Runs the controllers of one runtime.

    :param controllers: by the name that the queue uses for them
    """

    def __init__(
        self,
        controllers: Mapping[str, Controller[Any]],
        io: Io,
        executor: Executor,
        metrics: Metrics,
        failures: Callable[[str, Key], int],
    ) -> None:
        self._controllers = controllers
        self._io = io
        self._executor = executor
        self._metrics = metrics
        self._failures = failures

    async def reconcile(self, name: str, key: Key) -> Outcome:
        """Reconcile one key with one controller; raises nothing but CancelledError."""
        begin = time.monotonic()
        with about(key):
            outcome, word = await self._guarded(name, key)
        self._metrics.reconcile_seconds.labels(name).observe(time.monotonic() - begin)
        self._metrics.reconciles.labels(name, word).inc()
        if isinstance(outcome, Failed):
            self._metrics.retries.labels(name).inc()
        return outcome

    async def rehearse(self, name: str, key: Key) -> Outcome:
        """Observe and plan, and write nothing; raises nothing but CancelledError. Errors are the leader's to tell."""
        controller = self._controllers[name]
        with about(key):
            try:
                async with asyncio.timeout(TIMEOUT):
                    snapshot = await controller.observe(self._io, key) if self._io.get(key) is not None else None
                    return Done(None if snapshot is None else controller.plan(snapshot, self._io.clock()).requeue_after)
            except Exception as error:
                logger.debug("standing by, not observed: %s", error)
                return Failed(cap=QUIET_CAP)

    async def _guarded(self, name: str, key: Key) -> tuple[Outcome, str]:
        controller = self._controllers[name]
        obj = self._io.get(key)  # before observe: a change in between makes the status write fail, and we look again
        if obj is None:
            return Done(), "Gone"
        plan: Plan | None = None
        try:
            async with asyncio.timeout(TIMEOUT):
                snapshot = await controller.observe(self._io, key)
                if snapshot is None:
                    return Done(), "Nothing"
                plan = controller.plan(snapshot, self._io.clock())
                requeue = await self._executor.execute(key.type, obj, plan, ports_of(controller))
            return Done(requeue), "Done" if requeue is None else "Requeued"
        except Exception as error:
            verdict = judge(error, self._failures(name, key))
            _log(error, verdict)
            await self._report(controller, key, plan, verdict)
            return no_later(verdict.outcome, plan), verdict.reason

    async def _report(self, controller: Controller[Any], key: Key, plan: Plan | None, verdict: Verdict) -> None:
        obj = self._io.get(key)
        if obj is None or not verdict.message:
            return
        ready = ready_condition(controller)
        before = find((obj.get("status") or {}).get("conditions") or (), ready)
        news = before is None or before.get("reason") != verdict.reason
        notes = (Note("Warning", verdict.reason, verdict.message),) if news else ()
        if plan is not None and plan.status is not None:
            notes = (*plan.events, *notes)  # what the plan decided is written with its status
        try:
            reported = with_error(obj, plan.status if plan else None, ready, verdict, self._io.clock())
            await self._executor.write_status(key.type, obj, reported, notes)
        except (errors.ApiError, errors.Unavailable, errors.Fenced) as error:
            logger.warning("The condition %s could not be written: %s", verdict.reason, error)


def _log(error: Exception, verdict: Verdict) -> None:
    if verdict.reason == "InternalError":
        logger.error("reconcile failed with a defect", exc_info=error)
    elif verdict.reason == "Conflict":
        logger.debug("changed by someone else meanwhile: %s", error)
    else:
        logger.info("%s: %s", verdict.reason, error or type(error).__name__)


def named(controllers: Sequence[Controller[Any]]) -> dict[str, Controller[Any]]:
    """Controllers by their class name, which must be unique.

    :raises ValueError: two have the same
    """
    found: dict[str, Controller[Any]] = {}
    for each in controllers:
        name = type(each).__name__
        if name in found:
            raise ValueError(f"two controllers are called {name}")
        found[name] = each
    return found
