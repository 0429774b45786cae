"""The compiled pipeline: a contract with both engines, checked with KFP's own tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2

from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import TrainingRequest
from slipway.contracts.stages import ENVIRONMENT, JUDGE, PRODUCE, TASKS
from slipway.contracts.training import Arguments
from slipway_pipelines import compiled
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.training.local import half, input_types, verified_ir
from slipway_pipelines.training.pipeline import IMAGE, compile_training

IR_PATH = Path(compiled.__file__).parent / compiled.TRAINING


@pytest.fixture(scope="module")
def ir() -> dict[str, Any]:
    """The committed IR."""
    return verified_ir(digest_bytes(compiled.training_ir()))


def test_the_committed_ir_is_what_the_pipeline_compiles_to() -> None:
    assert compile_training() == IR_PATH.read_bytes(), "run: python -m slipway_pipelines.training.pipeline"


def test_kfp_loads_it(ir: dict[str, Any]) -> None:
    loaded = components.load_component_from_file(str(IR_PATH))
    assert loaded.name == "slipway-training"
    assert set(loaded.component_spec.inputs or {}) == {"data", "code", "goals", "run"}
    assert set(loaded.component_spec.outputs or {}) == {"evaluation", "metrics", "result"}
    spec = json_format.ParseDict(ir, pipeline_spec_pb2.PipelineSpec())
    assert json_format.MessageToDict(spec) == ir, "protobuf knows every field"


def test_every_parameter_of_the_pipeline_is_documented(ir: dict[str, Any]) -> None:
    for name, parameter in ir["root"]["inputDefinitions"]["parameters"].items():
        assert parameter["description"], name


def test_two_halves(ir: dict[str, Any]) -> None:
    assert set(ir["root"]["dag"]["tasks"]) == {PRODUCE, JUDGE}


def test_every_task_is_known_to_engines_and_starts_without_a_package_index(ir: dict[str, Any]) -> None:
    executors = ir["deploymentSpec"]["executors"]
    assert set(executors) == {f"exec-{name}" for name in TASKS}
    for executor in executors.values():
        container = executor["container"]
        assert container["image"] == IMAGE
        assert {item["name"]: item["value"] for item in container["env"]} == ENVIRONMENT
        assert "pip install" not in str(container)


def test_no_task_takes_the_outputs_of_another_run(ir: dict[str, Any]) -> None:
    for name in (PRODUCE, JUDGE):
        for task in half(ir, name)["root"]["dag"]["tasks"].values():
            assert not task["cachingOptions"].get("enableCache"), task


def test_tasks_that_run_the_teams_code_have_no_credentials() -> None:
    assert {name for name, task in TASKS.items() if task.store} == {"features", "verify", "register"}
    assert {name for name, task in TASKS.items() if task.feast} == {"register"}


def test_percents_grow_in_the_order_of_the_pipeline() -> None:
    percents = [task.percent for task in TASKS.values()]
    assert percents == sorted(percents)


@pytest.mark.parametrize("name", [PRODUCE, JUDGE])
def test_a_half_is_the_sub_pipeline_and_nothing_else(ir: dict[str, Any], name: str) -> None:
    spec = half(ir, name)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert spec["root"] == ir["components"][f"comp-{name}"]
    assert spec["components"].items() <= ir["components"].items()
    assert spec["deploymentSpec"]["executors"].items() <= ir["deploymentSpec"]["executors"].items()
    assert spec["pipelineInfo"]["name"] == f"slipway-training-{name}"


def test_the_halves_make_the_whole(ir: dict[str, Any]) -> None:
    executors: dict[str, Any] = {}
    for name in (PRODUCE, JUDGE):
        executors |= half(ir, name)["deploymentSpec"]["executors"]
    assert executors == ir["deploymentSpec"]["executors"]


def test_the_second_half_is_given_what_the_first_makes(ir: dict[str, Any]) -> None:
    wanted = input_types(half(ir, JUDGE))
    made = ir["components"]["comp-produce"]["outputDefinitions"]["artifacts"]
    assert wanted == {name: made[name]["artifactType"]["schemaTitle"] for name in ("model", "claims")}


def test_another_releases_pipeline_is_refused() -> None:
    with pytest.raises(RefusalError, match="build the image FROM the slipway-runner"):
        verified_ir("sha256:" + "0" * 64)


def test_parameters_survive_the_pipeline(training_request: TrainingRequest) -> None:
    arguments = Arguments.of(training_request)
    texts = arguments.pipeline_parameters()
    again = Arguments.model_validate({name: yaml.safe_load(text) for name, text in texts.items()})
    assert again == arguments
    assert again.code.parameters == {"max_iter": 40, "learning_rate": 0.1, "deep": True, "kind": "x", "one": 1.0}
    assert [type(value) for value in again.code.parameters.values()] == [bool, str, float, int, float]


def test_the_operator_can_read_it_without_importing_anything_heavy() -> None:
    program = (
        "import sys; from slipway_pipelines import compiled; compiled.training_ir(); "
        "print(*{name.partition('.')[0] for name in sys.modules} & "
        "{'kfp', 'pandas', 'numpy', 'sklearn', 'duckdb', 'feast', 'minio', 'pydantic', 'yaml'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
