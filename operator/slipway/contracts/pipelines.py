"""A pipeline that a team brings: read, checked against the contract, and put in the place of task `train`.

The contract is in docs/training/own-pipelines.md. Everything here is pure and needs no KFP: an endpoint, or the local
runner, looks at the rest when it takes the pipeline.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from slipway.api.meta import Scalar
from slipway.contracts.digests import digest_bytes, digest_json
from slipway.contracts.stages import TASKS

Engine = Literal["Local", "KubeflowPipelines"]

IMAGE = "slipway-runner"
"""Stands for the run's image in a compiled pipeline."""
PLACE = "train"
"""The task whose place it takes."""
OWN = "own-"
"""Begins the names of its components and executors, and of tasks that would be named like one of ours."""
LIMIT = 2**20
"""Bytes of a pipeline."""
TASKS_LIMIT = 500
"""Tasks that it may come to, loops not counted."""
EXACT = 2**53
"""Integers up to here are the same in a protobuf struct, which has doubles only."""

ARTIFACTS = {"training_set": "system.Dataset", "validation_set": "system.Dataset", "claims": "system.Artifact"}
"""What it may be given, by name."""
OUTPUT, OUTPUT_TYPE = "model", "system.Model"
TEXTS = ("data", "code")
"""Parameters of ours that it may take."""
SEED = "seed"
RESERVED = ("goals", "run")
PLATFORM_KEYS = frozenset({"emptyDirMounts", "enabledSharedMemory", "fieldPathAsEnv", "imagePullPolicy"})
"""What its platform specification may ask for; the rest is the platform's to say, or opens what is not the team's."""

