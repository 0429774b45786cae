"""Which tests share a process of pytest-xdist: a file stays together, and API servers are started few times.

Each process that meets a test with an API server starts one of its own, and installs every CRD: that costs more of the
processor than most tests. So those files go to few processes; all others go wherever there is room.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

_SHARING = {
    "admission": ("operator/tests/cluster/admission/", "operator/tests/cluster/cli/"),
    "runtime": ("operator/tests/cluster/runtime/",),
    "controllers": ("operator/tests/cluster/", "e2e/tests/test_controlplane"),
}
"""Beginnings of the files that share an API server; the first that fits counts."""


class SideBySide(LoadFileScheduling):
    """As `--dist loadfile`, but all files that share an API server count as one."""

    def _split_scope(self, nodeid: str) -> str:
        sharing = (name for name, files in _SHARING.items() if nodeid.startswith(files))
        return next(sharing, str(super()._split_scope(nodeid)))


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Any:
    """Only for `--dist loadfile`."""
    return SideBySide(config, log) if config.getvalue("dist") == "loadfile" else None
