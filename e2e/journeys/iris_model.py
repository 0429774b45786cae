"""Two versions of a small model on a real cluster: objects, and load that counts every answer."""

import base64
import http.client
import json
import threading
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

NAMESPACE = "cluster-test"
HOST = "iris.example.com"
PATH = "/v1/models/iris:predict"

TRAINING = """
import base64, io, joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
buffer = io.BytesIO()
joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), buffer)
print(base64.b64encode(buffer.getvalue()).decode())
"""
"""Runs in the runner image, so that the model fits the scikit-learn that loads it."""

SERVER = """
import argparse, os, joblib, kserve
from kserve import model_server
class Iris(kserve.Model):
    def load(self):
        self.model = joblib.load("/mnt/models/model.joblib")
        self.ready = True
        return True
    async def predict(self, payload, headers=None, response_headers=None):
        return dict(predictions=self.model.predict(payload["instances"]).tolist(), version=os.environ["VERSION"])
options, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
model = Iris(options.model_name)
model.load()
kserve.ModelServer(workers=1, enable_grpc=False).start([model])
"""


def decoded_model(printed: str) -> bytes:
    """The model that a training pod printed, below whatever warnings it also printed."""
    return base64.b64decode(printed.strip().splitlines()[-1])


def objects(image: str, access_key: str, secret_key: str) -> list[dict[str, Any]]:
    """Everything the model servers need."""
    annotations = {"s3-endpoint": "seaweedfs.storage:8333", "s3-usehttps": "0", "s3-region": "us-east-1"}
    secret = {
        "metadata": {
            "name": "s3",
            "annotations": {f"serving.kserve.io/{name}": value for name, value in annotations.items()},
        },
        "stringData": {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key},
    }
    container = {
        "name": "kserve-container",
        "image": image,
        "command": ["python3", "-c", SERVER],
        "args": ["--model_name={{ index .Labels `test/model` }}", "--http_port=8080"],
        "env": [{"name": "VERSION", "value": "{{ .Name }}"}],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    }
    runtime = {
        "metadata": {"name": "iris"},
        "spec": {
            "supportedModelFormats": [{"name": "iris", "version": "1", "autoSelect": True}],
            "protocolVersions": ["v1"],
            "containers": [container],
        },
    }
    return [
        {"apiVersion": "v1", "kind": "Secret", **secret},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "models"},
            "secrets": [{"name": "s3"}],
        },
        {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime", **runtime},
        *(_inference_service(version) for version in ("iris-1", "iris-2")),
    ]


def _inference_service(name: str) -> dict[str, Any]:
    annotations = {"deploymentMode": "Standard", "autoscalerClass": "none"}
    model = {
        "modelFormat": {"name": "iris"},
        "runtime": "iris",
        "storageUri": "s3://slipway/cluster-test/iris",
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": 8080},
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "labels": {"test/model": "iris"},
            "annotations": {f"serving.kserve.io/{key}": value for key, value in annotations.items()},
        },
        "spec": {"predictor": {"serviceAccountName": "models", "minReplicas": 1, "model": model}},
    }


def routes() -> list[dict[str, Any]]:
    """A route with weights, and one a version that keeps its statistics and connections at weight 0."""
    weighted = [{"name": f"{name}-predictor", "port": 80} for name in ("iris-1", "iris-2")]
    pins = [
        _route(f"{name}-pin", [{"name": f"{name}-predictor", "port": 80}], header=name) for name in ("iris-1", "iris-2")
    ]
    return [*pins, _route("iris", [{**weighted[0], "weight": 100}, {**weighted[1], "weight": 0}])]


def _route(name: str, backends: list[dict[str, Any]], header: str = "") -> dict[str, Any]:
    match: dict[str, Any] = {"path": {"type": "PathPrefix", "value": "/"}}
    if header:
        match["headers"] = [{"name": "x-version", "value": header}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"namespace": "slipway-system", "name": "models"}],
            "hostnames": [HOST],
            "rules": [{"matches": [match], "backendRefs": backends}],
        },
    }


class Load:
    """Steady requests to the gateway from a few connections, until it is stopped; every answer is counted."""

    def __init__(self, url: str, connections: int = 4, pause: float = 0.05) -> None:
        self._address = urlsplit(url).netloc
        self._pause = pause
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._threads = [threading.Thread(target=self._send) for _ in range(connections)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> Counter[tuple[str, str]]:
        """Answers since the last call: how often each (status or error, version)."""
        with self._lock:
            taken, self._answers = self._answers, Counter()
        return taken

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        while not self._ended.is_set():
            answer = ask(connection)
            if not answer[0].isdigit():
                connection.close()
            with self._lock:
                self._answers[answer] += 1
            time.sleep(self._pause)
        connection.close()


def ask(connection: http.client.HTTPConnection, **headers: str) -> tuple[str, str]:
    """One prediction: the status or the error's name, and the version that answered."""
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]})
    try:
        connection.request("POST", PATH, body, {"Host": HOST, "Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, "-"
    return str(answer.status), json.loads(content)["version"] if answer.status == 200 else "-"
