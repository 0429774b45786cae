"""Features from a real Feast store: what wins, what is batched, and what happens when the store is silent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Postgres, Server

pytestmark = pytest.mark.timeout(300)

FLIGHT: dict[str, Any] = {"carrier": "UA", "hour": 7, "distance": 1400.0, "gate": 1}
STORED = {"late_share_7d": 0.75, "queue": 10.0}
TIMEOUT = "400"
Serve = Callable[..., AbstractContextManager["Server"]]


@pytest.fixture(scope="module")
def server(serve: Serve, features: Postgres, model_folder: Path, tmp_path_factory: Any) -> Iterator[Server]:
    """A server that uses defaults."""
    output = tmp_path_factory.mktemp("defaults") / "log"
    with serve(model_folder, output, **features.environment, SLIPWAY_FEATURES_TIMEOUT_MS=TIMEOUT) as running:
        yield running


@pytest.fixture(scope="module")
def strict(serve: Serve, features: Postgres, model_folder: Path, tmp_path_factory: Any) -> Iterator[Server]:
    """A server that fails on missing features."""
    settings = {"SLIPWAY_FEATURES_TIMEOUT_MS": TIMEOUT, "SLIPWAY_FEATURES_ON_MISSING": "Fail"}
    with serve(model_folder, tmp_path_factory.mktemp("fail") / "log", **features.environment, **settings) as running:
        yield running


def origins(server: Server, *instances: dict[str, Any], request_id: str) -> dict[str, dict[str, int]]:
    """Where the features of a successful request came from."""
    answer = server.predict(*instances, x_request_id=request_id)
    assert answer.status_code == 200, answer.text
    found: dict[str, dict[str, int]] = server.client.get(f"/slipway/requests/{request_id}").json()["features"]
    return found


def probability(server: Server, **instance: Any) -> float:
    """The answer to one instance."""
    answer = server.predict(FLIGHT | instance)
    assert answer.status_code == 200, answer.text
    value: float = answer.json()["predictions"][0]["probability"]
    return value


def reads(server: Server) -> float:
    """Reads of the online store that requests made."""
    name = "slipway_feature_lookup_seconds_count "
    [line] = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(line.split()[-1])


def test_features_come_from_the_store(server: Server) -> None:
    assert origins(server, FLIGHT, request_id="hit") == {"late_share_7d": {"hit": 1}, "queue": {"hit": 1}}
    assert probability(server) == pytest.approx(probability(server, **STORED))
    assert probability(server) != pytest.approx(probability(server, late_share_7d=0.1, queue=10.0))


def test_what_the_request_carries_wins(server: Server) -> None:
    carried = {"late_share_7d": 0.1}
    found = origins(server, FLIGHT | carried, request_id="wins")
    assert found == {"late_share_7d": {"request": 1}, "queue": {"hit": 1}}
    assert probability(server, **carried) == pytest.approx(probability(server, late_share_7d=0.1, queue=10.0))


def test_nothing_is_read_when_the_request_carries_everything(server: Server) -> None:
    before = reads(server)
    assert server.predict({**FLIGHT, **STORED, "gate": None}).status_code == 200
    assert reads(server) == before


def test_all_instances_are_one_read(server: Server) -> None:
    before = reads(server)
    instances = [FLIGHT, FLIGHT | {"carrier": "AA"}, FLIGHT | STORED, FLIGHT | {"gate": 9}] * 5
    found = origins(server, *instances, request_id="batch")
    assert reads(server) == before + 1
    assert found["late_share_7d"] == {"hit": 15, "request": 5}
    assert found["queue"] == {"hit": 10, "request": 5, "default": 5}


def test_value_that_the_store_lacks_becomes_the_default(server: Server) -> None:
    unknown = FLIGHT | {"carrier": "DL"}
    assert origins(server, unknown, request_id="default")["late_share_7d"] == {"default": 1}
    assert probability(server, carrier="DL") == pytest.approx(probability(server, carrier="DL", late_share_7d=0.25))


def test_null_in_the_store_is_no_value(server: Server) -> None:
    assert origins(server, FLIGHT | {"gate": 2}, request_id="null")["queue"] == {"default": 1}


def test_lookups_are_counted_by_origin(server: Server) -> None:
    before = server.lookups()
    server.predict(FLIGHT, FLIGHT | {"late_share_7d": 0.5}, FLIGHT | {"gate": 9})
    after = server.lookups()
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        "hit": 4,
        "request": 1,
        "default": 1,
    }


@pytest.mark.parametrize(("change", "wanted"), [({"gate": None}, "a whole number"), ({"gate": "1"}, "a whole number")])
def test_entity_key_that_cannot_be_looked_up(server: Server, change: dict[str, Any], wanted: str) -> None:
    answer = server.predict(FLIGHT, FLIGHT | change)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"instances[1].gate must be {wanted}: features are looked up by it.")


def test_silent_store_is_left_alone_and_found_again(server: Server, postgres: Postgres) -> None:
    with postgres.stopped():
        first = origins(server, FLIGHT, request_id="silent-0")
        assert first["late_share_7d"] == {"timeout": 1}
        for number in range(1, 8):
            origins(server, FLIGHT, request_id=f"silent-{number}")
        assert "slipway_feature_store_open 1.0" in server.client.get("/metrics").text
        before = reads(server)
        assert origins(server, FLIGHT, request_id="silent-open")["late_share_7d"] == {"error": 1}
        assert reads(server) == before
        assert server.ready()
    server.wait(lambda: "slipway_feature_store_open 0.0" in server.client.get("/metrics").text)
    assert origins(server, FLIGHT, request_id="again")["late_share_7d"] == {"hit": 1}


def test_store_that_restarts(server: Server, postgres: Postgres) -> None:
    postgres.control("-m", "immediate", "stop")
    try:
        found = origins(server, FLIGHT, request_id="down")
        assert set(found["late_share_7d"]) <= {"error", "timeout"}
    finally:
        postgres.start()

    def looked_up() -> bool:
        return origins(server, FLIGHT, request_id="up")["late_share_7d"] == {"hit": 1}

    server.wait(looked_up)


@pytest.mark.slow
def test_missing_feature_fails_when_defaults_are_not_wanted(strict: Server) -> None:
    assert strict.predict(FLIGHT).status_code == 200
    answer = strict.predict(FLIGHT, FLIGHT | {"carrier": "DL"})
    assert answer.status_code == 503
    assert answer.json()["error"] == (
        "The feature late_share_7d of instances[1] is not in the feature store, and onMissing is Fail: "
        "send it in the request, or set serving.features.onMissing to UseDefaults."
    )
    assert answer.headers["x-slipway-version"] == "flight-delays-v1"
    assert strict.predict(FLIGHT | {"carrier": "DL"} | STORED).status_code == 200


def test_silent_store_fails_when_defaults_are_not_wanted(strict: Server, postgres: Postgres) -> None:
    with postgres.stopped():
        answer = strict.predict(FLIGHT)
        assert answer.status_code == 503
        assert "did not come from the feature store in time" in answer.json()["error"]
        assert strict.predict(FLIGHT | STORED).status_code == 200

    strict.wait(lambda: strict.predict(FLIGHT).status_code == 200)


@pytest.mark.slow
def test_service_that_is_applied_later_is_found(
    serve: Serve,
    features: Postgres,
    model_folder: Path,
    materialize: Callable[..., None],
    register: Callable[..., Any],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    register(folder, service="flights-2")
    with serve(folder, tmp_path / "log", **features.environment, SLIPWAY_FEATURES_TIMEOUT_MS=TIMEOUT) as server:
        assert origins(server, FLIGHT, request_id="before")["late_share_7d"] == {"error": 1}
        assert any("registry cannot be read" in line["message"] for line in server.lines())
        materialize(0.75, "flights-1", "flights-2")

        def found() -> bool:
            return origins(server, FLIGHT, request_id="after")["late_share_7d"] == {"hit": 1}

        server.wait(found)
