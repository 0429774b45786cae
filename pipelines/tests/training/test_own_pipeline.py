"""A team's own pipeline: the page's example, compiled by KFP's compiler, through the check and KFP's local runner."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import pandas as pd
import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, components
from kfp.pipeline_spec import pipeline_spec_pb2

from slipway.adapters.kfp.document import Settings, document, load
from slipway.contracts import pipelines
from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import Store, TrainingRequest
from slipway_pipelines import compiled
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.training import commands, local

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/training/own-pipelines.md"
COMPILED = ROOT / "operator/tests/unit/kfp/own-pipeline.yaml"
"""The page's example as the compiler writes it: what the operator's tests read, for they have no compiler."""
IR = load(compiled.training_ir())
VALUES = {"learning_rate": 0.3}


def module(folder: Path, text: str) -> ModuleType:
    """A module with this text: KFP's compiler reads sources from files."""
    path = folder / f"pipeline_{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def compile_it(folder: Path, text: str, name: str = "flights") -> bytes:
    path = folder / "compiled.yaml"
    compiler.Compiler().compile(getattr(module(folder, text), name), str(path))
    return path.read_bytes()


def example() -> str:
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(text)


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return compile_it(tmp_path, example())


def test_the_example_that_the_operators_tests_read_is_the_pages(data: bytes) -> None:
    """`SLIPWAY_WRITE=1` writes it anew."""
    if os.environ.get("SLIPWAY_WRITE"):
        COMPILED.write_bytes(data)
    assert COMPILED.read_bytes() == data


@pytest.mark.parametrize("engine", ["Local", "KubeflowPipelines"])
def test_the_pages_example_keeps_to_the_contract(data: bytes, engine: Any) -> None:
    own = pipelines.parse(data)
    pipelines.require_fit(own, pipelines.Circumstances(engine, "flights:1", VALUES, 7))
    assert own.name == "flights-sampled"


def test_kfp_reads_what_becomes_of_it(data: bytes) -> None:
    own = pipelines.parse(data)
    composed = pipelines.compose(IR, own, VALUES)
    local.require_readable(composed)
    settings = Settings("flights:1", "flight-delays", Store(endpoint="http://s3:1", bucket="b"), "s3", "feast")
    made = document(composed, digest_bytes(data), settings, own.platform)
    loaded = components.load_component_from_text(made.text())
    assert loaded.name == "slipway-training"
    assert set(loaded.component_spec.inputs) == {"data", "code", "goals", "run", "seed", "learning_rate"}


def test_the_composed_pipeline_is_wired_as_kfps_compiler_wires_a_pipeline_in_a_pipeline(
    data: bytes, tmp_path: Path
) -> None:
    """The same pipeline used by KFP's own means inside of another one takes its inputs in the same way."""
    outer = f"""
{example()}
from kfp.dsl import Artifact

@dsl.component(base_image="slipway-runner", install_kfp_package=False)
def features(data: str, training_set: Output[Dataset]) -> None:
    ...

@dsl.pipeline(name="outer")
def outer(data: str, seed: int, learning_rate: float) -> Made:
    sets = features(data=data).outputs
    train = flights(training_set=sets["training_set"], data=data, seed=seed, learning_rate=learning_rate)
    return Made(model=train.outputs["model"])
"""
    theirs = yaml.safe_load(compile_it(tmp_path, outer, "outer"))
    task = theirs["root"]["dag"]["tasks"]["flights-sampled"]["inputs"]
    composed = pipelines.compose(IR, pipelines.parse(data), VALUES)
    ours = composed["components"]["comp-produce"]["dag"]["tasks"]["train"]["inputs"]
    assert ours["artifacts"] == task["artifacts"]
    default = {"rows": {"runtimeValue": {"constant": 20000.0}}}
    assert ours["parameters"] == {**task["parameters"], **default}
    theirs_inner = theirs["components"]["comp-flights-sampled"]
    ours_inner = composed["components"]["comp-train"]
    assert ours_inner["inputDefinitions"] == theirs_inner["inputDefinitions"]
    assert ours_inner["outputDefinitions"] == theirs_inner["outputDefinitions"]
    for name, each in theirs_inner["dag"]["tasks"].items():
        mine = ours_inner["dag"]["tasks"][name]
        assert mine["inputs"] == each["inputs"]
        assert mine["componentRef"]["name"] == each["componentRef"]["name"].replace("comp-", "comp-own-")


RUN = """
import json, sys
from pathlib import Path
from slipway_pipelines.training import local
given = json.loads(Path(sys.argv[1]).read_text())
artifacts = {name: local.InputArtifact(Path(path), kind) for name, (path, kind) in given["artifacts"].items()}
made = local.run(given["spec"], given["parameters"], artifacts, Path(sys.argv[2]).resolve(), print)
print("OUTPUTS " + json.dumps({name: str(item.path) for name, item in made.items()}))
"""


def run_its_place(data: bytes, folder: Path, parameters: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Runs what stands in the place of `train`, by KFP's local runner as a Job does it; output and artifacts."""
    import json

    composed = pipelines.compose(IR, pipelines.parse(data), parameters)
    frame = pd.DataFrame({"x": [float(i % 7) for i in range(200)], "late": [i % 7 > 3 for i in range(200)]})
    frame.to_parquet(folder / "set.parquet", index=False)
    handed = {"data": '{"task":{"target":"late"}}', "seed": 7, **parameters}
    given = {
        "spec": local.half(composed, "train"),
        "parameters": handed,
        "artifacts": {"training_set": [str(folder / "set.parquet"), "system.Dataset"]},
    }
    (folder / "given.json").write_text(json.dumps(given))
    secrets = {"SLIPWAY_S3_SECRET_KEY": "word", "SLIPWAY_FEAST_PASSWORD": "word"}
    command = [sys.executable, "-c", RUN, str(folder / "given.json"), str(folder / "root")]
    environment = {**os.environ, **secrets}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("OUTPUTS "))
    return done.stdout, json.loads(line.removeprefix("OUTPUTS "))


