"""Own pipelines in the operator: what the check says of each trouble, and runs of both engines from start to end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.controllers.things import PROJECT, everything, live, month, play, pool, project
from unit.controllers.world import NS, World, ready
from unit.kfp.double import MemoryEndpoint
from unit.kfp.test_engine import Story
from unit.kfp.world import KfpWorld

from slipway.adapters.kfp.document import Settings, document, load
from slipway.adapters.outbound import Answer, Request
from slipway.api.computepool import ComputePool
from slipway.contracts import pipelines
from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import CopyPipelineResult, Store
from slipway.contracts.pipelines import Circumstances, UnfitError
from slipway.controllers import pipeline_digest
from slipway.runtime.resources import (
    COMPUTE_POOL,
    JOB,
    MODEL_PROJECT,
    MODEL_VERSION,
    POD,
    TRAINING_RUN,
    Object,
)
from slipway_pipelines import compiled

DATA = (Path(__file__).parent / "own-pipeline.yaml").read_bytes()
"""The example of docs/training/own-pipelines.md; a test of the Jobs, which have KFP's compiler, keeps it so."""
IR = load(compiled.training_ir())
VALUES: dict[str, Any] = {"learning_rate": 0.3}
KEY = "pipelines/flights.yaml"

Spec = dict[str, Any]


def container(spec: Spec, task: str = "fit") -> dict[str, Any]:
    found: dict[str, Any] = spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]
    return found


