"""Runs at a pipelines endpoint, from a TrainingRun to its ModelVersion, and what happens when things go wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from unit.controllers.things import PROJECT, everything, live, month, pool, registered
from unit.controllers.world import NS, World, ready
from unit.kfp.double import MemoryEndpoint

from slipway.adapters.kfp.runs import run_id
from slipway.contracts.jobs import Refusal, RegisterResult
from slipway.controllers import pipeline_digest
from slipway.runtime.resources import (
    COMPUTE_POOL,
    CONFIG_MAP,
    KFP_PIPELINE,
    KFP_PIPELINE_VERSION,
    MODEL_PROJECT,
    MODEL_VERSION,
    NAMESPACE,
    PLATFORM,
    POD,
    SECRET,
    TRAINING_RUN,
    WORKFLOW,
    Object,
)

STORE_KEYS = ("accessKey", "secretKey")
FEAST_KEYS = ("host", "port", "database", "username", "password")
PROVIDERS = """
s3:
  default:
    endpoint: s3.local:8333
    disableSSL: true
    region: us-east-1
    credentials: {fromEnv: false, secretRef: {secretName: kfp-store, accessKeyKey: a, secretKeyKey: b}}
"""


class Story:
    """A world with an endpoint, a project that trains there, and its one run."""

    def __init__(self) -> None:
        self.kfp = MemoryEndpoint()
        self.world = World(self.kfp)

    async def begin(self, **kfp: Any) -> Story:
        """Until the run is handed over, or is not for a reason."""
        world = self.world
        everything(world)
        self.launcher()
        self.configure(**kfp)
        month(world, 1)
        await live(world)
        await self.look()
        return self

    def launcher(self, providers: str = PROVIDERS) -> None:
        meta = {"name": "kfp-launcher", "namespace": NS}
        self.world.put(CONFIG_MAP, {"metadata": meta, "data": {"providers": providers}})
        self.world.put(SECRET, {"metadata": {"name": "kfp-store", "namespace": NS}, "data": {"a": "eA==", "b": "eA=="}})

    def configure(self, **kfp: Any) -> None:
        spec = copy.deepcopy(self.world.get(PLATFORM, "default"))["spec"]
        spec["pipelines"] = {
            "engine": "KubeflowPipelines",
            "kubeflowPipelines": {"endpoint": "http://kfp.kubeflow:8888", **kfp},
        }
        self.world.put(PLATFORM, {"metadata": {"name": "default"}, "spec": spec})

    async def look(self, seconds: float = 0) -> Object:
        """Time passes and everything is looked at until nothing changes."""
        self.world.advance(seconds)
        await self.world.settle()
        return self.run

    @property
    def run(self) -> Object:
        (run,) = self.world.all(TRAINING_RUN)
        return run

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.run["status"])

    def kfp_run(self) -> dict[str, Any]:
        (run,) = self.kfp.runs.values()
        return run

    def id(self, attempt: int = 1) -> str:
        return run_id(self.run["metadata"]["uid"], attempt)

    def succeeded(self) -> tuple[str, str, str]:
        return ready(self.run, "Succeeded")

    def parameters(self, attempt: int = 1) -> dict[str, Any]:
        found = self.kfp.runs[self.id(attempt)]["runtime_config"]["parameters"]
        return {name: json.loads(text) for name, text in found.items()}

    def register(self, attempt: int = 1) -> None:
        """The judge's last task writes its answer where it was told to."""
        asked = self.parameters(attempt)
        request = {**asked["data"], **asked["code"], **asked["goals"], **asked["run"]}
        self.world.artifacts.write(asked["run"]["result"], registered(request))

    def pod(self, task: str, attempt: int = 1, **status: Any) -> None:
        labels = {"app.kubernetes.io/managed-by": "slipway", "pipeline/runid": self.id(attempt)}
        meta = {"name": f"run-{task}", "namespace": NS, "labels": labels}
        self.world.api.put(POD, {"metadata": meta, "status": status})
        self.world.sync()

    def workflow(self, phase: str, attempt: int = 1, **more: Any) -> None:
        meta = {"name": "slipway-training-x1", "namespace": NS, "labels": {"pipeline/runid": self.id(attempt)}}
        self.world.api.put(WORKFLOW, {"metadata": meta, "spec": {}, "status": {"phase": phase}, **more})
        self.world.sync()

    async def without_workflow(self) -> None:
        await self.world.api.delete(WORKFLOW.key("slipway-training-x1", NS))
        self.world.sync()


