"""`compare`: what two versions answered to the same requests, and how their answers are distributed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from slipway.api.meta import parse_time
from slipway.contracts.predictions import CompareRequest, CompareResult, Deltas, SliceDeltas
from slipway_pipelines.predictions import distances, objects, tables
from slipway_pipelines.predictions.page import page
from slipway_pipelines.predictions.skew import skews
from slipway_pipelines.predictions.tables import ALL, PAD, SIDES, Side, Window, column, numbers
from slipway_pipelines.predictions.text import decimal
from slipway_pipelines.sql.engine import MEMORY_SHARE, container_limits, sandbox
from slipway_pipelines.store import ObjectStore, ProgressWriter

_DELTA_BINS = 20
_PYTHON = 192 << 20
"""Bytes of this process beside DuckDB's: libraries, and columns of one version at a time."""


def run_compare(request: CompareRequest, store: ObjectStore, progress: ProgressWriter) -> CompareResult:
    """Compares, and writes `report.json` and `report.html` beside the result. RefusalError for too much data."""
    window = Window(parse_time(request.since), parse_time(request.until))
    prefixes = {"stable": request.stable_prefix, "candidate": request.candidate_prefix}
    limits = container_limits()
    with tempfile.TemporaryDirectory(prefix="slipway-") as made:
        folder = Path(made).resolve()
        memory = int((limits.memory - _PYTHON) * MEMORY_SHARE)
        with sandbox(folder, threads=limits.threads, memory=memory, tables_on_disk=True) as connection:
            sides: dict[str, Side] = {}
            for number, side in enumerate(SIDES):
                progress(f"read the answers of the {side} version", 30 * number)
                (folder / side).mkdir()
                found = objects.find(store, prefixes[side], window.since - PAD, window.until + PAD)
                sides[side] = tables.load(connection, side, objects.fetch(store, found, folder / side), window)
            progress("compare", 60)
            result = _compare(connection, request, sides)
            plots = _plots(connection)
    progress("write the report", 90)
    report, shown = f"{request.prefix}report.json", f"{request.prefix}report.html"
    result = result.model_copy(update={"report": report, "page": shown})
    about = request.model_dump(mode="json", by_alias=True, exclude={"store", "prefix"})
    store.put_json(report, {"request": about, **result.wire(), "plots": plots})
    store.put_bytes(shown, page(request, result, plots).encode(), "text/html; charset=utf-8")
    return result


def _compare(
    connection: duckdb.DuckDBPyConnection, request: CompareRequest, sides: Mapping[str, Side]
) -> CompareResult:
    notes = tables.mark(connection, sides, request.slices)
    return CompareResult(
        overall=Deltas(**_deltas(connection, ALL)),
        slices=[
            SliceDeltas(name=each.name, note=notes.get(each.name), **_deltas(connection, f"slice_{number}"))
            for number, each in enumerate(request.slices)
        ],
        inputs=skews(connection, sides),
        duplicates=sum(side.duplicates for side in sides.values()),
    )


def _deltas(connection: duckdb.DuckDBPyConnection, where: str) -> dict[str, Any]:
    """The fields of Deltas for the rows of a slice."""
    delta = "candidate_probability - stable_probability"
    found = numbers(
        connection,
        # No label is an answer too: who was told something yesterday and nothing today got another decision.
        "SELECT count(*) AS pairs,"
        " 100 * avg((stable_label IS NOT DISTINCT FROM candidate_label)::INTEGER) AS agreement_percent,"
        " 100 * avg((stable_label IS DISTINCT FROM candidate_label)::INTEGER) AS decision_change_percent,"
        f" avg({delta}) AS mean_delta, avg(abs({delta})) AS mean_absolute_delta,"
        f" quantile_cont(abs({delta}), 0.95) AS p95_absolute_delta, max(abs({delta})) AS worst_delta"
        f" FROM pairs WHERE {where}",
    )
    counts = {
        f"unpaired_{side}": numbers(
            connection,
            f"SELECT count(*) AS n FROM {side} ANTI JOIN {other} USING (request_id, instance) WHERE inside AND {where}",
        )["n"]
        for side, other in (SIDES, SIDES[::-1])
    }
    samples = [column(connection, f"SELECT probability FROM {side} WHERE inside AND {where}") for side in SIDES]
    measured = {
        "population_stability": distances.stability(*samples),
        "kolmogorov_smirnov": distances.kolmogorov_smirnov(*samples),
        "jensen_shannon": distances.jensen_shannon(*samples),
    }
    covered = {
        f"{side}_coverage_percent": numbers(
            connection, f"SELECT 100 * avg(answered_by_model::INTEGER) AS share FROM {side} WHERE inside AND {where}"
        )["share"]
        for side in SIDES
    }
    pairs = found.pop("pairs")
    texts = {each: decimal(value) for each, value in (found | measured | covered).items()}
    return {"pairs": pairs, "stable_rows": samples[0].size, "candidate_rows": samples[1].size, **counts, **texts}


def _plots(connection: duckdb.DuckDBPyConnection) -> dict[str, list[float]]:
    """Counts by bin: probabilities of each version, and absolute differences of pairs, from 0 to 1."""
    found = {
        side: distances.histogram(column(connection, f"SELECT probability FROM {side} WHERE inside"), _DELTA_BINS)
        for side in SIDES
    }
    differences = column(connection, "SELECT abs(candidate_probability - stable_probability) FROM pairs")
    found["differences"] = distances.histogram(differences, _DELTA_BINS)
    return {each: counts.tolist() for each, counts in found.items()}
