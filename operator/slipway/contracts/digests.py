"""Canonical JSON and SHA-256 digests: the one way in which Slipway gives content a name."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no blanks, UTF-8: equal values give equal bytes. ValueError on NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """Digest of the canonical JSON of a value."""
    return digest_bytes(canonical_json(value))


def short(digest: str, length: int = 10) -> str:
    """The first hex digits of a digest, for names."""
    return digest.removeprefix("sha256:")[:length]
