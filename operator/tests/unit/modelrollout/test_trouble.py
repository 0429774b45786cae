"""Whatever keeps servers from starting is said in a sentence that names the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from unit.modelrollout.world import NAME, NAMESPACE, PROJECT, World

from slipway.adapters import kserve, trouble
from slipway.api.reasons import Reason
from slipway.runtime.resources import INFERENCE_SERVICE, MODEL_ROLLOUT, POD, Object

Status = dict[str, Any]
PAGE = Path(__file__).parents[4] / "docs/rollouts/troubleshooting.md"


def waits(reason: str, message: str, name: str = "kserve-container", **more: Any) -> Status:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": name, "image": "slipway-server:1", "state": state, **more}]}


def unschedulable(message: str) -> Status:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


def ended(message: str, code: int = 1, reason: str = "Error", name: str = "kserve-container") -> Status:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    where = "initContainerStatuses" if name == "storage-initializer" else "containerStatuses"
    return {where: [{"name": name, "state": state}]}


def download(message: str) -> Status:
    return ended(message, name="storage-initializer")


PULL = "Failed to pull image: rpc error: "
PODS: dict[str, tuple[Status, Reason, str]] = {
    # images
    "pull secret": (waits("ErrImagePull", f"{PULL}401 Unauthorized"), Reason.ImageUnavailable, "pull secret"),
    "no such image": (waits("ImagePullBackOff", f"{PULL}manifest unknown"), Reason.ImageUnavailable, "Push the image"),
    "registry away": (
        waits("ImagePullBackOff", f"{PULL}dial tcp: lookup registry: no such host"),
        Reason.ImageUnavailable,
        "registry does not answer",
    ),
    "never pulled": (
        waits("ErrImageNeverPull", "Container image is not present with pull policy of Never"),
        Reason.ImageUnavailable,
        "imagePullPolicy",
    ),
    "bad name": (waits("InvalidImageName", "couldn't parse image name"), Reason.ImageUnavailable, "image's name"),
    "unknown pull error": (waits("ErrImagePull", "strange"), Reason.ImageUnavailable, "let the nodes pull it"),
    # containers that are not made
    "no secret": (
        waits("CreateContainerConfigError", 'secret "flights-slipway-feast" not found'),
        Reason.ServerNotCreated,
        "Create the Secret",
    ),
    "no key": (
        waits("CreateContainerConfigError", "couldn't find key host in Secret flights/feast"),
        Reason.ServerNotCreated,
        "Create the Secret",
    ),
    "no config map": (
        waits("CreateContainerConfigError", 'configmap "settings" not found'),
        Reason.ServerNotCreated,
        "Create the ConfigMap",
    ),
    "root": (
        waits("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        Reason.ServerNotCreated,
        "user is not root",
    ),
    "no such command": (
        waits("RunContainerError", 'exec: "serve": executable file not found in $PATH'),
        Reason.ServerNotCreated,
        "Correct the command",
    ),
    # containers that end
    "crash": (ended("boom", code=2), Reason.LoadFailed, "kubectl logs"),
    "crash loop": (
        waits(
            "CrashLoopBackOff",
            "back-off 5m0s",
            lastState={"terminated": {"exitCode": 3, "message": "digest differs"}},
        ),
        Reason.LoadFailed,
        "kubectl logs",
    ),
    "crash loop without a word": (waits("CrashLoopBackOff", "back-off 5m0s"), Reason.LoadFailed, "kubectl logs"),
    "memory": (
        ended("", code=137, reason="OOMKilled"),
        Reason.OutOfMemory,
        "raise spec.serving.resources.limits.memory",
    ),
    "memory while downloading": (
        ended("", code=137, reason="OOMKilled", name="storage-initializer"),
        Reason.OutOfMemory,
        "inferenceservice-config",
    ),
    # the artifact
    "403": (
        download("botocore ClientError: An error occurred (403) when calling HeadObject: Forbidden"),
        Reason.ArtifactUnavailable,
        "s3.secretRef",
    ),
    "404": (
        download("An error occurred (404) when calling the HeadObject operation: Not Found"),
        Reason.ArtifactUnavailable,
        "artifact is gone",
    ),
    "no bucket": (download("NoSuchBucket: the bucket is not there"), Reason.ArtifactUnavailable, "bucket"),
    "dns": (
        download("Failed to resolve 'store': Name or service not known"),
        Reason.ArtifactUnavailable,
        "s3.endpoint",
    ),
    "connection": (download("Could not connect to the endpoint URL"), Reason.ArtifactUnavailable, "s3.endpoint"),
    "certificate": (download("SSL: CERTIFICATE_VERIFY_FAILED"), Reason.ArtifactUnavailable, "certificate"),
    "disk": (download("OSError: No space left on device"), Reason.ArtifactUnavailable, "ephemeral storage"),
    # nodes
    "no GPU": (
        unschedulable("0/4 nodes are available: 4 Insufficient nvidia.com/gpu."),
        Reason.Unschedulable,
        "spec.serving.capacity: Partial or Recreate",
    ),
    "no room": (
        unschedulable("0/4 nodes are available: 3 Insufficient cpu, 1 Insufficient memory."),
        Reason.Unschedulable,
        "lower spec.serving.resources",
    ),
    "taint": (
        unschedulable("0/4 nodes are available: 4 node(s) had untolerated taint {gpu: true}."),
        Reason.Unschedulable,
        "spec.tolerations",
    ),
    "selector": (
        unschedulable("0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector."),
        Reason.Unschedulable,
        "spec.nodeSelector",
    ),
    "no volume": (
        unschedulable("0/4 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        Reason.Unschedulable,
        "PersistentVolumeClaim",
    ),
    "cordoned": (
        unschedulable("0/2 nodes are available: 2 node(s) were unschedulable."),
        Reason.Unschedulable,
        "kubectl get nodes",
    ),
    "evicted": (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."},
        Reason.PodFailed,
        "ephemeral-storage",
    ),
    "device gone": (
        {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy devices present"},
        Reason.PodFailed,
        "device plugin",
    ),
}


def model(transition: str, reason: str, message: str) -> Status:
    return {"modelStatus": {"transitionStatus": transition, "lastFailureInfo": {"reason": reason, "message": message}}}


def refused(message: str) -> Status:
    said = {"type": "PredictorReady", "status": "False", "reason": "FailedCreate", "message": message}
    return {"conditions": [said]}


SERVICES: dict[str, tuple[Status, Reason, str]] = {
    "load failed": (model("BlockedByFailedLoad", "ModelLoadFailed", "boom"), Reason.LoadFailed, "kubectl logs"),
    "another model": (
        model("BlockedByFailedLoad", "ModelLoadFailed", "the digest of model.joblib differs"),
        Reason.LoadFailed,
        "train again",
    ),
    "no runtime": (
        model("InvalidSpec", "RuntimeNotRecognized", "specified runtime slipway-torch"),
        Reason.InvalidSpec,
        "kubectl get clusterservingruntimes",
    ),
    "no format": (
        model("InvalidSpec", "NoSupportingRuntime", "No runtime found to support specified framework"),
        Reason.InvalidSpec,
        "spec.serving.runtime",
    ),
    "disabled": (model("InvalidSpec", "RuntimeDisabled", "runtime is disabled"), Reason.InvalidSpec, "Enable"),
    "quota": (
        refused('pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'),
        Reason.PodsRefused,
        "ResourceQuota",
    ),
    "quota asks": (
        refused('pods "x" is forbidden: failed quota: all: must specify limits.memory'),
        Reason.PodsRefused,
        "Set spec.serving.resources",
    ),
    "limit range": (
        refused('pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'),
        Reason.PodsRefused,
        "LimitRange",
    ),
    "pod security": (
        refused('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'),
        Reason.PodsRefused,
        "Pod Security",
    ),
    "webhook away": (
        refused('Internal error occurred: failed calling webhook "x": connect: connection refused'),
        Reason.PodsRefused,
        "does not answer",
    ),
    "webhook denies": (
        refused('admission webhook "images" denied the request: unsigned'),
        Reason.PodsRefused,
        "Change what the admission webhook refuses",
    ),
    "no service account": (
        refused('error looking up service account flights/x: serviceaccount "x" not found'),
        Reason.PodsRefused,
        "ModelProject",
    ),
}


def service(**status: Any) -> Object:
    return {"metadata": {"name": "delays-1"}, "status": status}


def pod(status: Status) -> Object:
    return {"metadata": {"name": "delays-1-predictor-x"}, "status": status}


@pytest.mark.parametrize("case", PODS)
def test_what_a_pod_says_names_the_remedy(case: str) -> None:
    status, reason, says = PODS[case]
    found = kserve.readiness(service(), [], [pod(status)]).trouble
    assert found is not None
    assert (found.reason, found.message) == (reason, found.message)
    assert says in found.message
    assert "delays-1-predictor-x" in found.message


@pytest.mark.parametrize("case", SERVICES)
def test_what_kserve_says_names_the_remedy(case: str) -> None:
    status, reason, says = SERVICES[case]
    found = kserve.readiness(service(**status), [], []).trouble
    assert found is not None
    assert found.reason == reason
    assert says in found.message
    assert "delays-1" in found.message


@pytest.mark.parametrize("status", [{}, waits("ContainerCreating", ""), waits("PodInitializing", "")])
def test_a_server_that_is_just_starting_is_no_trouble(status: Status) -> None:
    assert kserve.readiness(service(), [], [pod(status)]).trouble is None


def test_a_pod_on_its_way_out_tells_nothing_of_the_others() -> None:
    leaving = {"metadata": {"name": "a", "deletionTimestamp": "2026-11-23T08:00:00Z"}, "status": ended("ended")}
    assert trouble.of(service(), [leaving]) is None
    found = trouble.of(service(), [leaving, pod(unschedulable("0/1 nodes"))])
    assert found is not None
    assert found.reason == "Unschedulable"


def test_long_words_are_cut_where_they_begin() -> None:
    said = trouble.sentence({"message": "x" * 1000 + " the end"})
    assert len(said) <= 401
    assert said.endswith("the end.")


# ---- what a rollout makes of it --------------------------------------------------------------------------------------
V2 = f"{PROJECT}-{2:010x}"
S2 = f"{NAME}-{2:010x}"


def put_trouble(world: World, case: str) -> None:
    """Of the second version's servers."""
    if case in PODS:
        status = PODS[case][0]
        labels = {"serving.kserve.io/inferenceservice": S2}
        world.put(POD, {"metadata": {"name": f"{S2}-x", "namespace": NAMESPACE, "labels": labels}, "status": status})
    else:
        status, live = SERVICES[case][0], world.get(INFERENCE_SERVICE, S2)
        assert live is not None
        conditions = status.get("conditions") or [{"type": "Ready", "status": "False"}]
        world.put(INFERENCE_SERVICE, {**live, "status": {**status, "conditions": conditions}})