def inputs(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = spec["root"]["inputDefinitions"]
    return found


def changed(change: Callable[[Spec], Any], platform: Spec | None = None) -> bytes:
    spec = yaml.load(DATA, yaml.CSafeLoader)
    change(spec)
    documents = [spec] if platform is None else [spec, platform]
    return yaml.dump_all(documents, Dumper=yaml.CSafeDumper).encode()


def told(data: bytes, engine: Any = "KubeflowPipelines", **given: Any) -> str:
    """What the check says; empty when it finds nothing."""
    try:
        own = pipelines.parse(data)
        pipelines.require_fit(own, Circumstances(engine, **{"image": "flights:1", "values": VALUES, **given}))
        pipelines.compose(IR, own, VALUES)
    except UnfitError as error:
        return str(error)
    return ""


def on_kubernetes(**config: Any) -> Spec:
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-fit": config}}}}}


def gpu(spec: Spec, task: str = "fit", count: str = "1", kind: str = "nvidia.com/gpu") -> None:
    container(spec, task)["resources"] = {"accelerator": {"type": kind, "count": count}}


def loop(spec: Spec) -> None:
    spec["root"]["dag"]["tasks"]["fit"]["parameterIterator"] = {"items": {"raw": "[1]"}, "itemInput": "x"}


def within_itself(spec: Spec) -> None:
    spec["components"]["comp-fit"] = {"dag": {"tasks": {"a": {"componentRef": {"name": "comp-fit"}}}}}


def many(spec: Spec) -> None:
    """Ten tasks of ten tasks of ten tasks: small to write, a thousand to run."""
    for level in range(3):
        inner = f"comp-{level}" if level else "comp-fit"
        tasks = {f"t{number}": {"componentRef": {"name": inner}} for number in range(10)}
        spec["components"][f"comp-{level + 1}"] = {"dag": {"tasks": tasks}}
    spec["root"]["dag"]["tasks"]["fit"]["componentRef"] = {"name": "comp-3"}


TROUBLES: list[tuple[str, bytes, str]] = [
    ("text", b"hello", "It has 1 YAML documents"),
    ("nothing", b"", "It has 0 YAML documents"),
    ("no yaml", b"a: [", "It is no YAML"),
    ("not utf-8", b"\xff\xfe\xfd", "It is no YAML"),
    ("bomb", b"a: &a [1, 1]\nb: [*a, *a]\n", "It has YAML aliases"),
    ("large", b"#" * (2**20 + 1), "It has 1048577 bytes, and a pipeline may have 1048576"),
    ("deep", b"a: " + b"[" * 5000 + b"]" * 5000, "It is n"),
    ("argo", b"kind: Workflow\nspec: {}\n", "It is no compiled pipeline (pipelineInfo: Field required"),
    ("three", DATA + b"\n---\nplatforms: {}\n---\na: 1\n", "It has 3 YAML documents"),
    ("other platform", changed(lambda _: None, {"platforms": {"vertex": {}}}), "Its second document may have"),
    ("schema", changed(lambda s: s.update(schemaVersion="3.0")), "schemaVersion is 3.0"),
    ("no dag", changed(lambda s: s["root"].pop("dag")), "root has no dag"),
    ("no executor", changed(lambda s: s["deploymentSpec"]["executors"].pop("exec-fit")), "has no executor 'exec-fit'"),
    ("no component", changed(lambda s: s["components"].pop("comp-fit")), "there is no component comp-fit"),
    ("circle", changed(within_itself), "A component contains itself"),
    ("many", changed(many), "tasks, and may have 500"),
    ("no set", changed(lambda s: inputs(s)["artifacts"].pop("training_set")), "add `training_set: Input[Dataset]`"),
    (
        "wrong set",
        changed(lambda s: inputs(s)["artifacts"]["training_set"]["artifactType"].update(schemaTitle="system.Model")),
        "Input artifact training_set is of type system.Model: declare it as Input[Dataset]",
    ),
    (
        "unknown set",
        changed(lambda s: inputs(s)["artifacts"].update(test_set={"artifactType": {"schemaTitle": "system.Dataset"}})),
        "Input artifact test_set is none that it can be given: these are training_set, validation_set, claims.",
    ),
    (
        "no model",
        changed(lambda s: s["root"].pop("outputDefinitions")),
        "It has no output artifact model (its outputs: none): return it as `model: Model`.",
    ),
    (
        "no Model",
        changed(
            lambda s: s["root"]["outputDefinitions"]["artifacts"]["model"]["artifactType"].update(
                schemaTitle="system.Artifact"
            )
        ),
        "Output artifact model is of type system.Artifact: declare it as Model.",
    ),
    (
        "reserved",
        changed(lambda s: inputs(s)["parameters"].update(goals={"parameterType": "STRING"})),
        "Parameter goals is the platform's own: give it another name.",
    ),
    (
        "no text",
        changed(lambda s: inputs(s)["parameters"]["data"].update(parameterType="STRUCT")),
        "Parameter data is STRUCT: declare it as `data: str`",
    ),
    (
        "no seed",
        changed(lambda s: inputs(s)["parameters"]["seed"].update(parameterType="STRING")),
        "Parameter seed is STRING: declare it as `seed: int`",
    ),
    (
        "missing",
        changed(lambda s: inputs(s)["parameters"].update(depth={"parameterType": "NUMBER_INTEGER"})),
        "Parameter depth has no default, and spec.parameters has no depth: set spec.parameters.depth.",
    ),
    (
        "importer",
        changed(lambda s: s["deploymentSpec"]["executors"].update({"exec-fit": {"importer": {}}})),
        "Task fit has no container (an importer?)",
    ),
    (
        "variable",
        changed(lambda s: container(s).update(env=[{"name": "-u", "value": "HOME"}])),
        "Task fit: '-u' is no name of a variable",
    ),
    (
        "secret",
        changed(lambda _: None, on_kubernetes(secretAsEnv=[{"secretName": "x"}], nodeSelector={})),
        "Task fit asks for nodeSelector, secretAsEnv (kfp-kubernetes)",
    ),
    (
        "gpu without pool",
        changed(gpu),
        "Task fit asks for nvidia.com/gpu: name a ComputePool that has it in spec.poolRef.",
    ),
    (
        "ours",
        changed(lambda s: container(s).update(command=container(IR, "features")["command"])),
        "Task fit is one of the platform's",
    ),
]


@pytest.mark.parametrize(("data", "sentence"), [each[1:] for each in TROUBLES], ids=[each[0] for each in TROUBLES])
def test_each_trouble_is_named(data: bytes, sentence: str) -> None:
    found = told(data)
    assert sentence in found
    assert found.endswith("."), "a sentence"


def test_the_example_has_none() -> None:
    assert told(DATA) == told(DATA, "Local") == ""


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "Parameter learning_rate has no default"),
        ({"learning_rate": "high"}, "spec.parameters.learning_rate is 'high', and the pipeline takes a number"),
        ({"learning_rate": True}, "spec.parameters.learning_rate is True, and the pipeline takes a number"),
        ({**VALUES, "rows": 1.5}, "spec.parameters.rows is 1.5, and the pipeline takes an integer"),
        ({**VALUES, "rows": 2**60}, "KFP keeps integers up to 9007199254740992 exactly"),
        ({**VALUES, "row": 5}, "spec.parameters.row: the pipeline takes no parameter row: remove it"),
        ({**VALUES, "rows": 5}, ""),
        ({"learning_rate": 1}, ""),
    ],
)
def test_parameters_are_those_that_the_pipeline_takes(values: dict[str, Any], sentence: str) -> None:
    found = told(DATA, values=values)
    assert sentence in found if sentence else found == ""


