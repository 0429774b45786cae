"""The CEL rules of a kind, evaluated offline by the reference implementation of CEL."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from cel_expr_python import cel

from slipway.api import KindInfo
from slipway.api.crd import Schema, root_schema
from slipway.api.meta import cel_name
from slipway.lint.findings import FieldPath, Problem, dotted


def rule_problems(obj: dict[str, Any], kind: KindInfo, old: dict[str, Any] | None = None) -> Iterator[Problem]:
    """A problem for every broken rule of a prepared object whose schema holds.

    `old` is the object before the change; without it, rules about changes are left out, as at a creation.
    """
    yield from _walk(obj, old, root_schema(kind), ())


def _walk(value: Any, old: Any, schema: Schema, path: FieldPath) -> Iterator[Problem]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is None:
            continue
        if not holds(rule["rule"], value, old):
            yield Problem(path, "rule", f"{dotted(path) or 'metadata.name'}: {rule['message']}")
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            child = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if child:
                yield from _walk(item, before.get(name), child, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            # No rule of ours compares list items with the past.
            yield from _walk(item, None, schema["items"], (*path, index))


def holds(expression: str, value: Any, old: Any = None) -> bool:
    """Whether a rule holds for `self` (and `oldSelf`). An error of evaluation breaks it, as on the API server."""
    try:
        return _program(expression).eval(data={"self": _escaped(value), "oldSelf": _escaped(old)}).value() is True
    except RuntimeError:
        return False


def _escaped(value: Any) -> Any:
    """The value with property names spelled as Kubernetes spells them in CEL."""
    if isinstance(value, dict):
        return {cel_name(name): _escaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value


@cache
def _program(expression: str) -> cel.Expression:
    return _environment().compile(expression)


@cache
def _environment() -> cel.Env:
    """CEL's standard library, and what Kubernetes adds to it and our rules use."""
    is_sorted = cel.FunctionDecl(
        "isSorted",
        [
            cel.Overload(
                "list_is_sorted",
                return_type=cel.Type.BOOL,
                parameters=[cel.Type.LIST],
                is_member=True,
                impl=_is_sorted,
            )
        ],
    )
    variables = {"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}
    return cel.NewEnv(variables=variables, functions=[is_sorted])


def _is_sorted(values: Any) -> bool:
    return all(a <= b for a, b in pairwise(list(values)))
