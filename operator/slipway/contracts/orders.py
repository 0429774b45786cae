"""The text of an order to a rollout: what the command line writes and the operator reads.

    slipway.dev/order: promote approval:flight-delays-2b #3f2a91 by dana@example.com

An order names the version that it is about, so that it cannot act on another one; its token makes it act once; an
admission policy sees to it that `by` is the one who wrote it. It is one annotation, so it may stand in Git as well.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, cast, get_args

from slipway.api.modelrollout import HistoryEntry
from slipway.api.rollout_control import Verb

ANNOTATION: Final = "slipway.dev/order"
LONGEST: Final = 512
"""Characters of an order that are read and remembered."""

_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_FORM = re.compile(
    rf"(?P<verb>[a-z-]+) (?:(?P<step>[^ :]+):)?(?P<version>{_NAME})(?: to (?P<target>{_NAME}))?"
    r" #(?P<token>[a-z0-9]{4,32}) by (?P<by>\S(?:.{0,254}\S)?)"
)


@dataclass(frozen=True)
class Order:
    """An order.

    :param version: the version that it is about; for `undo` the one that users rely on now
    :param token: random; two orders with one token are the same order
    :param by: user name of the one who gives it
    :param step: for `promote`, the step that waits
    :param target: for `undo`, the version to go back to; empty for the one before
    """

    verb: Verb
    version: str
    token: str
    by: str
    step: str = ""
    target: str = ""

    def __str__(self) -> str:
        subject = f"{self.step}:{self.version}" if self.step else self.version
        target = f" to {self.target}" if self.target else ""
        return f"{self.verb} {subject}{target} #{self.token} by {self.by}"


def new_token() -> str:
    """A token that no other order has."""
    return secrets.token_hex(4)


def parse(text: str) -> Order:
    """The order that a text says.

    :raises ValueError: it is none; the message is a sentence
    """
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise ValueError("it is not of the form `VERB [STEP:]VERSION [to VERSION] #TOKEN by USER`.")
    verb, step, target = found["verb"], found["step"] or "", found["target"] or ""
    if verb not in get_args(Verb):
        raise ValueError(f"{verb} is not one of {', '.join(get_args(Verb))}.")
    if bool(step) != (verb == "promote"):
        raise ValueError("promote, and nothing else, names a step before the version: `promote STEP:VERSION`.")
    if target and verb != "undo":
        raise ValueError("only undo names a second version: `undo VERSION to VERSION`.")
    return Order(cast(Verb, verb), found["version"], found["token"], found["by"], step, target)


def version_before(stable: str, history: Iterable[HistoryEntry], unwanted: Collection[str]) -> str | None:
    """The version that users relied on before the stable one; None when there is none that may serve again.

    :param history: newest first
    :param unwanted: versions that were rejected: to undo twice goes back twice
    """
    promoted = (each.name for each in history if each.outcome == "Promoted")
    return next((name for name in promoted if name != stable and name not in unwanted), None)