def test_a_template_of_the_endpoint_is_no_value() -> None:
    data = changed(lambda s: inputs(s)["parameters"].update(kind={"parameterType": "STRING"}))
    assert "spec.parameters.kind has {{" in told(data, values={**VALUES, "kind": "{{workflow.name}}"})


def test_who_takes_code_takes_every_parameter() -> None:
    data = changed(lambda s: inputs(s)["parameters"].update(code={"parameterType": "STRING"}))
    assert told(data, values={**VALUES, "anything": "x"}) == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: container(s).update(image="python:3.13"), 'set base_image="slipway-runner"'),
        (lambda s: container(s).update(image="flights:1"), ""),
        (lambda s: container(s).update(command=["sh", "-c", "true"]), "Task fit is no Python component"),
        (lambda s: container(s)["command"].insert(0, "python3 -m pip install kfp"), "Task fit installs packages"),
        (loop, "Task fit stands in a condition or loop"),
        (
            lambda s: s["root"]["dag"]["tasks"]["fit"].update(triggerPolicy={"condition": "1 == 1"}),
            "Task fit stands in a condition or loop",
        ),
    ],
)
def test_what_only_an_endpoint_runs_is_refused_for_jobs(change: Callable[[Spec], Any], sentence: str) -> None:
    found = told(changed(change), "Local")
    assert sentence in found if sentence else found == ""
    assert told(changed(change)) == "", "an endpoint runs it"


@pytest.mark.parametrize(
    ("change", "accelerators", "sentence"),
    [
        (lambda _: None, 1, "no task asks for any"),
        (gpu, 1, ""),
        (
            lambda s: gpu(s, count="2"),
            1,
            "Its tasks ask for 2 nvidia.com/gpu, and spec.resources.limits of the run has 1",
        ),
        (lambda s: (gpu(s), gpu(s, "sample")), 1, "Its tasks ask for 2 nvidia.com/gpu"),
        (lambda s: (gpu(s), gpu(s, "sample")), 2, ""),
        (lambda s: gpu(s, kind="amd.com/gpu"), 1, "asks for amd.com/gpu, and the run's pool has nvidia.com/gpu"),
        (
            lambda s: gpu(s, count="{{$.inputs.parameters['n']}}"),
            1,
            "must stand in the compiled pipeline as an integer",
        ),
        (lambda s: (gpu(s), loop(s)), 1, "A task in a loop asks for accelerators"),
    ],
)
def test_accelerators_are_counted(change: Callable[[Spec], Any], accelerators: int, sentence: str) -> None:
    found = told(changed(change), accelerator="nvidia.com/gpu", accelerators=accelerators)
    assert sentence in found if sentence else found == ""


def test_many_troubles_are_told_together() -> None:
    def break_it(spec: Spec) -> None:
        del spec["root"]["outputDefinitions"]
        for number in range(8):
            inputs(spec)["parameters"][f"p{number}"] = {"parameterType": "STRING"}

    found = told(changed(break_it))
    assert "no output artifact model" in found
    assert found.endswith("And 3 more.")


# ---- what becomes of it ----------------------------------------------------------------------------------------------
def prepared(data: bytes, **more: Any) -> tuple[Spec, Spec]:
    own = pipelines.parse(data)
    settings = Settings("flights:1", PROJECT, Store(endpoint="http://s3:1", bucket="b"), "s3", "feast", **more)
    made = document(pipelines.compose(IR, own, VALUES), digest_bytes(data), settings, own.platform)
    return dict(made.spec), dict(made.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])


