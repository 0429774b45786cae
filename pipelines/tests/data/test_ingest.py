"""`ingest` on a real store and real flights."""

from __future__ import annotations

from collections.abc import Callable

from slipway.contracts.jobs import IngestRequest
from slipway_pipelines.data.ingest import run_ingest
from slipway_pipelines.store import ObjectStore, ProgressWriter


def quiet(store: ObjectStore) -> ProgressWriter:
    return ProgressWriter(store, "jobs/flights/ingest/")


def test_a_year(module_store: ObjectStore, flights, make_request: Callable[..., IngestRequest]) -> None:
    request = make_request(module_store, flights.months)
    result = run_ingest(request, module_store, quiet(module_store))
    assert result.verdict == "Passed"
    assert result.rows == 336_776
    assert run_ingest(request, module_store, quiet(module_store)) == result
