"""The declared types of columns and what DuckDB has for them."""

from __future__ import annotations

from slipway.api.dataset import DatasetColumn

SQL_TYPE = {
    "String": "VARCHAR",
    "Integer": "BIGINT",
    "Double": "DOUBLE",
    "Boolean": "BOOLEAN",
    "Timestamp": "TIMESTAMP",
}

INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
FRACTIONS = frozenset({"FLOAT", "DOUBLE", "DECIMAL"})
TIMES = frozenset(
    {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "DATE"},
)
ACCEPTED = {
    "String": frozenset({"VARCHAR", "ENUM", "UUID"}),
    "Integer": INTEGERS | FRACTIONS,
    "Double": INTEGERS | FRACTIONS,
    "Boolean": frozenset({"BOOLEAN"}),
    "Timestamp": TIMES,
}
"""Types of a Parquet file that hold values of a declared type. Whole numbers may come as DOUBLE: pandas writes them so
where one is missing. Anything else has to be converted where the data is made."""

EVENT_TIME = "event_time"
AVAILABLE_AT = "available_at"


def family(sql_type: str) -> str:
    """A DuckDB type without its parameters: `DECIMAL(18,3)` is `DECIMAL`."""
    return sql_type.partition("(")[0]


def accepts(column: DatasetColumn, sql_type: str) -> bool:
    """Whether a column of a file can hold what is declared."""
    return family(sql_type) in ACCEPTED[column.type]
