"""What the API says of a run, why runs fail, what the launcher needs: tables and properties of the pure parts."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.adapters.engines.kubeflow import plain
from slipway.adapters.kfp import launcher
from slipway.adapters.kfp.document import Settings, unsupported
from slipway.adapters.kfp.evidence import failure, waiting
from slipway.adapters.kfp.runs import ApiRun, Task, failed_task, parse_run, progress, run_id
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources
from slipway.contracts.jobs import Store
from slipway.contracts.stages import TASKS

UID = "7f1f0a1e-9d0e-4a67-8e0c-0d8a7c1d2b3c"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


# ---- runs ------------------------------------------------------------------------------------------------------------
@given(st.uuids(), st.uuids(), st.integers(1, 100), st.integers(1, 100))
def test_ids_are_the_same_for_the_same_attempt_and_only_for_it(first: UUID, other: UUID, one: int, two: int) -> None:
    assert run_id(str(first), one) == run_id(str(first), one)
    assert (run_id(str(first), one) == run_id(str(other), two)) == ((first, one) == (other, two))
    assert UUID(run_id(str(first), one)).version == 5


def test_an_id_is_what_it_always_was() -> None:
    assert run_id(UID, 1) == "58e35488-6263-5f87-8389-4605904b90fb"
    assert run_id("no uuid", 1) == run_id("no uuid", 1)


KNOWN = ("run_id", "state", "state_history", "error", "run_details", "tasks", "finished_at", "display_name")


@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(), JSON))
def test_whatever_the_api_says_is_read(found: dict[str, Any]) -> None:
    run = parse_run(found)
    assert isinstance(run.active, bool)
    progress(run.tasks)
    failed_task(run.tasks)


@pytest.mark.parametrize(
    ("state", "active", "succeeded"),
    [
        ("", True, False),
        ("RUNTIME_STATE_UNSPECIFIED", True, False),
        ("PENDING", True, False),
        ("RUNNING", True, False),
        ("CANCELING", True, False),
        ("PAUSED", True, False),
        ("A_STATE_OF_A_LATER_DAY", True, False),
        ("SUCCEEDED", False, True),
        ("SKIPPED", False, True),
        ("FAILED", False, False),
        ("CANCELED", False, False),
    ],
)
def test_states(state: str, active: bool, succeeded: bool) -> None:
    run = ApiRun("1", state)
    assert (run.active, run.succeeded) == (active, succeeded)


def test_progress_is_that_of_the_furthest_task_that_began() -> None:
    def at(**states: str) -> tuple[str, int] | None:
        return progress([Task(name, state) for name, state in states.items()])

    assert at() is None
    assert at(root="RUNNING", produce="RUNNING", features="PENDING") is None
    assert at(features="SUCCEEDED", baselines="RUNNING") == ("Baselines", 30)
    assert at(verify="SUCCEEDED", evaluate="RUNNING", register="SKIPPED") == ("Evaluation", 75)


@given(st.lists(st.sampled_from(sorted(TASKS)), unique=True))
def test_progress_never_goes_back_as_tasks_begin(order: list[str]) -> None:
    percents = []
    for count in range(len(order) + 1):
        found = progress([Task(name, "RUNNING") for name in order[:count]])
        percents.append(found[1] if found else 0)
    assert percents == sorted(percents)


def test_a_run_whose_ending_was_asked_for_is_known_to_be_cancelled() -> None:
    assert parse_run({"state": "CANCELED"}).cancelled
    assert parse_run({"state": "FAILED", "state_history": [{"state": "CANCELING"}]}).cancelled
    assert not parse_run({"state": "FAILED", "state_history": [{"state": "RUNNING"}]}).cancelled


def test_no_time_is_1970() -> None:
    assert parse_run({"finished_at": "1970-01-01T00:00:00Z"}).finished is None
    assert parse_run({"finished_at": "2026-11-23T08:00:00Z"}).finished is not None


# ---- evidence --------------------------------------------------------------------------------------------------------
def pod(name: str = "p", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {}}, "status": status}


def ended(message: str = "", reason: str = "Error", code: int = 1) -> dict[str, Any]:
    terminated = {"reason": reason, "exitCode": code, "message": message}
    return pod(phase="Failed", containerStatuses=[{"name": "main", "state": {"terminated": terminated}}])


def node(message: str, name: str = "w.root.produce.train.executor", shown: str = "executor") -> dict[str, Any]:
    found = {"name": name, "displayName": shown, "phase": "Failed", "type": "Pod", "message": message}
    return {"status": {"nodes": {"n": found}}}


TOLD = json.dumps({"reason": "EntrypointNotFound", "message": "train.py has no function fit", "userCode": False})
OUTAGE = json.dumps({"reason": "PlatformUnavailable", "message": "the store does not answer"})


@pytest.mark.parametrize(
    ("pods", "workflow", "reason", "final", "said"),
    [
        ([ended(TOLD)], None, "EntrypointNotFound", True, "has no function fit"),
        ([], node(f"Error (exit code 1): {TOLD}"), "EntrypointNotFound", True, "has no function fit"),
        ([ended(OUTAGE)], None, "PlatformUnavailable", False, "the store does not answer"),
        ([ended(reason="OOMKilled", code=137)], None, "OutOfMemory", True, "resources.limits.memory"),
        ([], node("OOMKilled (exit code 137)"), "OutOfMemory", True, "Task train"),
        ([pod(phase="Failed", reason="Evicted", message="disk full")], None, "Preempted", False, "disk full"),
        (
            [pod(phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}])],
            None,
            "Preempted",
            False,
            "was evicted",
        ),
        ([], node("pod deleted"), "Preempted", False, "Task train lost its pod"),
        ([pod(phase="Failed", reason="DeadlineExceeded")], None, "DeadlineExceeded", True, "deadline"),
        (
            [],
            node("Pod was active on the node longer than the specified deadline"),
            "DeadlineExceeded",
            True,
            "deadline",
        ),
        ([], node("ErrImagePull: no such tag"), "ImageUnavailable", False, "no such tag"),
        ([], node("Error (exit code 1)"), "PipelineTaskFailed", False, "Task train failed: Error (exit code 1)"),
        ([], node("x", shown="train-driver"), "PipelineTaskFailed", False, "could not prepare task train"),
        ([ended("Traceback (most recent call last)")], None, "PipelineTaskFailed", False, "slipway run logs"),
        ([ended('{"reason": "NoSuchReason", "message": "x"}')], None, "PipelineTaskFailed", False, "failed"),
        ([], None, "PipelineTaskFailed", False, "The pipeline failed"),
    ],
)
def test_why_a_run_failed(pods: list[Any], workflow: Any, reason: str, final: bool, said: str) -> None:
    found = failure(pods, workflow, None, "")
    assert (found.reason, found.final) == (reason, final)
    assert said in found.message


def test_the_apis_words_are_used_where_nothing_else_is_left() -> None:
    found = failure([], None, Task("features-driver", "FAILED", "no bucket config"), "")
    assert found.message.startswith("KFP could not prepare task features: no bucket config.")
    assert "the database" in failure([], None, None, "the database").message


@given(st.text(), st.text(max_size=40), st.dictionaries(st.sampled_from(["phase", "reason", "message"]), st.text()))
def test_user_code_can_write_anything_and_gets_a_sentence(told: str, shown: str, status: dict[str, str]) -> None:
    broken = {**ended(told), "status": {**ended(told)["status"], **status}}
    found = failure([broken], node(told, shown=shown), None, told)
    assert 0 < len(found.message) < 2200


def test_what_a_waiting_pod_waits_for() -> None:
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    found = waiting([pod(phase="Running"), pod("q", phase="Pending", conditions=[unschedulable])])
    assert found is not None
    assert found.reason == "WaitingForPool"
    launching = [{"name": "kfp-launcher", "image": "l:1", "state": {"waiting": {"reason": "ErrImagePull"}}}]
    found = waiting([pod(phase="Pending", initContainerStatuses=launching)])
    assert found is not None
    assert found.reason == "ImageUnavailable"
    assert waiting([pod(phase="Running"), pod("q", phase="Pending")]) is None


# ---- launcher --------------------------------------------------------------------------------------------------------
STORE = "http://s3.local:8333"
SECRET = "credentials: {secretRef: {secretName: keys, accessKeyKey: a, secretKeyKey: b}}"


def providers(text: str) -> dict[str, Any]:
    return {"data": {"providers": text}}


@pytest.mark.parametrize(
    ("config", "root", "problem", "secret"),
    [
        (None, "s3://slipway/kfp", "does not exist", ""),
        ({"data": {}}, "s3://slipway/kfp", "has no s3", ""),
        ({"data": None}, "s3://slipway/kfp", "has no s3", ""),
        (providers("- a list"), "s3://slipway/kfp", "no mapping", ""),
        (providers("s3: {"), "s3://slipway/kfp", "no YAML", ""),
        (providers("s3: {}"), "s3://slipway/kfp", "no default", ""),
        (providers("s3: {default: {endpoint: x}}"), "s3://slipway/kfp", "neither fromEnv nor secretRef", ""),
        (providers("s3: {default: {credentials: {fromEnv: true}}}"), "s3://slipway/kfp", "", ""),
        (providers(f"s3: {{default: {{endpoint: x, {SECRET}}}}}"), "s3://slipway/kfp", "", "keys"),
        (providers(f"s3: {{default: {{endpoint: 's3.local:8333', {SECRET}}}}}"), "s3://a/b", "disableSSL", ""),
        (
            providers(f"s3: {{overrides: [{{bucketName: slipway, keyPrefix: kfp, {SECRET}}}]}}"),
            "s3://slipway/kfp",
            "",
            "keys",
        ),
        (
            providers(f"s3: {{overrides: [{{bucketName: slipway, keyPrefix: other, {SECRET}}}]}}"),
            "s3://slipway/kfp",
            "no default",
            "",
        ),
        (None, "minio://mlpipeline/v2", "", "mlpipeline-minio-artifact"),
        (None, "gs://bucket/root", "", ""),
    ],
)
def test_what_the_launcher_needs(config: Any, root: str, problem: str, secret: str) -> None:
    found = launcher.needs(config, "flights", root, STORE)
    assert problem in found.problem if problem else found.problem == ""
    assert found.secret == secret


@given(JSON)
def test_any_configuration_gets_an_answer(config: Any) -> None:
    text = json.dumps({"s3": config})
    launcher.needs(providers(text), "flights", "s3://slipway/kfp", STORE)


# ---- document --------------------------------------------------------------------------------------------------------
def asked(pool: str | None = None, **limits: str) -> Settings:
    spec = {"metadata": {"name": "fast"}, "spec": {"resource": pool}}
    return Settings(
        image="i:1",
        project="p",
        store=Store(endpoint=STORE, bucket="slipway"),
        s3_secret="s",
        feast_secret="f",
        pool=ComputePool.model_validate(spec) if pool else None,
        resources=Resources(limits=limits) if limits else None,
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (asked(), ""),
        (asked("nvidia.com/gpu", cpu="1"), ""),
        (asked("nvidia.com/gpu", **{"nvidia.com/gpu": "2"}), ""),
        (asked("nvidia.com/gpu", **{"amd.com/gpu": "1"}), "can have one accelerator"),
        (asked(None, **{"hugepages-2Mi": "1Gi"}), "not hugepages-2Mi"),
    ],
)
def test_what_a_task_cannot_have(settings: Settings, said: str) -> None:
    assert said in unsupported(settings) if said else unsupported(settings) == ""


@given(JSON)
def test_parameters_stay_the_same_json_without_templates(value: Any) -> None:
    text = plain(json.dumps(value))
    assert json.loads(text) == value
    assert "{{" not in text
