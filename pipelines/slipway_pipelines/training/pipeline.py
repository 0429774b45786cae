"""The training pipeline: `python -m slipway_pipelines.training.pipeline` compiles it to `compiled/training.yaml`.

`produce` runs the team's code, `judge` measures and registers what it made; each can be run by itself, with its own
credentials. Components only hand over to `slipway_pipelines.training.tasks`, which is installed in the image. KFP reads
annotations as they are, so this module has no postponed ones.
"""

# mypy: disable-error-code="untyped-decorator"

import tempfile
from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, PipelineTask

from slipway.contracts.stages import ENVIRONMENT
from slipway_pipelines import compiled

IMAGE = "slipway-runner"
"""Stands for the run's image (`spec.code.image.name`), which an engine puts in its place."""


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def features(
    data: str,
    goals: str,
    training_set: Output[Dataset],
    validation_set: Output[Dataset],
    claims: Output[Artifact],
) -> None:
    from slipway_pipelines.training import tasks

    tasks.features(data, goals, training_set.path, validation_set.path, claims.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def baselines(
    data: str,
    code: str,
    training_set: Input[Dataset],
    validation_set: Input[Dataset],
    claims: Input[Artifact],
    baseline_metrics: Output[Metrics],
) -> None:
    from slipway_pipelines.training import tasks

    found = tasks.baselines(data, code, training_set.path, validation_set.path, claims.path)
    for name, value in found.items():
        baseline_metrics.log_metric(name, value)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    data: str,
    code: str,
    training_set: Input[Dataset],
    validation_set: Input[Dataset],
    claims: Input[Artifact],
    model: Output[Model],
) -> None:
    from slipway_pipelines.training import tasks

    tasks.train(data, code, training_set.path, validation_set.path, claims.path, model.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def verify(
    data: str,
    code: str,
    goals: str,
    run: str,
    claims: Input[Artifact],
    training_set: Output[Dataset],
    validation_set: Output[Dataset],
    test_set: Output[Dataset],
    stable: Output[Model],
    made_from: Output[Artifact],
) -> None:
    from slipway_pipelines.training import tasks

    tasks.verify(
        (data, code, goals, run),
        claims.path,
        training_set.path,
        validation_set.path,
        test_set.path,
        stable.path,
        made_from.path,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    data: str,
    code: str,
    goals: str,
    run: str,
    model: Input[Model],
    training_set: Input[Dataset],
    validation_set: Input[Dataset],
    test_set: Input[Dataset],
    stable: Input[Model],
    made_from: Input[Artifact],
    evaluation: Output[Artifact],
    baseline: Output[Model],
    metrics: Output[Metrics],
) -> None:
    from slipway_pipelines.training import tasks

    found = tasks.evaluate(
        (data, code, goals, run),
        model.path,
        training_set.path,
        validation_set.path,
        test_set.path,
        stable.path,
        made_from.path,
        evaluation.path,
        baseline.path,
    )
    for name, value in found.items():
        metrics.log_metric(name, value)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    data: str,
    code: str,
    goals: str,
    run: str,
    model: Input[Model],
    baseline: Input[Model],
    made_from: Input[Artifact],
    evaluation: Input[Artifact],
    result: Output[Artifact],
) -> None:
    from slipway_pipelines.training import tasks

    tasks.register((data, code, goals, run), model.path, baseline.path, made_from.path, evaluation.path, result.path)


def _prepared(task: PipelineTask) -> PipelineTask:
    """The environment that makes a task reproducible; never another run's outputs instead of this one's."""
    for name, value in ENVIRONMENT.items():
        task.set_env_variable(name, value)
    task.set_caching_options(False)
    return task


class Produced(NamedTuple):
    """What the first half hands to the second, and what people look at."""

    training_set: Dataset
    validation_set: Dataset
    claims: Artifact
    baseline_metrics: Metrics
    model: Model


class Judged(NamedTuple):
    """What the second half says."""

    evaluation: Artifact
    metrics: Metrics
    result: Artifact


@dsl.pipeline(name="produce", description="Features, baselines, and the team's training code.")
def produce(data: str, code: str, goals: str) -> Produced:
    sets = _prepared(features(data=data, goals=goals)).outputs
    given = {
        "data": data,
        "code": code,
        "training_set": sets["training_set"],
        "validation_set": sets["validation_set"],
        "claims": sets["claims"],
    }
    simple = _prepared(baselines(**given))
    trained = _prepared(train(**given)).after(simple)
    return Produced(
        training_set=sets["training_set"],
        validation_set=sets["validation_set"],
        claims=sets["claims"],
        baseline_metrics=simple.outputs["baseline_metrics"],
        model=trained.outputs["model"],
    )


@dsl.pipeline(name="judge", description="Verifies, evaluates and registers a model that somebody else made.")
def judge(data: str, code: str, goals: str, run: str, model: Input[Model], claims: Input[Artifact]) -> Judged:
    given = {"data": data, "code": code, "goals": goals, "run": run}
    verified = _prepared(verify(**given, claims=claims)).outputs
    evaluated = _prepared(evaluate(**given, model=model, **verified)).outputs
    registered = _prepared(
        register(
            **given,
            model=model,
            baseline=evaluated["baseline"],
            made_from=verified["made_from"],
            evaluation=evaluated["evaluation"],
        )
    )
    return Judged(
        evaluation=evaluated["evaluation"],
        metrics=evaluated["metrics"],
        result=registered.outputs["result"],
    )


@dsl.pipeline(
    name="slipway-training",
    description="Trains a model on one dataset version, evaluates it on rows that it never saw, and registers it.",
)
def training(data: str, code: str, goals: str, run: str) -> Judged:
    """Trains, judges and registers one model.

    Args:
        data: Dataset version, task, inputs and FeatureSets, as JSON (DataArguments).
        code: Entry point, image, hyperparameters and seed, as JSON (CodeArguments).
        goals: Requirements, tests, the version that serves and the day, as JSON (GoalArguments).
        run: Project, run and the folder for models, as JSON (RunArguments).

    Returns:
        evaluation: Everything that was measured, and every verdict (Evaluation).
        metrics: Metrics on the test split.
        result: The ModelVersion to record (RegisterResult).
    """
    made = produce(data=data, code=code, goals=goals)
    judged = judge(
        data=data,
        code=code,
        goals=goals,
        run=run,
        model=made.outputs["model"],
        claims=made.outputs["claims"],
    )
    return Judged(
        evaluation=judged.outputs["evaluation"],
        metrics=judged.outputs["metrics"],
        result=judged.outputs["result"],
    )


def compile_training() -> bytes:
    """The compiled pipeline; the same bytes whenever nothing of it has changed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / compiled.TRAINING
        compiler.Compiler().compile(training, str(path))
        return path.read_bytes()


if __name__ == "__main__":
    (Path(compiled.__file__).parent / compiled.TRAINING).write_bytes(compile_training())