@pytest.mark.parametrize("case", ["pull secret", "crash loop", "404", "no GPU", "load failed", "no runtime", "quota"])
def test_it_is_told_until_the_deadline_and_then_stands_with_the_rejection(case: str) -> None:
    _, reason, says = {**PODS, **SERVICES}[case]
    world = World({"progressDeadline": "60s"})
    first = world.serve_first()
    world.unready.add(S2)
    world.add_version(2)
    world.step()
    world.kserve_answering = False
    put_trouble(world, case)
    world.run(30)
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[1] == reason
    assert says in stalled[2]
    ready = world.condition("Ready")
    assert ready is not None
    assert ready[0] == "True", "users have the version before"
    world.run(40)
    (rejection,) = world.status.rejected or []
    assert (rejection.name, rejection.reason, world.status.stable) == (V2, reason, first)
    assert "within 60s" in rejection.message
    assert says in rejection.message


@pytest.mark.slow
def test_pods_that_a_webhook_keeps_away_are_no_fault_of_the_version() -> None:
    world = World({"progressDeadline": "60s"})
    world.serve_first()
    world.unready.add(S2)
    world.add_version(2)
    world.step()
    world.kserve_answering = False
    put_trouble(world, "webhook away")
    world.run(200)
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert "does not count against the version" in stalled[2]
    assert (world.status.candidate, world.status.rejected) == (V2, None)


