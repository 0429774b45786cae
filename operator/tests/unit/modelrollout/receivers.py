"""Endpoints of hooks and alerts as they are played: what each answers, what it was asked, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.adapters.webhooks import Answer, Request

Say = str
"""`200`, `403`, `500`…: a code; `timeout`: no answer; `refused`: not even sent; `never`: the call does not end."""


@dataclass
class Post:
    """A call that an endpoint got."""

    request: Request
    at: float
    answer: Answer | None = None

    @property
    def receiver(self) -> str:
        body = self.request.body
        return str(body.get("hook") or self.request.secret)

    @property
    def type(self) -> str:
        return str(self.request.body.get("type", "alert"))


@dataclass
class _Entry:
    answer: Answer
    due_at: float = 0.0
    refusals: int = 0
    ready_at: float | None = None
    request: Request | None = None
    post: Post | None = None


@dataclass
class Receivers:
    """Stands for `slipway.adapters.webhooks.Webhooks`: an answer comes a second after the question.

    :param clock: seconds
    :param say: what each receiver answers, by its name; 200 unless told
    """

    clock: Callable[[], float]
    say: dict[str, Say] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    lost: int = 0
    _known: dict[str, _Entry] = field(default_factory=dict)

    def bind(self, client: object) -> None:
        pass

    def forget(self, owner: str) -> None:
        self._known = {key: each for key, each in self._known.items() if each.request and each.request.owner != owner}

    def restart(self) -> None:
        """Answers are in the operator's memory only."""
        self._known.clear()

    def read(self, owner: str) -> Mapping[str, Answer]:
        now = self.clock()
        for entry in self._known.values():
            if entry.ready_at is not None and now >= entry.ready_at:
                self._answer(entry)
        return {
            key: Answer(
                e.answer.result, e.ready_at is not None, e.answer.code, e.answer.message, max(0, e.due_at - now)
            )
            for key, e in self._known.items()
            if e.request is not None and e.request.owner == owner
        }

    def _answer(self, entry: _Entry) -> None:
        assert entry.request is not None
        say = self.say.get(Post(entry.request, 0).receiver, "200")
        if say == "never":
            return
        entry.answer = _answer_of(say)
        entry.refusals = 0 if entry.answer.result == "Ok" else entry.refusals + 1
        pause = entry.request.pause * 2 ** max(0, entry.refusals - 1)
        entry.due_at = self.clock() + min(pause, max(entry.request.pause, entry.request.longest_pause))
        entry.ready_at = None
        if entry.post is not None:
            entry.post.answer = entry.answer

    async def dropped(self, number: int) -> None:
        self.lost += number

    async def post(self, request: Request) -> None:
        entry = self._known.setdefault(request.key, _Entry(Answer()))
        assert entry.ready_at is None, "asked while the question is on its way"
        assert self.clock() >= entry.due_at, "asked too soon"
        entry.request, entry.ready_at = request, self.clock() + 1
        entry.post = Post(request, self.clock())
        if self.say.get(entry.post.receiver) != "refused":
            self.posts.append(entry.post)

    # ---- for tests ---------------------------------------------------------------------------------------------------
    def of(self, receiver: str) -> list[Post]:
        """Calls that a receiver got, in order."""
        return [each for each in self.posts if each.receiver == receiver]

    def bodies(self, receiver: str) -> list[Any]:
        return [each.request.body for each in self.of(receiver)]


def _answer_of(say: Say) -> Answer:
    if say == "timeout":
        return Answer("Failed", message="it did not answer within 10 s.")
    if say == "refused":
        return Answer("NotSent", message="host elsewhere is not allowed.")
    return Answer("Ok" if say.startswith("2") else "Failed", code=int(say), message=f"it answered {say}.")
