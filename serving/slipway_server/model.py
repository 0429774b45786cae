"""The model behind KServe's protocols: instances in, probabilities out."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from kserve import InferOutput, InferRequest, InferResponse, Model
from prometheus_client import Histogram

from slipway.api.modelversion import InputField
from slipway.contracts.digests import digest_json
from slipway.contracts.jobs import ModelManifest
from slipway_server import metrics
from slipway_server.abstaining import Abstention, Decision, decide
from slipway_server.batching import Batcher
from slipway_server.errors import Refused, StartError
from slipway_server.features import FeatureSource, fill
from slipway_server.inputs import Instance, frame, parse_instances, request_values
from slipway_server.requestlog import Answer, current

log = logging.getLogger("slipway.model")

_OUTPUTS = {"label": "BOOL", "probability": "FP64"}
_ABSTAINING_OUTPUTS = {"confidence": "FP64", "source": "BYTES", "abstained": "BOOL"}
_TENSOR_TYPES = {"String": "BYTES", "Integer": "INT64", "Double": "FP64", "Boolean": "BOOL", "Timestamp": "BYTES"}


class Classifier:
    """A loaded scikit-learn classifier with two classes.

    :param seconds: what its calls are timed by
    """

    def __init__(self, path: Path, fields: Sequence[InputField], seconds: Histogram = metrics.MODEL) -> None:
        """Load the model. StartError when it cannot be loaded or has no probability of a true class."""
        self.fields = tuple(fields)
        self._seconds = seconds
        self._model = _load(path)
        self._true = _true_class(self._model, path)

    def probabilities(self, columns: dict[str, list[Any]]) -> list[float]:
        """Probability of true for each row. Whatever the model raises."""
        rows = frame(self.fields, columns)
        with self._seconds.time():
            answer = self._model.predict_proba(rows)
        if len(answer) != len(rows):
            raise ValueError(f"predict_proba gave {len(answer)} answers for {len(rows)} rows")
        return [float(p) for p in answer[:, self._true]]

    def warm_up(self) -> None:
        """One call with missing values, so that the first client does not wait for lazy imports."""
        try:
            self.probabilities({field.name: [None] for field in self.fields})
        except Exception as error:
            # Not a test of the model: it may rightly refuse missing values.
            log.info("The model does not take missing values: %s", error)


class SlipwayModel(Model):  # type: ignore[misc]
    """One version of a model, as the KServe SDK serves it."""

    def __init__(
        self,
        name: str,
        version: str,
        manifest: ModelManifest,
        classifier: Classifier,
        source: FeatureSource | None,
        *,
        fail_on_missing: bool,
        abstention: Abstention | None = None,
    ) -> None:
        super().__init__(name)
        self._abstention = abstention
        self.version = version
        self._manifest = manifest
        self._source = source
        self._fail_on_missing = fail_on_missing
        self._features = [field for field in manifest.inputs if field.source == "FeatureStore"]
        self._predict = Batcher(manifest.inputs, classifier.probabilities)
        self.ready = True

    async def healthy(self) -> bool:
        """Whether requests can be answered as declared."""
        return self._source is None or self._source.ready

    async def predict(
        self,
        payload: dict[str, Any] | bytes | InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - the SDK's signature
        response_headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> dict[str, Any] | InferResponse:
        """Answer a v1 (dict) or v2 (InferRequest) request. Refused with 400, 500 or 503 and a sentence."""
        v2 = isinstance(payload, InferRequest)
        instances = _tensors_to_instances(payload) if v2 else parse_instances(_decoded(payload))
        decisions = await self._answer(instances)
        if v2:
            return self._v2_response(payload, decisions)
        # Where the model never abstains, answers have the fields that every version declares and no other.
        predictions = [
            {"label": each.label, "probability": each.probability} if self._abstention is None else each.wire()
            for each in decisions
        ]
        return {"predictions": predictions, "modelVersion": self.version}

    async def _answer(self, instances: list[Instance]) -> list[Decision]:
        record = current()
        record.instances = len(instances)
        columns = {field.name: request_values(instances, field) for field in self._manifest.inputs}
        record.inputs_digest = digest_json([{name: row[name] for name in columns if name in row} for row in instances])
        origins = await fill(self._source, instances, self._features, columns, fail_on_missing=self._fail_on_missing)
        record.features = {name: dict(Counter(came)) for name, came in origins.items()}
        try:
            probabilities = await self._predict(columns, len(instances))
        except Exception as error:
            log.exception("The model raised an exception", extra={"fields": {"id": record.id}})
            raise Refused(
                500,
                f"The model {self.version} failed on this request with {type(error).__name__}: "
                f"its server's log says why under request id {record.id}.",
                detail=f"{type(error).__name__}: {error}"[:500],
            ) from error
        _must_be_finite(probabilities, self.version)
        decisions = await decide(self._abstention, columns, probabilities)
        if self._abstention is not None:
            record.sources = dict(Counter(each.source for each in decisions))
        record.answer = Answer(columns, origins, probabilities, decisions)
        return decisions

    def _v2_response(self, request: InferRequest, decisions: list[Decision]) -> InferResponse:
        found = [each.tensors() for each in decisions]
        return InferResponse(
            response_id=request.id or current().id,
            model_name=self.name,
            infer_outputs=[
                InferOutput(name, [len(found)], kind, [each[name] for each in found])
                for name, kind in self._outputs().items()
            ],
            parameters={"modelVersion": self.version},
        )

    def _outputs(self) -> dict[str, str]:
        return _OUTPUTS if self._abstention is None else _OUTPUTS | _ABSTAINING_OUTPUTS

    def get_input_types(self) -> list[dict[str, Any]]:
        """Inputs for the v2 metadata endpoint."""
        return [{"name": f.name, "datatype": _TENSOR_TYPES[f.type], "shape": [-1]} for f in self._manifest.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Outputs for the v2 metadata endpoint."""
        return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in self._outputs().items()]


