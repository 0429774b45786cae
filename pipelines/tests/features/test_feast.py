"""The `features` and `features-teardown` commands against a real PostgreSQL, and the repository of the same objects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from slipway.contracts.jobs import FeatureResult, FeatureTeardownRequest
from slipway_pipelines.errors import OutageError, RefusalError
from slipway_pipelines.features import repo
from slipway_pipelines.features.commands import run_features, run_features_teardown
from slipway_pipelines.features.definitions import Names, define
from slipway_pipelines.features.feaststore import FeastDatabase, close_store, load_feast, open_store
from slipway_pipelines.features.naming import feast_view, feature_references
from slipway_pipelines.store import ObjectStore, ProgressWriter

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

Client = Callable[[], Any]


@pytest.fixture(scope="module")
def world(module_store: ObjectStore, flights: Any, make_world: Callable[..., Any]) -> Any:
    """November and December: enough for a window, an airline that stopped flying, and quick tests."""
    return make_world(module_store, flights.months[10:], flights.weather)


@pytest.fixture
def client(feast_environment: dict[str, str]) -> Iterator[Client]:
    """Opens Feast's client anew, so that nothing is read from a cache."""
    opened: list[Any] = []

    def open_it() -> Any:
        opened.append(open_store(FeastDatabase.from_environment(feast_environment), "flights"))
        return opened[-1]

    yield open_it
    for item in opened:
        close_store(item)


def features(world: Any, **changes: Any) -> FeatureResult:
    """Runs the command."""
    request = world.request(**changes)
    return run_features(request, world.store, ProgressWriter(world.store, request.prefix))


def tables(environment: dict[str, str]) -> set[str]:
    """Online tables."""
    database = FeastDatabase.from_environment(environment)
    with database.connect() as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'flights_flight%'").fetchall()
    return {row[0] for row in rows}


CARRIERS, WEATHER = "flight_features__carrier_history", "flight_features__origin_weather"


def test_values_are_online_and_pruned(world: Any, client: Client, feast_environment: dict[str, str]) -> None:
    result = features(world)
    assert result.objects == [
        *("entity/flight_features__carrier", "entity/flight_features__origin"),
        *(f"source/{CARRIERS}", f"source/{WEATHER}", f"view/{CARRIERS}", f"view/{WEATHER}"),
    ]
    assert result.materialized_until == "2014-01-01T10:00:00Z"
    assert [values.view for values in result.values] == ["carrier_history", "origin_weather"]
    assert all(world.store.exists(values.key) for values in result.values)
    store = client()
    online = store.get_online_features(
        [f"{CARRIERS}:late_share_7d", f"{CARRIERS}:flights_7d"],
        [{"carrier": "UA"}, {"carrier": "OO"}, {"carrier": "unknown"}],
    ).to_dict()
    assert online["late_share_7d"] == [pytest.approx(0.22028985507246376), None, None]
    assert online["flights_7d"] == [1035, 0, None]
    assert store.get_online_features([f"{WEATHER}:visib"], [{"origin": "JFK"}]).to_dict()["visib"] == [10.0]
    assert tables(feast_environment) == {f"flights_{CARRIERS}", f"flights_{WEATHER}"}

    again = features(world, ownedObjects=result.objects)
    assert again == result
    assert len(client().get_feature_view(CARRIERS).materialization_intervals) == 1

    views = [view for view in world.request().wire()["views"] if view["name"] == "carrier_history"]
    entities = [{"name": "carrier"}]
    pruned = features(world, views=views, entities=entities, ownedObjects=result.objects)
    assert pruned.objects == ["entity/flight_features__carrier", f"source/{CARRIERS}", f"view/{CARRIERS}"]
    assert [view.name for view in client().list_feature_views()] == [CARRIERS]
    assert tables(feast_environment) == {f"flights_{CARRIERS}"}

    teardown = FeatureTeardownRequest(
        store=world.request().store, prefix="jobs/f/t/", feast_project="flights", objects=result.objects
    )
    progress = ProgressWriter(world.store, "jobs/f/t/")
    removed = run_features_teardown(teardown, world.store, progress)
    assert removed.removed == pruned.objects
    assert tables(feast_environment) == set()
    assert client().list_feature_views() == []
    assert run_features_teardown(teardown, world.store, progress).removed == []


