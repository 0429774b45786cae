"""Quality rules: SQL aggregates over a partition, or over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
from pydantic import BaseModel, ConfigDict

from slipway.api.dataset import QualityRule
from slipway.api.datasetversion import Violation
from slipway.api.reasons import Reason
from slipway_pipelines.data.violations import file_name, show, violation
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.sql.engine import one_line
from slipway_pipelines.sql.expressions import ExpressionError, parse

ANSWERS = {True: "true", False: "false", None: "unknown (null)"}


class RuleResult(BaseModel):
    """What a rule said of a partition, or of all rows (`partition` None)."""

    model_config = ConfigDict(frozen=True)

    rule: str
    partition: str | None
    severity: str
    expect: str
    holds: bool | None
    values: dict[str, str]
    """Every aggregate of the rule and its value."""


@dataclass(frozen=True)
class Checked:
    """A rule's result, and the violation where it is broken."""

    result: RuleResult
    violation: Violation | None


def check(connection: duckdb.DuckDBPyConnection, rule: QualityRule, relation: str, partition: str | None) -> Checked:
    """Evaluates one rule. RefusalError when its expression cannot be evaluated."""
    field = f"spec.quality[{rule.name}].expect"
    try:
        expression = parse(connection, rule.expect, relation)
        if not expression.aggregates:
            raise ExpressionError("has no aggregate; write for example bool_and(x > 0) for a rule about every row")
        texts = expression.aggregate_texts()
        cursor = connection.execute(f"SELECT {', '.join([expression.sql, *texts])} FROM {relation}")
        kind = str(cursor.description[0][1])
        values = cursor.fetchone()
    except ExpressionError as error:
        raise RefusalError(Reason.InvalidExpression, f"{field} {error}: {rule.expect}") from None
    except duckdb.Error as error:
        raise RefusalError(
            Reason.InvalidExpression, f"{field} cannot be evaluated: {one_line(error)}; the expression is {rule.expect}"
        ) from None
    if kind != "BOOLEAN":
        raise RefusalError(
            Reason.InvalidExpression, f"{field} gives {kind}; write a comparison that is true or false: {rule.expect}"
        )
    assert values is not None
    return _judge(rule, partition, values[0], dict(zip(map(_readable, texts), values[1:], strict=True)))


def _readable(aggregate: str) -> str:
    return aggregate.replace("count_star()", "count(*)")


def _judge(rule: QualityRule, partition: str | None, holds: bool | None, values: dict[str, Any]) -> Checked:
    shown = {aggregate: show(value) for aggregate, value in values.items()}
    result = RuleResult(
        rule=rule.name, partition=partition, severity=rule.severity, expect=rule.expect, holds=holds, values=shown
    )
    if holds:
        return Checked(result, None)
    place = f"of {file_name(partition)}" if partition else "of all rows"
    facts = ", ".join(f"{aggregate} is {value}" for aggregate, value in shown.items())
    fix = "fix the object or the rule" if partition else "fix the data or the rule"
    message = f"Rule {rule.name} {place}: {rule.expect} is {ANSWERS[holds]}: {facts}; {fix}."
    return Checked(result, violation(rule.name, message, partition, rule.severity))
