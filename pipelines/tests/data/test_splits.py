"""Splits by time."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.dataset import TimeSplit
from slipway.api.meta import parse_time
from slipway_pipelines.data.splits import Moment, SplitError, by_time

START = datetime(2013, 1, 1)


def shares(train: int, validation: int, test: int) -> TimeSplit:
    return TimeSplit(train_percent=train, validation_percent=validation, test_percent=test)


@st.composite
def any_shares(draw: st.DrawFn) -> TimeSplit:
    train = draw(st.integers(0, 100))
    validation = draw(st.integers(0, 100 - train))
    return shares(train, validation, 100 - train - validation)


moments = st.dictionaries(st.integers(0, 10_000), st.integers(1, 50), min_size=1, max_size=60).map(
    lambda rows: [Moment(START + timedelta(minutes=at), rows[at]) for at in sorted(rows)]
)


@given(moments, any_shares())
def test_every_row_is_in_one_split_and_no_time_in_two(rows: list[Moment], wanted: TimeSplit) -> None:
    try:
        records = by_time(rows, wanted)
    except SplitError:
        return
    assert sum(record.rows for record in records) == sum(moment.rows for moment in rows)
    bounds = [(parse_time(record.start), parse_time(record.end)) for record in records]
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))
    for moment in rows:
        inside = [name for name, (start, end) in enumerate(bounds) if start <= parse_time(f"{moment.time}Z") < end]
        assert len(inside) == 1


@given(moments, any_shares())
def test_a_split_misses_its_share_by_less_than_one_time(rows: list[Moment], wanted: TimeSplit) -> None:
    try:
        records = by_time(rows, wanted)
    except SplitError:
        return
    total, largest = sum(moment.rows for moment in rows), max(moment.rows for moment in rows)
    percent = {"train": wanted.train_percent, "validation": wanted.validation_percent, "test": wanted.test_percent}
    for record in records:
        assert abs(record.rows - total * percent[record.name] / 100) <= largest + 1


def test_boundaries() -> None:
    rows = [Moment(START + timedelta(hours=hour), 1) for hour in range(10)]
    records = by_time(rows, shares(80, 10, 10))
    assert [(record.name, record.rows, record.start, record.end) for record in records] == [
        ("train", 8, "2013-01-01T00:00:00Z", "2013-01-01T08:00:00Z"),
        ("validation", 1, "2013-01-01T08:00:00Z", "2013-01-01T09:00:00Z"),
        ("test", 1, "2013-01-01T09:00:00Z", "2013-01-01T09:00:00.000001Z"),
    ]


def test_share_of_nothing_makes_no_split() -> None:
    rows = [Moment(START + timedelta(hours=hour), 1) for hour in range(10)]
    assert [record.name for record in by_time(rows, shares(90, 0, 10))] == ["train", "test"]


@pytest.mark.parametrize("rows", [[], [Moment(START, 100)]])
def test_too_few_times(rows: list[Moment]) -> None:
    with pytest.raises(SplitError):
        by_time(rows, shares(80, 10, 10))
