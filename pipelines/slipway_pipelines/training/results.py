"""What an evaluation says: `evaluation.json`, and the parts of it that the operator records."""

from __future__ import annotations

from slipway.api.common import MetricValue
from slipway.api.modelversion import BaselineResult, Verdict
from slipway.contracts.jobs import Contract
from slipway.contracts.training import GoalArguments
from slipway_pipelines.training import gates

MetricMap = dict[str, float | None]


class PartResult(Contract):
    """A scenario's or slice's rows of the test split."""

    name: str
    where: str
    rows: int
    metrics: MetricMap


class StableEvaluation(Contract):
    """The version that serves, on the same rows; or why it could not be scored."""

    name: str
    recorded_score: str
    metrics: MetricMap | None = None
    why: str | None = None


class CostResult(Contract):
    """A latency or memory figure."""

    metric: str
    measured_at: str
    value: float | None = None
    why: str | None = None


class Evaluation(Contract):
    """`evaluation.json`: everything that was measured, and every verdict. Undefined metrics are null or absent."""

    model: str
    """Digest of the model file that was evaluated."""
    baseline: str
    """Digest of the baseline that servers may fall back to."""
    rows: dict[str, int]
    score: str
    passed: bool
    metrics: MetricMap
    validation_metrics: MetricMap
    baselines: dict[str, MetricMap]
    stable: StableEvaluation | None = None
    costs: list[CostResult]
    coverage: MetricMap
    scenarios: list[PartResult]
    slices: list[PartResult]
    calibration: list[dict[str, float]]
    roc_curve: list[dict[str, float]]
    verdicts: list[Verdict]

    def metric_values(self) -> list[MetricValue]:
        """Metrics of the ModelVersion: quality on the test split, latency and memory at the server."""
        at_server = {cost.metric: cost.value for cost in self.costs if cost.measured_at == "Server"}
        return _values({**self.metrics, **at_server})

    def baseline_results(self, goals: GoalArguments) -> list[BaselineResult]:
        """Baselines on the same rows, then results that come from elsewhere."""
        computed = [BaselineResult(name=name, metrics=_values(found)) for name, found in self.baselines.items()]
        quoted = [
            BaselineResult(name=item.name, metrics=[MetricValue(name=item.metric, value=item.value)])
            for item in goals.requirements.reference_results
        ]
        return computed + quoted


def _values(metrics: MetricMap) -> list[MetricValue]:
    rounded = {name: gates.decimal(value) for name, value in metrics.items()}
    return [
        MetricValue.model_validate({"name": name, "value": gates.text(value)})
        for name, value in rounded.items()
        if value is not None
    ]