@pytest.mark.slow
def test_view_of_a_serving_model_stays(world: Any, client: Client, feast_environment: dict[str, str]) -> None:
    from feast import FeatureService

    result = features(world)
    store = client()
    store.apply([FeatureService(name="v1", features=[store.get_feature_view(WEATHER)])])
    views = [view for view in world.request().wire()["views"] if view["name"] == "carrier_history"]
    kept = features(world, views=views, entities=[{"name": "carrier"}], ownedObjects=result.objects)
    assert set(kept.objects) == set(result.objects)
    store = client()
    service = store.get_feature_service("v1")
    assert store.get_online_features(service, [{"origin": "JFK"}]).to_dict()["visib"] == [10.0]

    store.apply([], objects_to_delete=[service], partial=False)
    gone = features(world, views=views, entities=[{"name": "carrier"}], ownedObjects=kept.objects)
    assert gone.objects == ["entity/flight_features__carrier", f"source/{CARRIERS}", f"view/{CARRIERS}"]
    assert tables(feast_environment) == {f"flights_{CARRIERS}"}


@pytest.mark.slow
def test_values_older_than_the_ttl_leave_the_online_store(world: Any, feast_environment: dict[str, str]) -> None:
    features(world)
    database = FeastDatabase.from_environment(feast_environment)
    count = f'SELECT count(*) FROM "flights_{WEATHER}"'
    with database.connect() as connection:
        assert connection.execute(count).fetchone() == (6,)
        connection.execute(
            f'INSERT INTO "flights_{WEATHER}" (entity_key, feature_name, event_ts) '
            "VALUES ('closed', 'visib', '2013-12-30T16:59:59Z'), ('open', 'visib', '2013-12-30T17:00:00Z')"
        )
        features(world)
        assert connection.execute(count).fetchone() == (7,)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "column": ({"expression": "avg(arr_dely)"}, "cannot be evaluated: Referenced column"),
    "no-aggregate": ({"expression": "arr_delay"}, "has no aggregate such as avg(x) or count(*)"),
    "sensitive": ({"expression": "count(DISTINCT tailnum)"}, "uses tailnum, a sensitive column of dataset flights"),
    "type": ({"expression": "max(origin)"}, "gives VARCHAR where type says Double"),
    "window": ({"expression": "sum(1) OVER ()"}, "has OVER"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("feast_environment")
def test_wrong_feature_is_refused(world: Any, case: str) -> None:
    change, sentence = WRONG[case]
    view = world.request().wire()["views"][0]
    with pytest.raises(RefusalError) as refused:
        features(world, views=[view | {"features": [{"name": "x"} | change]}])
    assert refused.value.message.startswith("spec.views[carrier_history].features[x].expression")
    assert sentence in refused.value.message


@pytest.mark.usefixtures("feast_environment")
def test_dataset_without_a_version_is_refused(world: Any) -> None:
    with pytest.raises(RefusalError, match="dataset flights has no version yet"):
        features(world, datasets=[])


def test_database_that_does_not_answer_is_an_outage(
    world: Any, feast_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert feast_environment
    monkeypatch.setenv("SLIPWAY_FEAST_PORT", "1")
    with pytest.raises(OutageError, match=r"the feature store 127.0.0.1:1 does not answer"):
        features(world, views=world.request().wire()["views"][1:])


def test_project_is_held_by_one_job(feast_environment: dict[str, str]) -> None:
    database = FeastDatabase.from_environment(feast_environment)
    with database.lock("flights"), database.connect() as other:
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT pg_advisory_lock(hashtextextended('slipway/flights', 0))")
        with database.lock("trains"):
            pass


# ---- names -----------------------------------------------------------------------------------------------------------
def test_long_names_fit_postgresql_and_differ() -> None:
    project = "a_rather_long_namespace_and_proj_0a1b2c"
    names = [feast_view(project, "flight-features", "v" * 40 + end) for end in "ab"]
    assert len({*names}) == 2
    assert all(len(f"{project}_{name}_ek") <= 63 for name in names)
    with pytest.raises(RefusalError, match="leaves no room"):
        feast_view("p" * 50, "f", "v")


def test_names_with_dots_and_dashes_differ() -> None:
    assert len({feast_view("p", name, "v") for name in ("a-b", "a.b", "a-b-v")}) == 3


def test_references(world: Any) -> None:
    assert feature_references("flights", "flight-features", world.request().views) == [
        *(f"{CARRIERS}:late_share_7d", f"{CARRIERS}:flights_7d"),
        *(f"{WEATHER}:wind_speed", f"{WEATHER}:visib"),
    ]


# ---- the repository --------------------------------------------------------------------------------------------------
@pytest.fixture
def feature_sets(world: Any, tmp_path: Path) -> Path:
    """A folder with the YAML of the FeatureSet."""
    wire = world.request().wire()
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "FeatureSet",
        "metadata": {"name": "flight-features", "namespace": "flights"},
        "spec": {"projectRef": {"name": "flights"}, "entities": wire["entities"], "views": wire["views"]},
    }
    folder = tmp_path / "yaml"
    folder.mkdir()
    (folder / "featureset.yaml").write_text(yaml.safe_dump_all([{"kind": "Other"}, document]))
    return folder


@pytest.mark.slow
def test_repository_applies_by_itself_and_agrees_with_the_job(world: Any, feature_sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "feature_repo"
    assert repo.main(["--from", str(feature_sets), "--out", str(out)]) == 0
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("feast")), "apply"], cwd=out, capture_output=True, text=True, timeout=250
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    load_feast()
    from feast import FeatureStore

    applied = FeatureStore(repo_path=str(out))
    request = world.request()
    expected = define(
        Names("flights", "flights", "flight-features"),
        request.entities,
        request.views,
        lambda view: f"data/flight-features/latest/{view}.parquet",
    )
    assert {item.name: item for item in applied.list_entities()} == {item.name: item for item in expected.entities}
    assert {item.name: essence(item) for item in applied.list_feature_views()} == {
        item.name: essence(item) for item in expected.views
    }


