"""What tests of rollouts write, read and wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cluster.modelrollout.stage import Stage

from slipway.adapters.gateway import weights_of
from slipway.runtime.client import Client
from slipway.runtime.resources import (
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    MODEL_ROLLOUT,
    MODEL_VERSION,
    Object,
)

PROJECT = "flight-delays"
NAME = "delays"
Eventually = Callable[..., Awaitable[Any]]

STEPS: list[Object] = [
    {"name": "some", "setWeight": 30},
    {"name": "watch", "analyze": {"for": "3s"}},
    {"name": "everyone", "setWeight": 100},
]
CHECKS: list[Object] = [
    {"name": "success", "metric": "successPercent", "min": "95", "minimumRequests": 20, "window": "10s"}
]


def made(type_: Any, metadata: Object, spec: Object) -> Object:
    return {"apiVersion": type_.api_version, "kind": type_.kind, "metadata": dict(metadata), "spec": spec}


def version(namespace: str, number: int, *, passed: bool = True) -> Object:
    digest = f"{number:010x}" + "a" * 54
    kinds = ("parameters", "configuration", "featurePipeline", "trainingSet", "validationSet", "testSet", "code")
    folder = f"s3://slipway/models/{namespace}/{PROJECT}/{digest[:10]}"
    spec = {
        "projectRef": {"name": PROJECT},
        "run": {"name": "run", "uid": "u"},
        "datasetVersionRef": {"name": "flights-1"},
        "digests": {
            **dict.fromkeys((*kinds, "pipeline"), f"sha256:{'b' * 64}"),
            "model": f"sha256:{digest}",
            "image": "runner",
        },
        "artifact": folder,
        "manifest": f"{folder}/manifest.json",
        "manifestDigest": f"sha256:{'c' * 64}",
        "inputs": [{"name": "carrier", "type": "String", "source": "Request"}],
        "metrics": [],
        "score": "0.8",
        "verdicts": [],
        "passed": passed,
        "evaluation": f"{folder}/evaluation.json",
    }
    return made(MODEL_VERSION, {"name": f"{PROJECT}-{digest[:10]}", "namespace": namespace}, spec)


def rollout(namespace: str, **spec: Any) -> Object:
    whole = {
        "projectRef": {"name": PROJECT},
        "routing": {"hostnames": ["models.example.com"], "path": "/delays"},
        "steps": STEPS,
        "checks": CHECKS,
        "rollback": {"keepPrevious": "1s"},
        **spec,
    }
    return made(MODEL_ROLLOUT, {"name": NAME, "namespace": namespace}, whole)


class Director:
    """Reads and changes the rollout of a test."""

    def __init__(self, client: Client, namespace: str, stage: Stage) -> None:
        self.client = client
        self.namespace = namespace
        self.stage = stage
        self.key = MODEL_ROLLOUT.key(NAME, namespace)

    async def status(self) -> Object:
        obj = await self.client.find(self.key)
        return (obj or {}).get("status") or {}

    async def stable(self) -> str:
        return str((await self.status()).get("stable", ""))

    async def add_version(self, number: int) -> str:
        """Versions have an age in whole seconds: of two made in one second, the name decides."""
        obj = await self.client.create(MODEL_VERSION, version(self.namespace, number))
        return str(obj["metadata"]["name"])

    async def weights(self) -> dict[str, int]:
        route = await self.client.find(HTTP_ROUTE.key(NAME, self.namespace))
        return weights_of(route) if route else {}

    async def names(self, type_: Any) -> list[str]:
        return [each["metadata"]["name"] for each in await self.client.list(type_, self.namespace)]

    def url(self) -> str:
        return f"http://127.0.0.1:{self.stage.proxy.listener}/delays/v1/models/{NAME}:predict"


# ---- what is waited for ----------------------------------------------------------------------------------------------
async def serves(director: Director, name: str) -> bool:
    status = await director.status()
    ready = [each for each in status.get("conditions", ()) if each["type"] == "Ready"]
    return status.get("stable") == name and bool(ready) and ready[0]["status"] == "True"


async def stalled(director: Director, reason: str) -> bool:
    conditions = (await director.status()).get("conditions", ())
    return (reason, "True") in [(each["reason"], each["status"]) for each in conditions if each["type"] == "Stalled"]


async def rejected(director: Director, name: str) -> bool:
    return name in [each["name"] for each in (await director.status()).get("rejected", ())]


async def weight_is(director: Director, service: str, weight: int) -> bool:
    return (await director.weights()).get(service) == weight


async def only(director: Director, service: str) -> bool:
    return await director.names(INFERENCE_SERVICE) == [service]
