"""Controllers on a real API server with a real S3 store: what they write is accepted, and they come to an end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cluster.controllers.conftest import Cluster
from unit.controllers.things import PROJECT, dataset, ingested, pool, project
from unit.controllers.world import ready

from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import CopyPipelineResult
from slipway.controllers import all_controllers
from slipway.controllers.computepool.controller import NODE
from slipway.runtime.controller import Controller
from slipway.runtime.resources import (
    COMPUTE_POOL,
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    JOB,
    MODEL_PROJECT,
    MODEL_VERSION,
    NAMESPACE,
    PLATFORM,
    POD,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    TRAINING_RUN,
    Object,
    ResourceType,
)
from slipway.runtime.settings import Settings

pytestmark = pytest.mark.timeout(240)

Eventually = Callable[..., Awaitable[Any]]
MINE = {
    "PlatformController",
    "ComputePoolController",
    "ModelProjectController",
    "DatasetController",
    "DatasetVersionController",
    "FeatureSetController",
    "TrainingRunController",
    "ModelVersionController",
}
PATIENCE = 60
OWN = Path(__file__).parents[2] / "unit" / "kfp" / "own-pipeline.yaml"


def controllers() -> Sequence[Controller[Any]]:
    """Fresh ones, as another process would have."""
    return [each for each in all_controllers(Settings()) if type(each).__name__ in MINE]


@contextlib.asynccontextmanager
async def kubelet(cluster: Cluster) -> AsyncIterator[None]:
    """Jobs are played as long as this lasts."""
    task = asyncio.create_task(cluster.play_all())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest_asyncio.fixture
async def base(cluster: Cluster, start_operator: Any, eventually: Eventually) -> Any:
    """An operator, and a Platform that answers."""
    operator = await start_operator(controllers())
    await cluster.platform()
    await eventually(lambda: _is(cluster, PLATFORM, "default", "True"), PATIENCE)
    return operator


async def _is(cluster: Cluster, type_: ResourceType, name: str, status: str, reason: str = "") -> Object | None:
    obj = await cluster.get(type_, name)
    state = ready(obj, "Succeeded" if type_ == TRAINING_RUN else "Ready")
    return obj if state[0] == status and reason in ("", state[1]) else None


async def one(cluster: Cluster, type_: ResourceType) -> Object | None:
    found = await cluster.all(type_)
    return found[0] if found else None


async def test_from_data_to_a_version_and_then_no_write(cluster: Cluster, base: Any, eventually: Eventually) -> None:
    assert await cluster.bucket.exists(), "the Platform's bucket is made"
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    async with kubelet(cluster):
        await cluster.team()
        version = await eventually(lambda: one(cluster, MODEL_VERSION), PATIENCE)
        await eventually(lambda: _is(cluster, MODEL_VERSION, version["metadata"]["name"], "True", "Passed"), PATIENCE)
        await eventually(lambda: _passing(cluster, version["metadata"]["name"]), PATIENCE)
    (run,) = await cluster.all(TRAINING_RUN)
    assert run["status"]["phase"] == "Succeeded"
    assert run["status"]["modelVersion"] == version["metadata"]["name"]
    assert version["metadata"].get("ownerReferences") is None, "a record belongs to nobody"
    jobs = {job["metadata"]["labels"]["slipway.dev/stage"] for job in await cluster.all(JOB)}
    assert jobs == {"ingest", "features", "train", "judge"}
    copies = {each["metadata"]["name"]: each for each in await cluster.all(SECRET)}
    notes = copies[f"{PROJECT}-slipway-s3"]["metadata"]["annotations"]
    assert notes["serving.kserve.io/s3-usehttps"] == "0"
    accounts = {each["metadata"]["name"] for each in await cluster.all(SERVICE_ACCOUNT)}
    assert accounts >= {f"{PROJECT}-slipway-job", f"{PROJECT}-slipway-model"}

    async def at_rest() -> bool:
        before = _writes(base)
        await asyncio.sleep(4)  # the source is listed every second meanwhile
        return _writes(base) == before

    await eventually(at_rest, PATIENCE)


def _writes(operator: Any) -> dict[tuple[str, str, str], float]:
    """Writes so far, without the Lease's renewals."""
    return {key: value for key, value in operator.metrics.write_requests().items() if not key[1].startswith("leases")}


