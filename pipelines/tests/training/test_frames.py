"""Inputs, their types, and digests of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.api.modelversion import InputField
from slipway.contracts.jobs import DatasetManifest, TrainingFeatureSet
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.training.frames import conform, frame_digest, input_fields, labels

MANIFEST = DatasetManifest.model_validate(
    {
        "namespace": "flights",
        "dataset": "flights",
        "columns": [
            {"name": "id", "type": "String"},
            {"name": "distance", "type": "Double"},
            {"name": "tailnum", "type": "String", "sensitive": True},
            {"name": "late", "type": "Boolean"},
        ],
        "key": ["id"],
        "label": "late",
        "parts": [],
    }
)


def feature_set(*features: str) -> TrainingFeatureSet:
    """One view over the dataset."""
    return TrainingFeatureSet.model_validate(
        {
            "name": "history",
            "definitionDigest": "sha256:" + "0" * 64,
            "feastProject": "p",
            "entities": [{"name": "id"}],
            "views": [
                {
                    "name": "v",
                    "entities": ["id"],
                    "source": {"type": "Dataset", "dataset": {"datasetRef": {"name": "flights"}}},
                    "features": [{"name": name, "default": 1.5} for name in features],
                }
            ],
            "datasets": [],
        }
    )


def test_inputs_are_columns_then_features() -> None:
    fields = input_fields(MANIFEST, ["distance"], [feature_set("share")], "late")
    assert [(f.name, f.type, f.source, f.default) for f in fields] == [
        ("distance", "Double", "Request", None),
        ("share", "Double", "FeatureStore", 1.5),
    ]


@pytest.mark.parametrize(
    ("inputs", "features", "says"),
    [
        (["late"], [], "late, which is the label"),
        (["tailnum"], [], "tailnum, which dataset flights declares sensitive"),
        (["speed"], [], "speed, which is no column of dataset flights: use one of distance, id"),
        (["distance"], ["distance"], "distance is a feature of FeatureSet history, view v, and the name of another"),
    ],
)
def test_inputs_that_cannot_be(inputs: list[str], features: list[str], says: str) -> None:
    with pytest.raises(RefusalError, match=says):
        input_fields(MANIFEST, inputs, [feature_set(*features)] if features else [], "late")


@pytest.mark.parametrize(
    ("kind", "values", "dtype", "expected"),
    [
        ("Integer", [1, 2], "int64", [1, 2]),
        ("Integer", [1, None], "float64", [1.0, np.nan]),
        ("Double", [1.5, None], "float64", [1.5, np.nan]),
        ("String", ["a", None], "object", ["a", None]),
        ("Boolean", [True, False], "bool", [True, False]),
        ("Boolean", [True, None], "object", [True, None]),
        ("Timestamp", pd.to_datetime(["2013-01-01", None]), "datetime64[us]", pd.to_datetime(["2013-01-01", None])),
    ],
)
def test_types_are_those_of_the_model_server(kind: Any, values: Any, dtype: str, expected: Any) -> None:
    from slipway_server.inputs import frame as served_frame

    field = InputField(name="x", type=kind, source="Request")
    found = conform(pd.DataFrame({"x": values}), [field])
    assert str(found["x"].dtype) == dtype
    pd.testing.assert_series_equal(
        found["x"], pd.Series(expected, name="x", dtype=dtype), check_dtype=True, check_exact=True
    )
    plain = [None if value is None or value is pd.NaT else value for value in values]
    if kind != "Timestamp":
        assert served_frame([field], {"x": plain}).dtypes.to_dict() == found.dtypes.to_dict()


def test_a_digest_is_of_content() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None], "c": [1, 2], "d": [True, False]})
    digest = frame_digest(frame)
    assert frame_digest(frame.set_index(pd.Index([7, 8]))) == digest, "the index does not count"
    negative_nan = frame.assign(a=np.array([1.0, -np.nan]))
    assert frame_digest(negative_nan) == digest, "neither does the pattern of a NaN"
    changes = [
        frame.assign(a=[1.0, 0.0]),
        frame.assign(b=["x", ""]),
        frame.assign(c=[1, 3]),
        frame.assign(c=[1.0, 2.0]),
        frame.assign(d=[True, True]),
        frame.iloc[::-1],
        frame[["b", "a", "c", "d"]],
        frame.rename(columns={"a": "e"}),
        frame.head(1),
    ]
    digests = {frame_digest(changed) for changed in changes}
    assert len(digests) == len(changes)
    assert digest not in digests


def test_texts_do_not_run_into_each_other() -> None:
    assert frame_digest(pd.DataFrame({"a": ["ab", "c"]})) != frame_digest(pd.DataFrame({"a": ["a", "bc"]}))


def test_labels_are_true_or_false() -> None:
    assert labels(pd.DataFrame({"y": [True, False]}), "y").tolist() == [True, False]
    for bad in ([1.0, 2.0], [True, None], ["yes", "no"]):
        with pytest.raises(RefusalError, match="values other than true and false"):
            labels(pd.DataFrame({"y": bad}), "y")