def essence(view: Any) -> dict[str, Any]:
    """A view without what the registry adds: times, project, versions."""
    from google.protobuf.json_format import MessageToDict

    spec: dict[str, Any] = MessageToDict(view.to_proto().spec)
    for added in ("project", "version"):
        spec.pop(added, None)
    for added in ("meta", "project"):
        spec["batchSource"].pop(added, None)
    spec["features"] = sorted(spec["features"], key=lambda field: json.dumps(field))
    return spec


def test_repository_that_drifted_is_told(
    feature_sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "feature_repo"
    check = ["--from", str(feature_sets), "--out", str(out), "--check"]
    assert repo.main(check) == 1
    assert repo.main(check[:-1]) == 0
    assert repo.main(check) == 0
    module = out / "flight_features.py"
    module.write_text(module.read_text().replace("hours=336", "hours=300"))
    capsys.readouterr()
    assert repo.main(check) == 1
    assert "is not what the FeatureSets say (flight_features.py)" in capsys.readouterr().err


def test_committed_repository_is_that_of_the_example() -> None:
    root = Path(__file__).parents[3]
    manifests = root / "examples" / "flight-delays" / "manifests"
    assert repo.main(["--from", str(manifests), "--out", str(root / "feature_repo"), "--check"]) == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"apiVersion": "slipway.dev/v9"}, "FeatureSet has apiVersion slipway.dev/v9"),
        ({"spec": {}}, "spec.projectRef: Field required"),
        ({"kind": "Dataset"}, "has no FeatureSet"),
    ],
)
def test_malformed_feature_set(
    feature_sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], sentence: str
) -> None:
    path = feature_sets / "featureset.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    path.write_text(yaml.safe_dump(documents[1] | change))
    assert repo.main(["--from", str(feature_sets), "--out", str(tmp_path / "out")]) == 1
    assert sentence in capsys.readouterr().err
