"""KServe's stock servers, each started as KServe starts it for a version: they serve it under the rollout's name.

Sources of the SDK's servers and all runtimes come with KServe's Go module; Triton, XGBoost and LightGBM come from
`requirements/stock-*.txt`, which `make test-slow` installs beside the runner's environment.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services

from slipway_cluster import gobuild
from slipway_cluster.errors import ClusterError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("go") is None, reason="KServe's sources come as a Go module"),
]

INSTANCE_NAME, ROLLOUT = "delays-0000000001", "delays"
ROWS = [[1.0, 1.0], [0.0, 0.0]]
VALUES = [value for row in ROWS for value in row]
INSTALLED = Path(__file__).parents[2] / ".stock-servers"
STOCK, WHEEL = INSTALLED / "stock-servers", INSTALLED / "stock-triton"
TRITON = WHEEL / "pytriton" / "tritonserver"

SKLEARN = """
import joblib
from sklearn.linear_model import LogisticRegression
model = LogisticRegression().fit([[0.0, 0.0], [1.0, 1.0]], [0, 1])
joblib.dump(model, folder / "model.joblib")
for name in ("definition.json", "evaluation.json", "manifest.json"):
    (folder / name).write_text("{}")
"""
XGBOOST = """
import numpy, xgboost
rows = numpy.array([[0.0, 0.0], [1.0, 1.0]] * 20)
data = xgboost.DMatrix(rows, label=rows[:, 0])
model = xgboost.train({"objective": "binary:logistic"}, data, 5)
model.save_model(folder / "model.ubj")
model.predict = lambda rows, wrapped=model.predict: wrapped(xgboost.DMatrix(numpy.array(rows)))
"""
LIGHTGBM = """
import lightgbm, numpy
rows = numpy.array([[0.0, 0.0], [1.0, 1.0]] * 20)
data = lightgbm.Dataset(rows, label=rows[:, 0])
model = lightgbm.train({"objective": "binary", "min_data_in_leaf": 1, "verbosity": -1}, data, 5)
model.save_model(folder / "model.bst")
"""
PYTHON_BACKEND = f"""
import sys
sys.path.insert(0, {str(WHEEL)!r})
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        sums = [triton.get_input_tensor_by_name(each, "x").as_numpy().sum(axis=1) for each in requests]
        return [triton.InferenceResponse([triton.Tensor("sum", each)]) for each in sums]
"""


@dataclass(frozen=True)
class Stock:
    """A server of KServe's SDK: package, runtime, and a script that makes a `model` and its file in `folder`."""

    package: str
    runtime: str
    script: str


SERVERS = {
    "sklearn": Stock("sklearnserver", "kserve-sklearnserver", SKLEARN),
    "xgboost": Stock("xgbserver", "kserve-xgbserver", XGBOOST),
    "lightgbm": Stock("lgbserver", "kserve-lgbserver", LIGHTGBM),
}


@dataclass(frozen=True)
class Serving:
    """A running server, and what its model says of `ROWS`."""

    client: httpx.Client
    wanted: list[float]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kserve_sources() -> Path:
    try:
        return gobuild.module_folder("kserve", "github.com/kserve/kserve")
    except ClusterError as error:  # pragma: no cover - without a network and an empty cache
        pytest.skip(str(error))


def arguments(sources: Path, runtime: str, filled: dict[str, str]) -> list[str]:
    """Of KServe's published runtime, with what it fills in."""
    published = yaml.safe_load((sources / "config" / "runtimes" / f"{runtime}.yaml").read_text())
    told: list[str] = published["spec"]["containers"][0]["args"]
    for place, value in filled.items():
        told = [each.replace(place, value) for each in told]
    return told


@contextmanager
def running(command: list[str], environment: dict[str, str], *ports: int) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment})
    try:
        for port in ports:
            _wait(lambda port=port: _listens(port), process)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return
        time.sleep(0.2)
    raise AssertionError(f"the server does not listen: {process.poll()}")


@pytest.fixture(scope="module", autouse=True)
def stock_servers() -> None:
    assert INSTALLED.is_dir(), "KServe's stock servers are not installed: make test-slow does it."


