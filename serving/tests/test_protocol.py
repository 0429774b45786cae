"""Both protocols, inputs, errors, request ids and records, on a real server process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from slipway.contracts.sessions import Session

if TYPE_CHECKING:
    from conftest import Server

FLIGHT: dict[str, Any] = {"carrier": "UA", "hour": 7, "distance": 1400.0, "late_share_7d": 0.9, "queue": 3.0}
PREDICT = "/v1/models/flight-delays:predict"


def test_answers_each_instance(server: Server) -> None:
    answer = server.predict(FLIGHT, FLIGHT | {"late_share_7d": 0.01})
    assert answer.status_code == 200
    body = answer.json()
    late, early = body["predictions"]
    assert late["label"] is True
    assert late["probability"] > 0.5
    assert early["label"] is False
    assert early["probability"] < 0.5
    assert body["modelVersion"] == "flight-delays-v1"
    assert answer.headers["x-slipway-version"] == "flight-delays-v1"


def test_answers_v2(server: Server) -> None:
    inputs = [
        {"name": name, "shape": [2], "datatype": kind, "data": [FLIGHT[name]] * 2}
        for name, kind in [("carrier", "BYTES"), ("hour", "INT64"), ("distance", "FP64"), ("late_share_7d", "FP64")]
    ]
    answer = server.client.post("/v2/models/flight-delays/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert outputs["label"]["data"] == [True, True]
    [want] = server.predict({k: v for k, v in FLIGHT.items() if k != "queue"}).json()["predictions"]
    assert outputs["probability"]["data"] == pytest.approx([want["probability"]] * 2)
    assert answer.headers["x-slipway-version"] == "flight-delays-v1"


def test_v2_describes_inputs(server: Server) -> None:
    described = server.client.get("/v2/models/flight-delays").json()
    assert {"name": "hour", "datatype": "INT64", "shape": [-1]} in described["inputs"]


def test_v2_tensors_of_different_length_are_refused(server: Server) -> None:
    inputs = [
        {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "AA"]},
        {"name": "hour", "shape": [1], "datatype": "INT64", "data": [7]},
    ]
    answer = server.client.post("/v2/models/flight-delays/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    assert "equal length" in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hour": "seven"}, "instances[1].hour is 'seven' (a string): send a whole number such as 7, or null."),
        ({"hour": 7.5}, "instances[1].hour is 7.5 (a number): send a whole number such as 7, or null."),
        ({"hour": True}, "instances[1].hour is True (a boolean): send a whole number such as 7, or null."),
        ({"carrier": 9}, 'instances[1].carrier is 9 (a number): send a string such as "JFK", or null.'),
        ({"distance": [1]}, "instances[1].distance is [1] (a list): send a number such as 7.5, or null."),
        ({"late_share_7d": "x"}, "instances[1].late_share_7d is 'x' (a string): send a number such as 7.5, or null."),
    ],
)
def test_wrong_type_is_refused_with_its_place(server: Server, change: dict[str, Any], sentence: str) -> None:
    answer = server.predict(FLIGHT, FLIGHT | change)
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)
    assert answer.headers["x-slipway-version"] == "flight-delays-v1"


def test_missing_input_is_refused_with_its_place(server: Server) -> None:
    instance = {name: value for name, value in FLIGHT.items() if name != "distance"}
    answer = server.predict(FLIGHT, instance)
    assert answer.status_code == 400
    assert answer.json()["error"] == "instances[1] lacks distance (Double): send a number such as 7.5, or null."


@pytest.mark.parametrize(
    "body", [b"{", b'{"instances": []}', b'{"instances": [3]}', b'{"rows": []}', b"[]", b'{"instances": [NaN]}', b""]
)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_malformed_body_is_refused(server: Server, body: bytes, content_type: str) -> None:
    answer = server.client.post(PREDICT, content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(("The body must be", "The request ", "instances[0] must be"))
    assert "Traceback" not in answer.text


def test_body_without_a_content_type_is_json(server: Server) -> None:
    # As `curl -d` sends it.
    content = httpx.Request("POST", server.url, json={"instances": [FLIGHT]}).content
    answer = server.client.post(PREDICT, content=content, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 200


def test_null_is_a_missing_value_and_whole_floats_are_integers(server: Server) -> None:
    answer = server.predict(FLIGHT | {"hour": 7.0}, FLIGHT | {"hour": None, "distance": None})
    assert answer.status_code == 200
    [whole] = server.predict(FLIGHT).json()["predictions"]
    assert answer.json()["predictions"][0] == whole


def test_unknown_model_and_path(server: Server) -> None:
    assert server.client.post("/v1/models/other:predict", json={"instances": [FLIGHT]}).status_code == 404
    assert server.client.get("/nowhere").status_code == 404


def test_exception_of_the_model_is_a_sentence_and_its_traceback_is_in_the_log(server: Server) -> None:
    answer = server.predict(FLIGHT | {"carrier": "OO"}, x_request_id="oo-1")
    assert answer.status_code == 500
    assert answer.headers["x-slipway-version"] == "flight-delays-v1"
    assert "ValueError" in answer.json()["error"]
    assert "oo-1" in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert "unknown categories" not in answer.text
    [line] = [line for line in server.lines() if line.get("id") == "oo-1" and "traceback" in line]
    assert "Found unknown categories ['OO']" in line["traceback"]


def test_probability_that_is_no_number_is_a_500(server: Server) -> None:
    answer = server.predict(FLIGHT, FLIGHT | {"distance": 1e200})
    assert answer.status_code == 500
    assert "probability nan for instances[1]" in answer.json()["error"]


def test_request_id_is_kept_or_made(server: Server) -> None:
    assert server.predict(FLIGHT, x_request_id="abc-1").headers["x-request-id"] == "abc-1"
    made = server.predict(FLIGHT).headers["x-request-id"]
    assert len(made) == 32
    # Neither a log line nor a URL may be forged by an id.
    assert server.predict(FLIGHT, x_request_id="a b").headers["x-request-id"] != "a b"
    assert server.predict(FLIGHT, x_request_id="a" * 200).headers["x-request-id"] != "a" * 200


def test_record_and_log_line_of_a_request(server: Server) -> None:
    server.predict(FLIGHT, {name: FLIGHT[name] for name in ("carrier", "hour", "distance")}, x_request_id="why-1")
    record = server.client.get("/slipway/requests/why-1").json()
    assert record["version"] == "flight-delays-v1"
    assert record["status"] == 200
    assert record["instances"] == 2
    assert record["features"]["late_share_7d"] == {"request": 1, "default": 1}
    assert record["inputsDigest"].startswith("sha256:")
    assert record["milliseconds"] > 0
    [line] = [line for line in server.lines() if line.get("id") == "why-1"]
    assert line["logger"] == "slipway.access"
    assert {name: line[name] for name in record} == record


def test_equal_inputs_have_equal_digests(server: Server) -> None:
    for request_id, instance in [
        ("d-1", FLIGHT),
        ("d-2", dict(reversed(FLIGHT.items()))),
        ("d-3", FLIGHT | {"hour": 8}),
    ]:
        server.predict(instance, x_request_id=request_id)
    first, second, third = (server.client.get(f"/slipway/requests/d-{n}").json()["inputsDigest"] for n in (1, 2, 3))
    assert first == second != third


def test_oldest_records_go(server: Server) -> None:
    server.predict(FLIGHT, x_request_id="oldest")
    assert server.client.get("/slipway/requests/oldest").status_code == 200
    for _ in range(200):
        server.client.post(PREDICT, content=b"{")
    answer = server.client.get("/slipway/requests/oldest")
    assert answer.status_code == 404
    assert "oldest" in answer.json()["error"]


def test_concurrent_requests_get_their_own_answers(server: Server) -> None:
    shares = [n / 40 for n in range(40)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda share: server.predict(FLIGHT | {"late_share_7d": share}), shares))
    assert [answer.status_code for answer in answers] == [200] * 40
    got = [answer.json()["predictions"][0]["probability"] for answer in answers]
    [alone] = {a.json()["modelVersion"] for a in answers}
    assert alone == "flight-delays-v1"
    together = server.predict(*(FLIGHT | {"late_share_7d": share} for share in shares)).json()["predictions"]
    assert got == pytest.approx([prediction["probability"] for prediction in together])


def test_metrics_count_requests_by_status(server: Server) -> None:
    server.predict(FLIGHT)
    text = server.client.get("/metrics").text
    assert 'slipway_request_seconds_count{status="200"}' in text
    assert "slipway_model_seconds_count" in text


# ---- callers and sessions --------------------------------------------------------------------------------------------
def callers(server: Server) -> dict[str, float]:
    """Answers by caller, whatever the status."""
    found: dict[str, float] = {}
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith("slipway_consumer_requests_total{"):
            caller = line.split('consumer="')[1].split('"')[0]
            found[caller] = found.get(caller, 0) + float(line.split()[-1])
    return found


def test_counts_callers_that_the_gateway_names(server: Server) -> None:
    planner = "system:serviceaccount:crews:planner"
    before = callers(server)
    assert server.predict(FLIGHT, x_slipway_consumer="site.0").status_code == 200
    assert server.predict(x_slipway_subject=planner).status_code == 400
    assert server.predict(FLIGHT, x_slipway_consumer='a"} 1').status_code == 200
    assert server.predict(FLIGHT).status_code == 200
    after = callers(server)
    assert {each: after[each] - before.get(each, 0) for each in after} == {"site.0": 1, planner: 1}


def test_a_record_has_its_caller(server: Server) -> None:
    server.predict(FLIGHT, x_slipway_consumer="site.1", x_request_id="by-site")
    assert server.client.get("/slipway/requests/by-site").json()["consumer"] == "site.1"


def test_sets_the_cookie_that_the_gateway_asks_for(server: Server) -> None:
    session = Session("s" * 32, "delays", 3600, "/delays")
    mine = f"delays={session.value('flight-delays-v1')}"
    for instances, status in (([FLIGHT], 200), ([], 400)):
        answer = server.predict(*instances, x_slipway_session=session.header())
        assert answer.status_code == status
        assert answer.headers["set-cookie"] == session.cookie("flight-delays-v1")
        assert answer.headers["x-slipway-version"] == "flight-delays-v1"
    known = server.predict(FLIGHT, x_slipway_session=session.header(), cookie=f"a=b; {mine}")
    silent = server.predict(FLIGHT)
    odd = server.predict(FLIGHT, x_slipway_session="nonsense")
    assert not [each for each in (known, silent, odd) if "set-cookie" in each.headers]
