"""The local cluster itself, on the real thing: nodes, store, database, iris_model."""

import http.client
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from minio import Minio
from minio.error import S3Error

from journeys import iris_model
from slipway_cluster import Cluster
from slipway_demo.install import Installed

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster(installed: Installed) -> Cluster:
    return installed.cluster


@pytest.fixture(scope="module")
def runner(installed: Installed) -> str:
    return installed.images["slipway-runner"]


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = iris_model.NAMESPACE
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "-n", name, "--for=create", "serviceaccount/default", "--timeout=30s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--timeout=120s", timeout=130)


def store(cluster: Cluster, identity: str) -> Minio:
    keys = cluster.s3_credentials(identity)
    address = urlsplit(cluster.s3_url).netloc
    return Minio(address, keys.access_key, keys.secret_key, secure=False, region="us-east-1")


def put(client: Minio, key: str, content: bytes = b"x") -> None:
    client.put_object("slipway", key, io.BytesIO(content), len(content))


def test_a_cluster_of_ones_own_is_checked_by_its_context_only(cluster: Cluster) -> None:
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", "slipway.cli.main", "cluster", "up", "--context"]
    context = cluster.kubectl("config", "current-context").strip()
    found = subprocess.run(
        [*command, context], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "kind inferenceservices.serving.kserve.io is served" in found.stdout
    assert f"--kube-context {context}" in found.stdout
    other = subprocess.run(
        [*command, "nowhere"], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert other.returncode == 1
    assert "nowhere" in other.stderr
    assert "Traceback" not in other.stderr


def run_pod(
    cluster: Cluster, namespace: str, name: str, image: str, *command: str, spec: dict[str, Any] | None = None
) -> str:
    """What a pod prints until it ends well."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image, "command": list(command)}]},
    }
    pod["spec"].update(spec or {})  # type: ignore[attr-defined]
    cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))
    succeeded = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", "-n", namespace, f"pod/{name}", succeeded, "--timeout=200s", timeout=210)
    return cluster.kubectl("logs", "-n", namespace, name)


def test_three_nodes_with_their_pools(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    assert [node["metadata"]["labels"].get("slipway.dev/pool") for node in nodes] == [None, "cpu", "gpu"]
    assert nodes[2]["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    taints = [(taint["key"], taint["effect"]) for taint in nodes[2]["spec"]["taints"]]
    assert taints == [("nvidia.com/gpu", "NoSchedule")]


def test_a_pod_that_asks_for_a_gpu_gets_the_gpu_node_and_reaches_services_by_name(
    cluster: Cluster, namespace: str, runner: str
) -> None:
    script = "import urllib.request; print(urllib.request.urlopen('http://seaweedfs.storage:8333/status').status)"
    spec = {
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [
            {
                "name": "main",
                "image": runner,
                "command": ["python3", "-c", script],
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
            }
        ],
    }
    assert run_pod(cluster, namespace, "gpu", runner, spec=spec) == "200\n"
    where = cluster.kubectl("get", "pod", "gpu", "-n", namespace, "--output=jsonpath={.spec.nodeName}")
    assert where == "slipway-worker2"


def test_model_servers_put_predictions_and_do_nothing_else(cluster: Cluster) -> None:
    admin, writer = store(cluster, "admin"), store(cluster, "predictions")
    put(writer, "predictions/cluster-test/one")
    for attempt in (
        lambda: put(writer, "models/other"),
        lambda: writer.get_object("slipway", "predictions/cluster-test/one"),
        lambda: writer.remove_object("slipway", "predictions/cluster-test/one"),
        lambda: list(writer.list_objects("slipway", "predictions/")),
    ):
        with pytest.raises(S3Error, match="AccessDenied"):
            attempt()
    admin.remove_object("slipway", "predictions/cluster-test/one")


def test_user_code_writes_below_its_prefix_only(cluster: Cluster) -> None:
    admin, trainer = store(cluster, "admin"), store(cluster, "trainer")
    put(admin, "cluster-test/secret")
    with trainer.get_object("slipway", "cluster-test/secret") as answer:
        assert answer.read() == b"x"
    put(trainer, "runs/cluster-test/out")
    for attempt in (
        lambda: put(trainer, "cluster-test/other"),
        lambda: put(trainer, "runs-not/other"),
        lambda: put(trainer, "models/big", b"x" * 6_000_000),
        lambda: trainer.remove_object("slipway", "cluster-test/secret"),
        lambda: trainer.make_bucket("another"),
    ):
        with pytest.raises(S3Error, match="AccessDenied"):
            attempt()
    trainer.remove_object("slipway", "runs/cluster-test/out")
    admin.remove_object("slipway", "cluster-test/secret")


def test_the_store_has_no_back_door(cluster: Cluster, namespace: str, runner: str) -> None:
    """SeaweedFS' inner servers ask for no password: nothing but S3 may listen to pods."""
    address = cluster.kubectl(
        "get", "pods", "-n", "storage", "--selector=app=seaweedfs", "--output=jsonpath={.items[0].status.podIP}"
    )
    script = (
        "import socket, sys\n"
        "for port in map(int, sys.argv[2:]):\n"
        "    with socket.socket() as probe:\n"
        "        probe.settimeout(3)\n"
        "        if probe.connect_ex((sys.argv[1], port)) == 0: print(port)\n"
    )
    ports = [str(port) for base in (8080, 8333, 8334, 8888, 9333) for port in (base, base + 10000)]
    ports += ["8181", "9101"]
    assert run_pod(cluster, namespace, "probe", runner, "python3", "-c", script, address, *ports) == "8333\n"


def test_data_outlive_their_pods(cluster: Cluster) -> None:
    put(store(cluster, "admin"), "cluster-test/kept", b"kept")
    sql = ("exec", "-n", "storage", "deploy/postgresql", "--", "sh", "-c")
    query = "PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U feast -At feast -c"
    cluster.kubectl(*sql, f"{query} 'create table kept as select 42 as answer'")
    cluster.kubectl("delete", "pods", "--all", "-n", "storage", "--timeout=100s", timeout=110)
    for name in ("seaweedfs", "postgresql"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", "storage", "--timeout=120s", timeout=130)
    assert cluster.kubectl(*sql, f"{query} 'select answer from kept'") == "42\n"
    cluster.kubectl(*sql, f"{query} 'drop table kept'")
    with store(cluster, "admin").get_object("slipway", "cluster-test/kept") as answer:
        assert answer.read() == b"kept"
    store(cluster, "admin").remove_object("slipway", "cluster-test/kept")


def test_a_second_up_changes_nothing(cluster: Cluster) -> None:
    pods = ("get", "pods", "--all-namespaces", "--output=jsonpath={.items[*].metadata.uid}")
    before = set(cluster.kubectl(*pods).split())
    cluster.up()
    assert set(cluster.kubectl(*pods).split()) == before


def test_weights_change_under_load_without_a_lost_request(cluster: Cluster, namespace: str, runner: str) -> None:
    model = iris_model.decoded_model(
        run_pod(cluster, namespace, "training", runner, "python3", "-c", iris_model.TRAINING)
    )
    admin, key = store(cluster, "admin"), "cluster-test/iris/model.joblib"
    put(admin, key, model)
    keys = cluster.s3_credentials()
    _apply(cluster, namespace, iris_model.objects(runner, keys.access_key, keys.secret_key))
    ready = ("wait", "-n", namespace, "inferenceservice", "--all", "--for=condition=Ready", "--timeout=240s")
    cluster.kubectl(*ready, timeout=250)
    _apply(cluster, namespace, iris_model.routes())
    connection = http.client.HTTPConnection(urlsplit(cluster.gateway_url).netloc, timeout=20)
    for version in ("iris-1", "iris-2"):
        _wait_until_served(connection, version)
    connection.close()

    seen: dict[int, Counter[tuple[str, str]]] = {}
    with iris_model.Load(cluster.gateway_url) as load:
        for weight in (0, 5, 50, 100, 50, 0):
            path = "/spec/rules/0/backendRefs"
            patch = [
                {"op": "replace", "path": f"{path}/0/weight", "value": 100 - weight},
                {"op": "replace", "path": f"{path}/1/weight", "value": weight},
            ]
            cluster.kubectl("patch", "httproute", "iris", "-n", namespace, "--type=json", "--patch", json.dumps(patch))
            time.sleep(2)
            seen[weight] = load.take()  # While it changes nothing may be lost, but who answers is open.
            _none_lost(seen[weight])
            time.sleep(8)
            seen[weight] = load.take()
            _none_lost(seen[weight])
        # Let requests on their way arrive.
    _none_lost(load.take())
    admin.remove_object("slipway", key)

    assert set(seen[0]) == {("200", "iris-1")}
    assert set(seen[100]) == {("200", "iris-2")}
    share = seen[50]["200", "iris-2"] / seen[50].total()
    assert 0.35 < share < 0.65
    assert 0 < seen[5]["200", "iris-2"] / seen[5].total() < 0.15


def _apply(cluster: Cluster, namespace: str, objects: list[dict[str, Any]]) -> None:
    wanted = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(wanted))


def _wait_until_served(connection: http.client.HTTPConnection, version: str) -> None:
    deadline = time.monotonic() + 60
    while (answer := iris_model.ask(connection, **{"x-version": version})) != ("200", version):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def _none_lost(answers: Counter[tuple[str, str]]) -> None:
    assert {status for status, _ in answers} <= {"200"}, answers
