"""KServe's own sklearn server, started as for a version: it serves our artifact under the rollout's name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from slipway_cluster import gobuild
from slipway_cluster.errors import ClusterError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("go") is None, reason="KServe's sources come as a Go module"),
]

INSTANCE_NAME, ROLLOUT = "delays-0000000001", "delays"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kserve_sources() -> Path:
    try:
        return gobuild.module_folder("kserve", "github.com/kserve/kserve")
    except ClusterError as error:  # pragma: no cover - without a network and an empty cache
        pytest.skip(str(error))


def arguments(sources: Path, folder: Path, port: int) -> list[str]:
    """Of KServe's published runtime, with what it fills in, and behind them what the InferenceService adds."""
    runtime = yaml.safe_load((sources / "config" / "runtimes" / "kserve-sklearnserver.yaml").read_text())
    told: list[str] = runtime["spec"]["containers"][0]["args"]
    filled = {"{{.Name}}": INSTANCE_NAME, "/mnt/models": str(folder), "8080": str(port)}
    for place, value in filled.items():
        told = [each.replace(place, value) for each in told]
    return [*told, f"--model_name={ROLLOUT}", "--enable_grpc=false"]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    import joblib
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("artifact")
    joblib.dump(LogisticRegression().fit([[0.0, 0.0], [1.0, 1.0]], [0, 1]), folder / "model.joblib")
    for name in ("definition.json", "evaluation.json", "manifest.json"):
        (folder / name).write_text("{}")
    sources, port = kserve_sources(), free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(sources / "python" / "sklearnserver"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "sklearnserver", *arguments(sources, folder, port)], env=environment
    )
    try:
        _wait(process, port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"the server does not listen: {process.poll()}")


def test_v1_answers_under_the_rollouts_name_and_no_other(stock: httpx.Client) -> None:
    body = {"instances": [[1.0, 1.0], [0.0, 0.0]]}
    answer = stock.post(f"/v1/models/{ROLLOUT}:predict", json=body)
    assert answer.json() == {"predictions": [1, 0]}
    assert stock.post(f"/v1/models/{INSTANCE_NAME}:predict", json=body).status_code == 404


def test_v2_answers_under_the_rollouts_name(stock: httpx.Client) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 1.0, 0.0, 0.0]}
    answer = stock.post(f"/v2/models/{ROLLOUT}/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [1, 0]
    assert stock.get(f"/v2/models/{ROLLOUT}/ready").status_code == 200