def test_its_containers_keep_what_they_say_and_get_no_credentials() -> None:
    def say(spec: Spec) -> None:
        container(spec)["env"] = [{"name": "OMP_NUM_THREADS", "value": "8"}]
        container(spec)["resources"] = {"cpuLimit": 4.0}
        container(spec, "sample")["image"] = "spark:4"

    spec, platform = prepared(changed(say, on_kubernetes(enabledSharedMemory={"size": "1Gi"})))
    fit, sample = container(spec, "own-fit"), container(spec, "own-sample")
    assert (fit["image"], sample["image"]) == ("flights:1", "spark:4")
    assert fit["resources"] == {"cpuLimit": 4.0}
    assert "cpuRequest" in sample["resources"], "what every task of a run has"
    environment = {each["name"]: each["value"] for each in fit["env"]}
    assert environment["OMP_NUM_THREADS"] == "8"
    assert environment["HOME"] == "/tmp"
    assert not any(name.startswith("SLIPWAY_S3") for name in environment)
    for label in ("exec-own-fit", "exec-own-sample"):
        assert "secretAsEnv" not in platform[label]
        assert platform[label]["securityContext"]["runAsNonRoot"] is True
    assert platform["exec-own-fit"]["enabledSharedMemory"] == {"size": "1Gi"}
    assert "exec-train" not in platform


def test_accelerators_bring_a_task_to_the_pools_nodes() -> None:
    spec = {"resource": "nvidia.com/gpu", "nodeSelector": {"slipway.dev/pool": "gpu"}}
    fast = ComputePool.model_validate({"metadata": {"name": "gpu"}, "spec": spec})
    made, platform = prepared(changed(gpu), pool=fast)
    assert platform["exec-own-fit"]["nodeSelector"] == {"labels": {"slipway.dev/pool": "gpu"}}
    assert "nodeSelector" not in platform["exec-own-sample"]
    assert container(made, "own-fit")["resources"]["accelerator"]["type"] == "nvidia.com/gpu"
    nodes = ComputePool.model_validate({"metadata": {"name": "big"}, "spec": {**spec, "resource": "cpu"}})
    _, platform = prepared(DATA, pool=nodes)
    assert all("nodeSelector" in platform[f"exec-own-{name}"] for name in ("fit", "sample"))


def test_tasks_that_are_called_like_ours_are_renamed_wherever_they_are_named() -> None:
    def rename(spec: Spec) -> None:
        text = json.dumps(spec["root"]["dag"]).replace('"sample"', '"features"').replace('"fit"', '"train"')
        spec["root"]["dag"] = json.loads(text)

    composed = pipelines.compose(IR, pipelines.parse(changed(rename)), VALUES)
    dag = composed["components"]["comp-train"]["dag"]
    assert set(dag["tasks"]) == {"own-features", "own-train"}
    assert dag["tasks"]["own-train"]["dependentTasks"] == ["own-features"]
    text = json.dumps(dag)
    assert '"producerTask": "own-features"' in text
    assert '"producerSubtask": "own-train"' in text
    assert '"features"' not in text
    assert dag["tasks"]["own-train"]["taskInfo"]["name"] == "own-train"


def test_the_platforms_own_tasks_stay_as_they_are() -> None:
    composed = pipelines.compose(IR, pipelines.parse(DATA), VALUES)
    for name in ("features", "baselines", "verify", "evaluate", "register"):
        executor = composed["deploymentSpec"]["executors"][f"exec-{name}"]
        assert executor == IR["deploymentSpec"]["executors"][f"exec-{name}"]
        assert composed["components"][f"comp-{name}"] == IR["components"][f"comp-{name}"]
    assert composed["components"]["comp-judge"] == IR["components"]["comp-judge"]
    assert load(compiled.training_ir()) == IR, "nothing of ours was changed in place"


# ---- runs ------------------------------------------------------------------------------------------------------------
def training(**pipeline: Any) -> Object:
    spec = copy.deepcopy(project()["spec"])
    spec["training"] |= {
        "pipeline": pipeline,
        "code": {"image": {"name": "runner:1"}},
        "parameters": VALUES,
    }
    return {"metadata": {"name": PROJECT, "namespace": NS}, "spec": spec}


FILE: dict[str, Any] = {"type": "S3", "s3": {"key": KEY}}
VERSION: dict[str, Any] = {"type": "PipelineVersion", "pipelineVersion": {"pipeline": "flights", "version": "v3"}}


