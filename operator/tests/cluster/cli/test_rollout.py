"""`slipway rollout` against a real API server, with the policy that ties orders to their authors; the operator's part
is played by one that obeys or refuses what it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.admission.conftest import Answer, Api, address, bind, make_namespace, unbind
from typer.main import get_command

from slipway.api.reference import example
from slipway.cli import rollout as cli
from slipway.contracts.orders import ANNOTATION, parse
from slipway_cluster.controlplane import ControlPlane

NAMESPACE = "flights"
V1, V2 = "flight-delays-1111111111", "flight-delays-2222222222"
AT = "2026-11-23T10:00:00Z"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def admin(guarded: ControlPlane) -> Iterator[Api]:
    api = Api(guarded.kubeconfig())
    make_namespace(api, NAMESPACE)
    bind(api, NAMESPACE, "slipway-software-engineer", "dana@example.com").ok()
    bind(api, NAMESPACE, "slipway-project-manager", "eve").ok()
    yield api
    unbind(api, NAMESPACE)
    api.close()


@cache
def rollout() -> dict[str, Any]:
    obj: dict[str, Any] = yaml.safe_load(example("ModelRollout"))
    return obj


STATUS: dict[str, Any] = {
    "phase": "Paused",
    "url": "http://models.example.com/flight-delays",
    "stable": V1,
    "candidate": V2,
    "weight": 5,
    "step": {"index": 1, "name": "approval", "startedAt": AT},
    "plan": [
        {"name": "first-users", "does": "setWeight: 5", "state": "Done"},
        {"name": "approval", "does": "pause: {until: Promoted}", "state": "Running"},
        {"name": "everyone", "does": "setWeight: 100", "state": "Waiting"},
    ],
    "versions": [
        {"name": V1, "digest": "", "service": "s-1", "role": "Stable", "ready": True, "desiredWeight": 95}
        | {"acceptedWeight": 95, "observedPercent": "94.80"},
        {"name": V2, "digest": "", "service": "s-2", "role": "Candidate", "ready": True, "desiredWeight": 5}
        | {"acceptedWeight": 5, "observedPercent": "5.20"},
    ],
    "checks": [{"name": "success", "verdict": "Success", "requests": 300, "message": "All is well over 300 requests."}],
    "history": [{"name": V1, "outcome": "Promoted", "at": AT, "from": "flight-delays-0", "by": "eve"}],
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Progressing", "message": "Version 1 takes 95 %."}
        | {"lastTransitionTime": AT, "observedGeneration": 1}
    ],
}


class Operator:
    """Answers each order once. `refuses`: with this sentence; `deaf`: not at all."""

    def __init__(self, api: Api) -> None:
        self.refuses = ""
        self.deaf = False
        self.becomes: dict[str, Any] = {}
        self._api = api
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Operator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._ended.wait(0.1):
            live = self._api.request("GET", address(rollout())).body
            value = live["metadata"].get("annotations", {}).get(ANNOTATION)
            status = live.get("status", {})
            if value and not self.deaf and value != status.get("handled", {}).get("order"):
                self._answer(live, value)

    def _answer(self, live: dict[str, Any], value: str) -> None:
        order = parse(value)
        message = self.refuses or f"{order.verb} is done."
        record = {"order": order.verb, "version": order.version, "token": order.token, "by": order.by, "at": AT}
        record |= {"obeyed": not self.refuses, "message": message}  # type: ignore[dict-item]
        orders = [record, *live["status"].get("orders", [])]
        status = {**live["status"], **self.becomes, "orders": orders, "handled": {"order": value}}
        self._api.replace({**live, "status": status}, "/status")


@pytest.fixture
def operator(admin: Api) -> Iterator[Operator]:
    """A rollout with a version that waits, and somebody who answers."""
    obj = admin.create(rollout()).ok()
    admin.replace({**obj, "status": STATUS}, "/status").ok()
    with Operator(admin) as one:
        yield one
    admin.delete(rollout()).ok()


@pytest.fixture
def run(guarded: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("pause", "flight-delays", user="dana")`: the command's code."""
    monkeypatch.setattr(cli, "_LOOK", 0.05)

    def call(*arguments: str, user: str = "dana@example.com") -> int:
        config = guarded.kubeconfig(user, ["system:authenticated"])
        options = ["--kubeconfig", str(config), "-n", NAMESPACE]
        return int(get_command(cli.app)([*arguments, *options], standalone_mode=False) or 0)

    return call


def annotation(admin: Api) -> str:
    live: dict[str, Any] = admin.request("GET", address(rollout())).ok()
    return str(live["metadata"]["annotations"][ANNOTATION])


def status_of(admin: Api, **change: Any) -> Answer:
    live = admin.request("GET", address(rollout())).ok()
    return admin.replace({**live, "status": {**live["status"], **change}}, "/status")