@pytest.fixture
async def story() -> Story:
    return await Story().begin()


def terminated(reason: str = "Error", code: int = 1, message: str = "") -> dict[str, Any]:
    ended = {"reason": reason, "exitCode": code, "message": message}
    return {"phase": "Failed", "containerStatuses": [{"name": "main", "state": {"terminated": ended}}]}


async def test_a_run_is_handed_over_once_and_its_result_recorded(story: Story) -> None:
    assert list(story.kfp.runs) == [story.id()]
    assert story.succeeded()[:2] == ("Unknown", "Running")
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    story.workflow("Running")
    story.kfp.tasks(story.id(), produce="RUNNING", features="SUCCEEDED", train_driver="SUCCEEDED", train="RUNNING")
    status = (await story.look())["status"]
    assert (status["phase"], status["stage"], status["progressPercent"]) == ("Running", "Training", 50)
    assert status["pipelineRun"] == {
        "id": story.id(),
        "endpoint": "http://kfp.kubeflow:8888",
        "namespace": NS,
        "state": "RUNNING",
        "recorded": True,
        "workflow": "slipway-training-x1",
        "artifacts": f"s3://slipway/kfp/{NS}/{story.run['metadata']['uid']}/1",
    }
    story.register()
    assert (await story.look())["status"]["phase"] == "Running", "its answer counts when it has ended"
    story.kfp.end(story.id(), "SUCCEEDED")
    status = (await story.look())["status"]
    assert (status["phase"], status["stage"], status["progressPercent"]) == ("Succeeded", "Done", 100)
    assert status["pipelineDigest"] == pipeline_digest()
    (version,) = story.world.all(MODEL_VERSION)
    assert status["modelVersion"] == version["metadata"]["name"]
    assert len(story.kfp.writes()) == 4  # experiment, pipeline, version, run
    assert await story.world.writes_of() == []


async def test_a_steady_run_writes_nothing(story: Story) -> None:
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    story.workflow("Running")
    await story.look()
    before = len(story.kfp.writes())
    assert await story.world.writes_of() == []
    assert len(story.kfp.writes()) == before


async def test_what_is_submitted(story: Story) -> None:
    run = story.kfp.runs[story.id()]
    assert run["runtime_config"]["pipeline_root"] == f"s3://slipway/kfp/{NS}/{story.run['metadata']['uid']}/1"
    assert next(iter(story.kfp.experiments.values()))["display_name"] == f"{NS}.{PROJECT}"
    (version,) = story.kfp.versions.values()
    text = version["text"]
    begin, end = text.index("components:"), text.rindex("\r\n--slipway-")
    spec, platform = yaml.safe_load_all(text[begin:end])
    assert version["display_name"].startswith(pipeline_digest().removeprefix("sha256:")[:10])
    images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
    assert images == {story.run["spec"]["code"]["image"]["name"]}
    assert set(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]) == set(
        spec["deploymentSpec"]["executors"]
    )
    assert story.parameters()["run"]["result"].startswith(f"jobs/{NS}/")


async def test_the_same_pipeline_is_uploaded_once(story: Story) -> None:
    story.kfp.end(story.id(), "FAILED")
    await story.look(31)
    assert set(story.kfp.runs) == {story.id(1), story.id(2)}
    assert len(story.kfp.versions) == len(story.kfp.pipelines) == len(story.kfp.experiments) == 1


async def test_a_restart_finds_the_run(story: Story) -> None:
    story.world.restart()
    run = copy.deepcopy(story.run)
    run["status"] = {}
    story.world.api.put(TRAINING_RUN, run)
    story.world.sync()
    await story.look()
    assert len(story.kfp.runs) == 1
    assert story.status["pipelineRun"]["id"] == story.id()


async def test_an_answer_that_never_came_makes_no_second_run() -> None:
    story = Story()
    story.kfp.swallow = True
    await story.begin()
    story.kfp.swallow = False
    await story.look(1)
    await story.look(60)
    assert len(story.kfp.runs) == 1
    assert story.kfp.writes().count("/runs") == 1


