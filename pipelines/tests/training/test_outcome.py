"""How tasks say why they failed, and hand their answer over, where they have containers of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.adapters.kfp.evidence import failure
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import RegisterResult, TrainingRequest
from slipway.contracts.stages import TERMINATION_LOG
from slipway.contracts.training import Arguments
from slipway_pipelines.errors import OutageError, RefusalError, UserCodeError
from slipway_pipelines.store import ObjectStore
from slipway_pipelines.training import outcome, tasks


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (UserCodeError(Reason.TrainingCodeFailed, "ValueError: no such column\nin flights/train.py:7"), None, True),
        (RefusalError(Reason.DigestMismatch, "another training set"), None, True),
        (OutageError("the store does not answer"), "PlatformUnavailable", False),
        (RefusalError(Reason.EvaluationFailed, "x" * 9000), None, True),
    ],
)
def test_the_operator_understands_what_a_task_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str | None, final: bool
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv(TERMINATION_LOG, str(log))

    @outcome.task
    def run() -> None:
        raise error

    with pytest.raises(SystemExit):
        run()
    assert len(log.read_bytes()) < 4096, "Kubernetes keeps no more"
    ended = {"reason": "Error", "exitCode": 1, "message": log.read_text()}
    status = {"phase": "Failed", "containerStatuses": [{"name": "main", "state": {"terminated": ended}}]}
    found = failure([{"metadata": {"name": "p"}, "status": status}], None, None, "")
    assert (found.reason, found.final) == (reason or getattr(error, "reason", None), final)
    assert found.message[:40] == " ".join(str(error).split())[:40]


def test_nothing_is_left_where_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TERMINATION_LOG, raising=False)
    monkeypatch.chdir(tmp_path)

    @outcome.task
    def run() -> None:
        raise RefusalError(Reason.DigestMismatch, "no")

    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == outcome.EXIT_REFUSED
    assert list(tmp_path.iterdir()) == []


def test_the_judges_answer_is_where_it_was_wanted(
    store: ObjectStore, training_request: TrainingRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "from_environment", lambda: store)
    answer = RegisterResult(artifact="models/a", passed=True)
    monkeypatch.setattr("slipway_pipelines.training.publish.publish", lambda *_: answer)
    monkeypatch.setattr(tasks.VersionInputs, "model_validate_json", lambda _: None)
    (tmp_path / "made_from").write_bytes(b"{}")
    paths = [str(tmp_path / name) for name in ("model", "baseline", "made_from", "evaluation", "result")]
    for key in ("jobs/flights/r-judge-1/result.json", None):
        parameters = Arguments.of(training_request, result=key).pipeline_parameters()
        data, code, goals, run = (parameters[name] for name in ("data", "code", "goals", "run"))
        assert ("result" in json.loads(run)) == (key is not None)
        tasks.register((data, code, goals, run), *paths)
        assert (tmp_path / "result").read_bytes() == canonical_json(answer.wire())
    assert [each.key for each in store.list("jobs/")] == ["jobs/flights/r-judge-1/result.json"]
    assert store.get_bytes("jobs/flights/r-judge-1/result.json") == canonical_json(answer.wire())