Out = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["promote"], f"promote approval:{V2}"),
        (["promote", "approval"], f"promote approval:{V2}"),
        (["promote", "other"], f"promote other:{V2}"),
        (["promote", "--full"], f"promote-full {V2}"),
        (["pause"], f"pause {V2}"),
        (["resume"], f"resume {V2}"),
        (["abort"], f"abort {V2}"),
        (["retry", V2], f"retry {V2}"),
        (["undo", "--to", V2], f"undo {V1} to {V2}"),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
@pytest.mark.usefixtures("operator")
def test_orders_are_written_in_the_callers_name_and_answered(
    run: Run, admin: Api, capsys: Out, arguments: list[str], order: str
) -> None:
    name = rollout()["metadata"]["name"]
    assert run(arguments[0], name, *arguments[1:]) == 0
    given = parse(annotation(admin))
    assert str(given) == f"{order} #{given.token} by dana@example.com"
    assert capsys.readouterr().out == f"{given.verb} is done.\n"


def test_a_refused_order_ends_with_its_sentence_and_code_1(run: Run, operator: Operator, capsys: Out) -> None:
    operator.refuses = "eve paused it: resume it first."
    assert run("promote", rollout()["metadata"]["name"]) == 1
    assert f"promote {V2} is not possible: eve paused it: resume it first." in capsys.readouterr().err


def test_one_who_may_not_write_rollouts_is_told(run: Run, operator: Operator, admin: Api, capsys: Out) -> None:  # noqa: ARG001
    assert run("abort", rollout()["metadata"]["name"], user="eve") == 1
    assert 'User "eve" cannot patch resource "modelrollouts"' in capsys.readouterr().err
    assert ANNOTATION not in admin.request("GET", address(rollout())).ok()["metadata"].get("annotations", {})


