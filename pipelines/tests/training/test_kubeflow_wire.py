"""What the operator says to a pipelines endpoint, and reads of its answers, against the API's published models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import kfp_server_api as kfp

from slipway.adapters.kfp.document import Document
from slipway.adapters.kfp.endpoint import Endpoint
from slipway.adapters.kfp.runs import parse_run
from slipway.adapters.kfp.submission import Submission

SUBMISSION = Submission(
    endpoint=Endpoint("http://kfp:8888", service_account="runner"),
    run_id="r1",
    name="flights.delays",
    description="about",
    namespace="flights",
    api_namespace="flights",
    group="flights.delays",
    document=Document({}, {}, "sha256:" + "0" * 64),
    parameters={"data": "{}"},
    root="s3://slipway/kfp",
)


def wire(model: Any) -> Any:
    """A model as the API sends it."""
    return kfp.ApiClient().sanitize_for_serialization(model)


def test_a_request_has_only_fields_of_the_models() -> None:
    body = SUBMISSION.run("e1", "p1", "v1")
    assert set(body) <= set(kfp.V2beta1Run.attribute_map.values())
    assert set(body["pipeline_version_reference"]) == set(kfp.V2beta1PipelineVersionReference.attribute_map.values())
    assert set(body["runtime_config"]) <= set(kfp.V2beta1RuntimeConfig.attribute_map.values())


def test_a_request_is_what_the_models_make_of_it() -> None:
    made = kfp.V2beta1Run(
        run_id="r1",
        display_name="flights.delays",
        description="about",
        experiment_id="e1",
        pipeline_version_reference=kfp.V2beta1PipelineVersionReference(pipeline_id="p1", pipeline_version_id="v1"),
        runtime_config=kfp.V2beta1RuntimeConfig(parameters={"data": "{}"}, pipeline_root="s3://slipway/kfp"),
        service_account="runner",
    )
    assert wire(made) == SUBMISSION.run("e1", "p1", "v1")


def test_an_answer_of_the_models_is_understood() -> None:
    time = datetime(2026, 11, 23, 8, tzinfo=UTC)
    error = kfp.GoogleRpcStatus(code=13, message="exit code 1")
    task = kfp.V2beta1PipelineTaskDetail(
        display_name="train", state=kfp.V2beta1RuntimeState.FAILED, start_time=time, end_time=time, error=error
    )
    history = [kfp.V2beta1RuntimeStatus(update_time=time, state=kfp.V2beta1RuntimeState.CANCELING)]
    answer = kfp.V2beta1Run(
        run_id="r1",
        state=kfp.V2beta1RuntimeState.FAILED,
        finished_at=time,
        error=kfp.GoogleRpcStatus(code=2, message="it failed"),
        run_details=kfp.V2beta1RunDetails(task_details=[task]),
        state_history=history,
    )
    run = parse_run(wire(answer))
    assert (run.id, run.state, run.cancelled, run.error, run.finished) == ("r1", "FAILED", True, "it failed", time)
    (found,) = run.tasks
    assert (found.name, found.state, found.error, found.started, found.ended) == (
        "train",
        "FAILED",
        "exit code 1",
        time,
        time,
    )


def test_every_state_of_the_models_is_sorted_into_active_and_ended() -> None:
    ended = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
    for state in kfp.V2beta1RuntimeState.allowable_values:
        assert parse_run({"state": state}).active == (state not in ended), state
