"""What the components of the pipeline do; each is called in a process or container of its own.

Artifacts are given as local paths. Heavy libraries are imported where they are used, for each task pays for its own.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.api.modelversion import InputField
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json
from slipway.contracts.jobs import Contract, ModelManifest
from slipway.contracts.training import (
    Arguments,
    CodeArguments,
    DataArguments,
    GoalArguments,
    configuration_digest,
)
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.store import MissingObjectError, ObjectStore, require_digest
from slipway_pipelines.training import registration
from slipway_pipelines.training.outcome import task
from slipway_pipelines.training.registration import VersionInputs

if TYPE_CHECKING:
    from slipway_pipelines.training.sets import Sets

Parameters = tuple[str, str, str, str]
"""The pipeline's parameters data, code, goals and run."""


class Claims(Contract):
    """What `produce` says that it trained with; `judge` finds out by itself and refuses where they differ."""

    training_set: str
    validation_set: str
    inputs: list[InputField]


def _arguments(parameters: Parameters) -> Arguments:
    data, code, goals, run = parameters
    return Arguments.model_validate_json(f'{{"data":{data},"code":{code},"goals":{goals},"run":{run}}}')


@task
def features(data: str, goals: str, training_set: str, validation_set: str, claims: str) -> None:
    """Verifies the dataset version, joins the features, and writes what may be learned from."""
    from slipway_pipelines.training import sets as split_sets
    from slipway_pipelines.training.rows import check_conditions

    arguments, wanted = DataArguments.model_validate_json(data), GoalArguments.model_validate_json(goals)
    sets = split_sets.load_sets(ObjectStore.from_environment(), arguments)
    for split in (split_sets.TRAIN, split_sets.TEST):
        split_sets.require_both_classes(sets, split)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder).resolve() / "rows.parquet"
        sets.frames[split_sets.VALIDATION].to_parquet(rows, index=False)
        check_conditions(wanted.tests, rows)
    training = _write(sets, split_sets.TRAIN, training_set)
    validation = _write(sets, split_sets.VALIDATION, validation_set)
    told = Claims(training_set=training, validation_set=validation, inputs=sets.fields)
    _new(claims).write_bytes(canonical_json(told.wire()))


def baselines(data: str, code: str, training_set: str, validation_set: str, claims: str) -> dict[str, float]:
    """Metrics of the baselines on the validation split, as `NAME_METRIC`; the judge fits its own."""
    import numpy as np

    from slipway_pipelines.training.baselines import fit_baselines
    from slipway_pipelines.training.metrics import quality
    from slipway_pipelines.training.sets import read_training_data

    given = read_training_data(
        Path(training_set),
        Path(validation_set),
        Claims.model_validate_json(Path(claims).read_bytes()).inputs,
        DataArguments.model_validate_json(data).task.target,
        CodeArguments.model_validate_json(code),
    )
    found = {}
    for name, model in fit_baselines(given).items():
        probabilities = np.asarray(model.predict_proba(given.validation_features))[:, 1]
        for metric, value in quality(given.validation_labels, probabilities).items():
            if value is not None:
                found[f"{name}_{metric}"] = value
    return found


@task
def train(data: str, code: str, training_set: str, validation_set: str, claims: str, model: str) -> None:
    """Calls the team's function and stores what it returns."""
    import joblib

    from slipway_pipelines.training import code as team_code
    from slipway_pipelines.training.sets import read_training_data

    asked = CodeArguments.model_validate_json(code)
    given = read_training_data(
        Path(training_set),
        Path(validation_set),
        Claims.model_validate_json(Path(claims).read_bytes()).inputs,
        DataArguments.model_validate_json(data).task.target,
        asked,
    )
    function = team_code.load_entrypoint(asked.entrypoint)
    estimator = team_code.call(asked.entrypoint, function, given)
    team_code.check_estimator(asked.entrypoint, estimator, given)
    try:
        joblib.dump(estimator, _new(model))
    except Exception as error:
        raise team_code.not_storable(asked.entrypoint, error) from None


