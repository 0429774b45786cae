"""`slipway run logs`: which pods are printed, in which order, and when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.api.trainingrun import TrainingRun
from slipway.cli.rollout_cluster import RolloutError
from slipway.cli.run import NODE_NAME, show, title_of


def pod(name: str, made: str, node: str = "", phase: str = "Succeeded", **labels: str) -> Any:
    meta = SimpleNamespace(
        name=name,
        namespace="flights",
        uid=name,
        creation_timestamp=made,
        labels={label.replace("_", "/"): value for label, value in labels.items()},
        annotations={NODE_NAME: node} if node else {},
    )
    container = "main" if node else "job"
    spec = SimpleNamespace(containers=[SimpleNamespace(name="wait"), SimpleNamespace(name=container)])
    return SimpleNamespace(metadata=meta, spec=spec, status=SimpleNamespace(phase=phase))


class FakeCluster:
    """One run whose status moves on each time that it is read."""

    namespace = "flights"

    def __init__(self, pods: list[Any], *statuses: dict[str, Any]) -> None:
        self._pods = pods
        self._statuses = list(statuses)
        self.selectors: list[str] = []
        self.read: list[tuple[str, str, bool]] = []

    def run(self, name: str) -> TrainingRun | None:
        if not self._statuses:
            return None
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        spec = {
            "projectRef": {"name": "p"},
            "datasetVersionRef": {"name": "d"},
            "inputs": ["a"],
            "code": {"type": "Image", "image": {"name": "i", "entrypoint": "a.b:c"}},
            "datasetRef": {"name": "d"},
        }
        return TrainingRun.model_validate({"metadata": {"name": name}, "spec": spec, "status": status})

    def pods(self, namespace: str, selector: str) -> list[Any]:
        self.selectors.append(f"{namespace} {selector}")
        return self._pods

    def log(self, pod: Any, container: str, follow: bool) -> Iterator[bytes]:
        self.read.append((pod.metadata.name, container, follow))
        yield f"log of {pod.metadata.name}\n".encode()


RUNNING = {"phase": "Running", "pipelineRun": {"id": "r1", "namespace": "kfp"}}
DONE = {**RUNNING, "phase": "Succeeded"}
PODS = [
    pod("b", "2", "w.root.produce.train.executor"),
    pod("a", "1", "w.root.produce.features.executor"),
    pod("d", "0", "w.root.produce.features-driver"),
    pod("z", "9", "w.root.judge.verify.executor", phase="Pending"),
]


def printed(cluster: FakeCluster, *, follow: bool = False, task: str | None = None, drivers: bool = False) -> str:
    parts: list[bytes] = []
    show(cluster, "r", follow, task, drivers, parts.append, lambda _: None)
    return b"".join(parts).decode()


def test_tasks_are_printed_in_their_order_each_once() -> None:
    cluster = FakeCluster(PODS, DONE)
    text = printed(cluster)
    assert cluster.selectors == ["kfp pipeline/runid=r1"]
    assert text.splitlines() == [
        "==> features (flights/a) <==",
        "log of a",
        "==> train (flights/b) <==",
        "log of b",
    ]
    assert cluster.read == [("a", "main", False), ("b", "main", False)]


def test_drivers_and_single_tasks_are_asked_for() -> None:
    assert "==> features-driver (flights/d) <==" in printed(FakeCluster(PODS, DONE), drivers=True)
    assert printed(FakeCluster(PODS, DONE), task="train").splitlines()[0] == "==> train (flights/b) <=="


def test_following_ends_with_the_run() -> None:
    cluster = FakeCluster(PODS, RUNNING, RUNNING, DONE)
    assert printed(cluster, follow=True).count("log of") == 2
    assert len(cluster.selectors) == 3
    assert all(follow for _, _, follow in cluster.read)


def test_a_run_of_jobs() -> None:
    job = pod("j", "1", **{"slipway.dev_stage": "train"})
    cluster = FakeCluster([job], {"phase": "Succeeded", "job": "r-train-1"})
    assert printed(cluster).startswith("==> train (flights/j) <==")
    assert cluster.selectors == ["flights slipway.dev/trainingrun=r"]
    assert cluster.read == [("j", "job", False)]


def test_nothing_to_print_is_said() -> None:
    with pytest.raises(RolloutError, match="There is no TrainingRun r in namespace flights"):
        printed(FakeCluster([]))
    with pytest.raises(RolloutError, match="none has begun"):
        printed(FakeCluster([], RUNNING))
    gone = {"phase": "Failed", "pipelineRun": {"id": "r1", "namespace": "kfp", "url": "http://ui/#/runs/details/r1"}}
    with pytest.raises(RolloutError, match="See http://ui/#/runs/details/r1"):
        printed(FakeCluster([], gone))
    with pytest.raises(RolloutError, match="no pod of task judge"):
        printed(FakeCluster(PODS, DONE), task="judge")


def test_a_retried_node_is_of_its_task() -> None:
    assert title_of(pod("x", "1", "w.root.produce.train.executor(1)")) == ("train", False)