def _decoded(payload: dict[str, Any] | bytes) -> Any:
    """The SDK leaves the body as it is when the content type is not JSON, as with a bare `curl -d`."""
    if not isinstance(payload, bytes):
        return payload
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"The request is not JSON: {error}.") from error


def _load(path: Path) -> Any:
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:
        raise StartError(
            f"{path} cannot be loaded ({type(error).__name__}: {error}): "
            "serve it with the packages that it was trained with."
        ) from error


def _true_class(model: Any, path: Path) -> int:
    classes = [bool(c) if c in (0, 1) else c for c in getattr(model, "classes_", [])]
    if not hasattr(model, "predict_proba") or True not in classes:
        raise StartError(
            f"{path} is a {type(model).__name__} with classes {classes}: "
            "a model needs predict_proba and the classes false and true."
        )
    return classes.index(True)


def _must_be_finite(probabilities: Sequence[float], version: str) -> None:
    for index, p in enumerate(probabilities):
        if not math.isfinite(p):
            raise Refused(
                500, f"The model {version} gave the probability {p} for instances[{index}], which is not a number."
            )


def _tensors_to_instances(request: InferRequest) -> list[Instance]:
    """Named one-dimensional tensors of equal length → instances. Refused (400) otherwise."""
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        if list(tensor.shape) not in ([len(tensor.data)], [len(tensor.data), 1]):
            raise Refused(400, f"inputs[{tensor.name}] has shape {list(tensor.shape)}: send one value an instance.")
        values = tensor.as_numpy().reshape(-1).tolist() if not isinstance(tensor.data, list) else tensor.data
        columns[tensor.name] = [v.decode() if isinstance(v, bytes) else v for v in values]
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise Refused(400, "inputs must be tensors of equal length, one a column and one value an instance.")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
