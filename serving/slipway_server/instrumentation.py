"""Import Feast without typeguard's instrumentation, which compiles most of its classes anew at each start.

Feast decorates its classes with `typeguard.typechecked`. Importing it takes thirteen CPU seconds, ten of them for that,
in a cold start that a canary waits for. `python -O` leaves the instrumentation out too, but needs byte code of its own
in the image and drops every assertion. What Feast is called with here comes from our own, typed code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_typeguard() -> Iterator[None]:
    """While modules are imported inside, `typeguard.typechecked` does nothing."""
    import typeguard

    original = typeguard.typechecked
    typeguard.typechecked = _unchanged
    try:
        yield
    finally:
        typeguard.typechecked = original


def _unchanged(target: Any = None, **_: Any) -> Any:
    return target if target is not None else _unchanged