class OwnStory(Story):
    """A project with a pipeline of its own, and an endpoint."""

    def __init__(self, pipeline: dict[str, Any]) -> None:
        super().__init__()
        self.pipeline = pipeline

    async def start(self, data: bytes | None = DATA, **kfp: Any) -> OwnStory:
        world = self.world
        everything(world)
        world.put(MODEL_PROJECT, training(**self.pipeline))
        self.launcher()
        self.configure(**kfp)
        if data is not None:
            world.artifacts.objects[KEY] = data
        month(world, 1)
        await live(world)
        await self.look()
        return self

    def submitted(self) -> list[Spec]:
        (version,) = self.kfp.versions.values()
        text = version["text"]
        return list(yaml.safe_load_all(text[text.index("components:") : text.rindex("\r\n--slipway-")]))


async def test_a_file_is_run_at_the_endpoint_and_its_digest_recorded() -> None:
    story = await OwnStory({**FILE, "digest": digest_bytes(DATA)}).start()
    assert story.status["ownPipelineDigest"] == digest_bytes(DATA)
    spec, _ = story.submitted()
    assert set(spec["components"]["comp-train"]["dag"]["tasks"]) == {"sample", "fit"}
    given = story.kfp_run()["runtime_config"]["parameters"]
    assert (given["learning_rate"], given["seed"]) == (0.3, 0)
    assert "rows" not in given, "its own default serves"
    combined = pipelines.combined_digest(pipeline_digest(), digest_bytes(DATA))
    run = json.loads(given["run"])
    assert run["pipelineDigest"] == combined
    asked = {name: json.loads(given[name]) for name in ("data", "code", "goals", "run")}
    request = {**asked["data"], **asked["code"], **asked["goals"], **asked["run"]}
    story.parameters = lambda _=1: asked  # type: ignore[method-assign] # the others are no JSON
    assert request["entrypoint"] == ""
    story.register()
    story.kfp.end(story.id(), "SUCCEEDED")
    await story.look()
    (version,) = story.world.all(MODEL_VERSION)
    assert version["spec"]["digests"]["pipeline"] == combined == story.status["pipelineDigest"]
    assert await story.world.writes_of() == []


async def test_another_attempt_runs_what_was_kept_though_the_file_has_changed() -> None:
    story = await OwnStory(FILE).start()
    first = story.submitted()
    story.world.artifacts.objects[KEY] = b"other"
    story.kfp.end(story.id(), "FAILED")
    await story.look(31)
    assert set(story.kfp.runs) == {story.id(1), story.id(2)}
    assert story.submitted() == first, "the same version"


async def test_a_restart_before_the_endpoint_knows_the_run_hands_over_what_was_kept() -> None:
    story = OwnStory(FILE)
    refuse = Refuser(story.kfp, status=503)
    story.world = World(refuse)
    await story.start()
    assert story.kfp.runs == {}
    story.world.artifacts.objects[KEY] = b"other"
    refuse.path = "never"
    story.world.restart()
    await story.look(60)
    assert story.status["ownPipelineDigest"] == digest_bytes(DATA)
    assert json.loads(story.kfp_run()["runtime_config"]["parameters"]["run"])["pipelineDigest"] == (
        pipelines.combined_digest(pipeline_digest(), digest_bytes(DATA))
    )


async def test_a_version_of_the_endpoint_is_run() -> None:
    story = OwnStory(VERSION)
    story.kfp.pipelines["p"] = {"pipeline_id": "p", "display_name": "flights"}
    spec = {"pipeline_spec": yaml.safe_load(DATA), "platform_spec": on_kubernetes(imagePullPolicy="Always")}
    story.kfp.versions["v"] = {"pipeline_version_id": "v", "pipeline_id": "p", "display_name": "v3"}
    story.kfp.versions["v"]["pipeline_spec"] = spec
    await story.start(data=None)
    (run,) = story.kfp.runs.values()
    reference = run["pipeline_version_reference"]
    assert reference["pipeline_version_id"] != "v", "it is run inside of the platform's"
    assert run["runtime_config"]["parameters"]["learning_rate"] == 0.3