def test_the_local_runner_makes_a_model_of_it(data: bytes, tmp_path: Path) -> None:
    output, made = run_its_place(data, tmp_path, {"learning_rate": 0.3})
    model = joblib.load(made["model"])
    assert list(model.classes_) == [False, True]
    assert model[-1].learning_rate == 0.3
    assert model[-1].random_state == 7
    assert model.predict(pd.DataFrame({"x": [0.0, 6.0]})).tolist() == [False, True]
    assert "Training 50" in output


THIEF = """
from typing import NamedTuple
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

@dsl.component(base_image="slipway-runner", install_kfp_package=False)
def register(training_set: Input[Dataset], model: Output[Model]) -> None:
    import os
    found = sorted(name for name in os.environ if name.startswith(("SLIPWAY_S3", "SLIPWAY_FEAST")))
    with open(model.path, "w") as file:
        file.write(",".join([*found, os.environ["COLOUR"], os.environ["PYTHONHASHSEED"]]))

class Made(NamedTuple):
    model: Model

@dsl.pipeline(name="thief")
def thief(training_set: Input[Dataset]) -> Made:
    task = register(training_set=training_set).set_env_variable("COLOUR", "red")
    return Made(model=task.outputs["model"])
"""


def test_a_task_called_like_one_of_ours_gets_none_of_its_credentials(tmp_path: Path) -> None:
    """And it has the environment that it declares."""
    _, made = run_its_place(compile_it(tmp_path, THIEF, "thief"), tmp_path, {})
    assert Path(made["model"]).read_text() == "red,0"


def test_a_task_that_is_one_of_ours_is_refused(tmp_path: Path) -> None:
    """It would have credentials, and take its inputs from the team."""
    stolen = yaml.safe_load(compile_it(tmp_path, THIEF, "thief"))
    container = stolen["deploymentSpec"]["executors"]["exec-register"]["container"]
    container["command"] = IR["deploymentSpec"]["executors"]["exec-register"]["container"]["command"]
    own = pipelines.parse(yaml.safe_dump(stolen).encode())
    with pytest.raises(pipelines.UnfitError, match="Task register is one of the platform's"):
        pipelines.compose(IR, own, {})


class OneFile:
    """A store with one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def get_bytes(self, _: str, digest: str | None = None) -> bytes:
        assert digest == digest_bytes(self.data)
        return self.data


def request_for(training_request: TrainingRequest, data: bytes) -> TrainingRequest:
    kept = {"key": "jobs/flights/r-train-1/pipeline.yaml", "digest": digest_bytes(data)}
    digest = pipelines.combined_digest(training_request.pipeline_digest, kept["digest"])
    changed = {**training_request.wire(), "ownPipeline": kept, "pipelineDigest": digest, "parameters": VALUES}
    return TrainingRequest.model_validate(changed)


def test_the_job_composes_what_the_operator_submits(data: bytes, training_request: TrainingRequest) -> None:
    request = request_for(training_request, data)
    spec, more = commands._pipeline(request, OneFile(data))  # type: ignore[arg-type]
    own = pipelines.parse(data)
    assert spec == pipelines.compose(IR, own, VALUES)
    assert more == {"seed": 7, "learning_rate": 0.3}
    with pytest.raises(RefusalError, match="build the image FROM"):
        commands._pipeline(request.model_copy(update={"own_pipeline": None}), OneFile(data))  # type: ignore[arg-type]


def test_what_kfp_cannot_read_is_refused_with_a_sentence(data: bytes, training_request: TrainingRequest) -> None:
    broken = yaml.safe_load(data)
    broken["root"]["dag"]["tasks"]["fit"]["retryPolicy"] = {"maxRetries": 2}
    broken = yaml.safe_dump(broken).encode()
    with pytest.raises(RefusalError, match=r"spec\.pipeline: KFP cannot read it") as caught:
        commands._pipeline(request_for(training_request, broken), OneFile(broken))  # type: ignore[arg-type]
    assert caught.value.reason == "InvalidPipeline"


def test_the_check_reads_the_same_names_as_kfps_message(data: bytes) -> None:
    """The parts of the IR that the check looks at are those of KFP's own message."""
    message = json_format.ParseDict(yaml.safe_load(data), pipeline_spec_pb2.PipelineSpec())
    own = pipelines.parse(data).parsed
    assert set(own.components) == set(message.components)
    assert set(own.root.input_definitions.parameters) == set(message.root.input_definitions.parameters)
    for name, parameter in own.root.input_definitions.parameters.items():
        kind = message.root.input_definitions.parameters[name].parameter_type
        assert pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(kind) == parameter.parameter_type


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_run_makes_a_version_that_says_which_pipeline_made_it(world: Any, data: bytes) -> None:
    """Both Jobs, on real flights: the page's example trains, the platform judges."""
    kept = {"key": "jobs/flights/own-train-1/pipeline.yaml", "digest": world.store.put_bytes("pipeline.yaml", data)}
    world.store.put_bytes(kept["key"], data)
    digest = pipelines.combined_digest(digest_bytes(compiled.training_ir()), kept["digest"])
    request = world.request("own", ownPipeline=kept, pipelineDigest=digest, parameters=VALUES, entrypoint="")
    world.train(request)
    registered = world.judge(request)
    assert registered.digests is not None
    assert registered.digests.pipeline == digest
    assert float(registered.score or "0") > 0.5
