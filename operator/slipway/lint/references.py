"""Objects together: what they name, and whether it is there and fits.

What is not among the given files may be in the cluster, so a name that is not found is an error only where the files
have other objects of that kind; else it is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from slipway.adapters.templates import problems as template_problems
from slipway.api.analysis import AnalysisTemplate, ClusterAnalysisTemplate
from slipway.api.computepool import ComputePool
from slipway.api.dataset import Dataset
from slipway.api.featureset import FeatureSet, View
from slipway.api.meta import Resource
from slipway.api.modelproject import ModelProject
from slipway.api.modelrollout import ModelRollout
from slipway.api.trainingrun import TrainingRun
from slipway.lint.analysis import analysis_problems
from slipway.lint.documents import Document
from slipway.lint.findings import FieldPath, Problem, did_you_mean, dotted
from slipway.lint.index import Index, resolve

Located = tuple[Document, Problem]


def reference_problems(index: Index) -> Iterator[Located]:
    """Every problem between objects."""
    checks: tuple[tuple[type[Resource], Callable[[Index, Resource], Iterator[Problem]]], ...] = (
        (ModelProject, _project),
        (Dataset, _dataset),
        (FeatureSet, _feature_set),
        (TrainingRun, _training_run),
        (ModelRollout, _rollout),
        (AnalysisTemplate, _template),
        (ClusterAnalysisTemplate, _template),
    )
    for model, check in checks:
        for document, parsed in index.all(model):
            for problem in check(index, parsed):
                yield document, problem
    yield from _paths_taken_twice(index)


# ---- kinds -----------------------------------------------------------------------------------------------------------
def _project(index: Index, owner: Resource) -> Iterator[Problem]:
    assert isinstance(owner, ModelProject)
    training = owner.spec.training
    if training is None:
        return
    problems: list[Problem] = []
    base: FieldPath = ("spec", "training")
    dataset = resolve(index, owner, Dataset, training.dataset_ref.name, (*base, "datasetRef", "name"), problems)
    if training.pool_ref:
        resolve(index, owner, ComputePool, training.pool_ref.name, (*base, "poolRef", "name"), problems)
    features: dict[str, str] = {}
    for number, reference in enumerate(training.feature_set_refs):
        path: FieldPath = (*base, "featureSetRefs", number, "name")
        feature_set = resolve(index, owner, FeatureSet, reference.name, path, problems)
        if feature_set is None:
            continue
        for view in feature_set.spec.views:
            for feature in view.features:
                if feature.name in features:
                    problems.append(
                        Problem(
                            path,
                            "feature-twice",
                            f"{dotted(path)}: FeatureSets {features[feature.name]} and {reference.name} both have a"
                            f" feature {feature.name}: rename one",
                        )
                    )
                features[feature.name] = reference.name
        if dataset:
            problems += _entities_in(dataset, feature_set, path)
    if dataset:
        problems += _label(owner, dataset)
        problems += _inputs(dataset, training.inputs, features, (*base, "inputs"))
    yield from problems


def _label(project: ModelProject, dataset: Dataset) -> Iterator[Problem]:
    path: FieldPath = ("spec", "task", "target")
    labels, target, name = dataset.spec.labels, project.spec.task.target, dataset.metadata.name
    if labels is None:
        yield Problem(path, "target", f"{dotted(path)}: Dataset {name} has no labels: set spec.labels there")
    elif labels.column != target:
        yield Problem(path, "target", f"{dotted(path)}: the label of Dataset {name} is {labels.column}, not {target}")


def _inputs(dataset: Dataset, inputs: list[str], features: dict[str, str], path: FieldPath) -> Iterator[Problem]:
    columns = {column.name: column for column in dataset.spec.columns}
    for number, name in enumerate(inputs):
        here: FieldPath = (*path, number)
        if name in features:
            message = f"{name} is a feature of FeatureSet {features[name]} already: remove one of the two"
            yield Problem(here, "input", f"{dotted(here)}: {message}")
        elif name not in columns:
            message = f"Dataset {dataset.metadata.name} has no column {name}{did_you_mean(name, columns)}"
            yield Problem(here, "input", f"{dotted(here)}: {message}")
        elif columns[name].sensitive:
            message = f"column {name} of Dataset {dataset.metadata.name} is sensitive and cannot be an input"
            yield Problem(here, "input", f"{dotted(here)}: {message}")


def _entities_in(dataset: Dataset, feature_set: FeatureSet, path: FieldPath) -> Iterator[Problem]:
    columns = {column.name for column in dataset.spec.columns}
    used = {entity for view in feature_set.spec.views for entity in view.entities}
    for entity in sorted(used - columns):
        yield Problem(
            path,
            "entity",
            f"{dotted(path)}: features are joined by entity {entity}, which is no column of Dataset"
            f" {dataset.metadata.name}{did_you_mean(entity, columns)}",
        )


def _dataset(index: Index, owner: Resource) -> Iterator[Problem]:
    assert isinstance(owner, Dataset)
    problems: list[Problem] = []
    resolve(index, owner, ModelProject, owner.spec.project_ref.name, ("spec", "projectRef", "name"), problems)
    for number, column in enumerate(owner.spec.columns):
        if column.references is None:
            continue
        base: FieldPath = ("spec", "columns", number, "references")
        other = resolve(
            index, owner, Dataset, column.references.dataset_ref.name, (*base, "datasetRef", "name"), problems
        )
        if other:
            problems += _column_of(other, column.references.column, (*base, "column"))
    yield from problems


def _column_of(dataset: Dataset, name: str, path: FieldPath) -> Iterator[Problem]:
    columns = [column.name for column in dataset.spec.columns]
    if name not in columns:
        hint = did_you_mean(name, columns)
        yield Problem(path, "column", f"{dotted(path)}: Dataset {dataset.metadata.name} has no column {name}{hint}")


def _feature_set(index: Index, owner: Resource) -> Iterator[Problem]:
    assert isinstance(owner, FeatureSet)
    problems: list[Problem] = []
    resolve(index, owner, ModelProject, owner.spec.project_ref.name, ("spec", "projectRef", "name"), problems)
    for number, view in enumerate(owner.spec.views):
        problems += _view(index, owner, view, ("spec", "views", number))
    yield from problems


def _view(index: Index, owner: FeatureSet, view: View, base: FieldPath) -> Iterator[Problem]:
    source = view.source.aggregate or view.source.dataset
    if source is None:
        return
    member = "aggregate" if view.source.aggregate else "dataset"
    path: FieldPath = (*base, "source", member, "datasetRef", "name")
    problems: list[Problem] = []
    dataset = resolve(index, owner, Dataset, source.dataset_ref.name, path, problems)
    yield from problems
    if dataset is None:
        return
    if dataset.spec.time is None:
        message = f"Dataset {dataset.metadata.name} has no time, and features need it: set spec.time.event there"
        yield Problem(path, "time", f"{dotted(path)}: {message}")
    for number, entity in enumerate(view.entities):
        yield from _column_of(dataset, entity, (*base, "entities", number))
    for number, feature in enumerate(view.features):
        if feature.expression is None:
            yield from _column_of(dataset, feature.name, (*base, "features", number, "name"))


def _training_run(index: Index, owner: Resource) -> Iterator[Problem]:
    assert isinstance(owner, TrainingRun)
    problems: list[Problem] = []
    spec = owner.spec
    resolve(index, owner, ModelProject, spec.project_ref.name, ("spec", "projectRef", "name"), problems)
    for number, reference in enumerate(spec.feature_set_refs):
        resolve(index, owner, FeatureSet, reference.name, ("spec", "featureSetRefs", number, "name"), problems)
    if spec.pool_ref:
        resolve(index, owner, ComputePool, spec.pool_ref.name, ("spec", "poolRef", "name"), problems)
    yield from problems


def _rollout(index: Index, owner: Resource) -> Iterator[Problem]:
    assert isinstance(owner, ModelRollout)
    problems: list[Problem] = []
    resolve(index, owner, ModelProject, owner.spec.project_ref.name, ("spec", "projectRef", "name"), problems)
    pool = owner.spec.serving.pool_ref
    if pool:
        resolve(index, owner, ComputePool, pool.name, ("spec", "serving", "poolRef", "name"), problems)
    yield from problems
    yield from analysis_problems(index, owner)


def _template(_: Index, owner: Resource) -> Iterator[Problem]:
    assert isinstance(owner, AnalysisTemplate | ClusterAnalysisTemplate)
    for problem in template_problems(owner.spec):
        yield Problem(("spec", "metrics", problem.metric, *problem.field), "template", problem.sentence)


def _paths_taken_twice(index: Index) -> Iterator[Located]:
    rollouts = list(index.all(ModelRollout))
    for number, (document, rollout) in enumerate(rollouts):
        for _, earlier in rollouts[:number]:
            if earlier.spec.routing.path == rollout.spec.routing.path and _share_a_host(earlier, rollout):
                path: FieldPath = ("spec", "routing", "path")
                other = f"ModelRollout {earlier.metadata.namespace or ''}/{earlier.metadata.name}".replace(" /", " ")
                message = f"{dotted(path)}: {other} has the same path on the same host: choose another"
                yield document, Problem(path, "path-taken", message)


def _share_a_host(one: ModelRollout, other: ModelRollout) -> bool:
    hosts, others = set(one.spec.routing.hostnames), set(other.spec.routing.hostnames)
    return not hosts or not others or bool(hosts & others)
