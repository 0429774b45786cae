"""The `Local` engine: one half of the compiled pipeline, run by the KFP SDK's local runner in this process's container.

Both halves come from the one committed IR: the sub-pipeline becomes the root, nothing else changes. Three things that
the local runner leaves out are added around each task's process: the environment that the IR declares, no more
credentials than the task needs, and a word to whoever shows progress.
"""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slipway.api.meta import Scalar
from slipway.api.reasons import Reason
from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import OwnPipelineFile
from slipway.contracts.pipelines import OWN, PLACE, UnfitError, combined_digest
from slipway.contracts.stages import ENVIRONMENT, TASKS
from slipway_pipelines import compiled
from slipway_pipelines.errors import OutageError, RefusalError
from slipway_pipelines.training import outcome
from slipway_pipelines.training.isolation import become_unreadable, task_environment

OnTask = Callable[[str, int], None]
"""Called with stage and percent when a task starts."""

_COMPONENT = "comp-"
_OUT_OF_MEMORY = (-9, 137)


def verified_ir(digest: str, own: OwnPipelineFile | None = None) -> dict[str, Any]:
    """The compiled pipeline of this image. RefusalError when it is not the one that the run was made for.

    :param digest: of the pipeline that the run was made for
    :param own: the team's own pipeline, which has a part in that digest
    """
    data = compiled.training_ir()
    found = digest_bytes(data)
    if own is not None:
        found = combined_digest(found, own.digest)
    if found != digest:
        raise RefusalError(
            Reason.InternalError,
            f"The run was made for pipeline {digest}, and its image has {found}: build the image FROM "
            "the slipway-runner of the operator's release.",
        )
    spec: dict[str, Any] = yaml.safe_load(data)
    return spec


