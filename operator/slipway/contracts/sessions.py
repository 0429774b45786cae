"""What the gateway tells a model server about sessions, and the cookie that the server answers with.

The gateway's rules cannot set a cookie by the server that a request went to without giving every server a cluster of
its own, so the server sets it. It is told how in a header, and only where the weighted rule sent the request while a
candidate has requests: nothing has to be configured in the server, and no cookie outlives its candidacy.

    x-slipway-session: SEED; name=COOKIE; seconds=3600; path=/flight-delays
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

HEADER = "x-slipway-session"


@dataclass(frozen=True)
class Session:
    """How clients are kept on a version.

    :param seed: random, one a candidacy
    :param name: the cookie's name
    :param seconds: how long clients keep it
    :param path: where they send it
    """

    seed: str
    name: str
    seconds: int
    path: str

    def header(self) -> str:
        """The header's value."""
        return f"{self.seed}; name={self.name}; seconds={self.seconds}; path={self.path}"

    def value(self, version: str) -> str:
        """The cookie's value for clients of a version; without the seed it cannot be guessed."""
        return hashlib.sha256(f"{self.seed}/{version}".encode()).hexdigest()[:32]

    def cookie(self, version: str) -> str:
        """The `Set-Cookie` header."""
        return f"{self.name}={self.value(version)}; Max-Age={self.seconds}; Path={self.path}; HttpOnly; SameSite=Lax"


def parse(header: str) -> Session | None:
    """A session from the header's value; None when it is none of ours."""
    seed, *rest = (part.strip() for part in header.split(";"))
    fields = dict(part.partition("=")[::2] for part in rest)
    if not seed or set(fields) != {"name", "seconds", "path"} or not fields["seconds"].isdigit():
        return None
    return Session(seed, fields["name"], int(fields["seconds"]), fields["path"])
