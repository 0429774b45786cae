"""How the gateway tells a model server who called, directly and through a transformer.

The gateway writes the caller's name into one of two headers of its own. A transformer made with KServe's SDK (0.20 or
newer) passes neither on, but it does pass `authorization` on. Where a version has a transformer, the gateway therefore
puts the name there as well, in place of the caller's credential, which it has used by then:

    authorization: SlipwayConsumer booking-site.0
"""

from __future__ import annotations

from typing import Final

CLIENT_HEADER: Final = "x-slipway-consumer"
"""The name of an API key."""
SUBJECT_HEADER: Final = "x-slipway-subject"
"""The ServiceAccount of a token."""
CARRIER_HEADER: Final = "authorization"
SCHEME: Final = "SlipwayConsumer"


def carried(authorization: str | None) -> str | None:
    """The caller's name in an `authorization` header; None in one that is not the gateway's."""
    scheme, _, name = (authorization or "").partition(" ")
    return name.strip() or None if scheme == SCHEME else None