async def test_nothing_is_created_beside_a_workflow_without_a_record(story: Story) -> None:
    del story.kfp.runs[story.id()]
    run = copy.deepcopy(story.run)
    run["status"]["pipelineRun"]["recorded"] = False
    story.world.api.put(TRAINING_RUN, run)
    story.workflow("Running")
    await story.look()
    assert story.kfp.runs == {}
    assert "its Workflow runs" in story.succeeded()[2]
    await story.without_workflow()
    await story.look(21)  # an operator before this one may have asked a moment ago
    assert list(story.kfp.runs) == [story.id()]


async def test_a_workflow_without_a_record_that_ends_well_counts(story: Story) -> None:
    story.register()
    del story.kfp.runs[story.id()]
    story.workflow("Succeeded")
    assert (await story.look())["status"]["phase"] == "Succeeded"


async def test_a_finished_run_that_was_cleared_away_still_counts(story: Story) -> None:
    await story.look()
    story.register()
    del story.kfp.runs[story.id()]
    assert (await story.look())["status"]["phase"] == "Succeeded"


async def test_a_run_that_somebody_deleted_is_cancelled(story: Story) -> None:
    await story.look()
    assert story.status["pipelineRun"]["recorded"]
    del story.kfp.runs[story.id()]
    await story.look()
    assert story.status["phase"] == "Failed"
    assert story.succeeded()[1] == "Cancelled"
    await story.look(3600)
    assert story.kfp.runs == {}


async def test_a_run_of_another_endpoint_is_not_taken_for_deleted(story: Story) -> None:
    await story.look()
    story.configure(endpoint="http://another.kubeflow:8888")
    there = story.kfp.runs.pop(story.id())
    await story.look()
    assert (story.status["phase"], story.succeeded()[1]) == ("Pending", "EngineNotAvailable")
    assert "handed to http://kfp.kubeflow:8888" in story.succeeded()[2]
    assert story.kfp.runs == {}
    story.configure()
    story.kfp.runs[story.id()] = {**there, "state": "SUCCEEDED"}
    story.register()
    assert (await story.look())["status"]["phase"] == "Succeeded"


async def test_an_endpoint_that_was_wrong_may_be_corrected() -> None:
    story = Story()
    story.kfp.down = True
    await story.begin(endpoint="http://wrong.kubeflow:8888")
    await story.look(60)
    story.kfp.down = False
    story.configure()
    await story.look(60)
    assert list(story.kfp.runs) == [story.id()]
    assert story.status["pipelineRun"]["endpoint"] == "http://kfp.kubeflow:8888"


async def test_a_run_that_somebody_ended_is_cancelled(story: Story) -> None:
    story.kfp.runs[story.id()]["state_history"] = [{"state": "RUNNING"}, {"state": "CANCELING"}]
    story.kfp.end(story.id(), "FAILED")
    await story.look()
    assert (story.status["phase"], story.succeeded()[1]) == ("Failed", "Cancelled")


async def test_deleting_a_run_ends_it_first(story: Story) -> None:
    identity, uid = story.id(), story.run["metadata"]["uid"]
    story.kfp.runs[identity]["state"] = "RUNNING"
    await story.world.delete(TRAINING_RUN, story.run["metadata"]["name"])
    await story.look()
    assert story.kfp.runs[identity]["state"] == "CANCELING"
    assert story.run["metadata"]["uid"] == uid, "it goes when the run has ended"
    story.kfp.end(identity, "FAILED")
    await story.look()
    assert uid not in [each["metadata"]["uid"] for each in story.world.all(TRAINING_RUN)]


async def test_a_run_whose_create_is_in_doubt_is_not_left_behind() -> None:
    story = Story()
    story.kfp.swallow = True
    await story.begin()
    for _ in range(4):  # experiment, pipeline and version are there each time that it looks again
        await story.look(1)
    identity, uid = story.id(), story.run["metadata"]["uid"]
    there = story.kfp.runs.pop(identity)  # the request is still on its way
    story.kfp.swallow = False
    await story.world.delete(TRAINING_RUN, story.run["metadata"]["name"])
    await story.world.reconcile(TRAINING_RUN.key_of(story.run))
    assert story.run["metadata"]["uid"] == uid
    story.kfp.runs[identity] = there
    await story.look(1)
    assert story.kfp.runs[identity]["state"] == "CANCELING"
    story.kfp.end(identity, "FAILED")
    await story.look(30)
    assert uid not in [each["metadata"]["uid"] for each in story.world.all(TRAINING_RUN)]


