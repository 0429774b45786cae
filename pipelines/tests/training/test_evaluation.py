"""The version that serves, where it cannot be scored; and rows as clients send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.api.modelversion import InputField
from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import TrainingRequest
from slipway.contracts.training import Arguments, GoalArguments
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import ObjectStore
from slipway_pipelines.training import tasks
from slipway_pipelines.training.evaluation import Files, score_stable
from slipway_pipelines.training.rows import selector
from slipway_pipelines.training.served import instances

ROWS = pd.DataFrame({"carrier": ["AA", "UA"], "late": [True, False]})


def goals(request: TrainingRequest, manifest_digest: str | None = None) -> GoalArguments:
    """Goals with a version that serves."""
    stable = {"name": "delays-1", "score": "0.7", "model": "models/a/b/c", "manifestDigest": manifest_digest}
    return Arguments.of(TrainingRequest.model_validate({**request.wire(), "stable": stable})).goals


def scored(wanted: GoalArguments, stable: Path, work: Path) -> Any:
    """What becomes of the version that serves, on two rows."""
    nothing = work / "nothing"
    files = Files(nothing, nothing, nothing, nothing, stable, work, nothing)
    return score_stable(wanted, files, ROWS, ROWS["late"].to_numpy())


def test_a_serving_version_that_is_gone_is_not_compared_with(
    store: ObjectStore, training_request: TrainingRequest, tmp_path: Path
) -> None:
    wanted = goals(training_request)
    tasks.fetch_stable(store, wanted, tmp_path / "stable")
    result = scored(wanted, tmp_path / "stable", tmp_path)
    assert result.metrics is None
    assert result.why == "the artifact store has no object models/a/b/c/manifest.json"


def test_a_serving_version_that_was_changed_is_never_unpickled(
    store: ObjectStore, training_request: TrainingRequest, tmp_path: Path
) -> None:
    store.put_bytes("models/a/b/c/manifest.json", b"{}")
    wanted = goals(training_request, digest_bytes(b"another"))
    tasks.fetch_stable(store, wanted, tmp_path / "stable")
    assert [path.name for path in (tmp_path / "stable").iterdir()] == ["why-not.txt"]
    assert "models/a/b/c/manifest.json has digest" in scored(wanted, tmp_path / "stable", tmp_path).why


def test_a_serving_version_with_other_inputs_says_which(
    training_request: TrainingRequest, manifest_of_two_inputs: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "stable").mkdir()
    (tmp_path / "stable" / "manifest.json").write_bytes(canonical_json(manifest_of_two_inputs))
    result = scored(goals(training_request), tmp_path / "stable", tmp_path)
    assert result.why == "its inputs wind are not in this test split"


@pytest.fixture
def manifest_of_two_inputs() -> dict[str, Any]:
    """A manifest of a model with an input that the test split lacks."""
    some = digest_bytes(b"")
    digests = ("model", "parameters", "configuration", "featurePipeline", "trainingSet", "validationSet", "testSet")
    return {
        "files": [],
        "modelDigest": some,
        "digests": {**dict.fromkeys((*digests, "code", "pipeline"), some), "image": "i"},
        "inputs": [
            {"name": "carrier", "type": "String", "source": "Request"},
            {"name": "wind", "type": "Double", "source": "FeatureStore"},
        ],
        "target": "late",
        "namespace": "a",
        "project": "b",
        "run": "r",
        "datasetVersion": "d",
        "createdAt": "2026-11-23T00:00:00Z",
    }


def test_rows_become_what_clients_send() -> None:
    rows = pd.DataFrame(
        {
            "s": ["JFK", None],
            "i": [7.0, np.nan],
            "d": [1.5, np.nan],
            "b": [True, None],
            "t": pd.to_datetime(["2013-01-01 10:00", None]),
        }
    )
    kinds = {"s": "String", "i": "Integer", "d": "Double", "b": "Boolean", "t": "Timestamp"}
    fields = [InputField.model_validate({"name": n, "type": k, "source": "Request"}) for n, k in kinds.items()]
    sent = json.loads(json.dumps(list(instances(rows, fields))))
    assert sent == [
        {"s": "JFK", "i": 7, "d": 1.5, "b": True, "t": "2013-01-01T10:00:00Z"},
        dict.fromkeys(kinds),
    ]


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Three rows on disk."""
    path = tmp_path.resolve() / "rows.parquet"
    pd.DataFrame({"origin": ["JFK", None, "EWR"], "wind": [30.0, 2.0, np.nan]}).to_parquet(path, index=False)
    return path


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("origin = 'JFK'", [True, False, False]),
        ("origin IS NULL OR wind > 10", [True, True, False]),
        ("wind > 1 OR wind IS NULL", [True, True, True]),
        ("false", [False, False, False]),
    ],
)
def test_conditions_select_rows(rows_file: Path, where: str, chosen: list[bool]) -> None:
    with selector(rows_file) as rows:
        assert rows.select("f", where).tolist() == chosen


@pytest.mark.parametrize(
    "where",
    [
        "orign = 'JFK'",
        "origin =",
        "count(*) > 1",
        "origin IN (SELECT origin FROM rows)",
        "true) OR (true",
        "random() > 0",
    ],
)
def test_conditions_that_are_none_are_refused_with_the_columns(rows_file: Path, where: str) -> None:
    with (
        selector(rows_file) as rows,
        pytest.raises(RefusalError, match=r"^tests.slices\[s\].where is `.*Its columns are origin, wind\.$") as caught,
    ):
        rows.select("tests.slices[s].where", where)
    assert caught.value.reason == "InvalidExpression"


def test_a_condition_cannot_read_files(rows_file: Path) -> None:
    with selector(rows_file) as rows, pytest.raises(RefusalError):
        rows.select("f", "read_text('/etc/passwd') IS NOT NULL")