@pytest.fixture(scope="module", params=SERVERS)
def stock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    server, folder, port = SERVERS[request.param], tmp_path_factory.mktemp("artifact"), free_port()
    script = f"""
import json, pathlib
folder = pathlib.Path({str(folder)!r})
{server.script}
print(json.dumps([float(each) for each in model.predict({ROWS})]))
"""
    environment = {"PYTHONPATH": str(STOCK)}
    trained = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, check=True, capture_output=True, timeout=60
    )
    sources = kserve_sources()
    environment = {"PYTHONPATH": f"{STOCK}{os.pathsep}{sources / 'python' / server.package}"}
    filled = {"{{.Name}}": INSTANCE_NAME, "/mnt/models": str(folder), "8080": str(port)}
    # What the InferenceService adds stands behind the runtime's own arguments.
    told = [*arguments(sources, server.runtime, filled), f"--model_name={ROLLOUT}", "--enable_grpc=false"]
    with (
        running([sys.executable, "-m", server.package, *told], environment, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield Serving(client, json.loads(trained.stdout))


def test_v1_answers_under_the_rollouts_name_and_no_other(stock: Serving) -> None:
    answer = stock.client.post(f"/v1/models/{ROLLOUT}:predict", json={"instances": ROWS})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx(stock.wanted, abs=1e-6)
    assert stock.wanted[0] > stock.wanted[1]
    assert stock.client.post(f"/v1/models/{INSTANCE_NAME}:predict", json={"instances": ROWS}).status_code == 404


def test_v2_answers_under_the_rollouts_name(stock: Serving) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": VALUES}
    answer = stock.client.post(f"/v2/models/{ROLLOUT}/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == pytest.approx(stock.wanted, abs=1e-6)
    assert stock.client.get(f"/v2/models/{ROLLOUT}/ready").status_code == 200


# ---- Triton ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    """Triton with a model that is stored under the rollout's name: a client of REST, and the address of gRPC."""
    folder = tmp_path_factory.mktemp("repository")
    version = folder / ROLLOUT / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(PYTHON_BACKEND)
    tensor = "[{{ name: '{}' data_type: TYPE_FP64 dims: [{}] }}]"
    config = f"backend: 'python'\nmax_batch_size: 0\ninput {tensor.format('x', '-1, 2')}\n"
    (folder / ROLLOUT / "config.pbtxt").write_text(config + f"output {tensor.format('sum', '-1')}\n")
    # The wheel has a stub for each Python, and leaves it to us to put one into its place.
    backends = shutil.copytree(TRITON / "backends", tmp_path_factory.mktemp("triton") / "backends")
    stub = TRITON / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy(stub / "triton_python_backend_stub", backends / "python")
    libraries = f"{WHEEL / 'nvidia_pytriton.libs'}{os.pathsep}{sysconfig.get_config_var('LIBDIR')}"
    ports = free_port(), free_port()
    filled = {"/mnt/models": str(folder), "9000": str(ports[0]), "8080": str(ports[1])}
    program, *told = arguments(kserve_sources(), "kserve-tritonserver", filled)
    # Where its image has them in places that it knows by itself, and no port that others may have.
    told += [f"--backend-directory={backends}", "--allow-metrics=false"]
    with (
        running([str(TRITON / "bin" / program), *told], {"LD_LIBRARY_PATH": libraries}, *ports),
        httpx.Client(base_url=f"http://127.0.0.1:{ports[1]}", timeout=30) as client,
    ):
        yield client, f"127.0.0.1:{ports[0]}"


def test_triton_answers_under_the_name_that_the_model_is_stored_by(triton: tuple[httpx.Client, str]) -> None:
    tensor: dict[str, Any] = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": VALUES}
    answer = triton[0].post(f"/v2/models/{ROLLOUT}/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["model_name"], answer.json()["outputs"][0]["data"]) == (ROLLOUT, [2.0, 0.0])
    assert triton[0].post(f"/v2/models/{INSTANCE_NAME}/infer", json={"inputs": [tensor]}).status_code == 404


def test_triton_answers_over_grpc(triton: tuple[httpx.Client, str]) -> None:
    contents = messages.InferTensorContents(fp64_contents=VALUES)
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[2, 2], contents=contents)
    with grpc.insecure_channel(triton[1]) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(messages.ModelInferRequest(model_name=ROLLOUT, inputs=[tensor]), timeout=30)
        assert answer.model_name == ROLLOUT
        assert struct.unpack("<2d", answer.raw_output_contents[0]) == (2.0, 0.0)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(messages.ModelInferRequest(model_name=INSTANCE_NAME, inputs=[tensor]), timeout=30)
    assert refused.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