@pytest.mark.parametrize("pipeline", [FILE, VERSION], ids=["file", "version"])
async def test_what_is_not_there_is_looked_for_again(pipeline: dict[str, Any]) -> None:
    story = await OwnStory(pipeline).start(data=None)
    status, reason, message = story.succeeded()
    assert (status, reason) == ("Unknown", "DependencyMissing")
    assert message.startswith("spec.pipeline.")
    assert story.kfp.runs == {}
    story.world.artifacts.objects[KEY] = DATA
    story.kfp.pipelines["p"] = {"pipeline_id": "p", "display_name": "flights"}
    story.kfp.versions["v"] = {"pipeline_version_id": "v", "pipeline_id": "p", "display_name": "v3"}
    story.kfp.versions["v"]["pipeline_spec"] = yaml.safe_load(DATA)
    await story.look(61)
    assert len(story.kfp.runs) == 1


@pytest.mark.parametrize(
    ("pipeline", "data", "sentence"),
    [
        ({**FILE, "digest": "sha256:" + "0" * 64}, DATA, "spec.pipeline: The file has digest sha256:"),
        (FILE, b"hello", "spec.pipeline: It has 1 YAML documents"),
        (FILE, changed(lambda s: s["root"].pop("outputDefinitions")), "spec.pipeline: It has no output artifact model"),
    ],
)
async def test_what_is_unfit_ends_the_run_before_anything_starts(
    pipeline: dict[str, Any], data: bytes, sentence: str
) -> None:
    story = await OwnStory(pipeline).start(data)
    assert story.status["phase"] == "Failed"
    status, reason, message = story.succeeded()
    assert (status, reason) == ("False", "InvalidPipeline")
    assert message.startswith(sentence)
    assert story.kfp.runs == {}
    await story.look(3600)
    assert len(story.world.all(TRAINING_RUN)) == 1, "nothing is tried in vain"


class Refuser:
    """An endpoint that answers an error to some requests. :param path: how these end"""

    def __init__(self, endpoint: MemoryEndpoint, status: int, path: str = "/pipelines/upload_version") -> None:
        self.endpoint, self.status, self.path = endpoint, status, path
        self.times = 0

    async def __call__(self, request: Request) -> Answer:
        if request.method == "POST" and request.url.endswith(self.path):
            self.times += 1
            return Answer(self.status, b'{"code": 3, "message": "unknown field retryFoo"}')
        return await self.endpoint(request)


async def test_what_the_endpoint_refuses_again_ends_the_run_with_its_words() -> None:
    story = OwnStory(FILE)
    refuse = Refuser(story.kfp, status=400)
    story.world = World(refuse)
    await story.start()
    for _ in range(5):
        await story.look(60)
    assert story.succeeded() == (
        "False",
        "InvalidPipeline",
        "spec.pipeline: the endpoint does not take the pipeline: unknown field retryFoo.",
    )
    assert refuse.times == 2


async def test_a_pool_of_accelerators_wants_a_task_that_asks_for_one() -> None:
    story = OwnStory(FILE)
    everything(story.world)
    story.world.put(COMPUTE_POOL, pool(nodeSelector={"slipway.dev/pool": "gpu"}))
    with_pool = training(**FILE)
    with_pool["spec"]["training"]["poolRef"] = {"name": "gpu"}
    story.world.put(MODEL_PROJECT, with_pool)
    story.launcher()
    story.configure()
    story.world.artifacts.objects[KEY] = DATA
    month(story.world, 1)
    await live(story.world)
    await story.look()
    assert "no task asks for any: call set_accelerator_type" in story.succeeded()[2]


async def test_the_local_engine_hands_it_to_its_job() -> None:
    world = World()
    everything(world)
    world.put(MODEL_PROJECT, training(**FILE))
    world.artifacts.objects[KEY] = DATA
    month(world, 1)
    for _ in range(6):
        await world.settle()
        for job in world.jobs():
            if not (job.get("status") or {}).get("conditions"):
                if job["metadata"]["labels"]["slipway.dev/stage"] == "train":
                    request = world.request_of(job)
                    kept = request["ownPipeline"]
                    assert world.artifacts.objects[kept["key"]] == DATA
                    assert kept["digest"] == digest_bytes(DATA)
                    assert kept["key"].startswith("jobs/"), "where the team's code cannot write"
                play(world, job)
    (run,) = world.all(TRAINING_RUN)
    assert ready(run, "Succeeded")[0] == "True", run["status"]
    assert run["status"]["ownPipelineDigest"] == digest_bytes(DATA)


