"""What a stock runtime of KServe is told: where the model is, and under which name it answers.

KServe's runtimes name a model after its InferenceService (`--model_name={{.Name}}`), and each version has one of its
own. KServe puts the arguments of an InferenceService behind those of the runtime, and where an argument is given twice
the last one counts: so each version is told the rollout's name, and URLs stay.
"""

from __future__ import annotations

from typing import Final, Literal

from slipway.api.modelrollout import Serving
from slipway.api.rollout_serving import DIGEST_PLACE, VERSION_PLACE, ModelFormat
from slipway.contracts.digests import short
from slipway.runtime.resources import Object

OWN_FORMAT: Final = "slipway-joblib"
"""The format of Slipway's own model server."""
NAME_ARGUMENT: Final = "--model_name"
_NAME_VARIABLE: Final = "MLSERVER_MODEL_NAME"

_NAMED_BY: Final[dict[str, Literal["Argument", "Environment", "Artifact"]]] = {
    "kserve-mlserver": "Environment",
    "kserve-openvino": "Artifact",
    "kserve-torchserve": "Artifact",
    "kserve-tritonserver": "Artifact",
    "kserve-vllmserver": "Artifact",
}
"""Runtimes that KServe ships and that take no `--model_name`."""

GRPC: Final = "grpc-v2"
GRPC_PATH: Final = "/inference.GRPCInferenceService"
"""The service of the Open Inference Protocol: what every path of its calls begins with."""
_GRPC_PORTS: Final = {"kserve-torchserve": 7070, "kserve-tritonserver": 9000}
_GRPC_PORT: Final = 8081
"""Where servers made with KServe's SDK take calls."""

PREDICT_PATHS: Final = {"v1": "/v1/models/{}:predict", "v2": "/v2/models/{}/infer"}
"""Where a protocol takes predictions; the model's name is the rollout's."""


def model_spec(serving: Serving, name: str, version: str, digest: str, artifact: str) -> Object:
    """The part of `predictor.model` that says what is served, and by which runtime.

    :param name: the model's in URLs
    :param version: the ModelVersion
    :param digest: of its model
    :param artifact: its folder in the artifact store
    """
    stock = serving.model_format
    spec: Object = {
        "modelFormat": {"name": OWN_FORMAT},
        "runtime": serving.runtime,
        "storageUri": artifact,
    }
    if stock is None:
        return spec if serving.protocol == "v1" else {**spec, "protocolVersion": serving.protocol}
    spec["modelFormat"] = {"name": stock.name, **({"version": stock.version} if stock.version else {})}
    spec["protocolVersion"] = serving.protocol
    if stock.storage_uri is not None:
        spec["storageUri"] = stock.storage_uri.replace(VERSION_PLACE, version).replace(DIGEST_PLACE, short(digest))
    if serving.protocol == GRPC:
        port = stock.grpc_port or _GRPC_PORTS.get(serving.runtime, _GRPC_PORT)
        # By the name of a server's first port KServe tells the gateway what is spoken there.
        spec["ports"] = [{"name": "h2c", "containerPort": port, "protocol": "TCP"}]
    arguments = [*stock.args, *_name_arguments(serving.runtime, stock, name)]
    return {**spec, **({"args": arguments} if arguments else {})}


def environment(serving: Serving, name: str) -> list[Object]:
    """Environment of a stock server; nothing that only Slipway's own server knows."""
    stock = serving.model_format
    if stock is None:
        return []
    values = [each.wire() for each in stock.env]
    if _named_by(serving.runtime, stock) == "Environment":
        values.append({"name": _NAME_VARIABLE, "value": name})
    return values


def _name_arguments(runtime: str, stock: ModelFormat, name: str) -> list[str]:
    return [f"{NAME_ARGUMENT}={name}"] if _named_by(runtime, stock) == "Argument" else []


def _named_by(runtime: str, stock: ModelFormat) -> str:
    return stock.model_name or _NAMED_BY.get(runtime, "Argument")