async def _passing(cluster: Cluster, version: str) -> bool:
    status = (await cluster.get(MODEL_PROJECT, PROJECT)).get("status") or {}
    return bool(status.get("passingVersion") == version and status.get("phase") == "Testing")


async def confined(cluster: Cluster, job: Object) -> Object:
    """The pod of a Job, which a namespace with restricted Pod Security took."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await cluster.client.merge(NAMESPACE.key(cluster.namespace), {"metadata": {"labels": labels}})
    template = job["spec"]["template"]
    template["spec"].pop("serviceAccountName")  # nothing here makes tokens or accounts for admission to look at
    template["spec"].pop("serviceAccount", None)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    account["metadata"]["namespace"] = cluster.namespace  # type: ignore[index]
    await cluster.client.apply(SERVICE_ACCOUNT, account)
    meta = {"name": "probe", "namespace": cluster.namespace, "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    return await cluster.client.create(POD, pod)


@pytest.mark.usefixtures("base")
async def test_jobs_pass_restricted_pod_security(cluster: Cluster, eventually: Eventually) -> None:
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    await cluster.team()
    job = await eventually(lambda: one(cluster, JOB), PATIENCE)
    made = await confined(cluster, job)
    assert made["spec"]["automountServiceAccountToken"] is False


@pytest.mark.usefixtures("base")
async def test_a_poisoned_month_is_blocked_and_the_good_one_stays(cluster: Cluster, eventually: Eventually) -> None:
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    async with kubelet(cluster):
        await cluster.team()
        await eventually(lambda: _is(cluster, DATASET, "flights", "True"), PATIENCE)
        await eventually(lambda: one(cluster, MODEL_VERSION), PATIENCE)
    good = (await cluster.get(DATASET, "flights"))["status"]["currentVersion"]
    await cluster.bucket.write("raw/flights/02.parquet", b"poison")
    (job,) = await eventually(cluster.jobs, PATIENCE)
    result = ingested(await cluster.request_of(job), broken="count(*) is 3, expected more than 100.")
    await cluster.bucket.write(result.report or "", b"{}")
    await cluster.end(job, result)
    found = await eventually(lambda: _is(cluster, DATASET, "flights", "False", "QualityRulesBroken"), PATIENCE)
    assert found["status"]["currentVersion"] == good
    rolled_up = await eventually(lambda: _is(cluster, MODEL_PROJECT, PROJECT, "False", "QualityRulesBroken"), PATIENCE)
    assert "count(*) is 3" in ready(rolled_up)[2]
    assert len(await cluster.all(TRAINING_RUN)) == 1


async def test_another_operator_goes_on_where_one_ended(
    cluster: Cluster, start_operator: Any, eventually: Eventually
) -> None:
    """Each stage is ended by another operator than the one that began it; nothing is made twice."""
    operator = await start_operator(controllers())
    await cluster.platform()
    await eventually(lambda: _is(cluster, PLATFORM, "default", "True"), PATIENCE)
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    await cluster.team()
    for stage in ("ingest", "features", "train", "judge"):
        (job,) = await eventually(cluster.jobs, PATIENCE)
        assert job["metadata"]["labels"]["slipway.dev/stage"] == stage
        operator.stop()
        operator = await start_operator(controllers())
        await cluster.play(job)
    await eventually(lambda: one(cluster, MODEL_VERSION), PATIENCE)
    assert len(await cluster.all(JOB)) == 4


async def test_a_pipeline_comes_out_of_an_image_once_though_every_operator_ends(
    cluster: Cluster, start_operator: Any, eventually: Eventually
) -> None:
    operator = await start_operator(controllers())
    await cluster.platform()
    await eventually(lambda: _is(cluster, PLATFORM, "default", "True"), PATIENCE)
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    await cluster.team()
    brought = project()
    brought["spec"]["training"] |= {
        "pipeline": {"type": "Image", "image": {"name": "pipelines:1", "path": "/flights.yaml"}},
        "parameters": {"learning_rate": 0.3},
    }
    await cluster.apply(MODEL_PROJECT, brought)
    for stage in ("ingest", "features", "copy-pipeline", "train", "judge"):
        (job,) = await eventually(cluster.jobs, PATIENCE)
        assert job["metadata"]["labels"]["slipway.dev/stage"] == stage
        operator.stop()
        operator = await start_operator(controllers())
        if stage == "copy-pipeline":
            await confined(cluster, job)
            key = f"{(await cluster.request_of(job))['prefix']}pipeline.yaml"
            await cluster.bucket.write(key, OWN.read_bytes())
            await cluster.end(job, CopyPipelineResult(key=key))
        else:
            await cluster.play(job)
    await eventually(lambda: one(cluster, MODEL_VERSION), PATIENCE)
    (run,) = await cluster.all(TRAINING_RUN)
    assert run["status"]["ownPipelineDigest"] == digest_bytes(OWN.read_bytes())
    assert len(await cluster.all(JOB)) == 5


@pytest.mark.usefixtures("base")
async def test_deletion_policy_delete_removes_records_and_data(cluster: Cluster, eventually: Eventually) -> None:
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    async with kubelet(cluster):
        await cluster.team(deletionPolicy="Delete")
        await eventually(lambda: one(cluster, MODEL_VERSION), PATIENCE)
        assert await cluster.bucket.keys(f"datasets/{cluster.namespace}/flights/")
        await cluster.client.delete(DATASET.key("flights", cluster.namespace))
        await eventually(lambda: _none(cluster, DATASET), PATIENCE)
        assert await cluster.all(DATASET_VERSION) == []
        assert await cluster.bucket.keys(f"datasets/{cluster.namespace}/flights/") == []
        await cluster.client.delete(FEATURE_SET.key("history", cluster.namespace))
        await eventually(lambda: _none(cluster, FEATURE_SET), PATIENCE)
    assert len(await cluster.all(MODEL_VERSION)) == 1, "its own policy is Retain"


async def _none(cluster: Cluster, type_: ResourceType) -> bool:
    return not await cluster.all(type_)


@pytest.mark.usefixtures("base")
async def test_a_project_deleted_first_leaves_records_and_ends(cluster: Cluster, eventually: Eventually) -> None:
    await cluster.bucket.write("raw/flights/01.parquet", b"january")
    async with kubelet(cluster):
        await cluster.team(deletionPolicy="Delete")
        await eventually(lambda: one(cluster, MODEL_VERSION), PATIENCE)
    await cluster.client.delete(MODEL_PROJECT.key(PROJECT, cluster.namespace))
    await eventually(lambda: _is(cluster, DATASET, "flights", "False", "ProjectMissing"), PATIENCE)
    await eventually(lambda: _is(cluster, FEATURE_SET, "history", "False", "ProjectMissing"), PATIENCE)
    assert len(await cluster.all(DATASET_VERSION)) == 1
    await cluster.client.delete(DATASET.key("flights", cluster.namespace))
    await eventually(lambda: _none(cluster, DATASET), PATIENCE)  # without a Job: Slipway deletes the data itself
    assert await cluster.bucket.keys(f"datasets/{cluster.namespace}/flights/") == []
    assert len(await cluster.all(MODEL_VERSION)) == 1


@pytest.mark.usefixtures("base")
async def test_pools_count_admit_and_make_wait(cluster: Cluster, eventually: Eventually) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1", "labels": {"slipway.dev/pool": "gpu"}}}
    await cluster.client.apply(NODE, node)
    status = {"allocatable": {"nvidia.com/gpu": "4"}, "capacity": {"nvidia.com/gpu": "4"}}
    await cluster.client.merge(NODE.key("gpu-1"), {"status": status}, "status")
    try:
        selector = {"matchLabels": {"ml": "yes"}}
        tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        spec = {
            "nodeSelector": {"slipway.dev/pool": "gpu"},
            "quota": {"perProject": 2},
            "tolerations": tolerations,
        }
        await cluster.apply(COMPUTE_POOL, pool(**spec, allowedNamespaces={"selector": selector}))
        found = await eventually(lambda: _is(cluster, COMPUTE_POOL, "gpu", "True"), PATIENCE)
        assert (found["status"]["nodes"], found["status"]["capacity"], found["status"]["inUse"]) == (1, "4", 0)
        await cluster.bucket.write("raw/flights/01.parquet", b"january")
        training = {**project()["spec"]["training"], "featureSetRefs": [], "poolRef": {"name": "gpu"}}
        await cluster.apply(MODEL_PROJECT, project(training=training))
        await cluster.apply(DATASET, dataset(pollInterval="1s"))
        (job,) = await eventually(cluster.jobs, PATIENCE)
        await cluster.play(job)
        run = await eventually(lambda: one(cluster, TRAINING_RUN), PATIENCE)
        name = run["metadata"]["name"]
        refused = await eventually(lambda: _is(cluster, TRAINING_RUN, name, "False", "NotAllowed"), PATIENCE)
        assert "ml=yes" in ready(refused, "Succeeded")[2]
        await cluster.client.merge(NAMESPACE.key(cluster.namespace), {"metadata": {"labels": {"ml": "yes"}}})
        spec["quota"] = {"perProject": 1}  # a change of the pool wakes what waits for it
        await cluster.apply(COMPUTE_POOL, pool(**spec, allowedNamespaces={"selector": selector}))
        (train,) = await eventually(cluster.jobs, PATIENCE)
        container = train["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert train["spec"]["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
        second = {key: value for key, value in run["spec"].items() if key != "trigger"}
        meta = {"name": "by-hand", "namespace": cluster.namespace}
        await cluster.apply(TRAINING_RUN, {"metadata": meta, "spec": {**second, "seed": 8}})
        waiting = await eventually(lambda: _is(cluster, TRAINING_RUN, "by-hand", "Unknown", "WaitingForPool"), PATIENCE)
        assert "holds 1 of its 1 nvidia.com/gpu" in ready(waiting, "Succeeded")[2]
        used = await eventually(lambda: _in_use(cluster, 1), PATIENCE)
        assert ready(used)[0] == "True"
        await cluster.play(train)
        await eventually(lambda: _has_train_job(cluster, "by-hand"), PATIENCE)
    finally:
        await cluster.client.delete(NODE.key("gpu-1"))


async def _in_use(cluster: Cluster, units: int) -> Object | None:
    found = await cluster.get(COMPUTE_POOL, "gpu")
    return found if found["status"]["inUse"] == units else None


async def _has_train_job(cluster: Cluster, run: str) -> bool:
    return any(
        job["metadata"]["labels"].get("slipway.dev/trainingrun") == run
        and job["metadata"]["labels"]["slipway.dev/stage"] == "train"
        for job in await cluster.all(JOB)
    )


@pytest.mark.usefixtures("base")
async def test_teams_get_their_rights_and_lose_them(cluster: Cluster, eventually: Eventually) -> None:
    owner = {"kind": "Group", "name": "arrivals-ml"}
    dana = {"kind": "User", "name": "dana", "roles": ["DataEngineer", "MLEngineer"]}
    await cluster.apply(MODEL_PROJECT, project(team={"owner": owner, "members": [dana]}))
    names = {f"{PROJECT}-slipway-owner", f"{PROJECT}-slipway-data-engineer", f"{PROJECT}-slipway-ml-engineer"}
    await eventually(lambda: _bindings(cluster, names), PATIENCE)
    await cluster.apply(MODEL_PROJECT, project(team={"owner": owner, "members": []}))
    await eventually(lambda: _bindings(cluster, {f"{PROJECT}-slipway-owner"}), PATIENCE)


async def _bindings(cluster: Cluster, names: set[str]) -> bool:
    return {each["metadata"]["name"] for each in await cluster.all(ROLE_BINDING)} == names