async def test_the_local_engine_keeps_no_versions() -> None:
    world = World()
    everything(world)
    world.put(MODEL_PROJECT, training(**VERSION))
    month(world, 1)
    await live(world)
    (run,) = world.all(TRAINING_RUN)
    assert ready(run, "Succeeded") == (
        "False",
        "InvalidPipeline",
        "spec.pipeline: The Platform's engine is Local, which keeps no pipeline versions: set type S3 or Image.",
    )


async def test_the_contract_server_takes_it_and_ends_well() -> None:
    """Over HTTP, by the published models: the whole document, extra parameters and all."""
    spec = {"pipeline": FILE, "parameters": VALUES, "code": {"image": {"name": "runner:1"}}}
    async with KfpWorld.living(spec=spec) as world:
        world.artifacts.objects[KEY] = DATA
        await world.to_the_end()
        (execution,) = world.machinery.executed
        assert execution.arguments["learning_rate"] == 0.3
        assert set(execution.spec["components"]["comp-train"]["dag"]["tasks"]) == {"sample", "fit"}
        (run,) = world.all(TRAINING_RUN)
        assert ready(run, "Succeeded")[0] == "True"


# ---- out of an image -------------------------------------------------------------------------------------------------
IMAGE: dict[str, Any] = {"type": "Image", "image": {"name": "registry/pipelines:1", "path": "/flights.yaml"}}


async def until_copy(world: World, **pipeline: Any) -> Object:
    """A run whose data are there; gives the Job that is to copy its pipeline."""
    everything(world)
    world.put(MODEL_PROJECT, training(**IMAGE, **pipeline))
    month(world, 1)
    for _ in range(6):
        await world.settle()
        if found := world.jobs("copy-pipeline"):
            (job,) = found
            return job
        for job in world.jobs():
            play(world, job)
    raise AssertionError("nothing is copied")


def copied(world: World, job: Object, data: bytes = DATA) -> None:
    """What the Job does."""
    request = world.request_of(job)
    key = f"{request['prefix']}pipeline.yaml"
    world.artifacts.objects[key] = data
    world.end(job, CopyPipelineResult(key=key))


def copier(world: World, job: Object, **state: Any) -> None:
    """The container that copies is seen."""
    world.run(job)
    pod = next(each for each in world.all(POD) if each["metadata"]["name"].startswith(job["metadata"]["name"]))
    status = {"name": "copy", "image": IMAGE["image"]["name"], "state": state}
    world.api.put(POD, {**pod, "status": {"phase": "Pending", "initContainerStatuses": [status]}})
    world.sync()


def the_run(world: World) -> Object:
    (run,) = world.all(TRAINING_RUN)
    return run


async def test_a_pipeline_of_an_image_is_copied_once_and_run_by_jobs() -> None:
    world = World()
    job = await until_copy(world, digest=digest_bytes(DATA))
    assert ready(the_run(world), "Succeeded") == (
        "Unknown",
        "Progressing",
        f"Job {job['metadata']['name']} copies /flights.yaml out of image registry/pipelines:1.",
    )
    (owner,) = job["metadata"]["ownerReferences"]
    assert owner["uid"] == the_run(world)["metadata"]["uid"]
    assert await world.writes_of() == [], "a look while it works"
    world.restart()
    assert await world.writes_of() == [], "and one of another operator"
    copied(world, job)
    await live(world)
    run = the_run(world)
    assert ready(run, "Succeeded")[0] == "True", run["status"]
    assert run["status"]["ownPipelineDigest"] == digest_bytes(DATA)
    train = next(each for each in world.all(JOB) if each["metadata"]["labels"]["slipway.dev/stage"] == "train")
    kept = world.request_of(train)["ownPipeline"]
    assert world.artifacts.objects[kept["key"]] == DATA
    assert sum("-copy-pipeline-" in name for name in world.jobs_made) == 1


async def test_what_was_copied_outlives_its_job() -> None:
    world = World()
    job = await until_copy(world)
    copied(world, job)
    await world.delete(JOB, job["metadata"]["name"])
    world.restart()
    await live(world)
    assert ready(the_run(world), "Succeeded")[0] == "True"
    assert sum("-copy-pipeline-" in name for name in world.jobs_made) == 1


