"""Sentences, places and references of `slipway lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.api import KINDS
from slipway.api.reference import example
from slipway.lint import Finding, lint

PEOPLES = [kind.kind_name for kind in KINDS if not kind.operator_only]


class World:
    """The reference pages' examples, changed here and there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[str, dict[str, Any]] = {name: yaml.safe_load(example(name)) for name in PEOPLES}
        self.objects["ModelProject"]["spec"]["training"]["featureSetRefs"] = [{"name": "flight-features"}]

    def findings(self) -> list[Finding]:
        for name, obj in self.objects.items():
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(obj, sort_keys=False))
        return list(lint([self.folder]).findings)

    def only(self) -> Finding:
        (finding,) = self.findings()
        return finding


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def set_at(obj: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    target: Any = obj
    for part in parents:
        target = target[int(part)] if part.isdigit() else target[part]
    target[int(last) if last.isdigit() else last] = value


def test_the_examples_of_the_reference_pages_fit_together(world: World) -> None:
    assert world.findings() == []


# ---- one object ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("Dataset", "spec.colums", [], "spec.colums is no field of spec: did you mean columns?"),
        (
            "Dataset",
            "spec.source.s3.format",
            "parquet",
            "of Parquet, Csv, not 'parquet': did you mean Parquet?",
        ),
        ("Dataset", "spec.source.s3.prefix", "raw flights", "'raw flights', which does not match"),
        ("Dataset", "spec.key", [], "spec.key has 0 items; at least 1 are allowed"),
        ("Dataset", "spec.columns.0.nullable", "yes!", "must be a boolean, not 'yes!'"),
        ("ModelProject", "spec.training.seed", -1, "spec.training.seed is -1; it must be at least 0"),
        ("ModelProject", "spec.task.statement", "x" * 1025, "has 1025 characters; at most 1024 are allowed"),
        ("ModelProject", "spec.training.parameters", {"a": {}}, "must be a string or boolean or number, not '{}'"),
        ("ModelRollout", "spec.checks.0.min", 99.5, "must be a string, not '99.5': write it in quotes"),
        ("ModelRollout", "spec.steps.0.setWeight", "5", "must be an integer, not '5'"),
        ("ModelRollout", "spec.steps.0.name", "watch", "spec.steps has name 'watch' twice"),
        ("ComputePool", "metadata.namespace", "flights", "belongs to the whole cluster: remove metadata.namespace"),
        ("ComputePool", "metadata.name", "GPU", "metadata.name 'GPU' must be lower-case letters"),
        ("ComputePool", "kind", "ComputePol", "has no kind ComputePol: did you mean ComputePool?"),
        ("ComputePool", "apiVersion", "slipway.dev/v1", "slipway.dev/v1 is not served: use slipway.dev/v1alpha1"),
    ],
)
def test_sentences(world: World, kind: str, path: str, value: Any, message: str) -> None:
    set_at(world.objects[kind], path, value)
    finding = world.findings()[0]
    assert finding.severity == "error"
    assert message in finding.message
    assert Path(finding.file).name == f"{kind}.yaml"
    written = yaml.compose(Path(finding.file).read_text())
    assert written is not None
    assert 1 <= finding.line <= written.end_mark.line + 1


def test_a_missing_field_is_explained_where_it_is_missed(world: World) -> None:
    del world.objects["ModelProject"]["spec"]["task"]["target"]
    finding = world.only()
    assert finding.message == "spec.task.target is missing: Label column of the dataset."
    lines = Path(finding.file).read_text().splitlines()
    assert lines[finding.line - 1].strip().startswith("statement:")


def test_a_broken_rule_stands_at_its_object(world: World) -> None:
    world.objects["ModelRollout"]["spec"]["steps"][0] |= {"pause": {"for": "1m"}}
    finding = world.only()
    assert finding.code == "rule"
    assert finding.message.startswith("spec.steps[0]: set exactly one of setWeight, pause, analyze")
    assert Path(finding.file).read_text().splitlines()[finding.line - 1].strip() == "- name: first-users"


