"""Parts that need no server: columns, records, drain."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.modelversion import InputField
from slipway_server.drain import Drain
from slipway_server.errors import Refused
from slipway_server.inputs import frame, request_values
from slipway_server.instrumentation import without_typeguard
from slipway_server.requestlog import RequestLog, RequestRecord, request_id
from slipway_server.settings import read_settings

REPOSITORY = Path(__file__).parents[2]


def column(kind: Any, values: list[Any]) -> Any:
    """One column of requests as the model sees it."""
    spec = InputField(name="x", type=kind, source="Request")
    return frame([spec], {"x": request_values([{"x": value} for value in values], spec)})["x"]


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [
        ("Integer", [1, 2.0], "int64"),
        ("Integer", [1, None], "float64"),
        ("Double", [1, 2.5, None], "float64"),
        ("Boolean", [True, False], "bool"),
        ("Boolean", [True, None], "object"),
        ("String", ["a", None], "object"),
        ("Timestamp", ["2013-07-01T08:00:00-04:00", None], "datetime64[us]"),
    ],
)
def test_column_types_are_those_of_training(kind: str, values: list[Any], dtype: str) -> None:
    assert str(column(kind, values).dtype) == dtype


def test_times_are_utc() -> None:
    times = column("Timestamp", ["2013-07-01T08:00:00-04:00", "2013-07-01T12:00:00Z", "2013-07-01T12:00:00"])
    assert (times == np.datetime64("2013-07-01T12:00:00")).all()


NUMBERS = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers())


@given(st.one_of(NUMBERS, st.booleans(), st.text()))
def test_a_number_column_is_finite_or_refused(value: Any) -> None:
    if isinstance(value, bool | str) or not _finite(value):
        with pytest.raises(Refused, match="send a number"):
            column("Double", [value])
    else:
        assert column("Double", [value])[0] == float(value)


@given(NUMBERS)
def test_an_integer_column_is_exact_or_refused(value: Any) -> None:
    if not _finite(value) or value != int(value) or abs(value) >= 2**63:
        with pytest.raises(Refused, match="send a whole number"):
            column("Integer", [value])
    else:
        assert int(column("Integer", [value])[0]) == value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def test_request_log_is_bounded_and_keeps_the_newest() -> None:
    log = RequestLog(3)
    for name in ["a", "b", "c", "a", "d"]:
        log.add(RequestRecord(id=name, version="v"))
    assert [name for name in "abcd" if log.get(name)] == ["a", "c", "d"]


@given(st.text(max_size=300))
def test_request_ids_are_safe_in_logs_and_urls(text: str) -> None:
    made = request_id(text)
    assert 0 < len(made) <= 128
    assert made.isascii()
    assert not set(made) & set(' \n"{}/?#%')


class Clock:
    """Time that only tests move."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_drain_waits_for_the_minimum_then_for_quiet() -> None:
    clock = Clock()
    drain = Drain(minimum=5, quiet=1, maximum=25, clock=clock)
    assert not drain.finished
    drain.begin()
    clock.now += 4.9
    assert not drain.finished
    with drain.request(counts=True):
        clock.now += 1
        assert not drain.finished
    clock.now += 0.9
    assert not drain.finished
    clock.now += 0.1
    assert drain.finished


def test_drain_ends_at_the_maximum_though_a_request_runs() -> None:
    clock = Clock()
    drain = Drain(minimum=5, quiet=1, maximum=25, clock=clock)
    drain.begin()
    with drain.request(counts=True):
        clock.now += 24.9
        assert not drain.finished
        clock.now += 0.1
        assert drain.finished


def test_probes_do_not_hold_a_drain_up() -> None:
    clock = Clock()
    drain = Drain(minimum=0, quiet=1, maximum=25, clock=clock)
    clock.now += 2
    drain.begin()
    with drain.request(counts=False):
        assert drain.finished


def test_typeguard_is_back_after_an_import_without_it() -> None:
    import typeguard

    original = typeguard.typechecked
    with without_typeguard():
        assert typeguard.typechecked(Clock) is Clock
        assert typeguard.typechecked(forward_refs_policy=None)(Clock) is Clock
    assert typeguard.typechecked is original


def test_what_a_server_says_at_its_end_is_told_by_its_pod() -> None:
    runtime = yaml.safe_load((REPOSITORY / "manifests/runtimes/slipway-sklearn.yaml").read_text())
    [container] = runtime["spec"]["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_runtime_is_restricted_and_can_write_to_tmp_only() -> None:
    runtime = yaml.safe_load((REPOSITORY / "manifests/runtimes/slipway-sklearn.yaml").read_text())
    [container] = runtime["spec"]["containers"]
    security = container["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] > 0
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    flags = [argument for argument in container["args"] if "model_name" not in argument]
    settings = read_settings([*flags, "--model_name=delays"], {})
    assert (str(settings.model_dir), settings.http_port) == ("/mnt/models", container["ports"][0]["containerPort"])