async def test_after_its_deadline_a_run_is_ended_and_the_reason_kept(story: Story) -> None:
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    story.workflow("Running")
    await story.look(2 * 3600 + 1)
    assert story.status["pipelineRun"]["ending"]["reason"] == "DeadlineExceeded"
    assert story.kfp.runs[story.id()]["state"] == "CANCELING"
    assert story.status["phase"] == "Running"
    story.kfp.end(story.id(), "FAILED")
    await story.look()
    assert (story.status["phase"], story.succeeded()[1]) == ("Failed", "DeadlineExceeded")


async def test_the_intent_is_written_before_the_endpoint_is_told(story: Story) -> None:
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    story.workflow("Running")
    story.world.advance(2 * 3600 + 1)
    await story.world.reconcile(TRAINING_RUN.key_of(story.run))
    assert story.status["pipelineRun"]["ending"]
    assert story.kfp.runs[story.id()]["state"] == "RUNNING"


async def test_user_code_is_not_tried_again(story: Story) -> None:
    told = json.dumps({"reason": "TrainingCodeFailed", "message": "ValueError in train.py:3", "userCode": True})
    story.pod("train", **terminated(message=told))
    story.kfp.end(story.id(), "FAILED")
    await story.look(3600)
    assert len(story.kfp.runs) == 1
    assert story.succeeded() == ("False", "TrainingCodeFailed", "ValueError in train.py:3")


async def test_a_preempted_run_is_tried_more_often(story: Story) -> None:
    for attempt in range(1, 6):
        story.pod("train", attempt, phase="Failed", reason="Evicted", message="the node had no memory")
        story.kfp.end(story.id(attempt), "FAILED")
        await story.look(300 * attempt)
    assert len(story.kfp.runs) == 6
    assert story.status["attempt"] == 6


async def test_attempts_are_numbered_and_end(story: Story) -> None:
    for attempt in (1, 2, 3):
        story.kfp.tasks(story.id(attempt), features_driver="FAILED")
        story.kfp.end(story.id(attempt), "FAILED", "2026-11-23T08:00:00Z")
        await story.look(200)
    assert len(story.kfp.runs) == 3
    assert (story.status["phase"], story.status["attempt"]) == ("Failed", 3)
    assert story.succeeded()[1] == "PipelineTaskFailed"
    assert "kfp-launcher" in story.succeeded()[2]


async def test_an_image_that_cannot_be_pulled_is_named_while_it_waits(story: Story) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    statuses = [{"name": "main", "image": "team/code:1", "state": {"waiting": waiting}}]
    story.pod("train", phase="Pending", containerStatuses=statuses)
    await story.look()
    assert story.succeeded()[1] == "ImageUnavailable"
    assert "team/code:1" in story.succeeded()[2]


async def test_a_run_whose_workflow_vanished_is_tried_again(story: Story) -> None:
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    story.workflow("Running")
    await story.look()
    await story.without_workflow()
    await story.look()
    assert story.status["pipelineRun"]["missingSince"]
    await story.look(61)
    assert set(story.kfp.runs) == {story.id(1), story.id(2)}
    assert story.status["attempt"] == 2


async def test_a_run_whose_workflow_was_never_seen_is_left_alone(story: Story) -> None:
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    await story.look()
    await story.look(3600)
    assert "missingSince" not in story.status["pipelineRun"]
    assert list(story.kfp.runs) == [story.id()]


async def test_an_outage_changes_nothing(story: Story) -> None:
    story.kfp.down = True
    await story.look(600)
    assert story.succeeded()[1] == "EndpointUnavailable"
    story.kfp.down = False
    story.register()
    story.kfp.end(story.id(), "SUCCEEDED")
    assert (await story.look())["status"]["phase"] == "Succeeded"
    assert len(story.kfp.runs) == 1


async def test_a_refused_token_is_a_condition() -> None:
    story = Story()
    story.kfp.forbidden = True
    await story.begin()
    assert story.succeeded()[1] == "EndpointRefused"
    (pipelines,) = [
        each for each in story.world.get(PLATFORM, "default")["status"]["connections"] if each["name"] == "pipelines"
    ]
    assert not pipelines["ready"]
    assert "wants a token (401: there is no user identity header)" in pipelines["message"]


