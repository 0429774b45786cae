"""SQL expressions that people write: parsed by DuckDB itself, checked, and rewritten on its own syntax tree.

An expression is one value: no subquery, no `FROM`, no parameter, nothing that gives another value each time. Working on
the tree that `json_serialize_sql` gives means that there is no second opinion on DuckDB's grammar here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb

from slipway_pipelines.sql.engine import one_line

Node = dict[str, Any]

FORBIDDEN = {
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "STAR": "*",
    "WINDOW": "OVER",
}
NO_EXPRESSION = "is a statement; it must be one expression, such as avg(x) > 0"
CLOCKS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now", "today"},
)


class ExpressionError(Exception):
    """An expression that cannot be used; `str()` says why, to follow a field's name."""


@dataclass(frozen=True)
class Expression:
    """A checked expression: its syntax tree, as DuckDB serializes it."""

    tree: Node
    _connection: duckdb.DuckDBPyConnection

    @cached_property
    def sql(self) -> str:
        """The expression as DuckDB writes it, in parentheses."""
        return f"({render(self._connection, self.tree)})"

    @cached_property
    def aggregates(self) -> list[Node]:
        """Calls of aggregate functions, each once, in the order in which they stand."""
        found: dict[str, Node] = {}
        for node in walk(self.tree):
            if is_aggregate(self._connection, node):
                found.setdefault(render(self._connection, node), node)
        return list(found.values())

    def aggregate_texts(self) -> list[str]:
        """SQL of `aggregates`."""
        return [render(self._connection, node) for node in self.aggregates]

    def windowed(self, over: str) -> str:
        """The expression with each aggregate as a window function over the rows of `over` that have `"known"`.

        `over` is a window's body: `PARTITION BY … ORDER BY … RANGE …`. ExpressionError when there is no aggregate.
        """
        if not self.aggregates:
            raise ExpressionError("has no aggregate such as avg(x) or count(*)")
        template = _item(self._connection, f'count(*) FILTER (WHERE "known") OVER ({over})')
        both = _item(self._connection, '"known" AND "known"')

        def to_window(node: Node) -> Node | None:
            if not is_aggregate(self._connection, node):
                return None
            window = copy.deepcopy(template)
            for field in ("function_name", "qualified_name", "arguments", "distinct"):
                window[field] = copy.deepcopy(node[field])
            if node["function_name"] == "count_star":
                window["function_name"], window["qualified_name"] = "count", {"path": ["count"]}
            window["arg_orders"] = copy.deepcopy(node["order_bys"].get("orders", []))
            if node["filter"] is not None:
                window["filter_expr"] = {**copy.deepcopy(both), "children": [template["filter_expr"], node["filter"]]}
            return window

        return f"({render(self._connection, rewrite(self.tree, to_window))})"


def parse(connection: duckdb.DuckDBPyConnection, text: str, relation: str) -> Expression:
    """A checked expression over the columns of `relation`. ExpressionError with DuckDB's message when it is none.

    DuckDB has no average of BOOLEAN; here it is the share of true values among those that are known.
    """
    tree = _item(connection, text)
    unstable = _unstable(connection)
    for node in walk(tree):
        kind = node.get("class")
        if kind in FORBIDDEN:
            raise ExpressionError(f"has {FORBIDDEN[kind]}, and may only be one value of the dataset's own columns")
        used = _function(node) if kind == "FUNCTION" else _bare_clock(node)
        if used in unstable or used in CLOCKS:
            raise ExpressionError(f"has {used}, which gives another value each time; use the dataset's own columns")
        if kind == "FUNCTION" and used in _aggregate_macros(connection):
            raise ExpressionError(f"has {used}, a macro over aggregates; write it out with sum, avg and count")

    def share(node: Node) -> Node | None:
        return _share_of_true(connection, node, relation)

    return Expression(rewrite(tree, share), connection)


def render(connection: duckdb.DuckDBPyConnection, tree: Node) -> str:
    """SQL of a syntax tree."""
    shell = _serialize(connection, "NULL")
    shell["statements"][0]["node"]["select_list"] = [tree]
    (text,) = _one(connection, "SELECT json_deserialize_sql(?)", json.dumps(shell))
    return str(text).removeprefix("SELECT ")


