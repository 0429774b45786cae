"""The process that unpickles a model and asks it: `python -m slipway_pipelines.training.predictor FOLDER`.

It is given features without labels, and no credentials. FOLDER has `model.joblib`, `task.json` (a PredictorTask) and
the frames that it names; it writes `NAME.npy` for each and `answer.json`, or `error.json`. The parent checks the
probabilities, and believes times and memory only for what is measured at the model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway.api.modelversion import InputField
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import Contract
from slipway_pipelines.training.frames import conform
from slipway_pipelines.training.isolation import memory, peak_memory

MODEL, TASK, ANSWER, ERROR = "model.joblib", "task.json", "answer.json", "error.json"
CHUNK_ROWS = 50_000


class PredictorTask(Contract):
    """What to predict; `latency_calls` single rows of the first frame are predicted alone and timed."""

    inputs: list[InputField]
    frames: list[str]
    latency_calls: int = 0
    latency_seconds: float = 10.0


class PredictorAnswer(Contract):
    """Times in milliseconds a call, memory in MiB that loading and a first prediction added at its peak."""

    latencies: list[float]
    memory: float


def main(folder: Path) -> int:
    """Loads, predicts, measures; 1 when the model fails, with why in `error.json`."""
    try:
        _run(folder, PredictorTask.model_validate_json((folder / TASK).read_bytes()))
    except Exception as error:
        (folder / ERROR).write_bytes(canonical_json({"type": type(error).__name__, "message": str(error)[:1500]}))
        return 1
    return 0


def _run(folder: Path, task: PredictorTask) -> None:
    import joblib
    import numpy as np
    import pandas as pd

    frames = {name: conform(pd.read_parquet(folder / f"{name}.parquet"), task.inputs) for name in task.frames}
    first = frames[task.frames[0]]
    before = memory()
    model = joblib.load(folder / MODEL)
    model.predict_proba(first.head(1))
    grown = max(0.0, peak_memory() - before)
    for name, frame in frames.items():
        np.save(folder / f"{name}.npy", _probabilities(model, frame), allow_pickle=False)
    times = _latencies(lambda row: model.predict_proba(first.iloc[[row % len(first)]]), task)
    (folder / ANSWER).write_bytes(canonical_json(PredictorAnswer(latencies=times, memory=grown).wire()))


def _probabilities(model: Any, frame: Any) -> Any:
    """Probabilities of true, in chunks, so that memory does not grow with the rows."""
    import numpy as np

    chunks = [
        np.asarray(model.predict_proba(frame.iloc[start : start + CHUNK_ROWS]), dtype=np.float64)
        for start in range(0, len(frame), CHUNK_ROWS)
    ]
    answer = np.concatenate(chunks) if chunks else np.empty((0, 2))
    if answer.shape != (len(frame), 2):
        raise ValueError(
            f"predict_proba gives shape {answer.shape} for {len(frame)} rows; ({len(frame)}, 2) is expected"
        )
    return answer[:, 1]


def _latencies(predict: Callable[[int], Any], task: PredictorTask) -> list[float]:
    times: list[float] = []
    end = time.monotonic() + task.latency_seconds
    for number in range(task.latency_calls):
        started = time.perf_counter()
        predict(number)
        times.append((time.perf_counter() - started) * 1000)
        if time.monotonic() > end:
            break
    return times


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
