"""Rows of a split that a scenario's or slice's condition selects, by DuckDB in its sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt

from slipway.api.modelproject import ProjectTests
from slipway.api.reasons import Reason
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.sql.engine import container_limits, literal, one_line, sandbox
from slipway_pipelines.sql.expressions import ExpressionError, parse

if TYPE_CHECKING:
    from slipway_pipelines.training.metrics import Labels

_MEMORY_SHARE = 0.25
"""Share of the container's memory for DuckDB; frames and models need the rest."""


class Selector:
    """Selects rows of one Parquet file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, rows: int) -> None:
        self._connection = connection
        self._rows = rows

    def select(self, field: str, where: str) -> Labels:
        """A mask of the rows for which `where` is true; a condition that is NULL is not.

        RefusalError InvalidExpression with `field`, the condition and the columns when DuckDB cannot evaluate it.
        """
        try:
            expression = parse(self._connection, where, "rows").sql
            numbers = self._connection.execute(
                f"SELECT file_row_number FROM rows WHERE CAST({expression} AS BOOLEAN)"
            ).fetchnumpy()["file_row_number"]
        except (ExpressionError, duckdb.Error) as error:
            why = one_line(error) if isinstance(error, duckdb.Error) else str(error)
            raise RefusalError(
                Reason.InvalidExpression,
                f"{field} is `{where}`, and DuckDB cannot evaluate it: {why}. Its columns are {self._columns()}.",
            ) from None
        mask: npt.NDArray[np.bool_] = np.zeros(self._rows, dtype=np.bool_)
        mask[np.asarray(numbers, dtype=np.int64)] = True
        return mask

    def _columns(self) -> str:
        names = [row[0] for row in self._connection.execute("DESCRIBE rows").fetchall()]
        return ", ".join(name for name in names if name != "file_row_number")


@contextmanager
def selector(path: Path) -> Iterator[Selector]:
    """A Selector of the rows of a Parquet file, in the file's order."""
    memory = int(container_limits().memory * _MEMORY_SHARE)
    with sandbox(path.parent, threads=1, memory=memory) as connection:
        connection.execute(
            f"CREATE VIEW rows AS SELECT * FROM read_parquet({literal(str(path))}, file_row_number = true)"
        )
        (count,) = connection.execute("SELECT count(*) FROM rows").fetchone() or (0,)
        yield Selector(connection, int(count))


def check_conditions(tests: ProjectTests, path: Path) -> None:
    """RefusalError for the first condition that cannot be evaluated on these rows: better now than after training."""
    with selector(path) as rows:
        for field, where in conditions(tests):
            rows.select(field, where)


def conditions(tests: ProjectTests) -> list[tuple[str, str]]:
    """Field and condition of every scenario and slice."""
    return [(f"tests.scenarios[{item.name}].where", item.where) for item in tests.scenarios] + [
        (f"tests.slices[{item.name}].where", item.where) for item in tests.slices
    ]