def test_a_deaf_operator_is_told_and_no_order_is_overwritten(
    run: Run, operator: Operator, admin: Api, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.deaf = True
    monkeypatch.setattr(cli, "HEARD_WITHIN", 0.5)
    name = rollout()["metadata"]["name"]
    assert run("pause", name) == 1
    assert "did not answer" in capsys.readouterr().err
    first = annotation(admin)
    assert run("abort", name) == 1
    assert f"An order was not heard yet, and would be lost: {first}" in capsys.readouterr().err
    assert annotation(admin) == first
    operator.deaf = False
    monkeypatch.setattr(cli, "HEARD_WITHIN", 60.0)
    assert run("abort", name) == 0


def test_writes_of_others_in_between_do_no_harm(run: Run, operator: Operator, admin: Api) -> None:  # noqa: ARG001
    """The operator writes the status each second; an order must not undo that, nor fail for it."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            note = {"metadata": {"annotations": {"note": str(number)}}}
            admin.request("PATCH", address(rollout()), note)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert run("pause", rollout()["metadata"]["name"]) == 0
    finally:
        ended.set()
        writer.join()


@pytest.mark.usefixtures("operator")
def test_waits_for_what_was_ordered(run: Run, admin: Api, capsys: Out) -> None:
    history = [{"name": V2, "outcome": "Promoted", "at": AT, "from": V1, "by": "dana@example.com"}]

    def promote_later() -> None:
        time.sleep(1)
        change = {"phase": "Healthy", "stable": V2, "candidate": None, "weight": None, "history": history}
        while status_of(admin, **change).code != 200:
            time.sleep(0.05)

    later = threading.Thread(target=promote_later)
    later.start()
    assert run("promote", rollout()["metadata"]["name"], "--full", "--wait") == 0
    later.join()
    told = capsys.readouterr().out
    assert f"Paused: stable {V1}, {V2} 5 % (accepted 5 %), step approval" in told
    assert f"{V2} Promoted over {V1} by dana@example.com" in told


def test_a_wait_ends_with_code_1_when_the_version_is_rejected(run: Run, operator: Operator, capsys: Out) -> None:
    rejection = {"name": V2, "digest": "", "reason": "ChecksFailed", "message": "Too many errors.", "at": AT}
    operator.becomes = {"phase": "Healthy", "candidate": None, "rejected": [rejection]}
    assert run("promote", rollout()["metadata"]["name"], "--full", "--wait") == 1
    assert f"Version {V2} was rejected: Too many errors." in capsys.readouterr().err
    assert run("promote", rollout()["metadata"]["name"], "--wait") == 1
    assert f"No version is on its way in ModelRollout flight-delays: {V1} serves everybody." in capsys.readouterr().err


@pytest.mark.usefixtures("operator")
def test_a_wait_has_an_end(run: Run, capsys: Out) -> None:
    assert run("promote", rollout()["metadata"]["name"], "--full", "--wait", "--timeout", "1s") == 1
    assert "Time is over" in capsys.readouterr().err
    assert run("abort", rollout()["metadata"]["name"], "--timeout", "soon") == 1
    assert "--timeout: soon is not a duration" in capsys.readouterr().err


@pytest.mark.usefixtures("operator")
def test_the_status_has_everything_in_whole_lines(run: Run, admin: Api, capsys: Out) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "one", "namespace": NAMESPACE},
        "involvedObject": {"kind": "ModelRollout", "name": "flight-delays", "namespace": NAMESPACE},
        "reason": "StepStarted",
        "message": f"Version {V2}: step approval.",
        "type": "Normal",
        "lastTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    admin.request("POST", f"/api/v1/namespaces/{NAMESPACE}/events", event).ok()
    run("pause", "flight-delays")
    capsys.readouterr()
    assert run("status", "flight-delays") == 0
    told = capsys.readouterr().out
    for expected in (
        "flight-delays  flights  Paused  http://models.example.com/flight-delays",
        "Ready=True Progressing: Version 1 takes 95 %.",
        f"stable    {V1}  95 %, 95 %, 94.80 %",
        f"candidate {V2}  5 %, 5 %, 5.20 %",
        "✔ first-users: setWeight: 5",
        "▶ approval: pause: {until: Promoted}  for ",
        "· everyone: setWeight: 100",
        "✔ check success: All is well over 300 requests.",
        f"dana@example.com: pause {V2}: pause is done.",
        f"{V1} Promoted over flight-delays-0 by eve",
        f"StepStarted: Version {V2}: step approval.",
    ):
        assert expected in told, told


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
@pytest.mark.usefixtures("operator")
def test_programs_get_status_and_history(run: Run, capsys: Out, output: str, load: Callable[[str], Any]) -> None:
    run("abort", "flight-delays")
    capsys.readouterr()
    assert run("status", "flight-delays", "-o", output) == 0
    found = load(capsys.readouterr().out)
    assert (found["name"], found["namespace"], found["servers"]) == ("flight-delays", NAMESPACE, {})
    assert found["status"]["step"]["name"] == "approval"
    assert run("history", "flight-delays", "-o", output) == 0
    found = load(capsys.readouterr().out)
    assert found["history"] == STATUS["history"]
    assert [each["order"] for each in found["orders"]] == ["abort"]
    assert found["rejected"] == []


@pytest.mark.usefixtures("operator")
def test_history_is_told_in_lines(run: Run, capsys: Out) -> None:
    run("abort", "flight-delays")
    capsys.readouterr()
    assert run("history", "flight-delays") == 0
    first, heading, order = capsys.readouterr().out.splitlines()
    assert first.endswith(f"{V1} Promoted over flight-delays-0 by eve")
    assert heading == "orders:"
    assert order.endswith(f"dana@example.com: abort {V2}: abort is done.")


@pytest.mark.usefixtures("operator")
def test_a_rollout_that_does_not_exist_is_told_with_those_that_do(run: Run, capsys: Out) -> None:
    assert run("status", "nowhere") == 1
    assert "There is no ModelRollout nowhere in namespace flights. There is: flight-delays." in capsys.readouterr().err


def test_watching_tells_each_change_once(run: Run, operator: Operator, admin: Api, capsys: Out) -> None:  # noqa: ARG001
    rejection = {"name": V2, "digest": "", "reason": "Aborted", "message": "eve aborted it.", "at": AT}
    entry = {"name": V2, "outcome": "RolledBack", "at": AT, "by": "eve", "reason": "Aborted"}

    def abort_later() -> None:
        time.sleep(1)
        change = {"phase": "Healthy", "candidate": None, "weight": None, "rejected": [rejection]}
        while status_of(admin, history=[entry, *STATUS["history"]], **change).code != 200:
            time.sleep(0.05)

    later = threading.Thread(target=abort_later)
    later.start()
    assert run("status", "flight-delays", "--wait") == 1
    later.join()
    captured = capsys.readouterr()
    lines = [line.partition("Z ")[2] for line in captured.out.splitlines()]
    assert lines[0].startswith("Paused: stable")
    assert lines[1].startswith("check success Success")
    assert lines[2] == f"Healthy: stable {V1}"
    assert lines[3].endswith(f"{V2} RolledBack (Aborted) by eve")
    assert f"Version {V2} was rolled back: eve aborted it." in captured.err


def test_without_a_cluster_there_is_a_sentence(tmp_path: Path, capsys: Out) -> None:
    missing = str(tmp_path / "none")
    assert get_command(cli.app)(["status", "x", "--kubeconfig", missing], standalone_mode=False) == 1
    assert "Set --kubeconfig or KUBECONFIG" in capsys.readouterr().err