async def test_another_attempt_at_the_endpoint_copies_nothing_again() -> None:
    story = OwnStory(IMAGE)
    job = await until_copy(story.world)
    story.launcher()
    story.configure()
    copied(story.world, job)
    await story.look()
    first = story.submitted()
    assert story.status["ownPipelineDigest"] == digest_bytes(DATA)
    story.kfp.end(story.id(), "FAILED")
    await story.look(31)
    assert set(story.kfp.runs) == {story.id(1), story.id(2)}
    assert story.submitted() == first
    assert sum("-copy-pipeline-" in name for name in story.world.jobs_made) == 1


async def test_an_image_that_cannot_be_pulled_may_yet_come() -> None:
    world = World()
    job = await until_copy(world)
    copier(world, job, waiting={"reason": "ImagePullBackOff", "message": "no such manifest"})
    await world.settle()
    status, reason, message = ready(the_run(world), "Succeeded")
    assert (status, reason) == ("Unknown", "ImageUnavailable")
    assert message.startswith("Image registry/pipelines:1 cannot be pulled (ImagePullBackOff: no such manifest)")
    world.end(job, None, "Failed", "DeadlineExceeded")
    await world.settle()
    status, reason, message = ready(the_run(world), "Succeeded")
    assert (status, reason) == ("Unknown", "DeadlineExceeded")
    assert "cannot be pulled" in message
    assert "It is tried again at" in message
    world.advance(301)
    await world.settle()
    (again,) = world.jobs("copy-pipeline")
    assert again["metadata"]["uid"] != job["metadata"]["uid"]
    copied(world, again)
    await live(world)
    assert ready(the_run(world), "Succeeded")[0] == "True"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            {"exitCode": 1, "message": "cp: cannot stat '/flights.yaml'"},
            "spec.pipeline.image.path: /flights.yaml cannot",
        ),
        ({"exitCode": 128, "message": 'exec: "cp": executable file not found in $PATH'}, "spec.pipeline.image.name: "),
    ],
)
async def test_a_file_that_cannot_be_copied_ends_the_run_and_its_job(told: dict[str, Any], sentence: str) -> None:
    world = World()
    job = await until_copy(world)
    copier(world, job, terminated=told)
    await world.settle()
    run = the_run(world)
    status, reason, message = ready(run, "Succeeded")
    assert (run["status"]["phase"], status, reason) == ("Failed", "False", "InvalidPipeline")
    assert message.startswith(sentence)
    assert world.jobs("copy-pipeline") == [], "nothing goes on in vain"
    world.advance(3600)
    await world.settle()
    assert world.jobs("copy-pipeline") == []


async def test_what_the_job_refuses_ends_the_run() -> None:
    world = World()
    job = await until_copy(world)
    refusal = {"reason": "InvalidPipeline", "message": "spec.pipeline.image.path: it is too large."}
    world.end(job, CopyPipelineResult.model_validate({"refusal": refusal}))
    await world.settle()
    assert ready(the_run(world), "Succeeded") == ("False", refusal["reason"], refusal["message"])


@pytest.mark.parametrize(
    ("pipeline", "data", "sentence"),
    [
        ({"digest": "sha256:" + "0" * 64}, DATA, "spec.pipeline: The file has digest sha256:"),
        ({}, b"hello", "spec.pipeline: It has 1 YAML documents"),
    ],
)
async def test_what_was_copied_is_held_against_the_contract(
    pipeline: dict[str, Any], data: bytes, sentence: str
) -> None:
    world = World()
    copied(world, await until_copy(world, **pipeline), data)
    await world.settle()
    status, reason, message = ready(the_run(world), "Succeeded")
    assert (status, reason) == ("False", "InvalidPipeline")
    assert message.startswith(sentence)


async def test_a_copy_that_is_gone_from_the_store_is_made_again() -> None:
    world = World()
    job = await until_copy(world)
    copied(world, job)
    del world.artifacts.objects[f"{world.request_of(job)['prefix']}pipeline.yaml"]
    await world.settle()
    assert "left no result" in ready(the_run(world), "Succeeded")[2]
    world.advance(301)
    await world.settle()
    (again,) = world.jobs("copy-pipeline")
    copied(world, again)
    await live(world)
    assert ready(the_run(world), "Succeeded")[0] == "True"
