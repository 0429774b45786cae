"""Pure rules one by one: quota, priority, schedules, triggers, debt, sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.controllers.things import PROJECT, dataset, feature_set, pool, project
from unit.controllers.world import NS, START

from slipway.api.computepool import ComputePool
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.api.modelproject import Feasibility, ModelProject, Priority
from slipway.api.trainingrun import TrainingRun
from slipway.contracts.jobs import SourceObject
from slipway.controllers.computepool import Holding, admit, holdings
from slipway.controllers.dataset.source import source_digest
from slipway.controllers.featureset.definition import definition_digest, feast_project
from slipway.controllers.modelproject.priority import assess, feasibility, score
from slipway.controllers.modelproject.rollup import debt, next_due, overdue
from slipway.controllers.modelproject.snapshot import ModelProjectSnapshot
from slipway.controllers.modelproject.training import Inputs, Waiting, Wanted, inputs_of, next_run, run_name
from slipway.controllers.shared.cron import last_tick, next_tick
from slipway.controllers.shared.typed import Subject
from slipway.controllers.shared.work import listed
from slipway.runtime.errors import UserError

GPU = ComputePool.model_validate(
    pool(quota={"perProject": 2}, allowedNamespaces={"selector": {"matchLabels": {"ml": "yes"}}})
)


# ---- quota -----------------------------------------------------------------------------------------------------------
def held(units: int, project_: str = PROJECT, namespace: str = NS) -> Holding:
    return Holding("Job", namespace, f"{project_}-{units}", project_, units)


@pytest.mark.parametrize(
    ("labels", "units", "others", "ahead", "reason", "final"),
    [
        ({"ml": "yes"}, 2, [], 0, "Accepted", False),
        ({"ml": "yes"}, 1, [held(1)], 0, "Accepted", False),
        ({"ml": "yes"}, 1, [held(2)], 0, "WaitingForPool", False),
        ({"ml": "yes"}, 1, [held(1)], 1, "WaitingForPool", False),
        ({"ml": "yes"}, 2, [held(2, "other"), held(2, PROJECT, "elsewhere")], 0, "Accepted", False),
        ({"ml": "yes"}, 3, [], 0, "NotAllowed", True),
        ({"ml": "yes"}, 0, [], 0, "QuotaUnbounded", True),
        ({"ml": "no"}, 1, [], 0, "NotAllowed", True),
        ({}, 1, [], 0, "NotAllowed", True),
    ],
)
def test_admission(
    labels: dict[str, str], units: int, others: list[Holding], ahead: int, reason: str, final: bool
) -> None:
    found = admit(GPU, NS, labels, PROJECT, units, others, ahead)
    assert (found.reason, found.final, found.allowed) == (reason, final, reason == "Accepted")
    assert found.allowed or found.message


def test_a_pool_without_quota_takes_everybody() -> None:
    assert admit(ComputePool.model_validate(pool()), NS, {}, PROJECT, 0, [held(100)]).allowed


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(1, 6))
def test_whoever_is_admitted_one_by_one_never_exceeds_the_quota(wishes: list[int], quota: int) -> None:
    limited = ComputePool.model_validate(pool(quota={"perProject": quota}))
    inside: list[Holding] = []
    for number, units in enumerate(wishes):
        if admit(limited, NS, {}, PROJECT, units, inside).allowed:
            inside.append(Holding("Job", NS, str(number), PROJECT, units))
        assert sum(each.units for each in inside) <= quota


def test_jobs_that_ended_hold_nothing() -> None:
    def job(name: str, **status: Any) -> dict[str, Any]:
        marks = {"slipway.dev/pool": "gpu", "slipway.dev/project": PROJECT}
        notes = {"slipway.dev/pool-units": "2"}
        meta = {"name": name, "namespace": NS, "labels": marks, "annotations": notes}
        return {"kind": "Job", "metadata": meta, "spec": {}, "status": status}

    done = job("done", conditions=[{"type": "Complete", "status": "True"}])
    server = {**job("server"), "kind": "InferenceService"}
    other = {**job("x"), "metadata": {**job("x")["metadata"], "labels": {"slipway.dev/pool": "cpu"}}}
    assert [each.name for each in holdings("gpu", [job("active"), done, server, other])] == ["server", "active"]


# ---- priority --------------------------------------------------------------------------------------------------------
QUESTIONS = (
    *("dataAcquisitionCost", "labellingCost", "dataNeeded", "wrongPredictionCost"),
    *("trainingCompute", "inferenceConstraint"),
)


def priority(impact: str, costs: str, published: str) -> Priority:
    answers = {name: {"level": costs} for name in QUESTIONS} | {"publishedWork": {"level": published}}
    return Priority.model_validate({"impact": {"level": impact}, "feasibility": answers})


@pytest.mark.parametrize(
    ("impact", "costs", "published", "feasible", "verdict"),
    [
        ("High", "Low", "High", "High", "DoNow"),
        ("Medium", "Medium", "Medium", "Medium", "DoNow"),
        ("High", "High", "Low", "Low", "WorthTheEffort"),
        ("Low", "Low", "Low", "High", "LowHangingFruit"),
        ("Low", "High", "High", "Low", "Reconsider"),
    ],
)
def test_priority(impact: str, costs: str, published: str, feasible: str, verdict: str) -> None:
    found = assess(priority(impact, costs, published))
    assert (found.feasibility, found.verdict) == (feasible, verdict)


LEVELS = st.sampled_from(["Low", "Medium", "High"])


@given(st.lists(LEVELS, min_size=6, max_size=6), LEVELS, st.integers(0, 5))
def test_a_higher_cost_never_makes_a_project_more_feasible(costs: list[str], published: str, at: int) -> None:
    def points(levels: list[str]) -> int:
        answers = {name: {"level": level} for name, level in zip(QUESTIONS, levels, strict=True)}
        found = Feasibility.model_validate({**answers, "publishedWork": {"level": published}})
        assert feasibility(found) in ("Low", "Medium", "High")
        return score(found)

    dearer = [*costs[:at], "High", *costs[at + 1 :]]
    assert 0 <= points(dearer) <= points(costs) <= 14


# ---- schedules -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("expression", "zone", "at", "last", "following"),
    [
        ("0 3 * * 1", "Etc/UTC", "2026-11-23T08:00:00", "2026-11-23T03:00:00", "2026-11-30T03:00:00"),
        ("0 3 * * 1", "Etc/UTC", "2026-11-23T03:00:00", "2026-11-23T03:00:00", "2026-11-30T03:00:00"),
        ("0 3 * * *", "America/New_York", "2026-07-01T08:00:00", "2026-07-01T07:00:00", "2026-07-02T07:00:00"),
        ("0 3 * * *", "America/New_York", "2026-12-01T08:00:00", "2026-12-01T08:00:00", "2026-12-02T08:00:00"),
    ],
)
def test_ticks(expression: str, zone: str, at: str, last: str, following: str) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert last_tick(expression, zone, now, "spec.schedule").isoformat() == f"{last}+00:00"
    assert next_tick(expression, zone, now, "spec.schedule").isoformat() == f"{following}+00:00"


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.sampled_from(["*/5 * * * *", "30 2 * * 0"]))
def test_no_tick_lies_between_the_last_and_the_next(naive: datetime, expression: str) -> None:
    now = naive.replace(tzinfo=UTC)
    last = last_tick(expression, "Europe/Berlin", now, "x")
    following = next_tick(expression, "Europe/Berlin", now, "x")
    assert last <= now < following
    assert next_tick(expression, "Europe/Berlin", last, "x") == following


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("61 * * * *", "Etc/UTC", "is no schedule"),
        ("0 0 31 2 *", "Etc/UTC", "is no schedule"),
        ("* * * * *", "Mars", "no time zone"),
    ],
)
def test_schedules_that_are_none(expression: str, zone: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        next_tick(expression, zone, START, "spec.schedule")
    assert caught.value.message.startswith("spec.schedule: ")


# ---- digests ---------------------------------------------------------------------------------------------------------
def test_the_order_of_a_listing_and_when_it_is_taken_do_not_matter() -> None:
    objects = [SourceObject(key=key, etag="e", size=1) for key in ("a", "b", "c")]
    often, seldom = (
        Dataset.model_validate(dataset(pollInterval="1s")),
        Dataset.model_validate(dataset(pollInterval="1h")),
    )
    assert source_digest(often, objects, {}) == source_digest(seldom, objects[::-1], {})


@pytest.mark.parametrize(
    "spec",
    [
        {"key": ["carrier"]},
        {"columns": [{"name": "id", "type": "String"}, {"name": "carrier", "type": "String"}]},
        {"quality": [{"name": "enough", "expect": "count(*) > 1"}]},
        {"source": {"type": "S3", "s3": {"prefix": "raw/flights/", "format": "Csv"}}},
    ],
)
def test_a_spec_that_makes_other_versions_has_another_digest(spec: dict[str, Any]) -> None:
    objects = [SourceObject(key="a", etag="e", size=1)]
    first = source_digest(Dataset.model_validate(dataset()), objects, {})
    assert source_digest(Dataset.model_validate(dataset(**spec)), objects, {}) != first


def test_feast_projects_of_neighbours_differ() -> None:
    names = {feast_project("a", "b-c"), feast_project("a-b", "c"), feast_project("a", "b_c")}
    assert len(names) == 3
    assert all(name.replace("_", "").isalnum() for name in names)


# ---- runs ------------------------------------------------------------------------------------------------------------
DIGEST = "sha256:" + "a" * 64


def snapshot(
    *, data: str = "1", features: str = "1", runs: tuple[TrainingRun, ...] = (), **spec: Any
) -> ModelProjectSnapshot:
    raw = project(**spec)
    version = DatasetVersion.model_validate(
        {
            "metadata": {"name": f"flights-{data}", "namespace": NS},
            "spec": {
                "projectRef": {"name": PROJECT},
                "datasetRef": {"name": "flights"},
                "digest": "sha256:" + data * 64,
                "sourceDigest": DIGEST,
                "verdict": "Passed",
                "rows": 1,
                "partitions": 1,
                "manifest": "s3://slipway/m",
                "report": "s3://slipway/r",
            },
        }
    )
    of = feature_set()
    of["spec"]["views"][0]["features"][0]["expression"] = f"avg({features})"
    found = FeatureSet.model_validate(of)
    source = {"dataset": "flights", "version": f"flights-{data}"}
    of["status"] = {"definitionDigest": definition_digest(found), "sources": [source]}
    with_current = {**dataset(), "status": {"currentVersion": f"flights-{data}"}}
    return ModelProjectSnapshot(
        Subject(raw, ModelProject.model_validate(raw)),
        datasets=(Dataset.model_validate(with_current),),
        data={version.metadata.name: version},
        feature_sets=(FeatureSet.model_validate(of),),
        runs=runs,
    )


def made(before: ModelProjectSnapshot, phase: str = "Succeeded", at: datetime = START) -> TrainingRun:
    """The run that a project makes in a state, as it stands later."""
    wanted = next_run(before, DIGEST, START)
    assert isinstance(wanted, Wanted)
    manifest = wanted.manifest
    manifest["metadata"]["creationTimestamp"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return TrainingRun.model_validate({**manifest, "status": {"phase": phase}})


@pytest.mark.parametrize(
    ("then", "policy", "pipeline", "later", "trigger"),
    [
        ({}, {}, DIGEST, 0, None),
        ({"data": "2"}, {}, DIGEST, 0, "DatasetVersion"),
        ({"data": "2"}, {"onDatasetVersion": False}, DIGEST, 0, None),
        ({"features": "2"}, {}, DIGEST, 0, None),
        ({"features": "2"}, {"onFeatureChange": True}, DIGEST, 0, "FeatureChange"),
        ({"tests": {"slices": [{"name": "a", "where": "x", "metric": "rocAuc"}]}}, {}, DIGEST, 0, "TemplateChange"),
        ({}, {}, "sha256:" + "c" * 64, 0, None),
        ({}, {"schedule": "0 3 * * *", "timeZone": "Etc/UTC"}, DIGEST, 48, None),
        ({"features": "2"}, {"schedule": "0 3 * * *", "timeZone": "Etc/UTC"}, DIGEST, 1, None),
        ({"features": "2"}, {"schedule": "0 3 * * *", "timeZone": "Etc/UTC"}, DIGEST, 20, "Schedule"),
        ({}, {"schedule": "0 3 * * *", "timeZone": "Etc/UTC"}, "sha256:" + "c" * 64, 20, "Schedule"),
    ],
)
def test_triggers(then: dict[str, Any], policy: dict[str, Any], pipeline: str, later: int, trigger: str | None) -> None:
    run = made(snapshot(retrain=policy))
    found = next_run(snapshot(runs=(run,), retrain=policy, **then), pipeline, START + timedelta(hours=later))
    assert (found.manifest["spec"]["trigger"] if isinstance(found, Wanted) else None) == trigger
    assert not isinstance(found, Wanted) or found.name != run.metadata.name


def test_the_first_run_needs_no_change() -> None:
    run = made(snapshot())
    assert run.spec.trigger == "DatasetVersion"
    assert run.metadata.name == run_name(PROJECT, inputs_of(snapshot(), DIGEST))
    assert Inputs.noted(run) == inputs_of(snapshot(), DIGEST)


def test_going_back_to_earlier_inputs_makes_no_second_run() -> None:
    first = made(snapshot(data="1"))
    second = made(snapshot(data="2", runs=(first,)), at=START + timedelta(hours=1))
    assert next_run(snapshot(data="1", runs=(first, second)), DIGEST, START) is None


def test_data_waits_for_a_run_in_progress_and_a_new_template_does_not() -> None:
    run = made(snapshot(), "Running")
    assert isinstance(next_run(snapshot(data="2", runs=(run,)), DIGEST, START), Waiting)
    tests = {"slices": [{"name": "a", "where": "x", "metric": "rocAuc"}]}
    assert isinstance(next_run(snapshot(runs=(run,), tests=tests), DIGEST, START), Wanted)


def test_a_run_waits_until_features_have_the_values_of_its_data() -> None:
    state = snapshot(data="2")
    behind = state.feature_sets[0].model_dump(by_alias=True)
    behind["status"]["sources"][0]["version"] = "flights-1"
    late = ModelProjectSnapshot(
        state.subject,
        datasets=state.datasets,
        data=state.data,
        feature_sets=(FeatureSet.model_validate(behind),),
    )
    found = next_run(late, DIGEST, START)
    assert isinstance(found, Waiting)
    assert "flights-1, not yet of flights-2" in found.message


# ---- debt ------------------------------------------------------------------------------------------------------------
def test_deferrals_are_debt_until_their_day_and_overdue_from_it() -> None:
    def requirement(name: str, until: str) -> dict[str, Any]:
        deferred = {"until": until, "why": "After the launch"}
        return {"name": name, "metric": "f1", "min": "0.5", "deferred": deferred}

    satisfy = [requirement("due", "2026-11-23"), requirement("later", "2026-11-24"), requirement("never", "2026-02-31")]
    optimize = {"type": "Metric", "metric": {"name": "rocAuc"}}
    spec = ModelProject.model_validate(project(requirements={"optimize": optimize, "satisfy": satisfy})).spec
    assert overdue(spec, START) == ("due",)
    assert [each.why for each in debt(spec, START)] == [
        "Due since 2026-11-23: After the launch",
        "After the launch",
        "After the launch",
    ]
    assert next_due(spec, START) == datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_read_like_sentences(names: list[str], text: str) -> None:
    assert listed(names) == text