def test_a_change_of_serving_that_the_stable_version_cannot_follow_is_told() -> None:
    world = World()
    first = world.serve_first()
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"serving": {"resources": {"limits": {"memory": "900Gi"}}}}})
    service_name = f"{NAME}-{1:010x}"
    labels = {"serving.kserve.io/inferenceservice": service_name}
    meta = {"name": f"{service_name}-y", "namespace": NAMESPACE, "labels": labels}
    world.put(POD, {"metadata": meta, "status": unschedulable("0/4 nodes: 4 Insufficient memory.")})
    world.doubted.add(service_name)
    world.run(3)
    stalled, ready = world.condition("Stalled"), world.condition("Ready")
    assert stalled is not None
    assert ready is not None
    assert (stalled[1], ready[0]) == ("Unschedulable", "True")
    assert stalled[2].startswith(f"Version {first} serves, but not with all its servers: ")


# ---- the page --------------------------------------------------------------------------------------------------------
def test_the_page_has_every_reason_of_servers_and_no_other_word() -> None:
    tables = PAGE.read_text().partition("\n## ")[2]  # before that stand conditions
    rows = re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE)
    told = {str(reason) for _, reason, _ in (*PODS.values(), *SERVICES.values())}
    assert told <= set(rows)
    assert [each for each in rows if each not in Reason.__members__] == []
    assert len(rows) == len(set(rows))
