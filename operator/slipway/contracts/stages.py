"""Tasks of the pipeline: which stage of a run each is, and which credentials it needs; the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.api.trainingrun import Stage

PRODUCE, JUDGE = "produce", "judge"


@dataclass(frozen=True)
class TaskInfo:
    """A task's place in a run's progress (`percent` when it starts), and its credentials."""

    stage: Stage
    percent: int
    store: bool = False
    feast: bool = False


TASKS: dict[str, TaskInfo] = {
    "features": TaskInfo("Features", 10, store=True),
    "baselines": TaskInfo("Baselines", 30),
    "train": TaskInfo("Training", 50),
    "verify": TaskInfo("Evaluation", 65, store=True),
    "evaluate": TaskInfo("Evaluation", 75),
    "register": TaskInfo("Registration", 95, store=True, feast=True),
}
"""Tasks that run the team's code (`train`, and `evaluate`, which unpickles its model) have no credentials at all."""

TERMINATION_LOG = "SLIPWAY_TERMINATION_LOG"
"""Variable with the path of the container's termination message, on engines where a task has a container of its own."""

STORE_VARIABLES, FEAST_VARIABLES = "SLIPWAY_S3_", "SLIPWAY_FEAST_"

ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment of every task. One thread, because sums of floating-point numbers depend on how they are divided, and the
same data, code, parameters and seed are to give the same bytes on any node."""
