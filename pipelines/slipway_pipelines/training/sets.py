"""Training, validation and test set of a run: rows of the dataset version with their features, and their digests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.api.meta import parse_duration
from slipway.api.modelversion import InputField
from slipway.api.reasons import Reason
from slipway.contracts.jobs import DatasetManifest, TrainingFeatureSet
from slipway.contracts.training import CodeArguments, DataArguments
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.training.frames import conform, frame_digest, input_fields, labels
from slipway_pipelines.training.sdk import TrainingData

if TYPE_CHECKING:
    import pandas as pd

    from slipway_pipelines.store import ObjectStore

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class Sets:
    """Rows by split, oldest first: every column of the dataset that is not sensitive, every feature, and the label."""

    fields: list[InputField]
    target: str
    frames: dict[str, pd.DataFrame]

    def learnable(self, split: str) -> pd.DataFrame:
        """What may be learned from: the model's inputs and the label."""
        frame = self.frames[split]
        return conform(frame, self.fields).assign(**{self.target: labels(frame, self.target)})

    def digest(self, split: str) -> str:
        """Digest of what may be learned from, or is tested with."""
        return frame_digest(self.learnable(split))


def load_sets(store: ObjectStore, data: DataArguments) -> Sets:
    """Reads the dataset version, verified by its digests, and joins the features point in time.

    A feature without a value has its declared default, as the model server has it. RefusalError DigestMismatch,
    InvalidSpec, SchemaMismatch.
    """
    from slipway_pipelines.data.parts import read_manifest
    from slipway_pipelines.features.pointintime import SPLIT, training_frame

    manifest = read_manifest(store, data.dataset_manifest, data.dataset_digest)
    if manifest.label != data.task.target:
        raise RefusalError(
            Reason.InvalidSpec,
            f"task.target is {data.task.target}, and the label of dataset {manifest.dataset} is {manifest.label}: "
            "correct task.target of the ModelProject or labels.column of the Dataset.",
        )
    fields = input_fields(manifest, data.inputs, data.feature_sets, data.task.target)
    table = training_frame(
        store, manifest, data.feature_sets, _shown(manifest, data), parse_duration(data.task.lead_time)
    )
    sensitive = [column.name for column in manifest.columns if column.sensitive and column.name in table.column_names]
    frame = _with_defaults(table.drop_columns(sensitive).to_pandas(), fields)
    frames = {
        split: frame[frame[SPLIT] == split].drop(columns=SPLIT).reset_index(drop=True)
        for split in (TRAIN, VALIDATION, TEST)
    }
    return Sets(fields, data.task.target, frames)


def _shown(manifest: DatasetManifest, data: DataArguments) -> list[str]:
    """The inputs, then the other columns that conditions of tests may name: none that is sensitive, none twice."""
    from slipway_pipelines.features.pointintime import SPLIT

    taken = {*data.inputs, *_features(data.feature_sets), data.task.target, SPLIT}
    return data.inputs + [
        column.name for column in manifest.columns if not column.sensitive and column.name not in taken
    ]


def _features(feature_sets: Sequence[TrainingFeatureSet]) -> set[str]:
    return {feature.name for item in feature_sets for view in item.views for feature in view.features}


def _with_defaults(frame: pd.DataFrame, fields: Sequence[InputField]) -> pd.DataFrame:
    for field in fields:
        if field.source == "FeatureStore" and field.default is not None:
            values = frame[field.name]
            frame[field.name] = values.where(values.notna(), field.default)
    return frame


def require_both_classes(sets: Sets, split: str) -> None:
    """RefusalError when every label of a split is the same: nothing can be learned from it, or measured on it."""
    found = labels(sets.frames[split], sets.target)
    if not found.any() or found.all():
        raise RefusalError(
            Reason.InvalidSpec,
            f"The {split} split has {len(found)} rows whose label {sets.target} is never "
            f"{'true' if not found.any() else 'false'}: wait for more data, or change splits of the Dataset.",
        )


def read_training_data(
    training_set: Path, validation_set: Path, fields: Sequence[InputField], target: str, code: CodeArguments
) -> TrainingData:
    """What training code is given, from the files that the features task wrote."""
    import pandas as pd

    train, validation = pd.read_parquet(training_set), pd.read_parquet(validation_set)
    return TrainingData(
        features=conform(train, fields),
        labels=labels(train, target),
        validation_features=conform(validation, fields),
        validation_labels=labels(validation, target),
        parameters=dict(code.parameters),
        seed=code.seed,
        inputs=tuple(fields),
    )
