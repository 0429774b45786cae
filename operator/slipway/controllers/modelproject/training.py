"""When a project makes a new run, and which. Pure.

A run's name holds a hash over everything that decides its result, so the same inputs never make two runs: a run that
was deleted and left a version is not made again; one that left none is, which is how a person tries again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from slipway.adapters import labels
from slipway.api.featureset import FeatureSet
from slipway.api.meta import API_VERSION, LocalRef
from slipway.api.modelproject import ModelProjectSpec
from slipway.api.reasons import Reason
from slipway.api.trainingrun import TrainingRun, TrainingRunSpec
from slipway.contracts.digests import digest_json, short
from slipway.controllers.featureset.definition import definition_digest
from slipway.controllers.modelproject.snapshot import ModelProjectSnapshot
from slipway.controllers.shared.cron import last_tick
from slipway.controllers.shared.typed import created, newest
from slipway.runtime.resources import GROUP

Trigger = Literal["DatasetVersion", "FeatureChange", "TemplateChange", "Schedule"]

ENDED = ("Succeeded", "Failed")
_NOTE = f"{GROUP}/inputs-"
"""Annotations on runs that the project made: the digest of each of their inputs."""


@dataclass(frozen=True)
class Inputs:
    """Digests of what decides a run's result."""

    dataset: str
    template: str
    features: str
    pipeline: str

    def annotations(self) -> dict[str, str]:
        """As they are noted on the run."""
        return {f"{_NOTE}{name}": value for name, value in vars(self).items()}

    @classmethod
    def noted(cls, run: TrainingRun) -> Inputs | None:
        """The inputs of a run that a project made; None for one that a person made."""
        notes = run.metadata.annotations
        found = {name: notes.get(f"{_NOTE}{name}") for name in cls.__dataclass_fields__}
        if any(value is None for value in found.values()):
            return None
        return cls(**found)  # type: ignore[arg-type] # none is None


@dataclass(frozen=True)
class Waiting:
    """Why no run can be made yet."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Wanted:
    """A run that is to be made."""

    name: str
    manifest: dict[str, Any]


def next_run(snapshot: ModelProjectSnapshot, pipeline_digest: str, now: datetime) -> Wanted | Waiting | None:
    """The run to make now, what it waits for, or None when there is nothing to do."""
    spec = snapshot.subject.typed.spec
    if spec.training is None:
        return None
    waiting = _missing(snapshot)
    if waiting is not None:
        return waiting
    inputs = inputs_of(snapshot, pipeline_digest)
    last = newest(each for each in snapshot.runs if Inputs.noted(each) is not None)
    trigger = _trigger(spec, inputs, last, now)
    if trigger is None:
        return None
    name = run_name(snapshot.subject.name, inputs)
    if any(each.metadata.name == name for each in snapshot.runs):
        return None
    if any(each.spec.run.name == name for each in snapshot.versions):
        return None
    running = [each.metadata.name for each in snapshot.runs if each.status.phase == "Running"]
    if running and trigger != "TemplateChange":
        return Waiting(Reason.Progressing, f"TrainingRun {running[0]} runs; the next one follows it.")
    behind = _behind(snapshot)
    return behind or Wanted(name, _manifest(snapshot, name, inputs, trigger))


def inputs_of(snapshot: ModelProjectSnapshot, pipeline_digest: str) -> Inputs:
    """The inputs of a run that is made now; the project trains and its dataset has a current version."""
    spec = snapshot.subject.typed.spec
    assert spec.training is not None
    assert snapshot.current is not None
    template = spec.training.wire()
    del template["datasetRef"]
    judged_by = {"task": spec.task.wire(), "requirements": spec.requirements.wire(), "tests": spec.tests.wire()}
    return Inputs(
        dataset=snapshot.current.spec.digest,
        template=digest_json({"template": template, **judged_by}),
        features=digest_json({each.metadata.name: definition_digest(each) for each in _feature_sets(snapshot)}),
        pipeline=pipeline_digest,
    )


def run_name(project: str, inputs: Inputs) -> str:
    """`PROJECT-HASH10`."""
    return f"{project}-{short(digest_json(vars(inputs)))}"


def _trigger(spec: ModelProjectSpec, inputs: Inputs, last: TrainingRun | None, now: datetime) -> Trigger | None:
    """Why a run is made now: the first change that the policy asks for."""
    policy = spec.retrain
    before = Inputs.noted(last) if last is not None else None
    if before is None or last is None:
        return "DatasetVersion" if policy.on_dataset_version else "TemplateChange"
    if before.template != inputs.template:
        return "TemplateChange"
    if before.dataset != inputs.dataset and policy.on_dataset_version:
        return "DatasetVersion"
    if before.features != inputs.features and policy.on_feature_change:
        return "FeatureChange"
    if policy.schedule is not None and before != inputs:
        tick = last_tick(policy.schedule, policy.time_zone, now, "spec.retrain.schedule")
        if tick > created(last):
            return "Schedule"
    return None


def _feature_sets(snapshot: ModelProjectSnapshot) -> tuple[FeatureSet, ...]:
    training = snapshot.subject.typed.spec.training
    names = [each.name for each in training.feature_set_refs] if training is not None else []
    return tuple(each for each in snapshot.feature_sets if each.metadata.name in names)


def _missing(snapshot: ModelProjectSnapshot) -> Waiting | None:
    """The first object that a run needs and that is not there."""
    training = snapshot.subject.typed.spec.training
    assert training is not None
    name = training.dataset_ref.name
    if snapshot.dataset is None:
        message = f"spec.training.datasetRef: the project has no Dataset {name}: create it, or correct the name."
        return Waiting(Reason.DependencyMissing, message)
    there = {each.metadata.name for each in snapshot.feature_sets}
    for reference in training.feature_set_refs:
        if reference.name not in there:
            message = (
                f"spec.training.featureSetRefs: the project has no FeatureSet {reference.name}: create it, or correct "
                "the name."
            )
            return Waiting(Reason.DependencyMissing, message)
    if snapshot.current is None:
        return Waiting(Reason.DependencyNotReady, f"Dataset {name} has no version that passed yet.")
    return None


def _behind(snapshot: ModelProjectSnapshot) -> Waiting | None:
    """The first FeatureSet whose values are not those of the current version and the newest definitions."""
    current = snapshot.current
    assert current is not None
    for each in _feature_sets(snapshot):
        name = each.metadata.name
        if each.status.definition_digest != definition_digest(each):
            message = f"FeatureSet {name}: its newest definitions are not applied yet."
            return Waiting(Reason.DependencyNotReady, message)
        for source in each.status.sources or ():
            if source.dataset == current.spec.dataset_ref.name and source.version != current.metadata.name:
                message = f"FeatureSet {name} has the values of {source.version}, not yet of {current.metadata.name}."
                return Waiting(Reason.DependencyNotReady, message)
    return None


def _manifest(snapshot: ModelProjectSnapshot, name: str, inputs: Inputs, trigger: Trigger) -> dict[str, Any]:
    training, current = snapshot.subject.typed.spec.training, snapshot.current
    assert training is not None
    assert current is not None
    template = {field: getattr(training, field) for field in type(training).model_fields if field != "dataset_ref"}
    spec = TrainingRunSpec(
        project_ref=LocalRef(name=snapshot.subject.name),
        dataset_version_ref=LocalRef(name=current.metadata.name),
        trigger=trigger,
        **template,
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": {
            "name": name,
            "namespace": snapshot.subject.namespace,
            "labels": labels.of(snapshot.subject.name),
            "annotations": inputs.annotations(),
        },
        "spec": spec.wire(),
    }
