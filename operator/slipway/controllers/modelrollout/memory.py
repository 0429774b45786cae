"""Orders of people that still hold, as the weighted route remembers them: a lost status must not let go of a brake."""

from __future__ import annotations

import json

from pydantic import ValidationError

from slipway.api.meta import ApiModel
from slipway.api.rollout_control import PausedStatus, PromoteFullStatus, UndoStatus


class Memory(ApiModel):
    """What holds.

    :param candidate: the version that `paused` and `promote_full` are about
    :param undone: versions that a person went back from
    """

    candidate: str | None = None
    paused: PausedStatus | None = None
    promote_full: PromoteFullStatus | None = None
    undo: UndoStatus | None = None
    undone: tuple[str, ...] = ()

    def text(self) -> str:
        """For an annotation; empty when nothing holds."""
        found = {name: value for name, value in self.wire().items() if value}
        if not found.keys() - {"candidate"}:
            return ""
        return json.dumps(found, sort_keys=True, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Memory:
        """What a text says; nothing, when somebody spoilt it."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValidationError:
            return cls()