def test_without_name_metadata_or_spec(world: World) -> None:
    world.objects["ComputePool"] = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ComputePool"}
    assert {each.message.partition(":")[0] for each in world.findings()} == {
        "metadata.name is missing",
        "spec is missing",
    }


def test_objects_of_others_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: 7\n")
    report = lint([tmp_path])
    assert (report.files, report.objects, report.findings) == (1, 0, ())


def test_records_are_not_for_people(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(example("ModelVersion"))
    (finding,) = lint([tmp_path]).findings
    assert finding.severity == "warning"
    assert "only the operator writes a ModelVersion" in finding.message


# ---- objects together ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        (
            "Dataset",
            "spec.projectRef.name",
            "flight-delay",
            "spec.projectRef.name: there is no ModelProject flight-delay in namespace flights in these files:"
            " did you mean flight-delays?",
        ),
        ("FeatureSet", "spec.projectRef.name", "other", "there is no ModelProject other"),
        ("ModelRollout", "spec.projectRef.name", "other", "there is no ModelProject other"),
        ("TrainingRun", "spec.projectRef.name", "other", "there is no ModelProject other"),
        (
            "ModelRollout",
            "spec.analysis",
            {"templates": [{"name": "answer"}]},
            "spec.analysis.templates[0].name: there is no AnalysisTemplate answer in namespace flights in these files:"
            " did you mean answers?",
        ),
        (
            "ModelRollout",
            "spec.analysis",
            {"templates": [{"name": "queue-length", "clusterScope": True}]},
            "ClusterAnalysisTemplate queue-length needs a value for argument most: add it to args",
        ),
        (
            "ModelRollout",
            "spec.analysis",
            {"templates": [{"name": "answers"}], "args": [{"name": "leest", "value": "99"}]},
            "spec.analysis.args[0].name: no template here has an argument leest: did you mean least?",
        ),
        (
            "ModelRollout",
            "spec.analysis",
            {"prePromotion": {"templates": [{"name": "answers"}], "args": [{"name": "most", "value": "1"}]}},
            "spec.analysis.prePromotion.args[0].name: no template here has an argument most",
        ),
        (
            "AnalysisTemplate",
            "spec.metrics.0.successCondition",
            "resullt.value > 1",
            "successCondition: `resullt.value > 1` is no condition: 1:8: undeclared reference to 'resullt.value'.",
        ),
        (
            "AnalysisTemplate",
            "spec.metrics.0.failureCondition",
            "result.value < {{args.most}}",
            "spec.metrics[0] (success): there is no argument most: declare it in spec.args, or correct the name.",
        ),
        ("TrainingRun", "spec.featureSetRefs", [{"name": "flight-feature"}], "did you mean flight-features?"),
        ("TrainingRun", "spec.poolRef", {"name": "cpu"}, "there is no ComputePool cpu in these files"),
        ("ModelProject", "spec.training.datasetRef.name", "flight", "there is no Dataset flight"),
        ("ModelProject", "spec.training.poolRef", {"name": "gpus"}, "there is no ComputePool gpus in these files: did"),
        ("ModelProject", "spec.training.featureSetRefs.0.name", "features", "there is no FeatureSet features"),
        ("ModelProject", "spec.training.inputs", ["carier"], "has no column carier: did you mean carrier?"),
        (
            "ModelProject",
            "spec.training.inputs",
            ["carrier", "late_share_7d"],
            "late_share_7d is a feature of FeatureSet",
        ),
        ("ModelProject", "spec.task.target", "delayed", "the label of Dataset flights is late, not delayed"),
        ("ModelRollout", "spec.serving", {"poolRef": {"name": "cpu"}}, "there is no ComputePool cpu"),
        ("FeatureSet", "spec.views.0.source.aggregate.datasetRef.name", "flight", "there is no Dataset flight"),
        (
            "Dataset",
            "spec.columns.1.references",
            {"datasetRef": {"name": "flights"}, "column": "carriers"},
            "Dataset flights has no column carriers: did you mean carrier?",
        ),
    ],
)
def test_references(world: World, kind: str, path: str, value: Any, message: str) -> None:
    set_at(world.objects[kind], path, value)
    finding = world.only()
    assert finding.severity == "error"
    assert message in finding.message
    assert Path(finding.file).name == f"{kind}.yaml"


