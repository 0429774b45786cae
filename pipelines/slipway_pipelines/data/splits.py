"""Splits by time: the oldest labelled rows train, the newest test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Literal

from slipway.api.dataset import TimeSplit
from slipway.api.datasetversion import SplitRecord
from slipway_pipelines.store import format_time

SplitName = Literal["train", "validation", "test"]
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Moment:
    """How many labelled rows happen at one time."""

    time: datetime
    rows: int


class SplitError(ValueError):
    """The rows cannot be divided so; `str()` says why."""


def by_time(moments: Sequence[Moment], shares: TimeSplit) -> list[SplitRecord]:
    """Divides rows at points in time, so that rows of one time stay together.

    `moments` are in order of time. A boundary falls on the first time by which the shares before it are reached, so a
    split may be smaller than its share by the rows of that one time. SplitError when a split with a share gets no rows.
    """
    total = sum(moment.rows for moment in moments)
    if not total:
        raise SplitError("there are no labelled rows")
    shares_by_name: list[tuple[SplitName, int]] = [
        ("train", shares.train_percent),
        ("validation", shares.validation_percent),
        ("test", shares.test_percent),
    ]
    end = moments[-1].time + INSTANT
    ends = [_boundary(moments, total * percent // 100, end) for percent in accumulate(p for _, p in shares_by_name)]
    records, start = [], moments[0].time
    for (name, percent), until in zip(shares_by_name, ends, strict=True):
        rows = sum(moment.rows for moment in moments if start <= moment.time < until)
        if percent and not rows:
            raise SplitError(f"{name} would be empty: the {total} labelled rows have too few different times")
        if percent:
            records.append(SplitRecord(name=name, rows=rows, start=format_time(start), end=format_time(until)))
            start = until
    return records


def _boundary(moments: Sequence[Moment], wanted: int, end: datetime) -> datetime:
    """The time of row number `wanted`, counted from zero in order of time; `end` when there are no more rows."""
    seen = 0
    for moment in moments:
        seen += moment.rows
        if seen > wanted:
            return moment.time
    return end
