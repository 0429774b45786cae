"""The team's training code: finding it, hashing it, calling it, and saying where it failed."""

from __future__ import annotations

import importlib
import importlib.util
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway.api.reasons import Reason
from slipway.contracts.digests import digest_json
from slipway_pipelines.errors import RefusalError, UserCodeError, shorten
from slipway_pipelines.store import digest_file
from slipway_pipelines.training.sdk import Estimator, TrainingData

TrainingFunction = Callable[[TrainingData], Estimator]
ERROR_LIMIT = 1500


def code_digest(entrypoint: str) -> str:
    """Digest of the sources of the entry point's top-level package: relative path and content of every file.

    Nothing of it is imported. RefusalError EntrypointNotFound when there is no such package. Without an entry point the
    code is in the team's own pipeline, which has a digest of its own.
    """
    if not entrypoint:
        return digest_json({})
    root = _root(entrypoint)
    if root.is_file():
        return digest_json({root.name: digest_file(root)})
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest_json({str(path.relative_to(root)): digest_file(path) for path in files})


def _root(entrypoint: str) -> Path:
    """Folder of the top-level package, or file of a top-level module."""
    package = entrypoint.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise _not_found(entrypoint, f"there is no package {package} in the image")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not Path(spec.origin).is_file():
        raise _not_found(entrypoint, f"{package} is no package with sources")
    return Path(spec.origin)


def load_entrypoint(entrypoint: str) -> TrainingFunction:
    """The training function. RefusalError EntrypointNotFound; UserCodeError when importing it raises."""
    module_name, _, function_name = entrypoint.partition(":")
    _root(entrypoint)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise _not_found(entrypoint, f"there is no module {error.name} in the image") from None
        raise user_code_error(entrypoint, error) from None
    except BaseException as error:
        raise user_code_error(entrypoint, error) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        there = sorted(
            name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name
        )
        has = f"it has {', '.join(there[:20])}" if there else "it has no functions"
        raise _not_found(entrypoint, f"module {module_name} has no function {function_name}; {has}")
    return function  # type: ignore[no-any-return]


def call(entrypoint: str, function: TrainingFunction, data: TrainingData) -> Estimator:
    """What the training function returns, with random generators seeded. UserCodeError when it raises.

    SystemExit counts as raised, too: a function that ends the process has not trained a model.
    """
    import numpy as np

    random.seed(data.seed)
    np.random.seed(data.seed)
    try:
        return function(data)
    except BaseException as error:
        raise user_code_error(entrypoint, error) from None


def user_code_error(entrypoint: str, error: BaseException) -> UserCodeError:
    """The refusal for an error that the team's code raised: type, message, and the innermost line of its own code."""
    root = _root(entrypoint)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _inside(Path(frame.filename), root)]
    where = f" at {_shown(frames[-1], root)}" if frames else ""
    if isinstance(error, SyntaxError) and error.filename and _inside(Path(error.filename), root):
        where = f" at {_relative(Path(error.filename), root)}, line {error.lineno}"
    said = shorten(str(error) or "no message", ERROR_LIMIT)
    return UserCodeError(
        Reason.TrainingCodeFailed,
        f"{entrypoint} raised {type(error).__name__}{where}: {said}. Correct the code, build the image again, and "
        "create another run.",
    )


def _inside(path: Path, root: Path) -> bool:
    return path == root or root in path.parents


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root.parent)


def _shown(frame: traceback.FrameSummary, root: Path) -> str:
    line = f" ({frame.line})" if frame.line else ""
    return f"{_relative(Path(frame.filename), root)}, line {frame.lineno}{line}"


def _not_found(entrypoint: str, why: str) -> RefusalError:
    return RefusalError(
        Reason.EntrypointNotFound,
        f"code.image.entrypoint is {entrypoint}, and {why}: correct the entry point, or build the image with the code "
        "installed or on PYTHONPATH.",
    )


def check_estimator(entrypoint: str, model: Any, data: TrainingData) -> None:
    """UserCodeError unless the model answers a few validation rows as a classifier does."""
    rows = data.validation_features.head(5)
    if not hasattr(model, "predict_proba"):
        raise UserCodeError(
            Reason.TrainingCodeFailed,
            f"{entrypoint} returned {type(model).__name__}, which has no predict_proba: return a fitted classifier, "
            "such as a scikit-learn Pipeline.",
        )
    classes = list(getattr(model, "classes_", []))
    if classes != [False, True]:
        raise UserCodeError(
            Reason.TrainingCodeFailed,
            f"{entrypoint} returned {type(model).__name__} with classes_ {classes}, and the model server needs "
            "[False, True] to know which probability is which: fit a classifier on data.labels, or set classes_.",
        )
    try:
        shape = getattr(model.predict_proba(rows), "shape", None)
    except BaseException as error:
        raise user_code_error(entrypoint, error) from None
    if shape != (len(rows), 2):
        raise UserCodeError(
            Reason.TrainingCodeFailed,
            f"{entrypoint} returned a model whose predict_proba gives shape {shape} for {len(rows)} rows, and "
            f"({len(rows)}, 2) is expected, false before true: return a binary classifier.",
        )


def not_storable(entrypoint: str, error: Exception) -> UserCodeError:
    """The refusal for a model that joblib cannot write."""
    return UserCodeError(
        Reason.TrainingCodeFailed,
        f"{entrypoint} returned a model that cannot be stored ({type(error).__name__}: {shorten(str(error), 300)}): "
        "leave out lambdas and functions that are defined inside of others.",
    )
