"""From objects to a ModelVersion, and what happens on the way when things go wrong."""

from __future__ import annotations

import copy

import pytest
from unit.controllers.things import (
    PROJECT,
    dataset,
    everything,
    feature_set,
    foundation,
    ingested,
    live,
    month,
    play,
    project,
)
from unit.controllers.world import NS, World, ready

from slipway.contracts.jobs import IngestResult, ProduceResult, Refusal
from slipway.runtime.resources import (
    DATASET,
    DATASET_VERSION,
    FEATURE_SET,
    JOB,
    MODEL_PROJECT,
    MODEL_VERSION,
    NAMESPACE,
    PLATFORM,
    SECRET,
    TRAINING_RUN,
)


@pytest.fixture
def world() -> World:
    return World()


async def test_data_becomes_a_model_version_and_then_nothing_is_written(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    (version,) = world.all(MODEL_VERSION)
    (run,) = world.all(TRAINING_RUN)
    assert run["status"]["modelVersion"] == version["metadata"]["name"]
    assert ready(run, "Succeeded")[:2] == ("True", "Succeeded")
    assert ready(version) == ("True", "Passed", "1 of 1 gates passed.")
    status = world.get(MODEL_PROJECT, PROJECT)["status"]
    assert status["phase"] == "Testing"
    assert status["passingVersion"] == version["metadata"]["name"]
    assert await world.writes_of() == []


async def test_a_restart_repeats_nothing(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    jobs = list(world.jobs_made)
    world.restart()
    world.advance(3600)
    assert await world.writes_of() == []
    assert world.jobs_made == jobs


async def test_lost_statuses_are_rebuilt_without_work_on_data(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    for type_, name in ((DATASET, "flights"), (MODEL_PROJECT, PROJECT)):
        obj = copy.deepcopy(world.get(type_, name))
        before = obj.pop("status")
        world.api.put(type_, obj)
        world.restart()
        await world.settle()
        after = world.get(type_, name)["status"]
        assert {**after, "lastListedTime": "", "conditions": []} == {**before, "lastListedTime": "", "conditions": []}
    assert len([name for name in world.jobs_made if "-ingest-" in name]) == 1


async def test_new_data_makes_one_new_version_of_everything(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    month(world, 2)
    world.advance(61)
    await live(world)
    assert len(world.all(DATASET_VERSION)) == 2
    assert len(world.all(TRAINING_RUN)) == 2
    assert len(world.all(MODEL_VERSION)) == 2
    assert len(world.asked) == len(set(world.asked)) == 8


async def test_a_broken_rule_keeps_the_last_good_version(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    good = world.get(DATASET, "flights")["status"]["currentVersion"]
    month(world, 2, "poison")
    world.advance(61)
    await world.settle()
    (job,) = world.jobs("ingest")
    result = ingested(world.request_of(job), broken="count(*) is 3, expected more than 100.")
    world.artifacts.objects[result.report or ""] = b"{}"
    world.end(job, result)
    await world.settle()
    status = world.get(DATASET, "flights")["status"]
    assert status["currentVersion"] == good
    assert status["latestVersion"] != good
    state, reason, message = ready(world.get(DATASET, "flights"))
    assert (state, reason) == ("False", "QualityRulesBroken")
    assert "enough: count(*) is 3, expected more than 100." in message
    assert ready(world.get(MODEL_PROJECT, PROJECT))[1] == "QualityRulesBroken"
    jobs = list(world.jobs_made)
    world.advance(3600)
    await world.settle()
    assert world.jobs_made == jobs, "a source that failed is not read again until it changes"
    del world.artifacts.objects["raw/flights/02.parquet"]
    world.advance(61)
    await live(world)
    assert world.get(DATASET, "flights")["status"]["currentVersion"] == good
    assert ready(world.get(DATASET, "flights"))[0] == "True"
    assert world.jobs_made == jobs, "the old state of the source has its version"


async def test_a_relaxed_rule_makes_a_second_record_of_the_same_content(world: World) -> None:
    everything(world)
    month(world, 1)
    await world.settle()
    (job,) = world.jobs("ingest")
    failed = ingested(world.request_of(job), broken="count(*) is 3, expected more than 100.")
    world.artifacts.objects[failed.report or ""] = b"{}"
    world.end(job, failed)
    await world.settle()
    quality = [{"name": "enough", "expect": "count(*) > 1"}]
    world.put(DATASET, dataset(quality=quality))
    await live(world)
    first, second = world.all(DATASET_VERSION)
    assert (first["spec"]["verdict"], second["spec"]["verdict"]) == ("Failed", "Passed")
    assert first["spec"]["digest"] == second["spec"]["digest"]
    assert world.get(DATASET, "flights")["status"]["currentVersion"] == second["metadata"]["name"]


async def test_an_empty_source_says_so_and_costs_no_write(world: World) -> None:
    everything(world)
    await world.settle()
    assert ready(world.get(DATASET, "flights"))[1] == "SourceEmpty"
    assert "s3://slipway/raw/flights/" in ready(world.get(DATASET, "flights"))[2]
    world.advance(600)
    assert await world.writes_of() == []


async def test_a_refusal_is_said_and_not_repeated(world: World) -> None:
    everything(world)
    month(world, 1)
    await world.settle()
    (job,) = world.jobs("ingest")
    refusal = Refusal(reason="SchemaMismatch", message="columns: 01.parquet has no column carrier: add it.")
    world.end(job, IngestResult(refusal=refusal))
    await world.settle()
    assert ready(world.get(DATASET, "flights")) == ("False", "SchemaMismatch", refusal.message)
    assert ready(world.get(DATASET, "flights"), "Stalled")[0] == "True"
    await world.delete(JOB, job["metadata"]["name"])
    world.restart()
    world.advance(7200)
    await world.settle()
    assert world.jobs() == []


async def test_a_job_that_died_is_started_anew_after_a_pause(world: World) -> None:
    everything(world)
    month(world, 1)
    await world.settle()
    (job,) = world.jobs("ingest")
    world.end(job, None, "Failed", "BackoffLimitExceeded")
    await world.settle()
    assert ready(world.get(DATASET, "flights"))[1] == "JobFailed"
    assert world.jobs() == []
    world.advance(301)
    await live(world)
    assert ready(world.get(DATASET, "flights"))[0] == "True"


async def test_a_source_that_changes_while_it_is_read_makes_both_versions(world: World) -> None:
    everything(world)
    month(world, 1)
    await world.settle()
    (first,) = world.jobs("ingest")
    world.run(first)
    month(world, 2)
    world.advance(61)
    await world.settle()
    assert world.jobs("ingest") == [first], "one at a time"
    play(world, first)
    await live(world)
    assert len(world.all(DATASET_VERSION)) == 2
    assert world.get(DATASET, "flights")["status"]["partitions"] == 2


async def test_a_job_that_never_began_is_dropped_for_newer_data(world: World) -> None:
    everything(world)
    month(world, 1)
    await world.settle()
    (first,) = world.jobs("ingest")
    month(world, 2)
    world.advance(61)
    await world.settle()
    (second,) = world.jobs("ingest")
    assert first["metadata"]["name"] != second["metadata"]["name"]


async def test_refresh_looks_at_once(world: World) -> None:
    everything(world)
    world.put(DATASET, dataset(pollInterval="24h"))
    await world.settle()
    month(world, 1)
    world.advance(60)
    await world.settle()
    assert world.jobs() == []
    asked = dataset(pollInterval="24h")
    asked["metadata"]["annotations"] = {"slipway.dev/refresh": "now"}
    world.put(DATASET, asked)
    await world.settle()
    assert len(world.jobs("ingest")) == 1


async def test_a_schedule_decides_when_a_source_is_looked_at(world: World) -> None:
    foundation(world)
    world.put(MODEL_PROJECT, project())
    world.put(DATASET, dataset(schedule="0 12 * * *", timeZone="America/New_York"))
    month(world, 1)
    await live(world)
    month(world, 2)
    world.advance(8 * 3600)  # 16:00 UTC is 11:00 in New York
    await live(world)
    assert len(world.all(DATASET_VERSION)) == 1
    world.advance(3600)
    await live(world)
    assert len(world.all(DATASET_VERSION)) == 2


async def test_a_dataset_waits_for_the_ones_it_refers_to(world: World) -> None:
    foundation(world)
    world.put(MODEL_PROJECT, project())
    reference = {"datasetRef": {"name": "airlines"}, "column": "carrier"}
    columns = [{"name": "id", "type": "Integer"}, {"name": "carrier", "type": "String", "references": reference}]
    world.put(DATASET, dataset(columns=columns))
    month(world, 1)
    await world.settle()
    assert ready(world.get(DATASET, "flights"))[1] == "DependencyNotReady"
    assert "airlines" in ready(world.get(DATASET, "flights"))[2]
    world.put(DATASET, dataset("airlines"))
    world.artifacts.objects["raw/airlines/a.parquet"] = b"a"
    await live(world)
    (job,) = (each for each in world.all(JOB) if "flights-ingest" in each["metadata"]["name"])
    (reference_,) = world.request_of(job)["references"]
    assert reference_["dataset"] == "airlines"
    assert ready(world.get(DATASET, "flights"))[0] == "True"


async def test_everything_waits_for_a_platform_with_its_sentence(world: World) -> None:
    world.put(NAMESPACE, {"metadata": {"name": NS}})
    world.put(MODEL_PROJECT, project())
    world.put(DATASET, dataset())
    world.put(FEATURE_SET, feature_set())
    await world.settle()
    for type_, name in ((MODEL_PROJECT, PROJECT), (DATASET, "flights"), (FEATURE_SET, "history")):
        assert ready(world.get(type_, name))[1] == "PlatformMissing", type_
    foundation(world)
    month(world, 1)
    await live(world)
    assert len(world.all(MODEL_VERSION)) == 1


async def test_a_store_that_is_down_loses_and_repeats_nothing(world: World) -> None:
    everything(world)
    month(world, 1)
    await world.settle()
    world.artifacts.down = True
    world.advance(61)
    for _ in range(3):
        await world.writes_of()
    assert ready(world.get(DATASET, "flights"))[1] == "PlatformUnavailable"
    world.artifacts.down = False
    await live(world)
    assert len(world.all(MODEL_VERSION)) == 1
    assert len(world.asked) == len(set(world.asked)) == 4


async def test_a_pipelines_endpoint_that_does_not_answer_is_named_plainly(world: World) -> None:
    everything(world)
    spec = copy.deepcopy(world.get(PLATFORM, "default"))["spec"]
    spec["pipelines"] = {"engine": "KubeflowPipelines", "kubeflowPipelines": {"endpoint": "http://kfp:8888"}}
    world.put(PLATFORM, {"metadata": {"name": "default"}, "spec": spec})
    month(world, 1)
    await live(world)
    (run,) = world.all(TRAINING_RUN)
    state, reason, message = ready(run, "Succeeded")
    assert (state, reason) == ("False", "EndpointUnavailable")
    assert "http://kfp:8888" in message
    assert "pipelineRun" not in run["status"]
    state, reason, message = ready(world.get(PLATFORM, "default"))
    assert (state, reason) == ("False", "EngineNotAvailable")
    assert message.startswith("pipelines: The pipelines endpoint http://kfp:8888: ")


async def test_user_code_that_raises_ends_the_run_with_its_sentence(world: World) -> None:
    everything(world)
    month(world, 1)
    for _ in range(4):
        await world.settle()
        for job in world.jobs():
            if job["metadata"]["labels"]["slipway.dev/stage"] != "train":
                play(world, job)
    (job,) = world.jobs("train")
    refusal = Refusal(reason="TrainingCodeFailed", message="flights/train.py:12: KeyError: 'carrier'.")
    world.end(job, ProduceResult(refusal=refusal), "Failed", "PodFailurePolicy")
    await world.settle()
    (run,) = world.all(TRAINING_RUN)
    assert run["status"]["phase"] == "Failed"
    assert ready(run, "Succeeded") == ("False", "TrainingCodeFailed", refusal.message)
    assert world.jobs() == []
    state, reason, message = ready(world.get(MODEL_PROJECT, PROJECT))
    assert (state, reason) == ("False", "TrainingCodeFailed")
    assert message.startswith("TrainingRun flight-delays-")
    assert world.get(MODEL_PROJECT, PROJECT)["status"]["phase"] == "Stalled"
    world.advance(7200)
    await world.settle()
    assert world.jobs() == []
    await world.delete(TRAINING_RUN, run["metadata"]["name"])
    await live(world)
    assert len(world.all(MODEL_VERSION)) == 1, "deleting a failed run is how a person tries again"


async def test_a_train_job_that_dies_is_tried_three_times(world: World) -> None:
    everything(world)
    month(world, 1)
    for attempt in (1, 2, 3):
        for _ in range(4):
            await world.settle()
            for job in world.jobs():
                if job["metadata"]["labels"]["slipway.dev/stage"] != "train":
                    play(world, job)
        (job,) = world.jobs("train")
        assert world.all(TRAINING_RUN)[0]["status"]["attempt"] == attempt
        world.end(job, None, "Failed", "BackoffLimitExceeded")
        await world.settle()
        world.advance(100)
    await world.settle()
    (run,) = world.all(TRAINING_RUN)
    assert (run["status"]["phase"], ready(run, "Succeeded")[1]) == ("Failed", "JobFailed")
    assert len([name for name in world.jobs_made if "-train-" in name]) == 3


async def test_what_serves_is_not_asked_twice_when_it_changes_during_a_run(world: World) -> None:
    """The request of a run is made once: later changes of the project do not start a second Job for it."""
    everything(world)
    month(world, 1)
    for _ in range(4):
        await world.settle()
        for job in world.jobs():
            if job["metadata"]["labels"]["slipway.dev/stage"] != "train":
                play(world, job)
    (train,) = world.jobs("train")
    world.run(train)
    world.put(MODEL_PROJECT, project(tests={"slices": [{"name": "a", "where": "true", "metric": "rocAuc"}]}))
    await world.settle()
    first = world.all(TRAINING_RUN)[0]["metadata"]["name"]
    mine = [job for job in world.jobs("train") if job["metadata"]["labels"]["slipway.dev/trainingrun"] == first]
    assert mine == [train]
    asked = world.request_of(train)
    play(world, train)
    await world.settle()
    (judge,) = (job for job in world.jobs("judge") if job["metadata"]["labels"]["slipway.dev/trainingrun"] == first)
    assert world.request_of(judge) == asked
    await live(world)
    assert len(world.all(TRAINING_RUN)) == 2, "other tests are another configuration: CACE"


async def test_a_project_deleted_first_loses_no_record(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    await world.delete(MODEL_PROJECT, PROJECT)
    await world.settle()
    assert ready(world.get(DATASET, "flights"))[1] == "ProjectMissing"
    assert ready(world.get(FEATURE_SET, "history"))[1] == "ProjectMissing"
    assert len(world.all(DATASET_VERSION)) == 1
    assert len(world.all(MODEL_VERSION)) == 1
    assert world.all(TRAINING_RUN) == []
    await world.delete(FEATURE_SET, "history")
    await world.settle()
    assert world.all(FEATURE_SET) == [], "without Secrets no Job can clear Feast, and nothing waits for ever"
    left = [event for event in world.api.events if event["reason"] == "DataLeft"]
    assert "view/history_view" in left[0]["note"]
    await world.delete(DATASET, "flights")
    await world.settle()
    assert len(world.all(DATASET_VERSION)) == 1


async def test_the_projects_copies_follow_the_platforms_secrets(world: World) -> None:
    everything(world)
    await world.settle()
    copied = world.get(SECRET, f"{PROJECT}-slipway-s3")
    assert set(copied["data"]) == {"accessKey", "secretKey", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    source = copy.deepcopy(world.get(SECRET, "s3", "slipway-system"))
    source["data"]["secretKey"] = "bmV3"
    world.api.put(SECRET, source)
    world.advance(121)
    await world.settle()
    assert world.get(SECRET, f"{PROJECT}-slipway-s3")["data"]["AWS_SECRET_ACCESS_KEY"] == "bmV3"
    assert world.get(SECRET, f"{PROJECT}-slipway-s3-train")["data"]["secretKey"] == "bmV3"
    await world.delete(SECRET, "s3", "slipway-system")
    world.advance(121)
    await world.settle()
    assert ready(world.get(MODEL_PROJECT, PROJECT))[1] == "SecretMissing"
    assert "slipway-system/s3" in ready(world.get(MODEL_PROJECT, PROJECT))[2]


async def test_servers_get_credentials_that_may_write_predictions_only_if_the_platform_has_some(world: World) -> None:
    everything(world)
    await world.settle()
    name = f"{PROJECT}-slipway-s3-predictions"
    assert all(each["metadata"]["name"] != name for each in world.all(SECRET))
    live = copy.deepcopy(world.get(PLATFORM, "default", ""))
    live["spec"]["artifacts"]["s3"]["predictionLogSecretRef"] = {"namespace": "slipway-system", "name": "predictions"}
    world.put(PLATFORM, live)
    await world.settle()
    assert "slipway-system/predictions" in ready(world.get(MODEL_PROJECT, PROJECT))[2]
    keys = {"accessKey": "d3JpdGVy", "secretKey": "c2VjcmV0"}
    world.put(SECRET, {"metadata": {"name": "predictions", "namespace": "slipway-system"}, "data": keys})
    world.advance(121)
    await world.settle()
    assert world.get(SECRET, name)["data"] == keys
    assert world.get(SECRET, f"{PROJECT}-slipway-s3")["data"]["accessKey"] != keys["accessKey"]


async def test_going_back_to_earlier_data_brings_its_values_to_the_store_again(world: World) -> None:
    everything(world)
    month(world, 1)
    await live(world)
    before = world.get(FEATURE_SET, "history")["status"]["inputDigest"]
    month(world, 2)
    world.advance(61)
    await live(world)
    del world.artifacts.objects["raw/flights/02.parquet"]
    world.advance(61)
    await live(world)
    assert world.get(FEATURE_SET, "history")["status"]["inputDigest"] == before
    month(world, 2)
    world.advance(61)
    await live(world)
    assert world.get(FEATURE_SET, "history")["status"]["inputDigest"] != before
    assert len([name for name in world.jobs_made if "-features-" in name]) == 4
    assert len([name for name in world.jobs_made if "-ingest-" in name]) == 2
    assert len(world.all(TRAINING_RUN)) == 2, "the same inputs never make two runs"


async def test_a_schedule_materializes_though_nothing_changed(world: World) -> None:
    everything(world)
    daily = {"schedule": "0 12 * * *", "timeZone": "Etc/UTC"}
    world.put(FEATURE_SET, feature_set(materialize=daily))
    month(world, 1)
    await live(world)
    world.advance(3 * 3600)
    await live(world)
    assert len([name for name in world.jobs_made if "-features-" in name]) == 1
    world.advance(3600)
    await live(world)
    assert len([name for name in world.jobs_made if "-features-" in name]) == 2
    assert world.get(FEATURE_SET, "history")["status"]["lastMaterializedTime"] == "2026-11-23T12:00:00Z"
    world.advance(3600)
    assert await world.writes_of() == []


async def test_feature_sets_of_a_project_write_to_feast_one_after_another(world: World) -> None:
    everything(world)
    world.put(FEATURE_SET, feature_set("weather"))
    month(world, 1)
    for _ in range(3):
        await world.settle()
        for job in world.jobs("ingest"):
            play(world, job)
    (first,) = world.jobs("features")
    (waiting,) = (each for each in world.all(FEATURE_SET) if ready(each)[2].startswith("Waits for Job"))
    assert first["metadata"]["name"] in ready(waiting)[2]
    play(world, first)
    await live(world)
    assert all(ready(each)[0] == "True" for each in world.all(FEATURE_SET))


async def test_a_bad_schedule_is_named_and_mended(world: World) -> None:
    everything(world)
    world.put(DATASET, dataset(schedule="61 * * * *", timeZone="Etc/UTC"))
    month(world, 1)
    await world.settle()
    state, reason, message = ready(world.get(DATASET, "flights"))
    assert (state, reason) == ("False", "InvalidSpec")
    assert message.startswith("spec.schedule: '61 * * * *' is no schedule")
    world.put(DATASET, dataset())
    await live(world)
    assert ready(world.get(DATASET, "flights"))[0] == "True"