def test_a_name_that_may_be_in_the_cluster_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(example("Dataset"))
    report = lint([tmp_path])
    (finding,) = report.findings
    assert (report.errors, report.warnings) == (0, 1)
    assert "no ModelProject flight-delays in namespace flights in these files; it must be in the" in finding.message


def test_a_sensitive_column_is_no_input(world: World) -> None:
    world.objects["Dataset"]["spec"]["columns"][1]["sensitive"] = True
    assert "column carrier of Dataset flights is sensitive" in world.only().message


def test_a_dataset_without_labels_trains_nothing(world: World) -> None:
    del world.objects["Dataset"]["spec"]["labels"]
    assert "Dataset flights has no labels: set spec.labels there" in world.only().message


def test_features_need_time_and_their_entities(world: World) -> None:
    dataset = world.objects["Dataset"]["spec"]
    del dataset["time"], dataset["splits"], dataset["labels"]
    world.objects["FeatureSet"]["spec"]["entities"] = [{"name": "origin"}]
    world.objects["FeatureSet"]["spec"]["views"][0]["entities"] = ["origin"]
    messages = " | ".join(each.message for each in world.findings())
    assert "Dataset flights has no time, and features need it" in messages
    assert "spec.views[0].entities[0]: Dataset flights has no column origin" in messages
    assert "features are joined by entity origin, which is no column of Dataset flights" in messages


def test_a_feature_without_expression_is_a_column(world: World) -> None:
    view = world.objects["FeatureSet"]["spec"]["views"][0]
    view["source"] = {"type": "Dataset", "dataset": {"datasetRef": {"name": "flights"}}}
    view["features"] = [{"name": "distance"}]
    assert "Dataset flights has no column distance" in world.only().message


def test_features_of_two_sets_with_one_name(world: World) -> None:
    second = yaml.safe_load(example("FeatureSet"))
    second["metadata"]["name"] = "more-features"
    world.objects["Second"] = second
    world.objects["ModelProject"]["spec"]["training"]["featureSetRefs"].append({"name": "more-features"})
    assert "FeatureSets flight-features and more-features both have a feature late_share_7d" in world.only().message


def test_an_object_given_twice(world: World) -> None:
    world.objects["Second"] = yaml.safe_load(example("ComputePool"))
    finding = world.only()
    assert "ComputePool gpu is in " in finding.message
    assert finding.message.endswith("already: remove or rename one")


def test_two_rollouts_at_one_address(world: World) -> None:
    second = yaml.safe_load(example("ModelRollout"))
    second["metadata"]["name"] = "second"
    world.objects["Second"] = second
    assert "ModelRollout flights/flight-delays has the same path on the same host" in world.only().message
    second["spec"]["routing"]["hostnames"] = ["b.example.com"]
    world.objects["ModelRollout"]["spec"]["routing"]["hostnames"] = ["a.example.com"]
    assert world.findings() == []


def test_namespaces_are_kept_apart(world: World) -> None:
    world.objects["Dataset"]["metadata"]["namespace"] = "elsewhere"
    messages = [each.message for each in world.findings() if each.code == "reference"]
    assert len(messages) == 3
    assert sum("there is no Dataset flights in namespace flights" in each for each in messages) == 2
    assert sum("there is no ModelProject flight-delays in namespace elsewhere" in each for each in messages) == 1
