"""The contract server is what the published client expects, and does what Kubeflow Pipelines does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
import urllib3
from kfp_server_api import models
from kfp_server_api.models import (
    V2beta1Experiment,
    V2beta1PipelineVersionReference,
    V2beta1Run,
    V2beta1RuntimeConfig,
)
from kfpcontract import faults
from kfpcontract.contract import Contract, ContractBroken, Unfit
from kfpcontract.database import EPOCH
from kfpcontract.machinery import DEADLINE, Ending
from kfpcontract.operations import operations
from kfpcontract.server import Access, User
from kfpcontract.workflows import RUN_ID, stamp
from unit.kfp.conftest import ARGUMENTS, IR, Install, Installation

RUN = "5a1e0f44-0000-5000-8000-000000000001"


def a_run(**fields: Any) -> V2beta1Run:
    """A run of the compiled pipeline."""
    known = {
        "display_name": "a run",
        "run_id": RUN,
        "pipeline_spec": IR,
        "runtime_config": V2beta1RuntimeConfig(parameters=ARGUMENTS, pipeline_root="s3://slipway/kfp"),
    }
    return V2beta1Run(**{**known, **fields})


# ---- the published interface -----------------------------------------------------------------------------------------
def test_every_operation_of_the_published_client_is_known() -> None:
    methods = [
        name
        for service in vars(kfp_server_api).values()
        if isinstance(service, type) and service.__name__.endswith("Api")
        for name in vars(service)
        if name.endswith("_with_http_info")
    ]
    assert sorted(each.name for each in operations()) == sorted(
        name.removesuffix("_with_http_info") for name in methods
    )


def test_an_operation_is_read_completely() -> None:
    (create,) = (each for each in operations() if each.name == "run_service_create_run")
    assert (create.method, create.path) == ("POST", "/apis/v2beta1/runs")
    assert (create.body, create.response, create.query) == ("V2beta1Run", "V2beta1Run", {"experiment_id": "str"})
    (listed,) = (each for each in operations() if each.name == "run_service_list_runs")
    assert listed.query["page_size"] == "int"
    (upload,) = (each for each in operations() if each.name == "upload_pipeline_version")
    assert (upload.file, upload.body) == ("uploadfile", None)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"nmae": "x"}, 'unknown field "nmae"'),
        ({"display_name": 5}, "invalid value for string field display_name"),
        ({"state": "DONE"}, "invalid value for enum field state"),
        ({"created_at": "yesterday"}, "invalid google.protobuf.Timestamp value created_at"),
        ({"runtime_config": {"parameter": {}}}, 'unknown field "parameter" runtime_config'),
        ({"display_name": "a", "displayName": "b"}, "duplicate field"),
        ([], "invalid value for V2beta1Run field"),
    ],
)
def test_what_does_not_fit_a_model_is_named(data: Any, says: str) -> None:
    with pytest.raises(Unfit, match=says.replace("(", r"\(")):
        Contract().decode(data, "V2beta1Run")


def test_both_forms_of_names_are_read_as_by_the_gateway() -> None:
    read = Contract().decode({"displayName": "x", "runtime_config": {"pipelineRoot": "s3://b"}}, "V2beta1Run")
    assert (read.display_name, read.runtime_config.pipeline_root) == ("x", "s3://b")


def test_nothing_is_answered_that_the_models_do_not_allow() -> None:
    for wrong in ({"display_name": 5}, {"created_at": "2026-01-01T00:00:00Z"}, {"state": "DONE"}, {"error": {}}):
        run = V2beta1Run()
        for name, value in wrong.items():
            setattr(run, f"_{name}", value)
        with pytest.raises(ContractBroken):
            Contract().encode(run, "V2beta1Run")


def test_zero_values_are_not_written_but_messages_are() -> None:
    run = V2beta1Run(display_name="", state="RUNTIME_STATE_UNSPECIFIED", finished_at=EPOCH, state_history=[])
    assert Contract().encode(run, "V2beta1Run") == {"finished_at": "1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("name", [name for name in dir(models) if name.startswith("V2beta1")])
def test_what_is_written_the_published_client_reads(name: str) -> None:
    """Each model, with every scalar field set."""
    model = getattr(models, name)
    if not model.openapi_types:
        return
    scalars = {"str": "x", "int": 7, "bool": True, "datetime": EPOCH, "object": {"a": 1.0}, "list[str]": ["y"]}
    fields = {each: scalars[kind] for each, kind in model.openapi_types.items() if kind in scalars}
    written = Contract().encode(model(**fields), name)
    answer = type("Answer", (), {"data": json.dumps(written)})
    assert kfp_server_api.ApiClient().deserialize(answer, name) == model(**fields)
    assert Contract().decode(written, name) == model(**fields)


# ---- runs ------------------------------------------------------------------------------------------------------------
async def test_a_run_has_the_id_that_was_asked_for_and_a_workflow_with_it(kfp: Installation) -> None:
    made = await kfp.ask(kfp.runs.run_service_create_run, a_run())
    assert made.run_id == RUN
    assert made.state == "PENDING"
    assert [each.state for each in made.state_history] == ["PENDING"]
    assert made.finished_at == EPOCH
    assert made.service_account == "pipeline-runner"
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)) == made
    (workflow,) = await kfp.workflows.list()
    assert workflow["metadata"]["labels"][RUN_ID] == RUN
    assert workflow["metadata"]["name"].startswith("slipway-training-")
    assert workflow["metadata"]["namespace"] == "kubeflow"
    assert kfp.server.remarks == []


async def test_a_run_without_an_id_gets_one(kfp: Installation) -> None:
    first = await kfp.ask(kfp.runs.run_service_create_run, a_run(run_id=None))
    second = await kfp.ask(kfp.runs.run_service_create_run, a_run(run_id=None))
    assert first.run_id != second.run_id


async def test_a_second_run_of_an_id_is_refused_and_its_workflow_is_there(kfp: Installation) -> None:
    """As there: the Workflow comes first, and the database refuses the row with an internal error."""
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    error = await kfp.refused(kfp.runs.run_service_create_run, a_run())
    assert error.status == 500
    assert json.loads(error.body)["code"] == 13
    assert len(await kfp.workflows.list()) == 2
    assert (await kfp.ask(kfp.runs.run_service_list_runs)).total_size == 1


async def test_a_run_goes_its_way_with_the_tasks_of_its_pipeline(kfp: Installation) -> None:
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    states = []
    begun: list[str] = []
    for _ in range(30):
        await kfp.machinery.step()
        run = await kfp.ask(kfp.runs.run_service_get_run, RUN)
        states.append(run.state)
        for each in (run.run_details.task_details if run.run_details else None) or ():
            if each.display_name not in begun:
                begun.append(each.display_name)
    assert list(dict.fromkeys(states)) == ["PENDING", "RUNNING", "SUCCEEDED"]
    ours = [name for name in begun if name in ("features", "baselines", "train", "verify", "evaluate", "register")]
    assert ours == ["features", "baselines", "train", "verify", "evaluate", "register"]
    assert {"root", "root-driver", "produce", "judge", "train-driver", "executor"} <= set(begun)
    assert {each.state for each in run.run_details.task_details} == {"SUCCEEDED"}
    assert run.finished_at == kfp.clock.now
    assert [each.state for each in run.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    (execution,) = kfp.machinery.executed
    assert (execution.run_id, execution.arguments, execution.pipeline_root) == (RUN, ARGUMENTS, "s3://slipway/kfp")


async def test_a_report_before_argo_has_looked_hides_the_state(kfp: Installation) -> None:
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.report()
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state is None


async def test_a_failure_is_at_its_task_and_nothing_comes_after_it(kfp: Installation) -> None:
    kfp.machinery.fate = lambda _: Ending("Failed", "train", "OOMKilled (exit code 137)")
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.settle()
    run = await kfp.ask(kfp.runs.run_service_get_run, RUN)
    tasks = {each.display_name: each.state for each in run.run_details.task_details}
    assert run.state == "FAILED"
    assert (tasks["baselines"], tasks["train"], tasks["produce"], tasks["root"]) == ("SUCCEEDED", *["FAILED"] * 3)
    assert "verify" not in tasks
    (workflow,) = await kfp.workflows.list()
    messages = [node["message"] for node in workflow["status"]["nodes"].values() if "message" in node]
    assert messages == ["OOMKilled (exit code 137)"], "only the Workflow says why"


async def test_a_pod_that_cannot_start_keeps_the_run_running(kfp: Installation) -> None:
    kfp.machinery.waiting[RUN] = "ImagePullBackOff: Back-off pulling image"
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.settle()
    run = await kfp.ask(kfp.runs.run_service_get_run, RUN)
    assert run.state == "RUNNING"
    assert {each.display_name: each.state for each in run.run_details.task_details}["executor"] == "PENDING"
    kfp.machinery.waiting.clear()
    await kfp.machinery.settle()
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "SUCCEEDED"


async def test_a_run_that_is_terminated_is_canceling_and_then_failed(kfp: Installation) -> None:
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.step()
    await kfp.machinery.step()
    await kfp.ask(kfp.runs.run_service_terminate_run, RUN)
    run = await kfp.ask(kfp.runs.run_service_get_run, RUN)
    assert run.state == "CANCELING"
    assert [each.state for each in run.state_history][-1] == "RUNNING", "the history does not have it from here"
    again = await kfp.refused(kfp.runs.run_service_terminate_run, RUN)
    assert again.status == 400
    await kfp.machinery.step()
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "FAILED"
    (workflow,) = await kfp.workflows.list()
    assert workflow["status"]["message"] == DEADLINE
    assert (await kfp.refused(kfp.runs.run_service_terminate_run, RUN)).status == 400


async def test_a_run_whose_workflow_is_gone_stays_as_it_is(kfp: Installation) -> None:
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.step()
    await kfp.machinery.step()
    kfp.workflows.objects.clear()
    await kfp.machinery.settle()
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "RUNNING"
    assert (await kfp.refused(kfp.runs.run_service_terminate_run, RUN)).status == 500
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "CANCELING"


async def test_a_workflow_is_collected_and_its_run_stays_until_it_is_too(install: Install) -> None:
    kfp = await install(workflow_ttl_seconds=60, retention_seconds=600)
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.settle()
    kfp.clock.advance(61)
    await kfp.machinery.settle()
    assert await kfp.workflows.list() == []
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "SUCCEEDED"
    kfp.clock.advance(600)
    assert kfp.machinery.collect() == [RUN]
    error = await kfp.refused(kfp.runs.run_service_get_run, RUN)
    assert error.status == 404
    body = json.loads(error.body)
    assert body["code"] == 5
    assert body["details"] == [
        {"@type": "type.googleapis.com/google.rpc.Status", "code": 5, "message": f"Run {RUN} not found"}
    ]


async def test_a_failed_run_is_retried_under_its_id(kfp: Installation) -> None:
    kfp.machinery.fate = lambda _: Ending("Failed", "evaluate")
    await kfp.ask(kfp.runs.run_service_create_run, a_run())
    assert (await kfp.refused(kfp.runs.run_service_retry_run, RUN)).status == 409, "it is under way"
    await kfp.machinery.settle()
    kfp.machinery.fate = lambda _: Ending()
    await kfp.ask(kfp.runs.run_service_retry_run, RUN)
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "RUNNING"
    await kfp.machinery.settle()
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "SUCCEEDED"
    assert [each.run_id for each in kfp.machinery.executed] == [RUN, RUN]


async def test_runs_are_archived_listed_and_deleted(kfp: Installation) -> None:
    for number in range(5):
        await kfp.ask(kfp.runs.run_service_create_run, a_run(run_id=f"run-{number}", display_name=f"n{number}"))
    page = await kfp.ask(kfp.runs.run_service_list_runs, page_size=2, sort_by="name desc")
    assert ([each.run_id for each in page.runs], page.total_size) == (["run-4", "run-3"], 5)
    page = await kfp.ask(
        kfp.runs.run_service_list_runs, page_size=2, sort_by="name desc", page_token=page.next_page_token
    )
    assert [each.run_id for each in page.runs] == ["run-2", "run-1"]
    await kfp.ask(kfp.runs.run_service_archive_run, "run-1")
    wanted = {"predicates": [{"operation": "EQUALS", "key": "storage_state", "stringValue": "ARCHIVED"}]}
    page = await kfp.ask(kfp.runs.run_service_list_runs, filter=json.dumps(wanted))
    assert [each.run_id for each in page.runs] == ["run-1"]
    await kfp.ask(kfp.runs.run_service_unarchive_run, "run-1")
    await kfp.ask(kfp.runs.run_service_delete_run, "run-1")
    assert (await kfp.refused(kfp.runs.run_service_get_run, "run-1")).status == 404
    assert len(await kfp.workflows.list()) == 4
    wanted["predicates"][0]["key"] = "colour"
    assert (await kfp.refused(kfp.runs.run_service_list_runs, filter=json.dumps(wanted))).status == 400


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"display_name": ""}, 500, "Internal"),
        ({"pipeline_spec": None}, 500, "empty pipeline spec manifest"),
        ({"pipeline_spec": {"pipelineInfo": {"name": "a"}, "schemaVersion": "2.0.0"}}, 500, "schema version"),
        ({"runtime_config": V2beta1RuntimeConfig(parameters={**ARGUMENTS, "run": None})}, 400, "run"),
        ({"runtime_config": V2beta1RuntimeConfig(parameters={**ARGUMENTS, "run": 5})}, 400, "requires type string"),
        (
            {"runtime_config": V2beta1RuntimeConfig(parameters={**ARGUMENTS, "x": "y"})},
            400,
            "not required by pipeline: x",
        ),
        ({"runtime_config": None}, 400, "is not optional"),
        ({"experiment_id": "no"}, 404, "Experiment no not found"),
        ({"plugins_output": {}}, 409, "server-owned"),
        (
            {
                "pipeline_spec": None,
                "pipeline_version_reference": V2beta1PipelineVersionReference(pipeline_version_id="no"),
            },
            500,
            "PipelineVersion no not found",
        ),
    ],
)
async def test_a_run_that_cannot_be_is_refused_before_anything_is_made(
    kfp: Installation, fields: dict[str, Any], status: int, says: str
) -> None:
    error = await kfp.refused(kfp.runs.run_service_create_run, a_run(**fields))
    assert error.status == status
    assert says in error.body
    assert await kfp.workflows.list() == []


# ---- experiments, pipelines ------------------------------------------------------------------------------------------
async def test_experiments_have_one_name_a_namespace(install: Install) -> None:
    kfp = await install(multi_user=True)
    wanted = V2beta1Experiment(display_name="flights", namespace="team-a")
    made = await kfp.ask(kfp.experiments.experiment_service_create_experiment, wanted)
    error = await kfp.refused(kfp.experiments.experiment_service_create_experiment, wanted)
    assert (error.status, json.loads(error.body)["code"]) == (409, 6)
    other = V2beta1Experiment(display_name="flights", namespace="team-b")
    await kfp.ask(kfp.experiments.experiment_service_create_experiment, other)
    wanted_name = {"predicates": [{"operation": "EQUALS", "key": "name", "string_value": "flights"}]}
    found = await kfp.ask(
        kfp.experiments.experiment_service_list_experiments, namespace="team-a", filter=json.dumps(wanted_name)
    )
    assert [each.experiment_id for each in found.experiments] == [made.experiment_id]
    run = await kfp.ask(kfp.runs.run_service_create_run, a_run(experiment_id=made.experiment_id))
    assert run.service_account == "default-editor"
    (workflow,) = await kfp.workflows.list()
    assert workflow["metadata"]["namespace"] == "team-a"
    assert (await kfp.refused(kfp.runs.run_service_create_run, a_run())).status == 400, "whose is it?"
    await kfp.ask(kfp.experiments.experiment_service_archive_experiment, made.experiment_id)
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).storage_state == "ARCHIVED"


async def test_a_run_of_an_uploaded_version(kfp: Installation, package: Path) -> None:
    pipeline = await kfp.ask(kfp.uploads.upload_pipeline, str(package), name="slipway-training")
    again = await kfp.refused(kfp.uploads.upload_pipeline, str(package), name="slipway-training")
    assert again.status == 409
    assert set(json.loads(again.body)) == {"error_message", "error_details"}, "uploads have errors of their own form"
    version = await kfp.ask(
        kfp.uploads.upload_pipeline_version, str(package), name="v2", pipelineid=pipeline.pipeline_id
    )
    again = await kfp.refused(
        kfp.uploads.upload_pipeline_version, str(package), name="v2", pipelineid=pipeline.pipeline_id
    )
    assert again.status == 409
    listed = await kfp.ask(kfp.pipelines.pipeline_service_list_pipeline_versions, pipeline.pipeline_id)
    assert [each.name for each in listed.pipeline_versions] == ["slipway-training", "v2"]
    assert version.pipeline_spec == IR
    reference = V2beta1PipelineVersionReference(
        pipeline_id=pipeline.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )
    run = await kfp.ask(
        kfp.runs.run_service_create_run, a_run(pipeline_spec=None, pipeline_version_reference=reference)
    )
    assert (run.pipeline_version_reference, run.pipeline_spec) == (reference, None)
    await kfp.machinery.settle()
    assert kfp.machinery.executed[0].spec == IR
    by_name = await kfp.ask(kfp.pipelines.pipeline_service_get_pipeline_by_name, "slipway-training")
    assert by_name.pipeline_id == pipeline.pipeline_id
    refused = await kfp.refused(kfp.pipelines.pipeline_service_delete_pipeline, pipeline.pipeline_id)
    assert refused.status == 400
    await kfp.ask(kfp.pipelines.pipeline_service_delete_pipeline, pipeline.pipeline_id, cascade=True)
    assert (await kfp.refused(kfp.pipelines.pipeline_service_get_pipeline, pipeline.pipeline_id)).status == 404


async def test_a_package_that_is_none_is_refused(kfp: Installation, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: b")
    error = await kfp.refused(kfp.uploads.upload_pipeline, str(tmp_path / "a.yaml"), name="a")
    assert (error.status, json.loads(error.body)["error_message"]) == (400, "no pipeline spec is provided")
    (tmp_path / "a.txt").write_text("a: b")
    assert (await kfp.refused(kfp.uploads.upload_pipeline, str(tmp_path / "a.txt"), name="a")).status == 400


async def test_what_is_not_played_says_so(kfp: Installation) -> None:
    api = kfp_server_api.RecurringRunServiceApi(kfp.client())
    assert (await kfp.refused(api.recurring_run_service_get_recurring_run, "x")).status == 501


# ---- who may, which release ------------------------------------------------------------------------------------------
async def test_tokens_decide_in_which_namespaces(install: Install) -> None:
    users = {"good": User("operator"), "narrow": User("team-b", frozenset({"team-b"}))}
    kfp = await install(Access(users), multi_user=True)
    health = kfp_server_api.HealthzServiceApi(kfp.client())
    assert (await kfp.ask(health.healthz_service_get_healthz)).multi_user is True
    wanted = V2beta1Experiment(display_name="flights", namespace="team-a")
    for token, status, code in (("", 401, 16), ("bad", 401, 16), ("narrow", 403, 7)):
        api = kfp_server_api.ExperimentServiceApi(kfp.client(token))
        error = await kfp.refused(api.experiment_service_create_experiment, wanted)
        assert (error.status, json.loads(error.body)["code"]) == (status, code)
    made = await kfp.ask(
        kfp_server_api.ExperimentServiceApi(kfp.client("good")).experiment_service_create_experiment, wanted
    )
    await kfp.ask(
        kfp_server_api.RunServiceApi(kfp.client("good")).run_service_create_run,
        a_run(experiment_id=made.experiment_id),
    )
    narrow = kfp_server_api.RunServiceApi(kfp.client("narrow"))
    for ask in (narrow.run_service_get_run, narrow.run_service_terminate_run, narrow.run_service_delete_run):
        assert (await kfp.refused(ask, RUN)).status == 403
    assert (await kfp.refused(narrow.run_service_get_run, "none")).status == 404


async def test_an_older_and_a_newer_release(install: Install) -> None:
    lacks = frozenset({"V2beta1Run.plugins_input", "V2beta1Run.state_history"})
    adds = {"V2beta1Run": {"weather": {"sunny": True}}}
    kfp = await install(before_2_6=True, lacks=lacks, adds=adds)
    error = await kfp.refused(kfp.runs.run_service_create_run, a_run(plugins_input={"mlflow": {}}))
    assert (error.status, json.loads(error.body)["error"]) == (400, 'proto: unknown field "plugins_input"')
    run = await kfp.ask(kfp.runs.run_service_create_run, a_run())
    assert run.state_history is None, "and the client overlooks what it does not know"
    answer = await kfp.ask(urllib3.PoolManager().request, "GET", f"{kfp.server.url}/apis/v2beta1/runs/{RUN}")
    assert json.loads(answer.data)["weather"] == {"sunny": True}
    nothing = await kfp.ask(urllib3.PoolManager().request, "GET", f"{kfp.server.url}/apis/v2beta1/nothing")
    assert nothing.status == 404


# ---- faults ----------------------------------------------------------------------------------------------------------
async def test_a_server_that_dies_between_workflow_and_row_leaves_an_orphan(install: Install) -> None:
    kfp = await install(orphan_grace_seconds=120)
    kfp.server.faults.add(faults.dies_between_workflow_and_row())
    with pytest.raises(urllib3.exceptions.HTTPError):
        await kfp.ask(kfp.runs.run_service_create_run, a_run())
    assert (await kfp.refused(kfp.runs.run_service_get_run, RUN)).status == 404
    assert [each["metadata"]["labels"][RUN_ID] for each in await kfp.workflows.list()] == [RUN]
    kfp.clock.advance(119)
    await kfp.machinery.report()
    assert len(await kfp.workflows.list()) == 1
    kfp.clock.advance(2)
    await kfp.machinery.report()
    assert await kfp.workflows.list() == []
    assert (await kfp.ask(kfp.runs.run_service_create_run, a_run())).run_id == RUN


async def test_an_orphan_is_executed_until_it_is_removed(kfp: Installation) -> None:
    kfp.server.faults.add(faults.dies_between_workflow_and_row())
    with pytest.raises(urllib3.exceptions.HTTPError):
        await kfp.ask(kfp.runs.run_service_create_run, a_run())
    await kfp.machinery.settle()
    (workflow,) = await kfp.workflows.list()
    assert workflow["status"]["phase"] == "Succeeded"
    assert workflow["status"]["finishedAt"] == stamp(kfp.clock.now)
    assert len(kfp.machinery.executed) == 1


@pytest.mark.parametrize(
    ("fault", "status", "effect"),
    [
        (faults.unavailable(), 503, False),
        (faults.broken(), 500, False),
        (faults.broken(when="after"), 500, True),
        (faults.forbidden(times=1), 403, False),
        (faults.dropped(), 0, False),
        (faults.dropped(when="after"), 0, True),
    ],
)
async def test_a_fault_happens_before_or_after_the_effect(
    kfp: Installation, fault: faults.Fault, status: int, effect: bool
) -> None:
    kfp.server.faults.add(fault)
    if status:
        assert (await kfp.refused(kfp.runs.run_service_create_run, a_run())).status == status
    else:
        with pytest.raises(urllib3.exceptions.HTTPError):
            await kfp.ask(kfp.runs.run_service_create_run, a_run())
    assert (RUN in kfp.backend.database.runs) is effect
    (call,) = kfp.server.calls
    assert (call.operation, call.status, call.effect) == ("run_service_create_run", status, effect)
    assert fault.happened == 1
    expected = 200 if effect else 404
    error = None if effect else await kfp.refused(kfp.runs.run_service_get_run, RUN)
    assert (error.status if error else 200) == expected, "it happens once"


async def test_an_answer_that_comes_late_has_had_its_effect(kfp: Installation) -> None:
    kfp.server.faults.add(faults.slow(5, when="after"))
    with pytest.raises(urllib3.exceptions.HTTPError):
        await kfp.ask(kfp.runs.run_service_create_run, a_run(), _request_timeout=(1, 0.3))
    assert (await kfp.ask(kfp.runs.run_service_get_run, RUN)).state == "PENDING"


async def test_what_a_client_left_is_still_carried_out(kfp: Installation) -> None:
    """The worst moment: who asks again at once finds neither run nor Workflow, and both come later."""
    kfp.server.faults.add(faults.slow(0.5, "run_service_create_run"))
    with pytest.raises(urllib3.exceptions.HTTPError):
        await kfp.ask(kfp.runs.run_service_create_run, a_run(), _request_timeout=(1, 0.1))
    assert (await kfp.refused(kfp.runs.run_service_get_run, RUN)).status == 404
    assert await kfp.workflows.list() == []
    for _ in range(100):
        if RUN in kfp.backend.database.runs:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it was forgotten")


async def test_proxies_answer_in_their_own_words(kfp: Installation) -> None:
    kfp.server.faults.add(faults.forbidden("run_service_get_run"))
    error = await kfp.refused(kfp.runs.run_service_get_run, RUN)
    assert error.body == "RBAC: access denied"
    kfp.server.faults.clear()
    fault = kfp.server.faults.add(faults.unavailable(times=2, retry_after="7"))
    error = await kfp.refused(kfp.runs.run_service_get_run, RUN)
    assert error.headers["Retry-After"] == "7"
    assert (await kfp.refused(kfp.runs.run_service_get_run, RUN)).status == 503
    assert (await kfp.refused(kfp.runs.run_service_get_run, RUN)).status == 404
    assert fault.happened == 2
    kfp.server.faults.add(faults.login_page())
    answer = await kfp.ask(urllib3.PoolManager().request, "GET", f"{kfp.server.url}/apis/v2beta1/runs/{RUN}")
    assert (answer.status, answer.data[:15]) == (200, b"<!doctype html>")