@pytest.mark.parametrize(
    ("providers", "said"),
    [
        ("", "has no s3 in data.providers"),
        ("s3: [", "no YAML"),
        (PROVIDERS.replace("disableSSL: true", "disableSSL: false"), "disableSSL is not true"),
        (PROVIDERS.replace("kfp-store", "other"), "Secret flights/other has no a, b"),
    ],
)
async def test_a_launcher_that_cannot_reach_the_store_is_a_condition(providers: str, said: str) -> None:
    story = Story()
    everything(story.world)
    story.configure()
    story.launcher(providers)
    month(story.world, 1)
    await live(story.world)
    assert story.kfp.runs == {}
    assert story.succeeded()[1] == "LauncherMisconfigured"
    assert said in story.succeeded()[2]
    story.launcher()
    await story.look(60)
    assert list(story.kfp.runs) == [story.id()]


async def test_a_run_stays_with_its_engine(story: Story) -> None:
    spec = copy.deepcopy(story.world.get(PLATFORM, "default"))["spec"]
    del spec["pipelines"]
    story.world.put(PLATFORM, {"metadata": {"name": "default"}, "spec": spec})
    await story.look()
    assert story.status["engine"] == "KubeflowPipelines"
    assert story.succeeded()[1] == "EngineNotAvailable"
    assert story.world.jobs("train") == []


async def test_a_refusal_of_the_judge_is_the_runs(story: Story) -> None:
    result = RegisterResult(refusal=Refusal(reason="DigestMismatch", message="another training set"))
    story.world.artifacts.write(story.parameters()["run"]["result"], result)
    story.kfp.end(story.id(), "FAILED")
    await story.look()
    assert story.succeeded() == ("False", "DigestMismatch", "another training set")


async def test_pipelines_are_objects_where_the_endpoint_keeps_them_so() -> None:
    story = await Story().begin(definitions="Kubernetes")
    run = story.kfp_run()
    assert story.kfp.versions == {}
    (pipeline,), (version,) = story.world.all(KFP_PIPELINE), story.world.all(KFP_PIPELINE_VERSION)
    assert pipeline["metadata"]["name"] == f"{NS}.{PROJECT}"
    assert version["metadata"]["ownerReferences"][0]["uid"] == pipeline["metadata"]["uid"]
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    assert version["spec"]["pipelineSpec"]["pipelineInfo"]["name"] == "slipway-training"
    assert set(version["spec"]["platformSpec"]) == {"platforms"}
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["metadata"]["uid"],
        "pipeline_version_id": version["metadata"]["uid"],
    }


async def test_a_shared_namespace_has_the_pods_and_secrets() -> None:
    story = Story()
    story.kfp.multi_user = False
    everything(story.world)
    story.configure(namespace={"policy": "Shared", "shared": {"name": "kubeflow"}})
    month(story.world, 1)
    await live(story.world)
    assert story.succeeded()[1] == "LauncherMisconfigured"
    assert "ConfigMap kubeflow/kfp-launcher" in story.succeeded()[2]
    meta = {"name": "kfp-launcher", "namespace": "kubeflow"}
    own = PROVIDERS.replace("secretRef: {secretName: kfp-store, accessKeyKey: a, secretKeyKey: b}", "x: 1")
    story.world.put(CONFIG_MAP, {"metadata": meta, "data": {"providers": own.replace("false", "true")}})
    story.world.put(NAMESPACE, {"metadata": {"name": "kubeflow"}})
    for name, keys in (("slipway-s3", STORE_KEYS), ("slipway-feast", FEAST_KEYS)):
        meta = {"name": name, "namespace": "kubeflow"}
        story.world.put(SECRET, {"metadata": meta, "data": dict.fromkeys(keys, "eA==")})
    await story.look(60)
    (run,) = story.kfp.runs.values()
    assert story.status["pipelineRun"]["namespace"] == "kubeflow"
    assert "namespace" not in next(iter(story.kfp.experiments.values()))
    (version,) = story.kfp.versions.values()
    assert "secretName: slipway-s3" in version["text"]
    assert f"{PROJECT}-slipway" not in version["text"]
    (pipelines,) = [
        each for each in story.world.get(PLATFORM, "default")["status"]["connections"] if each["name"] == "pipelines"
    ]
    assert pipelines == {"name": "pipelines", "ready": True, "message": "http://kfp.kubeflow:8888 answers."}
    assert run["runtime_config"]["pipeline_root"].startswith("s3://slipway/kfp/flights/")


