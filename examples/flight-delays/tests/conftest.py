"""The package `flights` is no part of Slipway's wheel: it comes in its own image, and here by path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
