"""The document that the operator submits is the one that KFP's SDK compiles with its extension for Kubernetes."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, kubernetes
from kfp.dsl import PipelineTask
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from slipway.adapters.kfp.document import TERMINATION_PATH, Settings, document, load
from slipway.api.computepool import ComputePool
from slipway.api.meta import Resources
from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import Store
from slipway.contracts.stages import TASKS, TERMINATION_LOG
from slipway_pipelines import compiled
from slipway_pipelines.training import pipeline

STORE = Store(endpoint="http://s3.local:8333", bucket="slipway", region="eu")
FEAST = {key: f"SLIPWAY_FEAST_{key.upper()}" for key in ("host", "port", "database", "username", "password")}


def pool(resource: str) -> ComputePool:
    spec = {
        "resource": resource,
        "nodeSelector": {"slipway.dev/pool": "fast"},
        "tolerations": [
            {"key": resource, "operator": "Exists", "effect": "NoSchedule"},
            {"key": "team", "operator": "Equal", "value": "flights"},
        ],
    }
    return ComputePool.model_validate({"metadata": {"name": "fast"}, "spec": spec})


def settings(**more: Any) -> Settings:
    return Settings(
        image="registry.example.com/flights:1",
        project="flight-delays",
        store=STORE,
        s3_secret="flight-delays-slipway-s3",
        feast_secret="flight-delays-slipway-feast",
        deadline_seconds=5400,
        **more,
    )


def compiled_by_the_sdk(tmp_path: Path, hook: Callable[[PipelineTask], None]) -> list[dict[str, Any]]:
    """The documents of the same pipeline, compiled anew with what `hook` sets on every task."""
    source = Path(pipeline.__file__).read_text()
    last = "    task.set_caching_options(False)\n"
    assert last in source
    module = tmp_path / "hooked_pipeline.py"
    module.write_text(source.replace(last, f"{last}    import kfp_hook\n    kfp_hook.hook(task)\n"))
    sys.modules["kfp_hook"] = SimpleNamespace(hook=hook)  # type: ignore[assignment]
    try:
        spec = importlib.util.spec_from_file_location("hooked_pipeline", module)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules["hooked_pipeline"] = made
        spec.loader.exec_module(made)
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(made.training, str(path))
        return list(yaml.safe_load_all(path.read_text()))
    finally:
        sys.modules.pop("kfp_hook", None)
        sys.modules.pop("hooked_pipeline", None)


def common(task: PipelineTask) -> None:
    """What every task has, said with the SDK."""
    info = TASKS[task.name]
    task.set_container_image("registry.example.com/flights:1")
    task.set_env_variable("HOME", "/tmp")
    task.set_env_variable(TERMINATION_LOG, TERMINATION_PATH)
    if info.store:
        for name, value in (("ENDPOINT", STORE.endpoint), ("BUCKET", STORE.bucket), ("REGION", STORE.region)):
            task.set_env_variable(f"SLIPWAY_S3_{name}", value)
        keys = {"accessKey": "SLIPWAY_S3_ACCESS_KEY", "secretKey": "SLIPWAY_S3_SECRET_KEY"}
        kubernetes.use_secret_as_env(task, "flight-delays-slipway-s3", keys)
    if info.feast:
        kubernetes.use_secret_as_env(task, "flight-delays-slipway-feast", FEAST)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_timeout(task, 5400)
    kubernetes.set_security_context(task, run_as_user=65532, run_as_group=65532, run_as_non_root=True)
    kubernetes.add_pod_label(task, "slipway.dev/project", "flight-delays")
    kubernetes.add_pod_label(task, "slipway.dev/stage", info.stage)
    kubernetes.add_pod_label(task, "app.kubernetes.io/managed-by", "slipway")


def placed(task: PipelineTask, resource: str) -> None:
    kubernetes.add_node_selector(task, "slipway.dev/pool", "fast")
    kubernetes.add_toleration(task, key=resource, operator="Exists", effect="NoSchedule")
    kubernetes.add_toleration(task, key="team", operator="Equal", value="flights")


def marked(task: PipelineTask, resource: str, units: str) -> None:
    kubernetes.add_pod_label(task, "slipway.dev/pool", "fast")
    kubernetes.add_pod_annotation(task, "slipway.dev/pool-resource", resource)
    kubernetes.add_pod_annotation(task, "slipway.dev/pool-units", units)


def without_a_pool(task: PipelineTask) -> None:
    common(task)
    task.set_cpu_request("100m").set_memory_request("256Mi").set_memory_limit("2Gi")


def with_gpus(task: PipelineTask) -> None:
    common(task)
    task.set_cpu_request("2").set_cpu_limit("4").set_memory_request("1G").set_memory_limit("8Gi")
    if task.name == "train":
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit("2")
        placed(task, "nvidia.com/gpu")
        marked(task, "nvidia.com/gpu", "2")


def with_large_nodes(task: PipelineTask) -> None:
    common(task)
    task.set_memory_request("16Gi").set_memory_limit("32Gi")
    if task.name in ("features", "baselines", "train"):
        placed(task, "memory")
    if task.name == "train":
        marked(task, "memory", str(16 * 2**30))


GPUS = Resources(
    requests={"cpu": "2", "memory": "1G", "nvidia.com/gpu": "2"},
    limits={"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"},
)
MEMORY = Resources(requests={"memory": "16Gi"}, limits={"memory": "32Gi"})


@pytest.mark.parametrize(
    ("hook", "asked"),
    [
        (without_a_pool, settings()),
        (with_gpus, settings(pool=pool("nvidia.com/gpu"), resources=GPUS)),
        (with_large_nodes, settings(pool=pool("memory"), resources=MEMORY)),
    ],
)
def test_it_is_what_the_sdk_compiles(tmp_path: Path, hook: Callable[[PipelineTask], None], asked: Settings) -> None:
    data = compiled.training_ir()
    made = document(load(data), digest_bytes(data), asked)
    spec, platform = compiled_by_the_sdk(tmp_path, hook)
    for label, executor in spec["deploymentSpec"]["executors"].items():
        assert made.spec["deploymentSpec"]["executors"][label] == executor, label
    for label, config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        assert made.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label] == config, label
    assert [made.spec, made.platform] == [spec, platform]
    assert list(yaml.safe_load_all(made.text())) == [spec, platform]


def test_protobuf_knows_every_field() -> None:
    data = compiled.training_ir()
    made = document(load(data), digest_bytes(data), settings(pool=pool("nvidia.com/gpu"), resources=GPUS))
    spec = json_format.ParseDict(dict(made.spec), pipeline_spec_pb2.PipelineSpec())
    assert json_format.MessageToDict(spec) == made.spec
    containers = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(dict(made.spec["deploymentSpec"]), containers)
    for config in made.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        message = json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        assert json_format.MessageToDict(message) == config


def test_nothing_but_containers_differs_from_the_compiled_pipeline() -> None:
    data = compiled.training_ir()
    made = document(load(data), digest_bytes(data), settings())
    ours = {**made.spec, "deploymentSpec": None}
    assert ours == {**load(data), "deploymentSpec": None}
    for label, executor in load(data)["deploymentSpec"]["executors"].items():
        container = made.spec["deploymentSpec"]["executors"][label]["container"]
        assert container["command"] == executor["container"]["command"]
        assert container["args"] == executor["container"]["args"]
        assert container["env"][: len(executor["container"]["env"])] == executor["container"]["env"]
