"""Frames of model inputs: their columns, their types, and a digest of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slipway.api.dataset import DatasetColumn
from slipway.api.modelversion import InputField
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import DatasetManifest, TrainingFeatureSet
from slipway_pipelines.errors import RefusalError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def input_fields(
    manifest: DatasetManifest, inputs: Sequence[str], feature_sets: Sequence[TrainingFeatureSet], target: str
) -> list[InputField]:
    """A model's inputs in order: the dataset's columns that `inputs` names, then every feature.

    RefusalError InvalidSpec for an input that is no column, is the label, or is sensitive, and for a name that
    stands for two things.
    """
    columns = {column.name: column for column in manifest.columns}
    fields = [_request_field(name, columns, manifest, target) for name in inputs]
    for feature_set in feature_sets:
        for view in feature_set.views:
            for feature in view.features:
                if any(field.name == feature.name for field in fields):
                    raise RefusalError(
                        Reason.InvalidSpec,
                        f"{feature.name} is a feature of FeatureSet {feature_set.name}, view {view.name}, and the name "
                        "of another input: rename the feature, or remove it from training.inputs.",
                    )
                fields.append(
                    InputField(name=feature.name, type=feature.type, source="FeatureStore", default=feature.default)
                )
    return fields


def _request_field(name: str, columns: dict[str, DatasetColumn], manifest: DatasetManifest, target: str) -> InputField:
    if name in (manifest.label, target):
        raise RefusalError(
            Reason.InvalidSpec, f"training.inputs has {name}, which is the label: a model may not see it; remove it."
        )
    column = columns.get(name)
    if column is None:
        raise RefusalError(
            Reason.InvalidSpec,
            f"training.inputs has {name}, which is no column of dataset {manifest.dataset}: use one of "
            f"{', '.join(sorted(columns))}, or declare it in the Dataset.",
        )
    if column.sensitive:
        raise RefusalError(
            Reason.InvalidSpec,
            f"training.inputs has {name}, which dataset {manifest.dataset} declares sensitive: remove it from inputs.",
        )
    return InputField(name=name, type=column.type, source="Request")


def conform(frame: pd.DataFrame, fields: Sequence[InputField]) -> pd.DataFrame:
    """The columns of `fields` in their order, in the types that `slipway_pipelines.training.sdk` promises."""
    import pandas as pd

    return pd.DataFrame({field.name: _series(field.type, frame[field.name]) for field in fields}, index=frame.index)


def _series(kind: str, values: pd.Series[Any]) -> Any:
    import numpy as np

    missing = values.isna()
    if kind in ("Integer", "Double"):
        whole = kind == "Integer" and not missing.any()
        return values.astype(np.int64) if whole else values.astype(np.float64)
    if kind == "Timestamp":
        return values.astype("datetime64[us]")
    if kind == "Boolean" and not missing.any():
        return values.astype(np.bool_)
    return values.astype(object).where(~missing, None)


def labels(frame: pd.DataFrame, column: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The label column as booleans. RefusalError when a label is missing or is neither true nor false."""
    import numpy as np

    values = frame[column]
    if values.isna().any() or not set(values.unique()) <= {True, False}:
        raise RefusalError(
            Reason.SchemaMismatch,
            f"The label {column} has values other than true and false: correct labels of the Dataset.",
        )
    labels: np.ndarray[Any, np.dtype[np.bool_]] = values.to_numpy().astype(np.bool_)
    return labels


def frame_digest(frame: pd.DataFrame) -> str:
    """Digest of a frame's rows: column names, kinds of types and values, in order; the index does not count.

    A column is hashed as a header in canonical JSON, a bit mask of its missing values, and its values: integers, times
    (microseconds) as little-endian int64, other numbers as float64, booleans as bytes, anything else as the lengths and
    bytes of its UTF-8 text. Missing values are zero, so no NaN pattern matters.
    """
    import numpy as np

    hasher = hashlib.sha256()
    for name in frame.columns:
        values = frame[name]
        missing = values.isna().to_numpy()
        kind, *chunks = _bytes(values, missing)
        header = canonical_json({"name": str(name), "kind": kind, "rows": len(frame)})
        for chunk in (header, np.packbits(missing).tobytes(), *chunks):
            hasher.update(chunk)
    return "sha256:" + hasher.hexdigest()


def _bytes(values: pd.Series[Any], missing: Any) -> tuple[str, *tuple[bytes, ...]]:
    """The kind of a column, and its values as bytes."""
    import numpy as np

    kind = values.dtype.kind
    if kind == "M":
        times = values.dt.tz_localize(None) if values.dt.tz is not None else values
        whole = times.to_numpy().astype("datetime64[us]").astype("<i8")
        return "time", np.where(missing, 0, whole).astype("<i8").tobytes()
    if kind in "iu":
        return "integer", values.to_numpy().astype("<i8").tobytes()
    if kind == "b":
        return "boolean", values.to_numpy().astype("u1").tobytes()
    if kind == "f":
        numbers = values.to_numpy()
        return "double", (np.where(missing, 0.0, numbers) + 0.0).astype("<f8").tobytes()
    texts = ["" if gone else str(value) for value, gone in zip(values, missing, strict=True)]
    lengths = np.fromiter((len(text.encode()) for text in texts), dtype="<i8", count=len(texts))
    return "text", lengths.tobytes(), "".join(texts).encode()
