"""The team's code: found, hashed, called, and blamed with file and line."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.api.modelversion import InputField
from slipway.api.reasons import Reason
from slipway_pipelines.errors import RefusalError, UserCodeError
from slipway_pipelines.training.code import call, check_estimator, code_digest, load_entrypoint
from slipway_pipelines.training.sdk import TrainingData

CODE = Path(__file__).parent / "code"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CODE))


@pytest.fixture
def data() -> TrainingData:
    """Twenty rows of one number."""
    frame = pd.DataFrame({"x": np.arange(20.0)})
    return TrainingData(
        features=frame,
        labels=np.arange(20) % 2 == 0,
        validation_features=frame,
        validation_labels=np.arange(20) % 2 == 0,
        parameters={"max_iter": 2, "learning_rate": 0.1},
        seed=7,
        inputs=(InputField(name="x", type="Double", source="Request"),),
    )


@pytest.mark.parametrize(
    ("entrypoint", "says"),
    [
        ("nowhere.train:train", "there is no package nowhere in the image"),
        ("team.nowhere:train", "there is no module team.nowhere in the image"),
        ("team.models:nothing", "module team.models has no function nothing; it has Broken, Noise, Thief, broken"),
    ],
)
def test_an_entry_point_that_is_not_there(entrypoint: str, says: str) -> None:
    with pytest.raises(RefusalError, match="correct the entry point, or build the image") as caught:
        load_entrypoint(entrypoint)
    assert caught.value.reason == Reason.EntrypointNotFound
    assert says in caught.value.message
    assert f"code.image.entrypoint is {entrypoint}" in caught.value.message


def test_an_import_that_fails_inside_of_the_teams_code_is_its_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "needy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("import os\nimport no_such_library\n")
    (package / "typo.py").write_text("def train(data):\n    return 1 +\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserCodeError, match=r"at needy/train.py, line 2 \(import no_such_library\): No module named"):
        load_entrypoint("needy.train:train")
    with pytest.raises(UserCodeError, match=r"raised SyntaxError at needy/typo.py, line 2: invalid syntax"):
        load_entrypoint("needy.typo:train")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("fails", r"team.models:fails raised KeyError at team/models.py, line \d+ \(return data.features\["),
        ("leaves", r"team.models:leaves raised SystemExit at team/models.py, line \d+ \(sys.exit\(0\)\)"),
    ],
)
def test_an_error_names_the_innermost_line_of_the_teams_code(data: TrainingData, function: str, says: str) -> None:
    entrypoint = f"team.models:{function}"
    with pytest.raises(UserCodeError, match=says) as caught:
        call(entrypoint, load_entrypoint(entrypoint), data)
    assert caught.value.reason == Reason.TrainingCodeFailed


def test_random_generators_are_seeded(data: TrainingData) -> None:
    function = load_entrypoint("team.models:noise")
    first: Any = call("team.models:noise", function, data)
    random.random()
    second: Any = call("team.models:noise", function, data)
    assert first.state[:2] == second.state[:2]


def test_what_is_no_classifier_is_refused(data: TrainingData) -> None:
    with pytest.raises(UserCodeError, match="returned Series, which has no predict_proba"):
        check_estimator("team.models:regressor", data.features["x"], data)

    class OneColumn:
        classes_ = np.array([False, True])

        def predict_proba(self, features: pd.DataFrame) -> Any:
            return np.zeros((len(features), 1))

    with pytest.raises(UserCodeError, match=r"gives shape \(5, 1\) for 5 rows, and \(5, 2\) is expected"):
        check_estimator("team.models:train", OneColumn(), data)

    class Turned(OneColumn):
        classes_ = np.array([True, False])

    with pytest.raises(UserCodeError, match=r"returned Turned with classes_ .*, and the model server needs"):
        check_estimator("team.models:train", Turned(), data)


def test_the_digest_covers_every_source_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CODE / "team", tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = code_digest("copied.models:train")
    assert digest == code_digest("copied.other.module:function"), "nothing is imported"
    (tmp_path / "copied" / "__pycache__").mkdir()
    (tmp_path / "copied" / "__pycache__" / "models.cpython-311.pyc").write_bytes(b"x")
    assert code_digest("copied.models:train") == digest
    (tmp_path / "copied" / "vocabulary.txt").write_text("JFK")
    assert code_digest("copied.models:train") != digest
