"""SIGTERM under load: not ready first, every request answered, then a clean exit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Server

FLIGHT = {"carrier": "UA", "hour": 7, "distance": 1400.0, "late_share_7d": 0.9, "queue": 3.0}
PREDICT = "/v1/models/flight-delays:predict"
CLIENTS = 6
GATEWAY_DELAY = 0.7
"""Seconds for which clients go on after the server said that it is not ready, as a gateway does until it has heard."""


class Client(threading.Thread):
    """Sends requests, one after the other on a kept connection, until told to stop."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._halt = stop
        self.answers: list[tuple[float, int]] = []
        self.failures: list[Exception] = []

    def run(self) -> None:
        """The thread."""
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not self._halt.is_set():
                try:
                    answer = client.post(PREDICT, json={"instances": [FLIGHT]})
                except httpx.TransportError as error:
                    self.failures.append(error)
                else:
                    self.answers.append((time.monotonic(), answer.status_code))


def test_no_request_is_lost(
    serve: Callable[..., AbstractContextManager[Server]], model_folder: Path, tmp_path: Path
) -> None:
    with serve(model_folder, tmp_path / "log", SLIPWAY_DRAIN_SECONDS="1.5") as server:
        stop = threading.Event()
        clients = [Client(server.url, stop) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        server.wait(lambda: all(len(client.answers) >= 5 for client in clients))
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: not server.ready())
        not_ready = time.monotonic()
        time.sleep(GATEWAY_DELAY)
        stop.set()
        for client in clients:
            client.join(30)
        assert server.process.wait(60) == 0

    assert [failure for client in clients for failure in client.failures] == []
    answers = [answer for client in clients for answer in client.answers]
    assert {status for _, status in answers} == {200}
    assert any(at > not_ready for at, _ in answers)


@pytest.mark.slow
def test_interrupt_stops_at_once(
    serve: Callable[..., AbstractContextManager[Server]], model_folder: Path, tmp_path: Path
) -> None:
    with serve(
        model_folder, tmp_path / "log", SLIPWAY_DRAIN_SECONDS="1000", SLIPWAY_DRAIN_MAX_SECONDS="1000"
    ) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
