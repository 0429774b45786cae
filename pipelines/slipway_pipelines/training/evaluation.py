"""Evaluation of a model on the test split: predictions by an isolated process, everything else here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from slipway.api.common import CostMetric
from slipway.api.modelproject import Scenario, Slice
from slipway.api.modelversion import InputField
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import ModelManifest
from slipway.contracts.training import Arguments, GoalArguments
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import digest_file
from slipway_pipelines.training import gates, registration, served
from slipway_pipelines.training.baselines import fit_baselines, store_baseline
from slipway_pipelines.training.frames import conform, labels
from slipway_pipelines.training.isolation import last_line, untrusted
from slipway_pipelines.training.metrics import Labels, Probabilities, calibration, coverage, quality, roc_curve
from slipway_pipelines.training.predictor import ANSWER, ERROR, TASK, PredictorAnswer, PredictorTask
from slipway_pipelines.training.registration import MODEL, NO_STABLE, VersionInputs
from slipway_pipelines.training.results import CostResult, Evaluation, MetricMap, PartResult, StableEvaluation
from slipway_pipelines.training.rows import selector
from slipway_pipelines.training.sdk import TrainingData
from slipway_pipelines.training.sets import read_training_data

if TYPE_CHECKING:
    import pandas as pd

COST_METRICS: tuple[str, ...] = get_args(CostMetric)
LATENCY_CALLS = 200
PREDICTION_SECONDS = 900
SERVER_ROWS = 100


@dataclass(frozen=True)
class Files:
    """Where the inputs of an evaluation are; `work` is an empty folder for it, `baseline` is written."""

    model: Path
    training_set: Path
    validation_set: Path
    test_set: Path
    stable: Path
    work: Path
    baseline: Path


def evaluate(arguments: Arguments, made_from: VersionInputs, files: Files) -> Evaluation:
    """Measures and judges a model. RefusalError EvaluationFailed when it does not answer as a classifier does."""
    goals = arguments.goals
    data, test = _read(arguments, made_from, files)
    truth = labels(test, arguments.data.task.target)
    test_features = conform(test, made_from.inputs)
    asked = {"test": test_features, "validation": data.validation_features}
    answers = predict(files.model, made_from.inputs, asked, files.work / "candidate", LATENCY_CALLS)
    probabilities = answers.probabilities["test"]
    metrics = quality(truth, probabilities)
    score = gates.score(goals.requirements.optimize, metrics)
    if score is None:
        raise RefusalError(
            Reason.EvaluationFailed,
            "requirements.optimize is not defined on the test split, whose labels are all the same: "
            "give the Dataset's splits more rows to test.",
        )
    scenarios, slices = _parts(goals, files.test_set, truth, probabilities)
    stable = score_stable(goals, files, test, truth)
    measured = gates.Measurements(
        metrics=metrics,
        baselines=_baselines(data, test_features, truth, files.baseline),
        stable=None if stable is None else gates.Stable(stable.name, stable.metrics, stable.why or ""),
        coverage=_coverage(goals, probabilities),
        costs=_costs_at_model(answers) | _costs_at_server(arguments, made_from, files, test_features),
        scenarios={part.name: gates.Part(part.rows, part.metrics) for part in scenarios},
        slices={part.name: gates.Part(part.rows, part.metrics) for part in slices},
    )
    verdicts = gates.judge(goals.requirements, goals.tests, measured, goals.today)
    return Evaluation(
        model=digest_file(files.model),
        baseline=digest_file(files.baseline),
        rows={"train": len(data.labels), "validation": len(data.validation_labels), "test": len(truth)},
        score=gates.text(score),
        passed=gates.passed(verdicts),
        metrics=metrics,
        validation_metrics=quality(data.validation_labels, answers.probabilities["validation"]),
        baselines={name: dict(found) for name, found in measured.baselines.items()},
        stable=stable,
        costs=[
            CostResult(metric=metric, measured_at=at, value=cost.value, why=cost.why or None)
            for (metric, at), cost in measured.costs.items()
        ],
        coverage=dict(measured.coverage),
        scenarios=scenarios,
        slices=slices,
        calibration=calibration(truth, probabilities),
        roc_curve=roc_curve(truth, probabilities),
        verdicts=verdicts,
    )


def _read(arguments: Arguments, made_from: VersionInputs, files: Files) -> tuple[TrainingData, pd.DataFrame]:
    """What the model was trained with, and all columns of the test split."""
    import pandas as pd

    target = arguments.data.task.target
    data = read_training_data(files.training_set, files.validation_set, made_from.inputs, target, arguments.code)
    return data, pd.read_parquet(files.test_set)


def _baselines(data: TrainingData, features: pd.DataFrame, truth: Labels, path: Path) -> dict[str, MetricMap]:
    """Metrics of the baselines; the one that servers may fall back to is written."""
    models = fit_baselines(data)
    store_baseline(models, path)
    return {name: quality(truth, np.asarray(model.predict_proba(features))[:, 1]) for name, model in models.items()}


def _coverage(goals: GoalArguments, probabilities: Probabilities) -> MetricMap:
    return {
        item.name: coverage(probabilities, float(item.confidence))
        for item in goals.requirements.satisfy
        if item.confidence is not None
    }


# ---- predictions -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answers:
    """Checked probabilities of true by frame, and what the predictor measured."""

    probabilities: dict[str, Probabilities]
    latencies: list[float]
    memory: float


def predict(
    model: Path, fields: Sequence[InputField], frames: dict[str, pd.DataFrame], folder: Path, latency_calls: int
) -> Answers:
    """Predictions of a stored model, by a process that has features only.

    RefusalError EvaluationFailed when it does not load, raises, takes longer than 15 minutes, or answers anything but
    probabilities.
    """
    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / MODEL)
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    task = PredictorTask(inputs=list(fields), frames=list(frames), latency_calls=latency_calls)
    (folder / TASK).write_bytes(canonical_json(task.wire()))
    command = [sys.executable, "-m", "slipway_pipelines.training.predictor", str(folder)]
    log = folder / "predictor.log"
    with untrusted(command, log) as process:
        try:
            code = process.wait(PREDICTION_SECONDS)
        except subprocess.TimeoutExpired:
            raise _failed(f"took longer than {PREDICTION_SECONDS // 60} minutes for the test split") from None
    if code != 0:
        raise _failed(_why(folder, log, code))
    try:
        answer = PredictorAnswer.model_validate_json((folder / ANSWER).read_bytes())
        probabilities = {name: _checked(folder / f"{name}.npy", len(frame)) for name, frame in frames.items()}
    except (OSError, ValueError) as error:
        raise _failed(f"did not leave probabilities behind: {error}") from None
    return Answers(probabilities, answer.latencies, answer.memory)


def _why(folder: Path, log: Path, code: int) -> str:
    try:
        error = json.loads((folder / ERROR).read_bytes())
        return f"raised {error['type']}: {error['message']}"
    except (OSError, ValueError, KeyError):
        return f"ended its process with code {code}: {last_line(log)}"


def _checked(path: Path, rows: int) -> Probabilities:
    found = np.load(path, allow_pickle=False)
    if found.shape != (rows,) or found.dtype != np.float64:
        raise ValueError(f"{path.name} has shape {found.shape} and type {found.dtype} for {rows} rows")
    if not (np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()):
        raise ValueError("predict_proba gave numbers that are no probabilities (NaN, below 0 or above 1)")
    return np.asarray(found, dtype=np.float64)


def _failed(why: str) -> RefusalError:
    return RefusalError(
        Reason.EvaluationFailed,
        f"The stored model {why}. Return a model that predicts every row from a frame of its inputs alone, made of "
        "classes that the image has; then create another run.",
    )


def score_stable(goals: GoalArguments, files: Files, test: pd.DataFrame, truth: Labels) -> StableEvaluation | None:
    """The version that serves, re-scored on this test split."""
    if goals.stable is None:
        return None
    result = StableEvaluation(name=goals.stable.name, recorded_score=goals.stable.score)
    missing = files.stable / NO_STABLE
    if missing.exists():
        return result.model_copy(update={"why": missing.read_text()})
    fields = ModelManifest.model_validate_json((files.stable / registration.MANIFEST).read_bytes()).inputs
    gone = [field.name for field in fields if field.name not in test.columns]
    if gone:
        return result.model_copy(update={"why": f"its inputs {', '.join(gone)} are not in this test split"})
    try:
        rows = {"test": conform(test, fields)}
        answers = predict(files.stable / MODEL, fields, rows, files.work / "stable", latency_calls=0)
    except (RefusalError, ValueError, TypeError) as error:
        return result.model_copy(update={"why": f"it does not answer: {error}"})
    return result.model_copy(update={"metrics": quality(truth, answers.probabilities["test"])})


# ---- latency and memory ----------------------------------------------------------------------------------------------
Costs = dict[tuple[str, str], gates.Cost]


def _costs_at_model(answers: Answers) -> Costs:
    return _costs("Model", answers.latencies, answers.memory)


def _costs_at_server(arguments: Arguments, made_from: VersionInputs, files: Files, test: pd.DataFrame) -> Costs:
    """Figures of the real server; where it does not start, every figure says why."""
    folder = files.work / "server"
    folder.mkdir()
    shutil.copyfile(files.model, folder / MODEL)
    written = registration.definition(arguments, made_from)
    (folder / registration.DEFINITION).write_bytes(written)
    listed = registration.files(folder / MODEL, written)
    staged = registration.manifest(arguments, made_from, listed, None, created_at=arguments.goals.today)
    (folder / registration.MANIFEST).write_bytes(canonical_json(staged.wire()))
    try:
        found = served.measure(folder, test.head(SERVER_ROWS), made_from.inputs, files.work / "server.log")
    except served.ServerError as error:
        return {(metric, "Server"): gates.Cost(why=str(error)) for metric in COST_METRICS}
    return _costs("Server", found.latencies, found.memory)


def _costs(at: str, latencies: list[float], memory: float) -> Costs:
    if not latencies:
        return {(metric, at): gates.Cost(why="nothing was timed") for metric in COST_METRICS}
    p50, p99 = (float(value) for value in np.percentile(latencies, [50, 99]))
    return {
        ("latencyP50Milliseconds", at): gates.Cost(p50),
        ("latencyP99Milliseconds", at): gates.Cost(p99),
        ("memoryMebibytes", at): gates.Cost(memory),
    }


# ---- scenarios and slices --------------------------------------------------------------------------------------------
def _parts(
    goals: GoalArguments, test_set: Path, truth: Labels, probabilities: Probabilities
) -> tuple[list[PartResult], list[PartResult]]:
    """Results of scenarios, and of slices."""
    with selector(test_set) as rows:

        def part(kind: str, test: Scenario | Slice) -> PartResult:
            chosen = rows.select(f"tests.{kind}[{test.name}].where", test.where)
            metrics = quality(truth[chosen], probabilities[chosen])
            return PartResult(name=test.name, where=test.where, rows=int(chosen.sum()), metrics=metrics)

        return (
            [part("scenarios", item) for item in goals.tests.scenarios],
            [part("slices", item) for item in goals.tests.slices],
        )