@task
def verify(
    parameters: Parameters,
    claims: str,
    training_set: str,
    validation_set: str,
    test_set: str,
    stable: str,
    made_from: str,
) -> None:
    """Computes the sets again, compares them with the claims, and fetches the version that serves."""
    from slipway_pipelines.training import sets as split_sets
    from slipway_pipelines.training.code import code_digest

    arguments = _arguments(parameters)
    told = _read_claims(claims)
    store = ObjectStore.from_environment()
    sets = split_sets.load_sets(store, arguments.data)
    found = VersionInputs(
        training_set=_write(sets, split_sets.TRAIN, training_set),
        validation_set=_write(sets, split_sets.VALIDATION, validation_set),
        test_set=sets.digest(split_sets.TEST),
        feature_pipeline=arguments.data.feature_pipeline_digest(),
        code=code_digest(arguments.code.entrypoint),
        parameters=arguments.code.parameters_digest(),
        configuration=configuration_digest(arguments.data, arguments.goals),
        pipeline=arguments.run.pipeline_digest,
        image=arguments.code.image,
        inputs=sets.fields,
    )
    require_digest("The training set that the run trained on", told.training_set, found.training_set)
    require_digest("The validation set that the run trained with", told.validation_set, found.validation_set)
    sets.frames[split_sets.TEST].to_parquet(_new(test_set), index=False)
    fetch_stable(store, arguments.goals, Path(stable))
    _new(made_from).write_bytes(canonical_json(found.wire()))


def _write(sets: Sets, split: str, path: str) -> str:
    """Writes what may be learned from; gives its digest."""
    from slipway_pipelines.training.frames import frame_digest

    frame = sets.learnable(split)
    frame.to_parquet(_new(path), index=False)
    return frame_digest(frame)


def _read_claims(path: str) -> Claims:
    """What `produce` says; user code may have written anything there."""
    try:
        return Claims.model_validate_json(Path(path).read_bytes())
    except ValueError:
        raise RefusalError(
            Reason.DigestMismatch,
            "The run's claims are not what the pipeline writes: something changed them; train again.",
        ) from None


def fetch_stable(store: ObjectStore, goals: GoalArguments, folder: Path) -> None:
    """The files of the version that serves, verified; or a file that says why they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if goals.stable is None:
        (folder / registration.NO_STABLE).write_text("no version serves yet")
        return
    key = f"{goals.stable.model}/{registration.MANIFEST}"
    try:
        data = store.get_bytes(key, goals.stable.manifest_digest)
        for file in ModelManifest.model_validate_json(data).files:
            store.download(f"{goals.stable.model}/{file.path}", folder / file.path, digest=file.digest)
    except (RefusalError, MissingObjectError) as error:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / registration.NO_STABLE).write_text(str(error))
        return
    (folder / registration.MANIFEST).write_bytes(data)


def evaluate(
    parameters: Parameters,
    model: str,
    training_set: str,
    validation_set: str,
    test_set: str,
    stable: str,
    made_from: str,
    evaluation: str,
    baseline: str,
) -> dict[str, float]:
    """Measures and judges the model, and writes its baseline; gives its metrics on the test split."""
    found: dict[str, float] = {}

    @task
    def run() -> None:
        from slipway_pipelines.training import evaluation as measuring
        from slipway_pipelines.training.isolation import become_unreadable

        become_unreadable()
        with tempfile.TemporaryDirectory() as work:
            paths = (model, training_set, validation_set, test_set, stable, work, _new(baseline))
            files = measuring.Files(*(Path(path) for path in paths))
            inputs = VersionInputs.model_validate_json(Path(made_from).read_bytes())
            result = measuring.evaluate(_arguments(parameters), inputs, files)
        _new(evaluation).write_bytes(canonical_json(result.wire()))
        found.update({name: value for name, value in result.metrics.items() if value is not None})

    run()
    return found


@task
def register(parameters: Parameters, model: str, baseline: str, made_from: str, evaluation: str, result: str) -> None:
    """Stores the model and what is known about it, and declares its features."""
    from slipway_pipelines.training.publish import publish

    inputs = VersionInputs.model_validate_json(Path(made_from).read_bytes())
    files = (Path(model), Path(baseline), Path(evaluation))
    arguments, store = _arguments(parameters), ObjectStore.from_environment()
    stored = publish(store, arguments, inputs, *files)
    _new(result).write_bytes(canonical_json(stored.wire()))
    if arguments.run.result is not None:
        store.put_json(arguments.run.result, stored.wire())


def _new(path: str) -> Path:
    """The path of an output, its folder made."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
