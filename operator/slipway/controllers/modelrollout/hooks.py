"""Hooks of the candidate: what other programs allow, and what they refuse. Pure: answers come with the snapshot.

Names and meanings are Flagger's. A `confirm-*` hook waits for 2xx. `pre-rollout`, `rollout` and the step `webhook`
count failures. `rollback` ends the candidacy with 2xx. Hooks hold back; none can raise a weight by itself, and none is
asked before a rollback.

A question has a token made of the candidacy and the occasion, so that it is the same after a restart. Answers are in
the operator's memory; what must outlive it (a gate that was passed, failures) is in `status.hooks`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.adapters.webhooks import Answer
from slipway.api.meta import parse_duration, parse_time
from slipway.api.reasons import Reason
from slipway.api.rollout_hooks import Hook, HookStatus, HookType, OnFailure, WebCall
from slipway.api.rollout_steps import Step
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.state import State
from slipway.runtime.conditions import Note, timestamp

FAILURES_ALLOWED = 2
LONGEST_PAUSE = 60.0
"""Seconds between two questions to a hook that has to confirm: pauses double up to this."""

_NOTHING = Answer()


@dataclass(frozen=True)
class Ask:
    """A question that is due.

    :param key: its answer is found under it
    :param token: idempotency token
    """

    key: str
    token: str
    name: str
    type: HookType | Literal["webhook"]
    call: WebCall
    longest_pause: float


@dataclass(frozen=True)
class Halt:
    """Why the candidate is held until a person acts, or an endpoint changes its mind."""

    reason: Reason
    message: str
    muted: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a hook ends the candidacy."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class _Counting:
    """A question whose failures count.

    :param record: name in `status.hooks`
    :param token: of the question; `sent_as` is what the endpoint gets where each repetition is a new question
    """

    record: str
    what: str
    type: HookType | Literal["webhook"]
    call: WebCall
    token: str
    sent_as: str
    on_failure: OnFailure
    limit: int
    muted: bool = False


class Hooks:
    """The hooks of one rollout in one pass; collects what is to be asked and what follows from answers."""

    def __init__(self, snapshot: Snapshot, state: State, now: datetime) -> None:
        self._snapshot = snapshot
        self._state = state
        self._now = now
        self.asks: list[Ask] = []
        self.halted: list[Halt] = []
        self.refused: Refusal | None = None
        self.waiting_for = ""

    # ---- gates -------------------------------------------------------------------------------------------------------
    def confirmed(self) -> bool:
        """Whether servers may be made: every confirm-rollout hook said yes."""
        if not awaits_confirmation(self._snapshot, self._state):
            return True
        if not self._confirm_all("confirm-rollout"):
            return False
        self._state.candidate_since = self._now  # the time that people took is not the servers'
        return True

    def prepared(self) -> bool:
        """Whether requests may come: every pre-rollout hook succeeded, once in the candidacy."""
        passed = [self._passed(self._counting(hook)) for hook in self._of("pre-rollout")]  # all are asked at once
        return all(passed)

    def may_raise(self, weight: int) -> bool:
        """Whether the weight may be raised to this."""
        occasion = f"{self._state.attempts}/{weight}"
        if not self._confirm_all("confirm-traffic-increase", occasion):
            return False
        return weight < 100 or self._confirm_all("confirm-promotion", occasion)

    def watch(self) -> None:
        """Ask whether to roll back, and call the rollout hooks of the present step."""
        for hook in self._of("rollback"):
            self._watch_rollback(hook)
        for hook in self._of("rollout") if self._state.position is not None else ():
            self._watch_rollout(hook)

    def agree(self) -> bool:
        """Whether each rollout hook has said yes in this step, and not no since."""
        for hook in self._of("rollout"):
            counting = self._counting(hook, repeated=True)
            answer = self._answer(self._key(counting))
            if answer.result != "Ok" and not (counting.on_failure == "Ignore" and answer.result == "Failed"):
                self.waiting_for = f"hook {hook.name} to answer"
                return False
        return True

    def step_done(self, step: Step) -> bool:
        """Whether the endpoint of a webhook step has answered 2xx."""
        if step.webhook is None:
            return True
        call, token = step.webhook, self._token("step", step.name, str(self._state.attempts))
        on_failure = self._on_failure(call.on_failure)
        what = f"The endpoint of step {step.name}"
        return self._passed(
            _Counting(f"step/{step.name}", what, "webhook", call, token, token, on_failure, call.failure_limit)
        )

    # ---- confirm-* ---------------------------------------------------------------------------------------------------
    def _confirm_all(self, type_: HookType, *occasion: str) -> bool:
        confirmed = [self._confirms(hook, *occasion) for hook in self._of(type_)]  # all are asked at once
        return all(confirmed)

    def _confirms(self, hook: Hook, *occasion: str) -> bool:
        token = self._token(hook.type, hook.name, *occasion)
        record = self._record(f"hook/{hook.name}", token)
        if record.state == "Passed":
            return True
        key = f"{record.name}:{token}"
        answer = self._answer(key)
        if answer.result == "Ok":
            self._keep(record, state="Passed", message=None)
            return True
        self._ask(Ask(key, token, hook.name, hook.type, hook, max(LONGEST_PAUSE, _seconds(hook))))
        self.waiting_for = f"hook {hook.name} to confirm"
        if answer.result is not None:
            if record.message is None:
                message = f"Version {self._state.candidate} waits for hook {hook.name} ({hook.type}): {answer.message}"
                self._state.notes.append(Note("Normal", Reason.WaitingForHook, message))
            self._keep(record, state="Waiting", message=answer.message)
        self._tell_not_sent(answer, f"Hook {hook.name}", hook.mute_alert)
        return False

    # ---- what counts failures ----------------------------------------------------------------------------------------
    def _passed(self, counting: _Counting) -> bool:
        """pre-rollout and webhook steps: whether it succeeded; a success is remembered and never repeated."""
        record = self._record(counting.record, counting.token)
        if record.state in ("Passed", "Ignored"):
            return True
        answer = self._answer(self._key(counting))
        if answer.result == "Ok":
            self._keep(record, state="Passed", message=None)
            return True
        if answer.result == "Failed" and counting.on_failure == "Ignore":
            self._ignore(counting, record, answer)
            return True
        self._count(counting, record, answer)
        self.waiting_for = f"{counting.what[0].lower()}{counting.what[1:]} to answer"
        return False

    def _watch_rollout(self, hook: Hook) -> None:
        counting = self._counting(hook, repeated=True)
        record, answer = self._failures_of(counting), self._answer(self._key(counting))
        if answer.result == "Ok" and record.state == "Failed":
            self._keep(record, state="Passed", message=None)
        if answer.result == "Failed" and counting.on_failure == "Ignore":
            if record.state != "Ignored":
                self._ignore(counting, record, answer)
            self._ask_counting(counting)
            return
        self._count(counting, record, answer)

    def _count(self, counting: _Counting, record: HookStatus, answer: Answer) -> None:
        """Count a failure once, ask when it is time, and draw the consequence of too many."""
        if answer.result == "Failed" and record.failures <= counting.limit:
            message = f"{counting.what} failed: {answer.message}"
            self._state.notes.append(Note("Warning", Reason.HookFailed, message))
            failures = record.failures + 1
            at = timestamp(self._now)
            record = self._keep(record, state="Failed", failures=failures, failed_at=at, message=answer.message)
        elif answer.result == "Failed" and record.state != "Failed":
            record = self._keep(record, state="Failed", message=answer.message)
        self._tell_not_sent(answer, counting.what, counting.muted)
        self._ask_counting(counting)
        live = self._state.hooks.get(record.name, record)
        if live.state == "Failed" and live.failures > counting.limit:
            self._give_up(counting, live)

    def _give_up(self, counting: _Counting, record: HookStatus) -> None:
        message = f"{counting.what} failed {record.failures} times: {record.message}"
        if counting.on_failure == "Reject":
            self.refused = Refusal(Reason.HookFailed, message)
        else:
            self.halt(Reason.HookFailed, message, counting.muted)

    def _ignore(self, counting: _Counting, record: HookStatus, answer: Answer) -> None:
        message = f"{counting.what} failed, which is ignored: {answer.message}"
        self._state.notes.append(Note("Warning", Reason.HookFailed, message))
        self._keep(record, state="Ignored", message=answer.message)

    def _ask_counting(self, counting: _Counting) -> None:
        record = self._failures_of(counting)
        failed_at = parse_time(record.failed_at) if record.failed_at else None
        pause = parse_duration(counting.call.interval)
        if failed_at is not None and failed_at <= self._now < failed_at + pause:
            return
        name = counting.record.partition("/")[2]
        ask = Ask(self._key(counting), counting.sent_as, name, counting.type, counting.call, _seconds(counting.call))
        self._ask(ask)

    def _counting(self, hook: Hook, *, repeated: bool = False) -> _Counting:
        """A hook of type pre-rollout, or of type rollout, where each interval of a step is a question of its own."""
        occasion = [hook.type, hook.name]
        if repeated:
            occasion += [str(self._state.attempts), self._state.position.name if self._state.position else ""]
        limit = FAILURES_ALLOWED if hook.failure_limit is None else hook.failure_limit
        return _Counting(
            record=f"hook/{hook.name}",
            what=f"Hook {hook.name} ({hook.type})",
            type=hook.type,
            call=hook,
            token=self._token(*occasion),
            sent_as=self._token(*occasion, *([str(self._interval(hook))] if repeated else [])),
            on_failure=self._on_failure(hook.on_failure),
            limit=limit,
            muted=hook.mute_alert,
        )

    def _interval(self, hook: Hook) -> int:
        """How many intervals of the hook have passed in the present step."""
        if self._state.position is None:
            return 0
        began = self._state.position.started_at
        return int(self._snapshot.lived.passed(began, self._now) / parse_duration(hook.interval))

    def _on_failure(self, said: OnFailure | None) -> OnFailure:
        return said or ("Reject" if self._snapshot.rollout.spec.rollback.automatic else "Halt")

    # ---- rollback ----------------------------------------------------------------------------------------------------
    def _watch_rollback(self, hook: Hook) -> None:
        token = self._token(hook.type, hook.name)
        key = f"hook/{hook.name}:{token}"
        answer = self._answer(key)
        if answer.result == "Ok":
            self.refused = Refusal(Reason.RollbackRequested, f"Hook {hook.name} asks for a rollback.")
        else:
            self._ask(Ask(key, token, hook.name, hook.type, hook, _seconds(hook)))
            self._tell_not_sent(answer, f"Hook {hook.name}", hook.mute_alert)

    # ---- common ------------------------------------------------------------------------------------------------------
    def halt(self, reason: Reason, message: str, muted: bool = False) -> None:
        """Hold the candidate where it is, and say why."""
        self.halted.append(Halt(reason, message, muted))

    def _of(self, type_: HookType) -> Iterable[Hook]:
        return hooks_of(self._snapshot, type_) if gates_apply(self._state) else ()

    def _token(self, *occasion: str) -> str:
        return question_token(self._snapshot, self._state, *occasion)

    def _key(self, counting: _Counting) -> str:
        return f"{counting.record}:{counting.token}.{self._failures_of(counting).failures}"

    def _failures_of(self, counting: _Counting) -> HookStatus:
        """Failures of a rollout hook count over all steps, those of others for one question."""
        if counting.type == "rollout":
            live = self._state.hooks.get(counting.record)
            return live or HookStatus(name=counting.record, token=counting.token, state="Waiting")
        return self._record(counting.record, counting.token)

    def _record(self, name: str, token: str) -> HookStatus:
        live = self._state.hooks.get(name)
        return live if live is not None and live.token == token else HookStatus(name=name, token=token, state="Waiting")

    def _keep(self, record: HookStatus, **changes: object) -> HookStatus:
        if isinstance(changes.get("message"), str):
            changes["message"] = str(changes["message"])[:1024]
        self._state.hooks[record.name] = record.model_copy(update=changes)
        return self._state.hooks[record.name]

    def _answer(self, key: str) -> Answer:
        return self._snapshot.answers.get(key, _NOTHING)

    def _ask(self, ask: Ask) -> None:
        answer = self._answer(ask.key)
        if not answer.pending and answer.due_in <= 0:
            self.asks.append(ask)

    def _tell_not_sent(self, answer: Answer, what: str, muted: bool) -> None:
        if answer.result == "NotSent":
            self.halt(Reason.HookNotSent, f"{what} cannot be called: {answer.message}", muted)


def hooks_of(snapshot: Snapshot, type_: HookType) -> list[Hook]:
    """Hooks of a type, in the order of the spec."""
    return [hook for hook in snapshot.rollout.spec.hooks if hook.type == type_]


def gates_apply(state: State) -> bool:
    """Whether hooks hold the candidate up: not the first version ever, nor one that takes no steps by a person's order.

    Without this, nobody could go back, or go on, while an endpoint is dead.
    """
    return state.candidate is not None and state.stable is not None and state.promote_full is None


def awaits_confirmation(snapshot: Snapshot, state: State) -> bool:
    """Whether the candidate's servers are not made yet because a confirm-rollout hook has not said yes."""
    if not gates_apply(state) or snapshot.server_of(state.candidate) is not None:
        return False
    for hook in hooks_of(snapshot, "confirm-rollout"):
        record = state.hooks.get(f"hook/{hook.name}")
        token = question_token(snapshot, state, hook.type, hook.name)
        if record is None or record.token != token or record.state != "Passed":
            return True
    return False


def question_token(snapshot: Snapshot, state: State, *occasion: str) -> str:
    """The idempotency token of a question about the present candidate."""
    parts = (snapshot.rollout.metadata.uid, str(state.candidate), state.candidacy or "", *occasion)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _seconds(call: WebCall) -> float:
    return parse_duration(call.interval).total_seconds()
