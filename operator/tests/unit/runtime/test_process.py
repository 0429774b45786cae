"""Settings, logs, threads, labels and the watchdog: what a process needs beside its controllers."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from slipway.runtime.errors import Unavailable, UserError
from slipway.runtime.health import Health, Watchdog
from slipway.runtime.logging import JsonFormatter, LogfmtFormatter, Sparingly, about
from slipway.runtime.metrics import Metrics
from slipway.runtime.resources import JOB, MODEL_ROLLOUT, PLATFORM, label_value
from slipway.runtime.settings import Settings, parse
from slipway.runtime.threads import in_thread


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("slipway.x", logging.INFO, "x.py", 1, message, (), None)


def test_every_line_carries_the_key_it_is_about() -> None:
    with about(MODEL_ROLLOUT.key("delays", "flights")):
        line = LogfmtFormatter().format(record('said "no" = no'))
    assert 'kind=ModelRollout namespace=flights name=delays msg="said \\"no\\" = no"' in line
    assert "kind=" not in LogfmtFormatter().format(record("outside"))


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ZeroDivisionError("x")
    except ZeroDivisionError:
        broken = record("broke")
        broken.exc_info = sys.exc_info()
    assert "\n" not in LogfmtFormatter().format(broken)
    assert "ZeroDivisionError" in json.loads(JsonFormatter().format(broken))["traceback"]


def test_repeated_records_are_held_back_and_counted() -> None:
    now = 0.0
    sparingly = Sparingly(period=30.0, clock=lambda: now)
    assert sparingly.filter(record("first"))
    assert not sparingly.filter(record("second"))
    assert not sparingly.filter(record("third"))
    now = 31.0
    fourth = record("fourth")
    assert sparingly.filter(fourth)
    assert fourth.getMessage() == "fourth (and 2 more like this)"


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"SLIPWAY_WORKERS": "3", "SLIPWAY_NAMESPACE": "from-env"}
    settings = parse(["--namespace", "from-flag"], environment)
    assert (settings.namespace, settings.workers, settings.port) == ("from-flag", 3, Settings().port)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"SLIPWAY_WORKERS": "many"}, "SLIPWAY_WORKERS='many' is no int."),
        ({"SLIPWAY_LOG_FORMAT": "xml"}, "SLIPWAY_LOG_FORMAT='xml' is none of logfmt, json."),
        ({"SLIPWAY_WORKERS": "0"}, "--workers 0 must be at least 1."),
        (
            {"SLIPWAY_LEASE_SECONDS": "5"},
            "--lease-retry-seconds 2 < --lease-renew-seconds 10 < --lease-seconds 5 must hold.",
        ),
    ],
)
def test_a_bad_setting_is_a_sentence(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse([], environment)
    assert str(caught.value) == sentence


def test_no_cluster_is_guessed() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "slipway.operator"],
        capture_output=True,
        text=True,
        env={"PATH": "", "HOME": "/nonexistent"},
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr == (
        "slipway-operator: This is not a pod: name the cluster with --kubeconfig or --context (SLIPWAY_KUBECONFIG).\n"
    )


async def test_blocking_work_leaves_the_loop_free_and_its_errors_come_through() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_blocking_work_that_takes_too_long_is_unavailable() -> None:
    release = threading.Event()
    with pytest.raises(Unavailable, match=r"the artifact store did not answer within 0\.05 s"):
        await in_thread(release.wait, 30, timeout=0.05, what="the artifact store")
    release.set()


async def test_a_timeout_of_the_work_itself_stays_one() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await in_thread(fail)


async def test_the_watchdog_names_what_blocks_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(Metrics(CollectorRegistry()), blocked_after=0.1)
    task = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)

    def culprit() -> None:
        while "culprit" not in caplog.text:
            time.sleep(0.01)

    culprit()
    task.cancel()
    assert "the event loop has been blocked" in caplog.text


def test_a_reconcile_that_never_ends_makes_the_process_unhealthy() -> None:
    assert Health(connected=True).ready()
    assert not Health(connected=False).ready()
    assert not Health(connected=True, longest_run_seconds=301).alive()
    assert Health(queue_lag_seconds=1.23456).as_json()["queueLagSeconds"] == 1.235


def test_names_that_are_too_long_for_a_label_stay_distinct() -> None:
    long_one, long_two = "a" * 70 + ".x", "a" * 70 + ".y"
    assert label_value("short") == "short"
    assert len(label_value(long_one)) == 63
    assert label_value(long_one) != label_value(long_two)


def test_paths_and_keys() -> None:
    assert JOB.path("flights", "a b", "status") == "/apis/batch/v1/namespaces/flights/jobs/a%20b/status"
    assert PLATFORM.path(name="default") == "/apis/slipway.dev/v1alpha1/platforms/default"
    with pytest.raises(ValueError, match="Job is namespaced"):
        JOB.key("a")
    with pytest.raises(ValueError, match="Platform is cluster-scoped"):
        PLATFORM.key("a", "b")
