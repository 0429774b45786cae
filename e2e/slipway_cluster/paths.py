"""Where the package keeps what is slow to make.

Everything lives under one folder, ``$SLIPWAY_CACHE`` (default ``~/.cache/slipway``): removing it removes every trace.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def cache() -> Path:
    """The cache folder, created if missing."""
    configured = os.environ.get("SLIPWAY_CACHE")
    folder = Path(configured).expanduser() if configured else Path.home() / ".cache" / "slipway"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def cache_folder(*parts: str) -> Path:
    """A folder below the cache folder, created if missing."""
    folder = cache().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