def require_readable(spec: Mapping[str, Any]) -> None:
    """Whether KFP's own tools read a pipeline. :raises UnfitError: they do not"""
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        json_format.ParseDict(dict(spec), pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise UnfitError(f"KFP cannot read it ({error}): write it by KFP's compiler.") from None


def half(ir: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The pipeline whose root is the sub-pipeline `name`: same components, same executors, those that it reaches."""
    root = ir["components"][f"{_COMPONENT}{name}"]
    reached = set(_reachable(ir, root))
    executors = {ir["components"][item].get("executorLabel") for item in reached}
    spec = copy.deepcopy(dict(ir))
    spec["root"] = copy.deepcopy(root)
    spec["pipelineInfo"]["name"] = f"{ir['pipelineInfo']['name']}-{name}"
    spec["components"] = {key: value for key, value in spec["components"].items() if key in reached}
    deployed = spec["deploymentSpec"]["executors"]
    spec["deploymentSpec"]["executors"] = {key: value for key, value in deployed.items() if key in executors}
    return spec


def _reachable(ir: Mapping[str, Any], component: Mapping[str, Any]) -> Iterator[str]:
    for task in component.get("dag", {}).get("tasks", {}).values():
        name = task["componentRef"]["name"]
        yield name
        yield from _reachable(ir, ir["components"][name])


@dataclass(frozen=True)
class OutputArtifact:
    """An artifact that a task made: where its content is, if it has any, and its metadata (metrics have only that)."""

    path: Path
    metadata: dict[str, Any]


@dataclass(frozen=True)
class InputArtifact:
    """An artifact that another half made: its file or folder here, and its KFP type such as `system.Model`."""

    path: Path
    type: str


def input_types(spec: Mapping[str, Any]) -> dict[str, str]:
    """Artifacts that a pipeline is given: KFP type by name."""
    declared = spec["root"]["inputDefinitions"].get("artifacts", {})
    return {name: item["artifactType"]["schemaTitle"] for name, item in declared.items()}


def run(
    spec: Mapping[str, Any],
    parameters: Mapping[str, Scalar],
    artifacts: Mapping[str, InputArtifact],
    root: Path,
    on_task: OnTask,
) -> dict[str, OutputArtifact]:
    """Runs a pipeline; gives its output artifacts. `root` is the folder for them.

    RefusalError as a task said it; OutageError when a task ended otherwise, so that the Job tries again.
    """
    become_unreadable()
    # Seconds of import: only now.
    from google.protobuf import json_format
    from kfp import dsl, local
    from kfp.local import pipeline_orchestrator
    from kfp.pipeline_spec import pipeline_spec_pb2

    types: dict[str, type[dsl.Artifact]] = {
        kind.schema_title: kind for kind in (dsl.Artifact, dsl.Dataset, dsl.Model, dsl.Metrics)
    }
    asked = set(spec["root"]["inputDefinitions"].get("parameters", {}))
    arguments: dict[str, Any] = {name: value for name, value in parameters.items() if name in asked}
    for name, item in artifacts.items():
        arguments[name] = types[item.type](name=name, uri=str(item.path))
    spec = _with_environment(spec)
    tasks = _Tasks(spec, on_task)
    with tempfile.TemporaryDirectory() as workspace, _around_each_task(tasks):
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            workspace_root=workspace,
            raise_on_error=True,
        )
        try:
            outputs = pipeline_orchestrator.run_local_pipeline(
                json_format.ParseDict(dict(spec), pipeline_spec_pb2.PipelineSpec()), arguments
            )
        except RuntimeError as error:
            raise tasks.failure() or error from None
    return {name: OutputArtifact(Path(item.uri), dict(item.metadata)) for name, item in outputs.items()}


def _with_environment(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The team's own executors begin with `env`, which sets what they declare; the local runner would not."""
    found = copy.deepcopy(dict(spec))
    for label, executor in found["deploymentSpec"]["executors"].items():
        if label.startswith(f"exec-{OWN}"):
            container = executor["container"]
            declared = [f"{each['name']}={each.get('value', '')}" for each in container.get("env", [])]
            container["command"] = ["env", *declared, *container["command"]]
    return found


@dataclass
class _Tasks:
    """Starts the tasks' processes in the local runner's place, and keeps why one failed."""

    spec: Mapping[str, Any]
    on_task: OnTask
    refusal: RefusalError | None = None
    ended: tuple[str, int] | None = None
    last_lines: list[str] = field(default_factory=list)

    def start(self, full_command: list[str]) -> int:
        """Runs one task's command to its end; gives the exit code."""
        name = full_command[full_command.index("--function_to_execute") + 1]
        ours = self._is_ours(name, full_command)
        # The team's own tasks have what `train` has: no credentials at all.
        info = TASKS[name if ours else PLACE]
        self.on_task(info.stage, info.percent)
        process = subprocess.Popen(
            full_command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=task_environment(info, self._declared(name) if ours else ENVIRONMENT),
        )
        assert process.stdout is not None
        for line in process.stdout:
            self._read(line)
        code = process.wait()
        if code != 0:
            self.ended = (name, code)
        return code

    def _is_ours(self, name: str, full_command: list[str]) -> bool:
        """Whether a command is, word for word, that of the task of ours which it says that it is."""
        from kfp.local import subprocess_task_handler as handler

        executor = self.spec["deploymentSpec"]["executors"].get(f"exec-{name}")
        if name not in TASKS or executor is None:
            return False
        container = executor["container"]
        command: list[str] = handler.replace_python_executable(
            [*container["command"], *container["args"]], sys.executable
        )
        length = len(container["command"])
        return command[:length] == full_command[:length]

    def _declared(self, name: str) -> dict[str, str]:
        container = self.spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        return {item["name"]: item["value"] for item in container.get("env", [])}

    def _read(self, line: str) -> None:
        self.refusal = outcome.parse(line) or self.refusal
        sys.stdout.write(line)
        self.last_lines = [*self.last_lines[-4:], line.strip()]

    def failure(self) -> RefusalError | OutageError | None:
        """Why the pipeline failed, if a task did."""
        if self.ended is None:
            return None
        name, code = self.ended
        if code == outcome.EXIT_REFUSED and self.refusal is not None:
            return self.refusal
        if code in _OUT_OF_MEMORY:
            return OutageError(f"task {name} was killed, most likely out of memory: raise resources.limits.memory")
        return OutageError(f"task {name} ended with code {code}: {' | '.join(filter(None, self.last_lines))}")


@contextlib.contextmanager
def _around_each_task(tasks: _Tasks) -> Iterator[None]:
    """Has the local runner start processes by `tasks.start`; it has no hook of its own.

    It also warns about an image without `python` in its name: this container is that image.
    """
    from kfp.local import subprocess_task_handler as handler

    original = handler.run_local_subprocess
    handler.run_local_subprocess = tasks.start
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*non-Python base image", category=RuntimeWarning)
            yield
    finally:
        handler.run_local_subprocess = original
