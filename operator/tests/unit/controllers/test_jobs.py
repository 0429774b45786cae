"""Manifests of Jobs, and what a Job and its pods say."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Any

import pytest
from unit.controllers.things import platform, pool
from unit.controllers.world import START

from slipway.adapters.artifacts import Location, key_of
from slipway.adapters.copystate import never_copied
from slipway.adapters.jobs import COPIED, FileCopy, Owner, PodSettings, job_name, manifest, prepare
from slipway.adapters.jobstate import job_state
from slipway.adapters.pools import pool_units
from slipway.adapters.quantities import plain, quantity
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources
from slipway.api.platform import Platform
from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import DeleteDataRequest

LOCATION = Location.of(Platform.model_validate(platform()))
OWNER = Owner("Dataset", "flights", "flights", "uid-1", "flight-delays")
REQUEST = DeleteDataRequest(store=LOCATION.store, prefix="", prefixes=["datasets/a/"])
GPU = ComputePool.model_validate(
    pool(nodeSelector={"slipway.dev/pool": "gpu"}, tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}])
)


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_same_work_has_the_same_name_and_other_work_another() -> None:
    names = {
        prepare(OWNER, "delete-data", REQUEST).name,
        prepare(OWNER, "delete-data", REQUEST).name,
        prepare(OWNER, "delete-data", REQUEST, salt="again").name,
        prepare(dataclasses.replace(OWNER, uid="uid-2"), "delete-data", REQUEST).name,
        prepare(OWNER, "delete-data", REQUEST.model_copy(update={"prefixes": ["b/"]})).name,
    }
    assert len(names) == 4


def test_names_fit_into_a_label_and_start_with_their_owners() -> None:
    long = dataclasses.replace(OWNER, name="a" * 40 + "." + "b" * 60)
    name = job_name(long, "features-teardown", "x")
    assert len(name) <= 63
    assert name.startswith("aaaa")
    assert "." not in name


def test_the_job_is_told_where_its_request_is_and_what_digest_it_has() -> None:
    work = prepare(OWNER, "delete-data", REQUEST)
    arguments = container(manifest(work, PodSettings("runner:1", LOCATION)))["args"]
    prefix = f"jobs/flights/{work.name}/"
    assert arguments == [
        *("delete-data", "--request", f"{prefix}request.json"),
        *("--digest", digest_bytes(work.request), "--prefix", prefix),
    ]
    assert DeleteDataRequest.model_validate_json(work.request).prefix == prefix


def test_no_credential_stands_in_a_job() -> None:
    settings = PodSettings("runner:1", LOCATION, feast=True)
    for variable in container(manifest(prepare(OWNER, "delete-data", REQUEST), settings))["env"]:
        secret = any(word in variable["name"] for word in ("KEY", "PASSWORD", "FEAST"))
        assert secret == ("valueFrom" in variable), variable["name"]


@pytest.mark.parametrize(
    ("settings", "secrets"),
    [
        ({}, {"flight-delays-slipway-s3"}),
        ({"user_code": True}, {"flight-delays-slipway-s3-train"}),
        ({"feast": True}, {"flight-delays-slipway-s3", "flight-delays-slipway-feast"}),
    ],
)
def test_each_job_gets_its_own_credentials_only(settings: dict[str, Any], secrets: set[str]) -> None:
    job = manifest(prepare(OWNER, "delete-data", REQUEST), PodSettings("runner:1", LOCATION, **settings))
    named = [each["valueFrom"]["secretKeyRef"]["name"] for each in container(job)["env"] if "valueFrom" in each]
    assert set(named) == secrets


@pytest.mark.parametrize(
    ("resources", "resource", "units"),
    [
        (None, "nvidia.com/gpu", 1),
        (None, "cpu", 0),
        (Resources(limits={"nvidia.com/gpu": "2"}), "nvidia.com/gpu", 2),
        (Resources(requests={"cpu": "1500m"}), "cpu", 2),
        (Resources(requests={"cpu": "1"}, limits={"cpu": "4"}), "cpu", 1),
        (Resources(requests={"cpu": "4"}), "nvidia.com/gpu", 1),
    ],
)
def test_units_of_a_pool(resources: Resources | None, resource: str, units: int) -> None:
    assert pool_units(resources, resource) == units


def test_a_pool_schedules_tolerates_and_limits() -> None:
    resources = Resources(requests={"cpu": "1"})
    job = manifest(
        prepare(OWNER, "delete-data", REQUEST), PodSettings("runner:1", LOCATION, pool=GPU, resources=resources)
    )
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"slipway.dev/pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert container(job)["resources"] == {
        "requests": {"cpu": "1", "nvidia.com/gpu": "1"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    assert job["metadata"]["labels"]["slipway.dev/pool"] == "gpu"
    assert job["metadata"]["annotations"]["slipway.dev/pool-units"] == "1"


@pytest.mark.parametrize(("text", "number"), [("500m", "0.5"), ("2", "2"), ("4Gi", "4294967296"), ("1k", "1000")])
def test_quantities(text: str, number: str) -> None:
    assert plain(quantity(text)) == number


def test_a_quantity_that_is_none() -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity("many")


def test_keys_of_uris() -> None:
    assert key_of(LOCATION.uri("models/a/manifest.json")) == "models/a/manifest.json"


# ---- states ----------------------------------------------------------------------------------------------------------
def job(*conditions: dict[str, str], pooled: bool = False) -> dict[str, Any]:
    work = prepare(OWNER, "delete-data", REQUEST)
    settings = PodSettings("runner:1", LOCATION, pool=GPU if pooled else None, resources=Resources())
    made = manifest(work, settings)
    made["metadata"]["creationTimestamp"] = "2026-11-23T08:00:00Z"
    made["status"] = {
        "conditions": [
            {"status": "True", "reason": "", "lastTransitionTime": "2026-11-23T08:00:00Z", **each}
            for each in conditions
        ]
    }
    return made


def pod(phase: str = "Pending", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "pod", "creationTimestamp": "2026-11-23T08:00:00Z"},
        "status": {"phase": phase, **status},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod(containerStatuses=[{"image": "registry/none:1", "state": state}])


def ended(**terminated: Any) -> dict[str, Any]:
    return pod("Failed", containerStatuses=[{"state": {"terminated": terminated}}])


UNSCHEDULABLE = pod(
    conditions=[
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }
    ]
)
POLICY = {"type": "FailureTarget", "reason": "PodFailurePolicy"}
FAILED = {"type": "Failed", "reason": "BackoffLimitExceeded"}


@pytest.mark.parametrize(
    ("the_job", "pods", "phase", "reason", "words"),
    [
        (None, [], "Absent", "Progressing", ""),
        (job(), [], "Pending", "Progressing", "has no pod yet"),
        (job(), [pod()], "Pending", "Progressing", "starts"),
        (job(), [pod("Running")], "Running", "Running", "runs"),
        (job(), [ended(exitCode=1)], "Running", "Progressing", "tried again"),
        (job({"type": "Complete"}), [pod("Succeeded")], "Complete", "Succeeded", "complete"),
        (job({"type": "SuccessCriteriaMet"}), [], "Complete", "Succeeded", "complete"),
        (
            job(),
            [waiting("ImagePullBackOff", "not found")],
            "Pending",
            "ImageUnavailable",
            "registry/none:1 cannot be pulled (ImagePullBackOff: not found): correct its name",
        ),
        (
            job(),
            [waiting("CreateContainerConfigError", 'secret "a" not found')],
            "Pending",
            "DependencyMissing",
            'secret "a" not found',
        ),
        (
            job(pooled=True),
            [UNSCHEDULABLE],
            "Pending",
            "WaitingForPool",
            "No node of ComputePool gpu has room for 1 nvidia.com/gpu now",
        ),
        (job(), [UNSCHEDULABLE], "Pending", "WaitingForPool", "No node has room"),
        (
            job(FAILED),
            [ended(exitCode=137, reason="OOMKilled")],
            "Failed",
            "OutOfMemory",
            "raise resources.limits.memory",
        ),
        (job(FAILED), [ended(exitCode=1)], "Failed", "JobFailed", "(exit code 1)"),
        (job(FAILED), [], "Failed", "JobFailed", "failed as often as it may"),
        (
            job({"type": "FailureTarget", "reason": "PodFailurePolicy"}),
            [],
            "Failed",
            "TrainingCodeFailed",
            "kubectl logs",
        ),
        (job(FAILED), [ended(exitCode=3)], "Failed", "TrainingCodeFailed", "raised an error"),
        (
            job({"type": "Failed", "reason": "DeadlineExceeded"}),
            [UNSCHEDULABLE],
            "Failed",
            "DeadlineExceeded",
            "It never started: No node has room",
        ),
        (
            job({"type": "Failed", "reason": "DeadlineExceeded"}),
            [ended(exitCode=143)],
            "Failed",
            "DeadlineExceeded",
            "after its deadline of 7200 s.",
        ),
    ],
)
def test_states(the_job: Any, pods: list[Any], phase: str, reason: str, words: str) -> None:
    state = job_state(the_job, pods)
    assert (state.phase, state.reason) == (phase, reason)
    assert words in state.message


def test_the_newest_pod_speaks() -> None:
    older, newer = ended(exitCode=1), pod("Running")
    newer["metadata"] = {"name": "a", "creationTimestamp": "2026-11-23T08:05:00Z"}
    assert job_state(job(), [newer, older]).phase == "Running"


def test_a_job_that_ended_says_when() -> None:
    assert job_state(job({"type": "Complete"}), []).since == START


# ---- files out of images ---------------------------------------------------------------------------------------------
COPY = FileCopy("registry/flights:1", "/pipelines/flights.yaml")
MISSING = "cp: cannot stat '/pipelines/flights.yaml': No such file or directory"
NO_CP = 'runc create failed: exec: "cp": executable file not found in $PATH: unknown'


def test_a_file_is_copied_by_its_own_image_without_credentials() -> None:
    made = manifest(prepare(OWNER, "delete-data", REQUEST), PodSettings("runner:1", LOCATION, copy=COPY))
    spec = made["spec"]["template"]["spec"]
    (copier,) = spec["initContainers"]
    assert (copier["image"], copier["command"]) == (COPY.image, ["cp", COPY.path, COPIED])
    assert "env" not in copier
    assert copier["securityContext"] == container(made)["securityContext"]
    (mount,) = copier["volumeMounts"]
    assert {**mount, "readOnly": True} in container(made)["volumeMounts"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == mount["name"])
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Mi"}
    names = [
        each["onExitCodes"]["containerName"]
        for each in made["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in each
    ]
    assert names == ["job", copier["name"]], "the API server refuses a name that no container has"


def test_a_job_without_a_file_has_nothing_of_it() -> None:
    made = manifest(prepare(OWNER, "delete-data", REQUEST), PodSettings("runner:1", LOCATION))
    assert "initContainers" not in made["spec"]["template"]["spec"]
    assert "copy" not in str(made["spec"]["podFailurePolicy"])


def copier(**state: Any) -> dict[str, Any]:
    other = {"name": "istio", "state": {"terminated": {"exitCode": 1, "message": "mesh"}}}
    return pod(initContainerStatuses=[other, {"name": "copy", "image": COPY.image, "state": state}])


@pytest.mark.parametrize(
    ("the_job", "pods", "words"),
    [
        (job(), [], ""),
        (job(), [copier(running={})], ""),
        (job(), [copier(waiting={"reason": "ImagePullBackOff", "message": "manifest not found"})], ""),
        (job(), [copier(terminated={"exitCode": 0})], ""),
        (job(), [copier(terminated={"exitCode": 137, "reason": "OOMKilled"})], ""),
        (job(FAILED), [copier(terminated={"exitCode": 128, "message": "exec fifo: no such file or directory"})], ""),
        (job(FAILED), [copier(terminated={"exitCode": 128, "message": NO_CP})], "has no command cp"),
        (job(), [copier(terminated={"exitCode": 128, "message": NO_CP})], "spec.x.name: image registry/flights:1 has"),
        (job(), [copier(waiting={"reason": "CreateContainerError", "message": NO_CP})], "has no command cp"),
        (
            job(),
            [copier(waiting={"reason": "CreateContainerError", "message": "executable file `cp` not found in $PATH"})],
            "has no command cp",
        ),
        (
            job(POLICY),
            [copier(terminated={"exitCode": 1, "message": f"{MISSING}\n"})],
            f"spec.x.path: /pipelines/flights.yaml cannot be copied out of image registry/flights:1 ({MISSING}): "
            "correct the path",
        ),
        (job(), [pod(), copier(terminated={"exitCode": 1, "message": "x" * 5000})], "x" * 299 + "…)"),
        (
            job(),
            [copier(terminated={"exitCode": 1, "message": "cp: write error: No space left on device"})],
            "is larger than 8Mi: move data out of it.",
        ),
        (job({**POLICY, "type": "Failed"}), [], "out of image registry/flights:1: correct the path"),
        (job(FAILED), [], ""),
    ],
)
def test_why_a_file_is_never_copied(the_job: Any, pods: list[Any], words: str) -> None:
    found = never_copied("spec.x", COPY, job_state(the_job, pods), pods)
    assert words in found if words else found == ""


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("/none/flights.yaml", "/dev/null", "(cp: "),
        ("/tmp", "/dev/null", "(cp: "),
        (__file__, "/dev/full", "is larger than 8Mi"),
    ],
)
def test_what_a_real_cp_says_is_understood(source: str, target: str, words: str) -> None:
    told = subprocess.run(["cp", source, target], capture_output=True, text=True, timeout=10, check=False)
    pods = [copier(terminated={"exitCode": told.returncode, "message": told.stderr})]
    assert words in never_copied("spec.x", COPY, job_state(job(POLICY), pods), pods)