def walk(tree: Any) -> Iterator[Node]:
    """Every node of a tree, outer ones first."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from walk(item)


def rewrite(tree: Any, change: Callable[[Node], Node | None]) -> Any:
    """A copy of a tree with the outermost nodes replaced for which `change` gives something else than None."""
    if isinstance(tree, dict):
        changed = change(tree)
        return changed if changed is not None else {key: rewrite(value, change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [rewrite(item, change) for item in tree]
    return tree


def is_aggregate(connection: duckdb.DuckDBPyConnection, node: Node) -> bool:
    """Whether a node calls an aggregate function."""
    return node.get("class") == "FUNCTION" and _function(node) in _functions(connection, "aggregate")


def _item(connection: duckdb.DuckDBPyConnection, text: str) -> Node:
    """The tree of exactly one expression."""
    tree = _serialize(connection, text)
    statements = tree["statements"]
    node = statements[0]["node"] if len(statements) == 1 else {}
    plain = (
        node.get("type") == "SELECT_NODE"
        and node["from_table"]["type"] == "EMPTY"
        and len(node["select_list"]) == 1
        and not node["modifiers"]
        and not node["cte_map"]["map"]
        and not node["group_expressions"]
        and all(node[clause] is None for clause in ("where_clause", "having", "qualify", "sample"))
    )
    if not plain or node["select_list"][0].get("alias"):
        raise ExpressionError(NO_EXPRESSION)
    item: Node = node["select_list"][0]
    return item


def _serialize(connection: duckdb.DuckDBPyConnection, text: str) -> Node:
    try:
        (answer,) = _one(connection, "SELECT json_serialize_sql(?)", f"SELECT {text}")
    except duckdb.Error as error:
        raise ExpressionError(f"is not SQL: {one_line(error)}") from None
    tree: Node = json.loads(answer)
    if tree["error"] and tree["error_type"] != "parser":  # Statements that are no queries have no tree.
        raise ExpressionError(NO_EXPRESSION)
    if tree["error"]:
        raise ExpressionError(f"is not SQL: {tree['error_message']}")
    return tree


def _one(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(sql, list(parameters)).fetchone()
    assert row is not None
    return row


def _share_of_true(connection: duckdb.DuckDBPyConnection, node: Node, relation: str) -> Node | None:
    if node.get("class") != "FUNCTION" or _function(node) not in ("avg", "mean") or len(node["arguments"]) != 1:
        return None
    argument = node["arguments"][0]["expression"]
    try:
        column = connection.execute(f"DESCRIBE SELECT {render(connection, argument)} FROM {relation}").fetchone()
    except duckdb.Error:
        return None  # The error is reported, with its place, where the whole expression is bound.
    if column is None or column[1] != "BOOLEAN":
        return None
    changed = copy.deepcopy(node)
    changed["arguments"][0]["expression"] = {**_item(connection, "CAST(x AS INTEGER)"), "child": argument}
    return changed


def _function(node: Node) -> str:
    return str(node["function_name"]).lower()


def _bare_clock(node: Node) -> str:
    """`current_date` and its like, which parse as a column."""
    names = node.get("column_names") or [""]
    return names[0].lower() if node.get("class") == "COLUMN_REF" and len(names) == 1 else ""


def _functions(connection: duckdb.DuckDBPyConnection, kind: str) -> frozenset[str]:
    return _catalog(connection)[kind]


def _unstable(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    return _catalog(connection)["unstable"]


def _aggregate_macros(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    return _catalog(connection)["aggregate_macro"]


_CATALOG: dict[str, frozenset[str]] = {}
"""Names of built-in functions by kind: the same for every connection of the process."""


def _catalog(connection: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
    if _CATALOG:
        return _CATALOG
    rows = connection.execute(
        "SELECT lower(function_name), function_type, stability, macro_definition FROM duckdb_functions() WHERE internal"
    ).fetchall()
    aggregates = frozenset(row[0] for row in rows if row[1] == "aggregate") | {"count_star"}
    scalars = frozenset(row[0] for row in rows if row[1] == "scalar")
    unstable = {row[0] for row in rows if row[1] == "scalar" and row[2] != "CONSISTENT"}
    macros = {
        row[0] for row in rows if row[1] == "macro" and row[3] and _calls(connection, row[3], aggregates - scalars)
    }
    _CATALOG.update(
        aggregate=aggregates - scalars, unstable=frozenset(unstable), aggregate_macro=frozenset(macros) - aggregates
    )
    return _CATALOG


def _calls(connection: duckdb.DuckDBPyConnection, definition: str, functions: frozenset[str]) -> bool:
    return any(
        node.get("class") == "FUNCTION" and _function(node) in functions
        for node in walk(_serialize(connection, definition))
    )
