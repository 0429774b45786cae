"""Whether a template can be used, and what its condition says when it cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from slipway.api.analysis import AnalysisTemplate, ClusterAnalysisTemplate
from slipway.api.reference import example
from slipway.controllers.analysistemplate.controller import make_plan
from slipway.controllers.shared.typed import Subject
from slipway.runtime.conditions import find

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
PROMETHEUS = {"prometheus": {"address": "http://p:9090", "query": "up"}}


def ready(obj: dict[str, Any], kind: type[Any] = AnalysisTemplate) -> tuple[str, str, str]:
    plan = make_plan(Subject(obj, kind.model_validate(obj)), NOW)
    assert plan.status is not None
    assert plan.status["metrics"] == len(obj["spec"]["metrics"])
    condition = find(plan.status["conditions"], "Ready")
    assert condition is not None
    return condition["status"], condition["reason"], condition["message"]


@pytest.mark.parametrize("kind", [AnalysisTemplate, ClusterAnalysisTemplate])
def test_the_examples_can_be_used(kind: type[Any]) -> None:
    obj = yaml.safe_load(example(kind.kind_name))
    assert ready(obj, kind) == ("True", "Valid", "1 metric; every condition compiles.")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"successCondition": "result >"}, "spec.metrics[0] (m).successCondition: `result >` is no condition: 1:9:"),
        ({"failureCondition": "result + 1"}, "is no condition: it is of type INT, which is never true or false."),
        ({"successCondition": "'{{args.word}}' == result"}, ""),
        ({"successCondition": "result.{{args.word}} > 1"}, ""),
        ({"successCondition": "result > {{args.number}}"}, ""),
        ({"successCondition": "result == '{{args.candidate-version}}'"}, ""),
        (
            {"successCondition": "result > {{args.wrd}}"},
            "spec.metrics[0] (m): there is no argument wrd: declare it in spec.args, or correct the name.",
        ),
        (
            {"successCondition": "result", "provider": {"web": {"url": "https://{{args.host}}/"}}},
            "spec.metrics[0] (m): there is no argument host: declare it in spec.args, or correct the name.",
        ),
        ({"successCondition": "(" * 40 + "result" + ")" * 40}, "is no condition: "),
    ],
)
def test_conditions_and_arguments(metric: dict[str, Any], message: str) -> None:
    args = [{"name": "word"}, {"name": "number", "value": "3"}]
    spec = {"args": args, "metrics": [{"name": "m", "provider": PROMETHEUS, **metric}]}
    status, reason, said = ready({"metadata": {"name": "t", "generation": 1}, "spec": spec})
    assert (status, reason) == (("False", "InvalidSpec") if message else ("True", "Valid"))
    assert message in said
