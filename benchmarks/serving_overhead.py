"""What the gateway adds to a prediction: the predictor called directly, and the way that users take."""

from __future__ import annotations

import json
import time
from typing import Any

from slipway_demo.acts import ROLLOUT, Play
from slipway_demo.client import flights
from slipway_demo.world import Obj

IMAGE = "localhost/flight-delays:dev"
_INSTANCES = "bench-instances"


def measure(play: Play, rate: float, seconds: float) -> dict[str, Any]:
    """The same flights, one after the other in time, from a pod: straight to the server, and through the gateway.

    Returns: requests and lost requests; milliseconds at p50, p90 and p99; the ratio of the medians.
    """
    rollout = play.get("ModelRollout", ROLLOUT) or {}
    stable = rollout["status"]["stable"]
    service = next(v["service"] for v in rollout["status"]["versions"] if v["name"] == stable)
    server = f"http://{service}-predictor.{play.namespace}"
    proxies = play.world.core.list_service_for_all_namespaces(
        label_selector="gateway.envoyproxy.io/owning-gateway-name=models"
    ).items
    proxy = proxies[0].metadata
    gateway = f"http://{proxy.name}.{proxy.namespace}{rollout['spec']['routing']['path']}"
    play.world.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _INSTANCES, "namespace": play.namespace},
            "data": {"flights.jsonl": flights(7, 500)},
        }
    )
    measured = {
        "server": _run(play, "bench-server", server, rate, seconds),
        "gateway": _run(play, "bench-gateway", gateway, rate, seconds),
    }
    medians = {name: summary["latencyMilliseconds"]["p50"] for name, summary in measured.items()}
    return {
        "requests": {name: summary["sent"] for name, summary in measured.items()},
        "lost": {name: summary["lost"] for name, summary in measured.items()},
        "milliseconds": {name: summary["latencyMilliseconds"] for name, summary in measured.items()},
        "gatewayToServer": round(medians["gateway"] / medians["server"], 3),
    }


def _run(play: Play, name: str, url: str, rate: float, seconds: float) -> dict[str, Any]:
    play.world.delete("Job", name, play.namespace, "batch/v1")
    play.world.wait(name, lambda: play.world.get("Job", name, play.namespace, "batch/v1") is None, timeout=60)
    play.world.apply(_job(play, name, url, rate, seconds))

    def over() -> Any:
        told = (play.world.get("Job", name, play.namespace, "batch/v1") or {}).get("status") or {}
        return told.get("succeeded") or told.get("failed")

    play.world.wait(f"Job {name}", over, timeout=seconds + 120)
    pods = play.world.core.list_namespaced_pod(play.namespace, label_selector=f"job-name={name}").items
    text = play.world.core.read_namespaced_pod_log(pods[0].metadata.name, play.namespace)
    summary: dict[str, Any] = json.loads(text[text.index("{") :])
    time.sleep(1)
    return summary


def _job(play: Play, name: str, url: str, rate: float, seconds: float) -> Obj:
    arguments = [
        "-m",
        "flights.client",
        "--url",
        url,
        "--model",
        ROLLOUT,
        "--rate",
        str(rate),
        "--seconds",
        str(seconds),
    ]
    if host := play.host():
        arguments += ["--host", host]
    container = {
        "name": "client",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", *arguments, "--instances", "/instances/flights.jsonl"],
        "volumeMounts": [{"name": "instances", "mountPath": "/instances"}],
        "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "instances", "configMap": {"name": _INSTANCES}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": play.namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