_ANY = "system.Artifact"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
}
_WORDS = {"STRING": "a text", "NUMBER_INTEGER": "an integer", "NUMBER_DOUBLE": "a number", "BOOLEAN": "true or false"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXECUTOR = "kfp.dsl.executor_main"
_SHOWN = 6


class UnfitError(Exception):
    """A pipeline that does not keep to the contract. The message has a sentence for each trouble."""


class _Part(BaseModel):
    """A part of the IR; what is not read here may be anything."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)


class _Type(_Part):
    schema_title: str = ""


class _Artifact(_Part):
    artifact_type: _Type = _Type()
    is_artifact_list: bool = False
    is_optional: bool = False


class _Parameter(_Part):
    parameter_type: str
    default_value: Any = None
    is_optional: bool = False


class _Definitions(_Part):
    artifacts: dict[str, _Artifact] = Field(default_factory=dict)
    parameters: dict[str, _Parameter] = Field(default_factory=dict)


class _Reference(_Part):
    name: str


class _Task(_Part):
    component_ref: _Reference
    trigger_policy: dict[str, Any] = Field(default_factory=dict)
    artifact_iterator: dict[str, Any] | None = None
    parameter_iterator: dict[str, Any] | None = None

    @property
    def loops(self) -> bool:
        return self.artifact_iterator is not None or self.parameter_iterator is not None


class _Dag(_Part):
    tasks: dict[str, _Task] = Field(min_length=1)


class _Component(_Part):
    dag: _Dag | None = None
    executor_label: str = ""
    input_definitions: _Definitions = _Definitions()
    output_definitions: _Definitions = _Definitions()


class _Variable(_Part):
    name: str
    value: str = ""


class _Container(_Part):
    image: str
    command: list[str] = Field(default_factory=list)
    args: list[str] = Field(default_factory=list)
    env: list[_Variable] = Field(default_factory=list)
    resources: dict[str, Any] = Field(default_factory=dict)


class _Executor(_Part):
    container: _Container | None = None


class _Deployment(_Part):
    executors: dict[str, _Executor]


class _Info(_Part):
    name: str


class _Spec(_Part):
    pipeline_info: _Info
    schema_version: str
    root: _Component
    components: dict[str, _Component]
    deployment_spec: _Deployment


@dataclass(frozen=True)
class OwnPipeline:
    """A pipeline that a team brings.

    :param digest: of its bytes
    :param spec: the pipeline itself
    :param platform: what it says of each executor for Kubernetes, by executor
    """

    digest: str
    spec: Mapping[str, Any]
    platform: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parsed: _Spec = field(default=None, repr=False)  # type: ignore[assignment] # `parse` always gives it

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self.parsed.pipeline_info.name

    @property
    def inputs(self) -> _Definitions:
        """What it takes."""
        return self.parsed.root.input_definitions


@dataclass(frozen=True)
class Circumstances:
    """What a pipeline is to run with.

    :param image: of the run, for which the compiled pipeline says `slipway-runner`
    :param values: `spec.parameters`
    :param accelerator: resource of the run's pool, where that is no CPU or memory; empty otherwise
    :param accelerators: how many of it the run may have at a time
    """

    engine: Engine
    image: str
    values: Mapping[str, Scalar] = field(default_factory=dict)
    seed: int = 0
    accelerator: str = ""
    accelerators: int = 0


def combined_digest(platform: str, own: str) -> str:
    """Digest of the whole that a run executes, from those of the platform's compiled pipeline and of the team's."""
    return digest_json({"platform": platform, "own": own})


# ---- read ------------------------------------------------------------------------------------------------------------
def parse(data: bytes) -> OwnPipeline:
    """The pipeline in a YAML text of one or two documents. :raises UnfitError: it is none"""
    if len(data) > LIMIT:
        raise UnfitError(f"It has {len(data)} bytes, and a pipeline may have {LIMIT}: move data out of it.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # An alias can stand for any amount of text; the compiler writes none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=loader)):
            raise UnfitError("It has YAML aliases (`*name`): write it by KFP's compiler, which uses none.")
        documents = [each for each in yaml.load_all(data, Loader=loader) if each is not None]
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnfitError(f"It is no YAML ({first}): write it by KFP's compiler.") from None
    except RecursionError:
        raise UnfitError("It is nested too deeply: write it by KFP's compiler.") from None
    if not 1 <= len(documents) <= 2 or not all(isinstance(each, dict) for each in documents):
        raise UnfitError(
            f"It has {len(documents)} YAML documents: one with the pipeline is expected, or two, of which the second "
            "has `platforms`. Write it by KFP's compiler."
        )
    return _of(digest_bytes(data), documents[0], documents[1] if len(documents) > 1 else {})


def _of(digest: str, spec: Mapping[str, Any], platform: Mapping[str, Any]) -> OwnPipeline:
    try:
        parsed = _Spec.model_validate(spec)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:_SHOWN]]
        raise UnfitError(
            f"It is no compiled pipeline ({'; '.join(told)}): write it by KFP's compiler, version 2 or newer."
        ) from None
    except RecursionError:
        raise UnfitError("It is nested too deeply: write it by KFP's compiler.") from None
    return OwnPipeline(digest, spec, _executors_of(platform), parsed)


def _executors_of(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the second document says of each executor. :raises UnfitError: it says more, or something else"""
    platforms = document.get("platforms", {}) if set(document) <= {"platforms"} else None
    if isinstance(platforms, dict) and set(platforms) <= {"kubernetes"}:
        kubernetes = platforms.get("kubernetes", {})
        if isinstance(kubernetes, dict) and set(kubernetes) <= {"deploymentSpec"}:
            executors = (kubernetes.get("deploymentSpec") or {}).get("executors") or {}
            if isinstance(executors, dict) and all(isinstance(each, dict) for each in executors.values()):
                return dict(executors)
    raise UnfitError(
        "Its second document may have `platforms.kubernetes.deploymentSpec.executors` and nothing else: remove what "
        "else it has."
    )


# ---- check -----------------------------------------------------------------------------------------------------------
def require_fit(own: OwnPipeline, given: Circumstances) -> None:
    """:raises UnfitError: the pipeline does not keep to the contract, or cannot run in these circumstances"""
    try:
        troubles = list(_troubles(own, given))
    except RecursionError:
        raise UnfitError("It is nested too deeply: write it by KFP's compiler.") from None
    if troubles:
        more = f" And {len(troubles) - _SHOWN} more." if len(troubles) > _SHOWN else ""
        raise UnfitError(" ".join(troubles[:_SHOWN]) + more)


def _troubles(own: OwnPipeline, given: Circumstances) -> Iterator[str]:
    if not own.parsed.schema_version.startswith("2."):
        yield f"schemaVersion is {own.parsed.schema_version}: compile it by KFP's SDK 2."
    if own.parsed.root.dag is None:
        yield "root has no dag: compile a function with @dsl.pipeline, not a component."
        return
    broken = list(_graph(own.parsed))
    yield from broken
    if broken:
        return
    yield from _interface(own.parsed.root)
    yield from _parameters(own.inputs.parameters, given)
    for label in _used(own.parsed):
        yield from _executor(label, own.parsed.deployment_spec.executors[label], given)
        yield from _platform(label, own.platform.get(label, {}))
    yield from _accelerators(own.parsed, given)
    if given.engine == "Local":
        yield from _control_flow(own.parsed)


def _graph(spec: _Spec) -> Iterator[str]:
    """Whether every task has a component, every component an executor, and none contains itself."""
    for name, component in {"root": spec.root, **spec.components}.items():
        if component.dag is None and component.executor_label not in spec.deployment_spec.executors:
            yield f"components.{name}: deploymentSpec has no executor {component.executor_label!r}: compile it anew."
        for task, each in (component.dag.tasks if component.dag else {}).items():
            if each.component_ref.name not in spec.components:
                yield f"{name}, task {task}: there is no component {each.component_ref.name}: compile it anew."
    sizes: dict[str, float] = {}

    def size(component: _Component, above: frozenset[str]) -> float:
        """Tasks that a component comes to; infinite where it contains itself."""
        total = 0.0
        for task in (component.dag.tasks if component.dag else {}).values():
            name = task.component_ref.name
            if name in above:
                return math.inf
            if name in spec.components and name not in sizes:
                sizes[name] = size(spec.components[name], above | {name})
            total += 1 + sizes.get(name, 0.0)
        return total

    tasks = size(spec.root, frozenset())
    if math.isinf(tasks):
        yield "A component contains itself: compile it anew."
    elif tasks > TASKS_LIMIT:
        yield f"It has {tasks:.0f} tasks, and may have {TASKS_LIMIT}: put several steps into one."


def _interface(root: _Component) -> Iterator[str]:
    given = root.input_definitions.artifacts
    if "training_set" not in given:
        yield "It does not take the input artifact training_set: add `training_set: Input[Dataset]`."
    for name, artifact in given.items():
        expected = ARTIFACTS.get(name)
        title = artifact.artifact_type.schema_title
        if expected is None and not artifact.is_optional:
            yield f"Input artifact {name} is none that it can be given: these are {', '.join(ARTIFACTS)}."
        elif expected is not None and (title not in (expected, _ANY) or artifact.is_artifact_list):
            kind = expected.partition(".")[2]
            yield f"Input artifact {name} is of type {title or 'none'}: declare it as Input[{kind}]."
    made = root.output_definitions.artifacts.get(OUTPUT)
    if made is None:
        there = ", ".join(root.output_definitions.artifacts) or "none"
        yield f"It has no output artifact {OUTPUT} (its outputs: {there}): return it as `{OUTPUT}: Model`."
    elif made.artifact_type.schema_title != OUTPUT_TYPE or made.is_artifact_list:
        yield f"Output artifact {OUTPUT} is of type {made.artifact_type.schema_title or 'none'}: declare it as Model."


def _parameters(declared: Mapping[str, _Parameter], given: Circumstances) -> Iterator[str]:
    for name, parameter in declared.items():
        kind = parameter.parameter_type
        if name in RESERVED:
            yield f"Parameter {name} is the platform's own: give it another name."
        elif name in TEXTS:
            if kind != "STRING":
                yield f"Parameter {name} is {kind}: declare it as `{name}: str`, it is JSON."
        elif name == SEED:
            if kind != "NUMBER_INTEGER":
                yield f"Parameter {name} is {kind}: declare it as `{name}: int`, it is spec.seed."
        elif name in given.values:
            yield from _value(name, kind, given.values[name])
        elif parameter.default_value is None and not parameter.is_optional:
            yield f"Parameter {name} has no default, and spec.parameters has no {name}: set spec.parameters.{name}."
    if "code" not in declared:
        for name in given.values:
            if name not in declared or name in (*TEXTS, SEED):
                yield (
                    f"spec.parameters.{name}: the pipeline takes no parameter {name}: remove it, or have the pipeline "
                    "take `code: str`, which has all of them."
                )


def _value(name: str, kind: str, value: Scalar) -> Iterator[str]:
    expected = _TYPES.get(kind)
    if expected is None:
        yield f"Parameter {name} is {kind}, and spec.parameters has single values only: take `code: str`, or a text."
    elif not isinstance(value, expected) or (isinstance(value, bool) and kind != "BOOLEAN"):
        yield f"spec.parameters.{name} is {value!r}, and the pipeline takes {_WORDS[kind]}: correct it."
    elif isinstance(value, int) and abs(value) > EXACT:
        yield f"spec.parameters.{name} is {value}, and KFP keeps integers up to {EXACT} exactly: make it smaller."
    elif isinstance(value, str) and "{{" in value:
        yield f"spec.parameters.{name} has {{{{, which the endpoint would take for a template: remove it."


def _executor(label: str, executor: _Executor, given: Circumstances) -> Iterator[str]:
    container = executor.container
    where = label.removeprefix("exec-")
    if container is None:
        yield f"Task {where} has no container (an importer?): read what it imports in a task, or make it a Dataset."
        return
    for variable in container.env:
        if not _NAME.fullmatch(variable.name):
            yield f"Task {where}: {variable.name!r} is no name of a variable: rename it."
    if given.engine != "Local":
        return
    if container.image not in (IMAGE, given.image):
        yield (
            f"Task {where} has the image {container.image}, and with the engine Local all tasks run in the run's "
            f'own, {given.image}: set base_image="{IMAGE}".'
        )
    command = " ".join(container.command)
    if _EXECUTOR not in command:
        yield f"Task {where} is no Python component, and the engine Local runs only these: use @dsl.component."
    elif "pip install" in " ".join(container.command[:-1]):
        yield (
            f"Task {where} installs packages when it starts, which the engine Local does not allow: set "
            "install_kfp_package=False, and install packages_to_install in the run's image."
        )


def _platform(label: str, config: Mapping[str, Any]) -> Iterator[str]:
    refused = sorted(set(config) - PLATFORM_KEYS)
    if refused:
        yield (
            f"Task {label.removeprefix('exec-')} asks for {', '.join(refused)} (kfp-kubernetes): a pipeline may have "
            f"{', '.join(sorted(PLATFORM_KEYS))}; placement comes from spec.poolRef, and Secrets it gets none."
        )


def _accelerators(spec: _Spec, given: Circumstances) -> Iterator[str]:
    """Tasks may run side by side, so all that they ask for together counts against the quota."""
    total, loops = 0, False
    for label, repeated in _walk(spec, spec.root):
        container = spec.deployment_spec.executors[label].container
        asked = container.resources.get("accelerator") if container is not None else None
        if not isinstance(asked, Mapping):
            continue
        where = label.removeprefix("exec-")
        kind, count = accelerator(asked)
        if not given.accelerator:
            yield f"Task {where} asks for {kind}: name a ComputePool that has it in spec.poolRef."
            return
        if kind != given.accelerator:
            yield f"Task {where} asks for {kind}, and the run's pool has {given.accelerator}: ask for that."
        if count is None:
            yield f"Task {where}: the number of its accelerators must stand in the compiled pipeline as an integer."
            return
        total, loops = total + count, loops or repeated
    if loops:
        yield "A task in a loop asks for accelerators, so nobody can count them: take it out of the loop."
    if given.accelerator and given.engine != "Local" and total == 0:
        yield (
            f"spec.poolRef is a pool of {given.accelerator}, and no task asks for any: call "
            f'set_accelerator_type("{given.accelerator}") and set_accelerator_limit(1) on one, or remove poolRef.'
        )
    if total > given.accelerators:
        yield (
            f"Its tasks ask for {total} {given.accelerator}, and spec.resources.limits of the run has "
            f"{given.accelerators}: raise that, or ask for fewer."
        )


def _control_flow(spec: _Spec) -> Iterator[str]:
    """The local runner evaluates conditions in the process that holds credentials, and knows no loops inside of it."""
    for component in (spec.root, *spec.components.values()):
        for name, task in (component.dag.tasks if component.dag else {}).items():
            if task.loops or task.trigger_policy.get("condition"):
                yield (
                    f"Task {name} stands in a condition or loop, which only the engine KubeflowPipelines runs: decide "
                    "inside of a component."
                )


def accelerator(asked: Mapping[str, Any]) -> tuple[str, int | None]:
    """Resource and number of an executor's accelerators; no number where it is not written down as one."""
    kind = str(asked.get("resourceType") or asked.get("type") or "")
    text = str(asked.get("resourceCount") or asked.get("count") or "1")
    return kind, int(text) if text.isdecimal() else None


def _used(spec: _Spec) -> list[str]:
    """Executors that the pipeline reaches."""
    return list(dict.fromkeys(label for label, _ in _walk(spec, spec.root)))


def _walk(spec: _Spec, component: _Component, repeated: bool = False) -> Iterator[tuple[str, bool]]:
    """Executor of each task, and whether it stands in a loop."""
    if component.dag is None:
        yield component.executor_label, repeated
        return
    for task in component.dag.tasks.values():
        yield from _walk(spec, spec.components[task.component_ref.name], repeated or task.loops)


# ---- put in place ----------------------------------------------------------------------------------------------------
def arguments(own: OwnPipeline, values: Mapping[str, Scalar], seed: int) -> dict[str, Scalar]:
    """Parameters of the run beside the platform's own: those that the pipeline takes and the run has."""
    given = {name: value for name, value in values.items() if name not in TEXTS} | {SEED: seed}
    return {name: given[name] for name in own.inputs.parameters if name in given}


def compose(compiled: Mapping[str, Any], own: OwnPipeline, values: Mapping[str, Scalar]) -> dict[str, Any]:
    """The platform's compiled pipeline with the team's in the place of `train`. Pure; the same bytes each time.

    :param own: keeps to the contract
    :param values: `spec.parameters`; only which there are matters
    :raises UnfitError: a task is one of the platform's, which get credentials
    """
    _require_others(compiled, own)
    spec = copy.deepcopy(dict(compiled))
    components, executors = spec["components"], spec["deploymentSpec"]["executors"]
    del executors[f"exec-{PLACE}"]
    for name, component in own.spec["components"].items():
        components[f"comp-{OWN}{name.removeprefix('comp-')}"] = _renamed(component)
    for name, executor in own.spec["deploymentSpec"]["executors"].items():
        executors[f"exec-{OWN}{name.removeprefix('exec-')}"] = copy.deepcopy(executor)
    components[f"comp-{PLACE}"] = _renamed(own.spec["root"])
    _wire(spec, own, arguments(own, values, 0))
    return spec


def _require_others(compiled: Mapping[str, Any], own: OwnPipeline) -> None:
    """The local runner tells the platform's tasks by their command, and gives these credentials."""
    for name, info in TASKS.items():
        ours = compiled["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["command"]
        for label, executor in own.parsed.deployment_spec.executors.items():
            if (info.store or info.feast) and executor.container is not None and executor.container.command == ours:
                raise UnfitError(
                    f"Task {label.removeprefix('exec-')} is one of the platform's, which runs it already: take its "
                    "results as inputs."
                )


def _wire(spec: dict[str, Any], own: OwnPipeline, handed: Mapping[str, Scalar]) -> None:
    """Parameters from the root to it, and the artifacts that it takes."""
    produce = spec["components"]["comp-produce"]
    task = produce["dag"]["tasks"][PLACE]
    artifacts, parameters = task["inputs"]["artifacts"], task["inputs"]["parameters"]
    task["inputs"]["artifacts"] = {name: artifacts[name] for name in artifacts if name in own.inputs.artifacts}
    wired = {name: parameters[name] for name in TEXTS if name in own.inputs.parameters}
    for name, declared in own.inputs.parameters.items():
        if name in handed:
            passed = {"componentInputParameter": name}
            wired[name] = passed
            spec["root"]["dag"]["tasks"]["produce"]["inputs"]["parameters"][name] = passed
            for above in (spec["root"], produce):
                above["inputDefinitions"]["parameters"][name] = {"parameterType": declared.parameter_type}
        elif name not in wired and declared.default_value is not None:
            wired[name] = {"runtimeValue": {"constant": declared.default_value}}
    task["inputs"]["parameters"] = wired


def _renamed(component: Mapping[str, Any]) -> dict[str, Any]:
    """A component whose references are to `own-` names; its tasks too, where they are named like ours."""
    found = copy.deepcopy(dict(component))
    if "executorLabel" in found:
        found["executorLabel"] = f"exec-{OWN}{found['executorLabel'].removeprefix('exec-')}"
    dag = found.get("dag")
    if dag is None:
        return found
    names = {name: f"{OWN}{name}" if name in TASKS else name for name in dag["tasks"]}
    dag["tasks"] = {names[name]: task for name, task in dag["tasks"].items()}
    for name, task in dag["tasks"].items():
        task["componentRef"]["name"] = f"comp-{OWN}{task['componentRef']['name'].removeprefix('comp-')}"
        if "dependentTasks" in task:
            task["dependentTasks"] = [names.get(each, each) for each in task["dependentTasks"]]
        if name.startswith(OWN):
            task["taskInfo"] = {**(task.get("taskInfo") or {}), "name": name}
        _producers(task.get("inputs"), names)
    _producers(dag.get("outputs"), names)
    return found


def _producers(value: Any, names: Mapping[str, str]) -> None:
    """Has every mention of a producer, however deep, say its new name."""
    if isinstance(value, list):
        for each in value:
            _producers(each, names)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("producerTask", "producerSubtask") and isinstance(each, str):
                value[key] = names.get(each, each)
            else:
                _producers(each, names)
