"""Conditions over `result`: CEL, by its reference implementation.

It is bounded by itself: the parser's depth, and iterations of comprehensions; regular expressions are RE2's. The module
is loaded with the first condition, so that an operator without templates does not pay for it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any


class ConditionError(Exception):
    """A condition that cannot be compiled, or not be evaluated on a result; says why in a sentence."""


def check(expression: str) -> None:
    """Compile a condition. :raises ConditionError: it is no CEL, or can never be true or false"""
    _program(expression)


def holds(expression: str, result: Any) -> bool:
    """Whether a condition is true of a result (plain JSON). :raises ConditionError:"""
    cel, _ = _environment()
    try:
        value = _program(expression).eval(data={"result": result})
    except RuntimeError as error:
        raise ConditionError(_sentence(error)) from error
    found = value.value()
    if value.type() == cel.Type.ERROR:
        raise ConditionError(_sentence(found))
    if not isinstance(found, bool):
        raise ConditionError(f"it is {type(found).__name__}, neither true nor false")
    return found


@lru_cache(maxsize=1024)
def _program(expression: str) -> Any:
    cel, environment = _environment()
    try:
        program = environment.compile(expression)
    except RuntimeError as error:
        raise ConditionError(_sentence(error)) from error
    if program.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise ConditionError(f"it is of type {program.return_type().name()}, which is never true or false")
    return program


@cache
def _environment() -> tuple[Any, Any]:
    from cel_expr_python import cel

    return cel, cel.NewEnv(variables={"result": cel.Type.DYN})


def _sentence(error: object) -> str:
    """The first line of what CEL says, without its error code."""
    text = str(error).splitlines()[0] if str(error) else "it cannot be evaluated"
    for code in ("INVALID_ARGUMENT: ", "ERROR: ", "<input>:", "UNKNOWN: ", "NOT_FOUND: ", "INTERNAL: ", "CANCELLED: "):
        text = text.removeprefix(code)
    return text.partition(" [")[0].replace(" (in container '')", "").strip()[:300]
