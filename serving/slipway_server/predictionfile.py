"""One object of the prediction log: Parquet, a row an instance. Importing this module imports Arrow.

    request_id string, instance int32, time timestamp[us, UTC], version string, mirrored bool,
    latency_ms double,
    label bool, null where nobody answered; source string: who did (model, baseline or none),
    probability double, the model's, and baseline_probability double where the baseline answered instead,
    inputs  struct of the model's inputs in its order and types, null where a value is missing or left out,
    origins struct of the inputs that may come from the feature store: request, hit, default, timeout or error;
            not there for a model without such inputs

Inputs that are left out keep their column, so that all objects of a version have one schema; the file's metadata names
them under `slipway.redacted`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from io import BytesIO
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slipway.api.modelversion import InputField
from slipway_server.predictionlog import Logged

log = logging.getLogger("slipway.predictions")

_PIECE_ROWS = 100
_YIELD_SECONDS = 0.001
"""After a millisecond's work the thread lets go of the interpreter's lock: the threads that answer requests would wait
five of them for it, at every turn."""
_TYPES = {
    "String": pa.string(),
    "Integer": pa.int64(),
    "Double": pa.float64(),
    "Boolean": pa.bool_(),
    "Timestamp": pa.timestamp("us"),
}


class Encoder:
    """Makes an object of some requests.

    :param redact: inputs whose values are left out
    """

    def __init__(self, fields: Sequence[InputField], redact: Iterable[str]) -> None:
        self._fields = tuple(fields)
        self._redact = frozenset(redact) & {field.name for field in fields}
        self._looked_up = [field.name for field in fields if field.source == "FeatureStore"]
        self._odd: set[str] = set()

    def __call__(self, batch: Sequence[Logged]) -> bytes:
        """The bytes of the object."""
        tables = []
        for piece in _pieces(batch):
            tables.append(self._table(piece))
            time.sleep(_YIELD_SECONDS)
        found = pa.concat_tables(tables).replace_schema_metadata({"slipway.redacted": ",".join(sorted(self._redact))})
        sink = BytesIO()
        pq.write_table(found, sink, compression="zstd")
        return sink.getvalue()

    def _table(self, piece: Sequence[Logged]) -> pa.Table:
        probabilities = [p for each in piece for p in each.answer.probabilities]
        decisions = [decision for each in piece for decision in each.answer.decisions]
        columns = {
            "request_id": _repeated(((each.record.id, each) for each in piece), pa.string()),
            "instance": pa.array([i for each in piece for i in range(each.rows)], pa.int32()),
            "time": _repeated(((_time(each.record.at), each) for each in piece), pa.timestamp("us", "UTC")),
            "version": _repeated(((each.record.version, each) for each in piece), pa.string()),
            "mirrored": _repeated(((each.mirrored, each) for each in piece), pa.bool_()),
            "latency_ms": _repeated(((each.record.milliseconds, each) for each in piece), pa.float64()),
            "label": pa.array([each.label for each in decisions], pa.bool_()),
            "source": pa.array([each.source for each in decisions], pa.string()),
            "probability": pa.array(probabilities, pa.float64()),
            "baseline_probability": pa.array(
                [each.probability if each.source == "baseline" else None for each in decisions], pa.float64()
            ),
            "inputs": _struct({field.name: self._input(field, piece) for field in self._fields}),
        }
        if self._looked_up:  # Parquet has no struct without a field
            columns["origins"] = _struct(
                {name: _column((each.answer.origins[name] for each in piece), pa.string()) for name in self._looked_up}
            )
        return pa.table(columns)

    def _input(self, field: InputField, batch: Sequence[Logged]) -> pa.Array:
        kind = _TYPES[field.type]
        if field.name in self._redact:
            return pa.nulls(sum(each.rows for each in batch), kind)
        values = [value for each in batch for value in each.answer.columns[field.name]]
        try:
            return pa.array(values, kind, from_pandas=True)
        except (pa.ArrowException, TypeError, OverflowError):
            if field.name not in self._odd:
                log.warning("Values of %s are not all of its type %s: those are left out", field.name, field.type)
                self._odd.add(field.name)
            return pa.array([_fitting(value, kind) for value in values], kind)


def _pieces(batch: Sequence[Logged]) -> Iterator[list[Logged]]:
    """Requests with about _PIECE_ROWS rows together."""
    piece: list[Logged] = []
    rows = 0
    for each in batch:
        piece.append(each)
        rows += each.rows
        if rows >= _PIECE_ROWS:
            yield piece
            piece, rows = [], 0
    if piece:
        yield piece


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """The value, or None where it is not of this type (a feature store may hold what another view put there)."""
    try:
        return pa.array([value], kind, from_pandas=True)[0].as_py()
    except (pa.ArrowException, TypeError, OverflowError):
        return None


def _repeated(values: Iterable[tuple[Any, Logged]], kind: pa.DataType) -> pa.Array:
    """A request's value for each of its instances."""
    return _column(([value] * each.rows for value, each in values), kind)


def _column(lists: Iterable[Sequence[Any]], kind: pa.DataType) -> pa.Array:
    return pa.array(list(chain.from_iterable(lists)), kind)


def _struct(columns: dict[str, pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
