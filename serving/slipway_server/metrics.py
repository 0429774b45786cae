"""Prometheus metrics of the server, served at /metrics beside the KServe SDK's own."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from slipway.contracts.decisions import Source

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Histogram(
    "slipway_request_seconds", "Prediction requests, from first byte to last, by status.", ["status"], buckets=_SECONDS
)
CONSUMERS = Counter(
    "slipway_consumer_requests_total",
    "Prediction requests by the caller that the gateway named, and by status; callers beyond the first hundreds are"
    " counted together as `other`.",
    ["consumer", "code"],
)
MODEL = Histogram(
    "slipway_model_seconds", "Calls of the model; requests that wait at the same time share one.", buckets=_SECONDS
)
BASELINE = Histogram(
    "slipway_baseline_seconds", "Calls of the baseline, which answers in the model's place.", buckets=_SECONDS
)
FEATURES = Histogram("slipway_feature_lookup_seconds", "Reads of the online feature store.", buckets=_SECONDS)
LOOKUPS = Counter(
    "slipway_feature_lookups_total",
    "Feature values by where they came from: the store (hit), the request, or the default because the store had none"
    " (default), was late (timeout) or failed (error).",
    ["result"],
)
ANSWERS = Counter(
    "slipway_predictions_total",
    "Instances that were answered, by who did: the model, the baseline because the model was unsure, or nobody (none).",
    ["source"],
)
BREAKER_OPEN = Gauge("slipway_feature_store_open", "1 while the online store is left alone after failures.")
PREDICTIONS_WRITTEN = Counter("slipway_prediction_log_rows_total", "Instances that the store has taken.")
PREDICTIONS_DROPPED = Counter(
    "slipway_prediction_log_dropped_rows_total",
    "Instances that were not logged: the queue was full (full), the server ended before the store took them (store), or"
    " they could not be written as Parquet (error).",
    ["reason"],
)
PREDICTIONS_FAILED_PUTS = Counter("slipway_prediction_log_failed_puts_total", "Writes that the store did not take.")

CONSUMERS_KEPT = 256
_known: set[str] = set()


def count_consumer(consumer: str, status: int) -> None:
    """Count an answer to a caller; the number of callers that are told apart has a bound."""
    if consumer not in _known:
        if len(_known) >= CONSUMERS_KEPT:
            consumer = "other"
        _known.add(consumer)
    CONSUMERS.labels(consumer, str(status)).inc()


def count_answers(sources: Iterable[Source]) -> None:
    """Count the answers of a request."""
    for source, count in Counts(sources).items():
        ANSWERS.labels(source).inc(count)


for _source in ("model", "baseline", "none"):
    ANSWERS.labels(_source)
for _reason in ("full", "store", "error"):
    PREDICTIONS_DROPPED.labels(_reason)
for _result in ("hit", "request", "default", "timeout", "error"):
    LOOKUPS.labels(_result)