async def test_a_policy_that_does_not_fit_the_endpoint_is_said() -> None:
    story = Story()
    everything(story.world)
    story.configure(namespace={"policy": "Shared", "shared": {"name": "kubeflow"}})
    await story.world.settle()
    assert "set Project" in ready(story.world.get(PLATFORM, "default"))[2]
    story.kfp.multi_user = False
    story.configure()
    story.world.advance(60)
    await story.world.settle()
    assert "set Shared" in ready(story.world.get(PLATFORM, "default"))[2]


async def test_a_run_that_cannot_run_there_fails_with_a_sentence() -> None:
    story = Story()
    everything(story.world)
    story.launcher()
    story.configure()
    project = copy.deepcopy(story.world.get(MODEL_PROJECT, PROJECT))
    project["spec"]["training"]["resources"] = {"limits": {"hugepages-2Mi": "1Gi"}}
    story.world.put(MODEL_PROJECT, project)
    month(story.world, 1)
    await live(story.world)
    assert (story.status["phase"], story.succeeded()[1]) == ("Failed", "InvalidSpec")
    assert story.kfp.runs == {}


async def test_a_run_at_the_endpoint_holds_units_of_its_pool() -> None:
    story = Story()
    everything(story.world)
    story.world.put(COMPUTE_POOL, pool(quota={"perProject": 1}))
    project = copy.deepcopy(story.world.get(MODEL_PROJECT, PROJECT))
    project["spec"]["training"]["poolRef"] = {"name": "gpu"}
    story.world.put(MODEL_PROJECT, project)
    story.launcher()
    story.configure()
    month(story.world, 1)
    await live(story.world)
    await story.look()
    assert len(story.kfp.runs) == 1
    assert story.world.get(COMPUTE_POOL, "gpu")["status"]["inUse"] == 1
    month(story.world, 2)
    story.world.advance(61)
    await live(story.world)
    assert len(story.world.all(TRAINING_RUN)) == 2
    assert len(story.kfp.runs) == 1
    waiting = story.world.all(TRAINING_RUN)[1]
    assert ready(waiting, "Succeeded")[1] == "WaitingForPool"


async def test_a_run_that_was_ended_between_two_looks_is_cancelled_though_nobody_sees_workflows(story: Story) -> None:
    """The endpoint forgets in its state that somebody ended it; its Workflow, as it kept it, does not."""
    story.kfp.runs[story.id()]["state"] = "RUNNING"
    await story.look()
    story.kfp.manifests[story.id()] = {"spec": {"activeDeadlineSeconds": 0}, "status": {"phase": "Failed"}}
    story.kfp.end(story.id(), "FAILED")
    await story.look(31)
    assert story.succeeded()[:2] == ("False", "Cancelled")
    assert list(story.kfp.runs) == [story.id()], "it is not tried again"


async def test_a_failure_is_explained_by_the_workflow_that_the_endpoint_kept(story: Story) -> None:
    node = {"type": "Pod", "phase": "Failed", "displayName": "train", "message": "OOMKilled (exit code 137)"}
    story.kfp.manifests[story.id()] = {"spec": {}, "status": {"phase": "Failed", "nodes": {"a": node}}}
    story.kfp.end(story.id(), "FAILED")
    await story.look()
    assert story.succeeded()[:2] == ("False", "OutOfMemory")
    assert "workflow" not in story.status["pipelineRun"], "none of this cluster"


async def test_a_workflow_of_the_cluster_goes_before_the_one_that_the_endpoint_kept(story: Story) -> None:
    story.kfp.manifests[story.id()] = {"spec": {"activeDeadlineSeconds": 0}}
    story.workflow("Failed")
    story.kfp.end(story.id(), "FAILED")
    await story.look(31)
    assert set(story.kfp.runs) == {story.id(1), story.id(2)}, "it failed, and was not ended"
