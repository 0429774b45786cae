"""The example's data: real, deterministic, and such that its quality rules hold where they should."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import yaml
from flights import data, tables

MANIFESTS = Path(__file__).parents[1] / "manifests"
MONTHS = range(2, 6)
DATASETS = {"airlines": "20-airlines.yaml", "weather": "21-weather.yaml", "flights": "22-flights.yaml"}


def spec(name: str) -> dict[str, Any]:
    """A Dataset's spec."""
    found: dict[str, Any] = yaml.safe_load((MANIFESTS / DATASETS[name]).read_text())["spec"]
    return found


def broken(name: str, rows: pd.DataFrame) -> list[str]:
    """Quality rules that do not hold for rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection = duckdb.connect()
        connection.register("rows", rows)
        rules = spec(name).get("quality", [])
        return [r["name"] for r in rules if connection.execute(f"SELECT {r['expect']} FROM rows").fetchone() != (True,)]


@pytest.mark.parametrize("month", MONTHS)
def test_good_months_break_no_rule(month: int) -> None:
    assert broken("flights", tables.flights(month)) == []
    assert broken("weather", tables.weather(month)) == []


def test_poisoned_month_breaks_rules_references_and_nulls() -> None:
    rows = tables.poisoned_flights(4)
    assert broken("flights", rows) == ["plausible-mean", "plausible-range"]
    assert set(rows.carrier.dropna()) - set(tables.airlines().carrier) == {"ZZ"}
    assert rows.carrier.isna().sum() > 100
    assert not next(c for c in spec("flights")["columns"] if c["name"] == "carrier").get("nullable", False)


@pytest.mark.parametrize("name", DATASETS)
def test_declared_columns_are_there_without_unexpected_nulls(name: str) -> None:
    rows = {"airlines": tables.airlines, "weather": lambda: tables.weather(2), "flights": lambda: tables.flights(2)}[
        name
    ]()
    for column in spec(name)["columns"]:
        values = rows[column["name"]]
        assert column.get("nullable", False) or not values.isna().any()
    assert not rows.duplicated(spec(name)["key"]).any()


def test_carriers_are_airlines() -> None:
    for month in MONTHS:
        assert set(tables.flights(month).carrier) <= set(tables.airlines().carrier)


def test_the_carrier_of_the_third_version_flies_only_after_training() -> None:
    assert all("OO" not in set(tables.flights(month).carrier) for month in MONTHS)
    assert (tables.flights(6).carrier == "OO").sum() == 2
    assert len(data.instances([8, 9], 100, carrier="OO")) == 24


def test_times_are_utc_and_in_order() -> None:
    rows = tables.flights(1)
    first = rows[rows.flight_id == "2013-01-01-UA-1545-EWR"].iloc[0]
    # 05:15 in New York; scheduled at 08:19 in Houston.
    assert first.sched_dep_time == pd.Timestamp("2013-01-01 10:15")
    assert first.sched_arr_time == pd.Timestamp("2013-01-01 14:19")
    for month in (3, 11):  # summer time begins and ends
        rows = tables.flights(month)
        duration = rows.sched_arr_time - rows.sched_dep_time
        assert duration.min() > pd.Timedelta(minutes=10)
        assert duration.max() < pd.Timedelta(hours=13)


def test_a_flight_is_known_only_after_it_has_left() -> None:
    rows = tables.flights(2).dropna(subset=["arr_delay"])
    known = rows.sched_arr_time + pd.to_timedelta(rows.arr_delay, unit="min")
    assert (known > rows.sched_dep_time).all()


def test_objects_are_deterministic_and_one_a_month() -> None:
    once, twice = (list(data.objects([2, 3], poison=False)) for _ in range(2))
    assert once == twice
    assert [name for name, _ in once] == [
        "airlines/airlines.parquet",
        "weather/2013-02.parquet",
        "flights/2013-02.parquet",
        "weather/2013-03.parquet",
        "flights/2013-03.parquet",
    ]
    assert dict(data.objects([2], poison=True))["flights/2013-02.parquet"] != dict(once)["flights/2013-02.parquet"]


def test_instances_carry_what_the_project_asks_for() -> None:
    project = yaml.safe_load((MANIFESTS / "10-modelproject.yaml").read_text())
    assert project["spec"]["training"]["inputs"] == data.REQUEST_COLUMNS
    found = data.instances([6], 50)
    assert len(found) == 50
    assert all(list(instance) == data.REQUEST_COLUMNS for instance in found)


@pytest.mark.parametrize(("text", "months"), [("2-4", [2, 3, 4]), ("2,5", [2, 5]), ("7", [7])])
def test_months(text: str, months: list[int]) -> None:
    assert data.months(text) == months


@pytest.mark.parametrize("text", ["", "4-2", "0-3", "13", "spring"])
def test_no_months(text: str) -> None:
    with pytest.raises(Exception, match="no range of months"):
        data.months(text)
